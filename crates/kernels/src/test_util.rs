//! What tests of operations need: finite differences, and the agreement of two versions. For this crate and those built
//! on it.

use candle_core::{DType, Device, Result, Shape, Tensor, Var, bail};

/// Numbers in (−1, 1) that depend on the shape and the seed alone, as f64 on the CPU.
pub fn noise(shape: impl Into<Shape>, seed: u64) -> Result<Tensor> {
    let shape = shape.into();
    let mut state = seed;
    let mut next = || {
        // SplitMix64, <https://prng.di.unimi.it/splitmix64.c>.
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 52) as f64 - 1.0
    };
    let values: Vec<f64> = (0..shape.elem_count()).map(|_| next()).collect();
    Tensor::from_vec(values, shape, &Device::Cpu)
}

/// Checks the gradient of `f` with respect to each of its inputs against central differences, in f64.
///
/// The result, of any shape, is multiplied by fixed noise and added up, so that no part of a wrong gradient can hide. At
/// most 200 numbers of each input are moved, evenly spread. The error may be `tolerance` times the largest difference
/// quotient of that input.
///
/// # Errors
///
/// If a gradient is missing, not finite or wrong; the message says of which input and where.
pub fn check_gradient(
    f: impl Fn(&[Tensor]) -> Result<Tensor>,
    inputs: &[Tensor],
    tolerance: f64,
) -> Result<()> {
    let vars: Vec<Var> = inputs
        .iter()
        .map(|x| Var::from_tensor(&x.to_dtype(DType::F64)?))
        .collect::<Result<_>>()?;
    let points: Vec<Tensor> = vars.iter().map(|var| var.as_tensor().clone()).collect();
    let gradients = contracted(&f(&points)?)?.backward()?;
    for (index, point) in points.iter().enumerate() {
        let Some(gradient) = gradients.get(point) else {
            bail!("input {index} has no gradient")
        };
        if gradient.dims() != point.dims() {
            bail!(
                "the gradient of input {index} has shape {:?}, the input {:?}",
                gradient.dims(),
                point.dims()
            );
        }
        let gradient = gradient.flatten_all()?.to_vec1::<f64>()?;
        let start = point.flatten_all()?.to_vec1::<f64>()?;
        let moved = |at: usize, by: f64| -> Result<f64> {
            let mut values = start.clone();
            values[at] += by;
            let mut inputs: Vec<Tensor> = points.iter().map(|x| x.detach()).collect();
            inputs[index] = Tensor::from_vec(values, point.shape(), point.device())?;
            contracted(&f(&inputs)?)?.to_scalar::<f64>()
        };
        let mut quotients = Vec::new();
        for at in (0..start.len()).step_by((start.len() / 200).max(1)) {
            let step = 1e-5 * start[at].abs().max(1.0);
            quotients.push((at, (moved(at, step)? - moved(at, -step)?) / (2.0 * step)));
        }
        let scale = quotients.iter().map(|(_, q)| q.abs()).fold(1e-3, f64::max);
        for (at, quotient) in quotients {
            let error = (gradient[at] - quotient).abs();
            if error.is_nan() || error > tolerance * scale {
                bail!(
                    "input {index}, number {at}: the gradient is {}, the difference quotient {quotient}",
                    gradient[at]
                );
            }
        }
    }
    Ok(())
}

/// Checks that two versions of an operation have the same values and gradients, for the inputs as they are: their number
/// type, strides and offsets.
///
/// An error may be `tolerance` times the largest number of the tensor it is in, and times 1 if that is smaller.
/// Not-a-numbers must agree in place. No gradient and a gradient of zeros are the same.
///
/// # Errors
///
/// If they do not agree; the message says where.
pub fn check_agreement(
    ours: impl Fn(&[Tensor]) -> Result<Tensor>,
    theirs: impl Fn(&[Tensor]) -> Result<Tensor>,
    inputs: &[Tensor],
    tolerance: f64,
) -> Result<()> {
    let (our_value, our_gradients) = value_and_gradients(&ours, inputs)?;
    let (their_value, their_gradients) = value_and_gradients(&theirs, inputs)?;
    compare("the value", &our_value, &their_value, tolerance)?;
    for (index, (ours, theirs)) in our_gradients.iter().zip(&their_gradients).enumerate() {
        let what = format!("the gradient of input {index}");
        match (ours, theirs) {
            (Some(ours), Some(theirs)) => compare(&what, ours, theirs, tolerance)?,
            (Some(one), None) | (None, Some(one)) => {
                compare(&what, one, &one.zeros_like()?, tolerance)?
            }
            (None, None) => {}
        }
    }
    Ok(())
}

/// The value of `f` and its gradients with respect to each input, under fixed noise.
fn value_and_gradients(
    f: impl Fn(&[Tensor]) -> Result<Tensor>,
    inputs: &[Tensor],
) -> Result<(Tensor, Vec<Option<Tensor>>)> {
    let vars: Vec<Option<Var>> = inputs
        .iter()
        .map(|x| {
            if x.dtype().is_float() {
                Var::from_tensor(x).map(Some)
            } else {
                Ok(None)
            }
        })
        .collect::<Result<_>>()?;
    let tensors: Vec<Tensor> = vars
        .iter()
        .zip(inputs)
        .map(|(var, x)| laid_out(var, x))
        .collect::<Result<_>>()?;
    let value = f(&tensors)?;
    let gradients = contracted(&value)?.backward()?;
    let gradients = vars
        .iter()
        .map(|var| var.as_ref().and_then(|var| gradients.get(var).cloned()))
        .collect();
    Ok((value, gradients))
}

/// The variable with the strides of `like`, and with an offset if that has one.
fn laid_out(var: &Option<Var>, like: &Tensor) -> Result<Tensor> {
    match var {
        None => Ok(like.clone()),
        Some(var) if like.layout().start_offset() > 0 => {
            let row = var.narrow(0, 0, like.dim(0)?.min(1))?.detach();
            Tensor::cat(&[&row, var.as_tensor(), &row], 0)?.narrow(0, row.dim(0)?, like.dim(0)?)
        }
        Some(var) if like.is_contiguous() || like.rank() < 2 => Ok(var.as_tensor().clone()),
        // Copied in the other order and turned back.
        Some(var) => {
            let last = like.rank() - 1;
            var.transpose(last - 1, last)?
                .contiguous()?
                .transpose(last - 1, last)
        }
    }
}

/// The sum of all numbers, each times fixed noise.
fn contracted(y: &Tensor) -> Result<Tensor> {
    let weights = noise(y.shape(), 9)?.to_dtype(y.dtype())?;
    (y * weights)?.sum_all()
}

fn compare(what: &str, ours: &Tensor, theirs: &Tensor, tolerance: f64) -> Result<()> {
    if ours.dims() != theirs.dims() {
        bail!("{what} has shape {:?} and {:?}", ours.dims(), theirs.dims());
    }
    let numbers = |x: &Tensor| x.flatten_all()?.to_dtype(DType::F64)?.to_vec1::<f64>();
    let (ours, theirs) = (numbers(ours)?, numbers(theirs)?);
    let scale = theirs
        .iter()
        .filter(|x| x.is_finite())
        .map(|x| x.abs())
        .fold(1.0, f64::max);
    for (at, (x, y)) in ours.iter().zip(&theirs).enumerate() {
        let same = x == y || (x.is_nan() && y.is_nan()) || (x - y).abs() <= tolerance * scale;
        if !same {
            bail!("{what} differs at {at}: {x} and {y}");
        }
    }
    Ok(())
}
