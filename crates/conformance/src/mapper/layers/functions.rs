//! Functions without weights, and those with hardly any.

use candle_core::{Device, Tensor};
use nearfar_core::{Finite, Fraction, Mode};
use nearfar_kernels::{
    TINY_NORM, euclidean, l1_normalize, l2_normalize, log_softmax, log_sum_exp, softmax,
};
use nearfar_losses::ToCenters;
use nearfar_models::layers::{Activation, PRelu, dropout as drop_numbers};

use super::Run;
use super::fixture::{Fixture, size};
use crate::golden::{Given, Mapped, Outputs, Settings, Trouble};
use crate::mapper::metric::rows_of_zeros;

/// What runs an activation of this name.
pub(super) fn activation(name: &str) -> Option<Run> {
    by_name(name).map(|_| run_activation as Run)
}

fn by_name(name: &str) -> Option<Activation> {
    Some(match name {
        "relu" => Activation::Relu,
        "gelu_erf" => Activation::Gelu,
        "gelu_tanh" => Activation::GeluTanh,
        "silu" => Activation::Silu,
        "sigmoid" => Activation::Sigmoid,
        "logsigmoid" => Activation::LogSigmoid,
        "tanh" => Activation::Tanh,
        "softplus" => Activation::Softplus,
        "leaky_relu" => Activation::LeakyRelu {
            slope: Finite::literal(0.01),
        },
        "elu" => Activation::Elu {
            alpha: Finite::literal(1.0),
        },
        "hardswish" => Activation::HardSwish,
        "mish" => Activation::Mish,
        _ => return None,
    })
}

fn run_activation(
    name: &str,
    given: &Given<'_>,
    params: &mut Settings,
    outputs: &mut Outputs,
) -> Mapped<()> {
    let fixture = Fixture::new(given)?;
    let activation = by_name(name).ok_or_else(|| Trouble::unmapped(name))?;
    let activation = match activation {
        Activation::LeakyRelu { slope } => Activation::LeakyRelu {
            slope: Finite::new(params.number_or("negative_slope", slope.get())?)?,
        },
        Activation::Elu { alpha } => Activation::Elu {
            alpha: Finite::new(params.number_or("alpha", alpha.get())?)?,
        },
        plain => plain,
    };
    fixture.backward(given, &activation.forward(&fixture.input)?, outputs)
}

/// Functions along one dimension; ours go along the last.
pub(super) fn along(
    name: &str,
    given: &Given<'_>,
    params: &mut Settings,
    outputs: &mut Outputs,
) -> Mapped<()> {
    let fixture = Fixture::new(given)?;
    let last = fixture.input.rank() - 1;
    let dim = params.count("dim")?.unwrap_or(last);
    let turned = fixture.input.transpose(dim, last)?.contiguous()?;
    let output = match name {
        "softmax" => softmax(&turned)?.transpose(dim, last)?,
        "log_softmax" => log_softmax(&turned)?.transpose(dim, last)?,
        "logsumexp" if dim == last => log_sum_exp(&turned)?,
        other => return Err(Trouble::unmapped(format!("{other} along {dim}"))),
    };
    fixture.backward(given, &output, outputs)
}

pub(super) fn cdist(
    _: &str,
    given: &Given<'_>,
    params: &mut Settings,
    outputs: &mut Outputs,
) -> Mapped<()> {
    let fixture = Fixture::new(given)?;
    match params.number_or("p", 2.0)? {
        2.0 => fixture.backward(given, &euclidean(&fixture.input, &fixture.input)?, outputs),
        p => Err(Trouble::unmapped(format!("p = {p}"))),
    }
}

pub(super) fn normalize(
    _: &str,
    given: &Given<'_>,
    params: &mut Settings,
    outputs: &mut Outputs,
) -> Mapped<()> {
    let fixture = Fixture::new(given)?;
    let (p, eps) = (params.number_or("p", 2.0)?, params.number_or("eps", 1e-12)?);
    let dim = params.count("dim")?;
    if eps != TINY_NORM || dim != Some(fixture.input.rank() - 1) {
        return Err(Trouble::unmapped(format!("eps = {eps} along {dim:?}")));
    }
    let output = match p {
        1.0 => l1_normalize(&fixture.input)?,
        2.0 => l2_normalize(&fixture.input)?,
        p => return Err(Trouble::unmapped(format!("p = {p}"))),
    };
    outputs.zero_by_definition("grad_input", rows_of_zeros(&fixture.input)?);
    fixture.backward(given, &output, outputs)
}

pub(super) fn cross_entropy(
    _: &str,
    given: &Given<'_>,
    params: &mut Settings,
    outputs: &mut Outputs,
) -> Mapped<()> {
    let fixture = Fixture::new(given)?;
    let labels = given.indices("target")?;
    // Only the classes and the labels are looked at.
    let logits = fixture.input.as_tensor();
    let mut to = ToCenters::new(&logits.detach(), &one_for_each(logits)?, 1, &labels)?;
    to.label_smoothing = Fraction::new(params.number_or("label_smoothing", 0.0)?)?;
    let output = to.cross_entropy(logits)?.mean(0)?.reshape(1)?;
    fixture.backward(given, &output, outputs)
}

/// A center for each class of logits `(n, c)`.
fn one_for_each(logits: &Tensor) -> Mapped<Tensor> {
    let (_, classes) = logits.dims2()?;
    Ok(Tensor::eye(classes, logits.dtype(), &Device::Cpu)?)
}

pub(super) fn prelu(
    _: &str,
    given: &Given<'_>,
    params: &mut Settings,
    outputs: &mut Outputs,
) -> Mapped<()> {
    let fixture = Fixture::new(given)?;
    let layer = PRelu::new(&fixture.params, size(params, "num_parameters")?)?;
    fixture.layer(given, outputs, |x, mode| layer.forward(x, mode))
}

pub(super) fn dropout(
    _: &str,
    given: &Given<'_>,
    params: &mut Settings,
    outputs: &mut Outputs,
) -> Mapped<()> {
    let fixture = Fixture::new(given)?;
    params.flag_or("training", true)?; // Claimed in evaluation only.
    let rate = Fraction::new(params.number_or("p", 0.5)?)?;
    let output = drop_numbers(&fixture.input, rate, &mut Mode::Eval)?;
    fixture.backward(given, &output, outputs)
}
