//! Normalizations.

use candle_core::DType;
use nearfar_core::Mode;
use nearfar_models::layers::{BatchNorm, GroupNorm, LayerNorm, Normalization, Statistics};

use super::fixture::{Fixture, agree, parameters, positive, size, training};
use crate::golden::{Given, Mapped, Outputs, Settings};

/// Gradients of parameters in evaluation are those of frozen statistics.
pub(super) fn statistics(trains: bool) -> Statistics {
    match trains {
        true => Statistics::Batch,
        false => Statistics::Frozen,
    }
}

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
        statistics: statistics(trains),
    };
    if given.find("input.0").is_some() {
        return batch_norm_steps(given, channels, settings, outputs);
    }
    let fixture = Fixture::new(given)?;
    let layer = BatchNorm::new(&fixture.params, channels, settings)?;
    if given.find("weight").is_some() {
        fixture.set_all(given)?;
    }
    given.find("num_batches_tracked"); // A count that only a cumulative average needs.
    outputs.leave_out("num_batches_tracked.after");
    let output = training(|mode| layer.forward(&fixture.input, mode))?;
    if !trains {
        let evaluated = layer.forward(&fixture.input, &mut Mode::Eval)?;
        agree("frozen and evaluated", &output, &evaluated)?;
    }
    fixture.backward(given, &output, outputs)?;
    fixture.statistics(".after", outputs)
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
    let fixture = Fixture::new(given)?;
    let shape = params.numbers("normalized_shape")?.unwrap_or_default();
    let shape: Vec<usize> = shape.into_iter().map(|dim| dim as usize).collect();
    let eps = positive(params, "eps", 1e-5)?;
    let layer = LayerNorm::new(&fixture.params, &shape, eps, true)?;
    fixture.layer(given, outputs, |x, mode| layer.forward(x, mode))
}

pub(super) fn group_norm(
    _: &str,
    given: &Given<'_>,
    params: &mut Settings,
    outputs: &mut Outputs,
) -> Mapped<()> {
    let fixture = Fixture::new(given)?;
    let (groups, channels) = (size(params, "num_groups")?, size(params, "num_channels")?);
    let eps = positive(params, "eps", 1e-5)?;
    let layer = GroupNorm::new(&fixture.params, groups, channels, eps)?;
    fixture.layer(given, outputs, |x, mode| layer.forward(x, mode))
}
