//! Normalizations.

use candle_core::DType;
use nearfar_core::Mode;
use nearfar_models::layers::{BatchNorm, GroupNorm, LayerNorm, Normalization, Statistics};

use super::bench::{Bench, agree, parameters, positive, size, training};
use crate::golden::{Given, Mapped, Outputs, Settings};

pub(super) fn batch_norm(
    _: &str,
    given: &Given<'_>,
    params: &mut Settings,
    outputs: &mut Outputs,
) -> Mapped<()> {
    let channels = size(params, "num_features")?;
    let trains = params.flag_or("training", true)?;
    let cumulative = given.case.function.has_null("momentum");
    let momentum = params.number_or("momentum", 0.1)?;
    let settings = Normalization {
        eps: params.number_or("eps", 1e-5)?,
        momentum: (!cumulative).then_some(momentum),
        // Gradients of parameters in evaluation are those of frozen statistics.
        statistics: match trains {
            true => Statistics::Batch,
            false => Statistics::Frozen,
        },
    };
    if given.find("input.0").is_some() {
        return batch_norm_steps(given, channels, settings, outputs);
    }
    let bench = Bench::new(given)?;
    let layer = BatchNorm::new(&bench.params, channels, settings)?;
    if given.find("weight").is_some() {
        bench.set_all(given)?;
    }
    given.find("num_batches_tracked"); // A count that only a cumulative average needs.
    outputs.leave_out("num_batches_tracked.after");
    let output = training(|mode| layer.forward(&bench.input, mode))?;
    if !trains {
        let evaluated = layer.forward(&bench.input, &mut Mode::Eval)?;
        agree("frozen and evaluated", &output, &evaluated)?;
    }
    bench.backward(given, &output, outputs)?;
    bench.statistics(".after", outputs)
}

/// Several batches in a row.
fn batch_norm_steps(
    given: &Given<'_>,
    channels: usize,
    settings: Normalization,
    outputs: &mut Outputs,
) -> Mapped<()> {
    let params = parameters()?;
    let layer = BatchNorm::new(&params, channels, settings)?;
    let mut step = 0;
    while given.find(&format!("input.{step}")).is_some() {
        let input = given.tensor(&format!("input.{step}"), DType::F64)?;
        let output = training(|mode| layer.forward(&input, mode))?;
        outputs.put_tensor(format!("output.{step}"), &output)?;
        for name in ["running_mean", "running_var"] {
            if let Some(weight) = params.find(name) {
                outputs.put_tensor(format!("{name}.{step}"), &weight.value())?;
            }
        }
        step += 1;
    }
    Ok(())
}

pub(super) fn layer_norm(
    _: &str,
    given: &Given<'_>,
    params: &mut Settings,
    outputs: &mut Outputs,
) -> Mapped<()> {
    let bench = Bench::new(given)?;
    let shape = params.numbers("normalized_shape")?.unwrap_or_default();
    let shape: Vec<usize> = shape.into_iter().map(|dim| dim as usize).collect();
    let eps = positive(params, "eps", 1e-5)?;
    let layer = LayerNorm::new(&bench.params, &shape, eps, true)?;
    bench.set_all(given)?;
    let output = training(|mode| layer.forward(&bench.input, mode))?;
    bench.backward(given, &output, outputs)
}

pub(super) fn group_norm(
    _: &str,
    given: &Given<'_>,
    params: &mut Settings,
    outputs: &mut Outputs,
) -> Mapped<()> {
    let bench = Bench::new(given)?;
    let (groups, channels) = (size(params, "num_groups")?, size(params, "num_channels")?);
    let eps = positive(params, "eps", 1e-5)?;
    let layer = GroupNorm::new(&bench.params, groups, channels, eps)?;
    bench.set_all(given)?;
    let output = training(|mode| layer.forward(&bench.input, mode))?;
    bench.backward(given, &output, outputs)
}
