//! Linear maps, convolutions, and a block of them.

use candle_core::{DType, Tensor};
use nearfar_core::Mode;
use nearfar_kernels::{ConvBlock, conv_block};
use nearfar_models::layers::{BasicBlock, Conv, Convolution, Linear, Normalization};

use super::fixture::{Fixture, agree, size, sizes, training};
use super::norms::statistics;
use crate::golden::{Given, Mapped, Outputs, Settings};

pub(super) fn linear(
    _: &str,
    given: &Given<'_>,
    params: &mut Settings,
    outputs: &mut Outputs,
) -> Mapped<()> {
    let fixture = Fixture::new(given)?;
    let (inputs, width) = (size(params, "in_features")?, size(params, "out_features")?);
    let bias = params.flag_or("bias", true)?;
    let layer = Linear::new(&fixture.params, inputs, width, bias)?;
    fixture.layer(given, outputs, |x, mode| layer.forward(x, mode))
}

pub(super) fn convolution<const N: usize>(
    _: &str,
    given: &Given<'_>,
    params: &mut Settings,
    outputs: &mut Outputs,
) -> Mapped<()> {
    let fixture = Fixture::new(given)?;
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
    let layer = Convolution::new(&fixture.params, channels, kernel, settings, bias)?;
    fixture.set_all(given)?;
    let output = training(|mode| layer.forward(&fixture.input, mode))?;
    block_agrees(&fixture, kernel, settings, &output)?;
    fixture.backward(given, &output, outputs)
}

/// The operation that does all that follows a convolution gives the same where it can.
fn block_agrees<const N: usize>(
    fixture: &Fixture,
    kernel: [usize; N],
    settings: Conv<N>,
    output: &Tensor,
) -> Mapped<()> {
    let even = |sizes: [usize; N]| sizes.iter().all(|&size| size == sizes[0]);
    let plain = Conv {
        padding: settings.padding,
        stride: settings.stride,
        ..Conv::default()
    };
    let one_for_all = even(kernel) && even(settings.padding) && even(settings.stride);
    if N != 2 || !one_for_all || settings != plain {
        return Ok(());
    }
    let block = ConvBlock {
        padding: settings.padding[0],
        stride: settings.stride[0],
        norm: None,
        relu: false,
        pool: 1,
    };
    let Some(weight) = fixture.params.find("weight") else {
        return Ok(());
    };
    let weight = weight.value();
    let bias = match fixture.params.find("bias") {
        Some(bias) => bias.value(),
        None => Tensor::zeros(weight.dim(0)?, DType::F64, weight.device())?,
    };
    let block = conv_block(&fixture.input, &weight, None, &bias, None, None, &block)?;
    agree("a convolution and a block", &block.output, output)
}

pub(super) fn basic_block(
    _: &str,
    given: &Given<'_>,
    params: &mut Settings,
    outputs: &mut Outputs,
) -> Mapped<()> {
    let mut fixture = Fixture::new(given)?;
    fixture.peer = |name| vec![name.replace("downsample.", "down.")];
    let channels = (size(params, "in")?, size(params, "out")?);
    let stride = size(params, "stride")?;
    let trains = !given.case.name.ends_with(".eval"); // Nothing but the name tells.
    let norm = Normalization {
        statistics: statistics(trains),
        ..Normalization::default()
    };
    let block = BasicBlock::new(&fixture.params, channels, stride, norm)?;
    fixture.set_all(given)?;
    let output = training(|mode| block.forward(&fixture.input, mode))?;
    if !trains {
        let evaluated = block.forward(&fixture.input, &mut Mode::Eval)?;
        agree("frozen and evaluated", &output, &evaluated)?;
    }
    fixture.backward(given, &output, outputs)?;
    fixture.statistics(".after", outputs)
}
