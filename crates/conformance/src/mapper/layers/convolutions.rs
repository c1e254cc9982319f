//! Linear maps, convolutions, and a block of them.

use candle_core::{DType, Tensor};
use nearfar_core::Mode;
use nearfar_kernels::{ConvBlock, conv_block};
use nearfar_models::layers::{BasicBlock, Conv, Convolution, Linear, Normalization, Statistics};

use super::bench::{Bench, agree, size, sizes, training};
use crate::golden::{Given, Mapped, Outputs, Settings};

pub(super) fn linear(
    _: &str,
    given: &Given<'_>,
    params: &mut Settings,
    outputs: &mut Outputs,
) -> Mapped<()> {
    let bench = Bench::new(given)?;
    let (inputs, width) = (size(params, "in_features")?, size(params, "out_features")?);
    let bias = params.flag_or("bias", true)?;
    let layer = Linear::new(&bench.params, inputs, width, bias)?;
    bench.set_all(given)?;
    let output = training(|mode| layer.forward(&bench.input, mode))?;
    bench.backward(given, &output, outputs)
}

pub(super) fn convolution<const N: usize>(
    _: &str,
    given: &Given<'_>,
    params: &mut Settings,
    outputs: &mut Outputs,
) -> Mapped<()> {
    let bench = Bench::new(given)?;
    let channels = (size(params, "in_channels")?, size(params, "out_channels")?);
    let kernel = sizes::<N>(params, "kernel_size")?.unwrap_or([1; N]);
    let settings = Conv {
        stride: sizes(params, "stride")?.unwrap_or([1; N]),
        padding: sizes(params, "padding")?.unwrap_or([0; N]),
        dilation: sizes(params, "dilation")?.unwrap_or([1; N]),
        groups: params.count("groups")?.unwrap_or(1),
    };
    // Not every case that has none says so.
    let bias = params.flag_or("bias", given.find("bias").is_some())?;
    let layer = Convolution::new(&bench.params, channels, kernel, settings, bias)?;
    bench.set_all(given)?;
    let output = training(|mode| layer.forward(&bench.input, mode))?;
    block_agrees(&bench, kernel, settings, &output)?;
    bench.backward(given, &output, outputs)
}

/// The operation that does all that follows a convolution gives the same where it can.
fn block_agrees<const N: usize>(
    bench: &Bench,
    kernel: [usize; N],
    settings: Conv<N>,
    output: &Tensor,
) -> Mapped<()> {
    let even = |sizes: [usize; N]| sizes.iter().all(|&size| size == sizes[0]);
    let plain = Conv {
        padding: settings.padding,
        ..Conv::default()
    };
    if N != 2 || !even(kernel) || !even(settings.padding) || settings != plain {
        return Ok(());
    }
    let block = ConvBlock {
        padding: settings.padding[0],
        stride: 1,
        norm: None,
        relu: false,
        pool: 1,
    };
    let Some(weight) = bench.params.find("weight") else {
        return Ok(());
    };
    let weight = weight.value();
    let bias = match bench.params.find("bias") {
        Some(bias) => bias.value(),
        None => Tensor::zeros(weight.dim(0)?, DType::F64, weight.device())?,
    };
    let block = conv_block(&bench.input, &weight, None, &bias, None, None, &block)?;
    agree("a convolution and a block", &block.output, output)
}

pub(super) fn basic_block(
    _: &str,
    given: &Given<'_>,
    params: &mut Settings,
    outputs: &mut Outputs,
) -> Mapped<()> {
    let mut bench = Bench::new(given)?;
    bench.peer = |name| name.replace("downsample.", "down.");
    let channels = (size(params, "in")?, size(params, "out")?);
    let stride = size(params, "stride")?;
    let trains = !given.case.name.ends_with(".eval"); // Nothing but the name tells.
    let norm = Normalization {
        // Gradients of parameters in evaluation are those of frozen statistics.
        statistics: match trains {
            true => Statistics::Batch,
            false => Statistics::Frozen,
        },
        ..Normalization::default()
    };
    let block = BasicBlock::new(&bench.params, channels, stride, norm)?;
    bench.set_all(given)?;
    let output = training(|mode| block.forward(&bench.input, mode))?;
    bench.backward(given, &output, outputs)?;
    if !trains {
        let evaluated = block.forward(&bench.input, &mut Mode::Eval)?;
        agree("frozen and evaluated", &output, &evaluated)?;
    }
    bench.statistics(".after", outputs)
}
