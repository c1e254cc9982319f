//! What the tests of gradients share.
#![allow(dead_code)] // Each test uses some of it.

use candle_core::{Result, Tensor, Var};
use nearfar_core::{Mode, Parameter, Purpose, Rng, Seed};
use nearfar_kernels::test_util::noise;

/// The stream of a pass: the same for every pass, so that dropout drops the same.
pub(crate) fn stream() -> Rng {
    Seed(5).rng(Purpose::Dropout, 0)
}

/// A scalar in which every number of `output` has its own weight, so that no part of a wrong gradient can hide.
pub(crate) fn contracted(output: &Tensor) -> Result<Tensor> {
    let cotangent = noise(output.shape(), 11)?
        .to_dtype(output.dtype())?
        .to_device(output.device())?;
    (output * cotangent)?.sum_all()
}

/// Where a gradient is to be checked: a parameter, and the number in it.
pub(crate) fn coordinates(
    parameters: &[Parameter],
    count: usize,
    rng: &mut Rng,
) -> Vec<(usize, usize)> {
    let places = |_| {
        let parameter = rng.below(parameters.len());
        (parameter, rng.below(parameters[parameter].var.elem_count()))
    };
    (0..count).map(places).collect()
}

/// Checks gradients in f64 against central differences at these places: `(gradient, parameter, number)` may differ by
/// `tolerance` of the largest quotient of its parameter, and the least scale is 1e-3.
pub(crate) fn check_differences(
    what: &str,
    loss: &dyn Fn() -> Result<Tensor>,
    parameters: &[Parameter],
    places: &[(usize, usize)],
    tolerance: f64,
) -> Result<()> {
    let gradients = loss()?.backward()?;
    let mut scale = vec![1e-3f64; parameters.len()];
    let mut found = Vec::new();
    for &(index, at) in places {
        let Parameter { name, var, .. } = &parameters[index];
        let gradient = gradients
            .get(var)
            .unwrap_or_else(|| panic!("{what}: `{name}` has no gradient"));
        let gradient = gradient.flatten_all()?.to_vec1::<f64>()?[at];
        let quotient = quotient(loss, var, at)?;
        scale[index] = scale[index].max(quotient.abs());
        found.push((index, at, gradient, quotient));
    }
    for (index, at, gradient, quotient) in found {
        let error = (gradient - quotient).abs() / scale[index];
        assert!(
            error <= tolerance,
            "{what}: `{}` at {at}: the gradient is {gradient}, the quotient {quotient}",
            parameters[index].name
        );
    }
    Ok(())
}

fn quotient(loss: &dyn Fn() -> Result<Tensor>, var: &Var, at: usize) -> Result<f64> {
    let start = var.copy()?;
    let values = start.flatten_all()?.to_vec1::<f64>()?;
    let step = 1e-6 * values[at].abs().max(1.0);
    let moved = |by: f64| -> Result<f64> {
        let mut values = values.clone();
        values[at] += by;
        var.set(&Tensor::from_vec(values, var.shape(), var.device())?)?;
        loss()?.to_scalar::<f64>()
    };
    let quotient = (moved(step)? - moved(-step)?) / (2.0 * step);
    var.set(&start)?;
    Ok(quotient)
}

/// Every number of every parameter, and of the input, of a layer.
pub(crate) fn check_layer(
    what: &str,
    parameters: Vec<Parameter>,
    input: Option<&Tensor>,
    forward: impl Fn(Option<&Tensor>, &mut Mode<'_>) -> Result<Tensor>,
) -> Result<()> {
    let mut parameters: Vec<_> = parameters.into_iter().filter(|it| it.trained).collect();
    let var = input.map(Var::from_tensor).transpose()?;
    if let Some(var) = &var {
        parameters.push(Parameter {
            name: "input".into(),
            var: var.clone(),
            trained: true,
        });
    }
    let loss = || {
        let mut rng = stream();
        contracted(&forward(
            var.as_ref().map(|var| var.as_tensor()),
            &mut Mode::Train(&mut rng),
        )?)
    };
    let places: Vec<_> = parameters
        .iter()
        .enumerate()
        .flat_map(|(index, it)| (0..it.var.elem_count()).map(move |at| (index, at)))
        .collect();
    check_differences(what, &loss, &parameters, &places, 1e-6)
}
