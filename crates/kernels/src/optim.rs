//! Updates of parameters in place, one pass over parameter, gradient and moments.
//!
//! The formulas are those of torch's `SGD`, `Adam` and `AdamW`. On the CPU, f32 and f64 are updated where they lie; any
//! other tensor through candle operations. Both walk the numbers in order, and no number depends on another, so the
//! result is the same for any number of threads.

use candle_core::{DType, Result, Tensor, Var, bail};

use crate::host::{apart, by_type, read, serves, write};
use crate::slices::optim::{Adam, Sgd, adam, sgd, sum_of_squares};

/// The settings of one step of Adam or AdamW.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamStep {
    /// The learning rate of this step.
    pub learning_rate: f64,
    /// How much of the mean of gradients is kept; 0.9 usually.
    pub beta1: f64,
    /// How much of the mean of squared gradients is kept; 0.999 usually.
    pub beta2: f64,
    /// Added to the root of the second moment; 1e−8 usually.
    pub eps: f64,
    /// Pull of the parameter towards zero.
    pub weight_decay: f64,
    /// Whether the decay shrinks the parameter itself by `learning_rate · weight_decay` (AdamW), or is added to the
    /// gradient as `weight_decay · parameter` (Adam).
    pub decoupled: bool,
    /// Which step of this parameter it is; the first one is 1.
    pub step: u64,
}

/// The settings of one step of gradient descent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SgdStep {
    /// The learning rate of this step.
    pub learning_rate: f64,
    /// How much of the momentum is kept. Only read when there is a momentum.
    pub momentum: f64,
    /// How much less than all of the gradient joins the momentum; not at the first step.
    pub dampening: f64,
    /// Whether the step goes along `gradient + momentum · new momentum` instead of the new momentum.
    pub nesterov: bool,
    /// Added to the gradient, times the parameter.
    pub weight_decay: f64,
    /// Whether it is the first step of this parameter: the momentum then becomes the gradient.
    pub first: bool,
}

/// One step of Adam or AdamW, in place.
///
/// ```text
/// g = gradient + weight_decay · p                (coupled)     p = p − learning_rate · weight_decay · p   (decoupled)
/// m = β₁ m + (1 − β₁) g        v = β₂ v + (1 − β₂) g²
/// p = p − learning_rate · m / (1 − β₁ᵗ) / (√v / √(1 − β₂ᵗ) + eps)
/// ```
///
/// `first` and `second` are the moments m and v, zero before the first step. Agrees with torch's `Adam` and `AdamW`.
///
/// # Errors
///
/// If shapes or number types differ, two of the tensors share memory, or `step` is 0.
pub fn adam_step(
    param: &Var,
    gradient: &Tensor,
    first: &Var,
    second: &Var,
    step: &AdamStep,
) -> Result<()> {
    adam_like(param, gradient, first, second, None, step)
}

/// [`adam_step`] with the largest second moment so far in place of the second moment: torch's `amsgrad=True`. `largest`
/// is zero before the first step.
///
/// # Errors
///
/// As [`adam_step`].
pub fn amsgrad_step(
    param: &Var,
    gradient: &Tensor,
    first: &Var,
    second: &Var,
    largest: &Var,
    step: &AdamStep,
) -> Result<()> {
    adam_like(param, gradient, first, second, Some(largest), step)
}

fn adam_like(
    param: &Var,
    gradient: &Tensor,
    first: &Var,
    second: &Var,
    largest: Option<&Var>,
    step: &AdamStep,
) -> Result<()> {
    let state: Vec<&Tensor> = [first, second]
        .into_iter()
        .chain(largest)
        .map(|var| var.as_tensor())
        .collect();
    check("adam_step", param, gradient, &state)?;
    if step.step == 0 {
        bail!("adam_step: `step` is 0; the first step is 1");
    }
    let exponent = step.step as f64;
    let bias1 = 1.0 - step.beta1.powf(exponent);
    let bias2 = 1.0 - step.beta2.powf(exponent);
    let (decay, keep) = if step.decoupled {
        (0.0, 1.0 - step.learning_rate * step.weight_decay)
    } else {
        (step.weight_decay, 1.0)
    };
    if !in_place(param, &state) {
        let gradient = if decay == 0.0 {
            gradient.clone()
        } else {
            (gradient + (param.as_tensor() * decay)?)?
        };
        let m = ((first.as_tensor() * step.beta1)? + (&gradient * (1.0 - step.beta1))?)?;
        let v = ((second.as_tensor() * step.beta2)? + (gradient.sqr()? * (1.0 - step.beta2))?)?;
        let v_used = match largest {
            Some(largest) => {
                let v = largest.as_tensor().maximum(&v)?;
                largest.set(&v)?;
                v
            }
            None => v.clone(),
        };
        let root = ((v_used.sqrt()? / bias2.sqrt())? + step.eps)?;
        let moved = ((param.as_tensor() * keep)? - ((&m / root)? * (step.learning_rate / bias1))?)?;
        first.set(&m)?;
        second.set(&v)?;
        return param.set(&moved);
    }
    by_type!(param.dtype(), "adam_step", T => {
        let number = <T as candle_core::WithDType>::from_f64;
        let factors = Adam::<T> {
            decay: number(decay),
            keep: number(keep),
            first: number(1.0 - step.beta1),
            keep_second: number(step.beta2),
            second: number(1.0 - step.beta2),
            rate: number(step.learning_rate / bias1),
            root_bias: number(bias2.sqrt()),
            eps: number(step.eps),
        };
        write::<T>(param, |param| write::<T>(first, |first| write::<T>(second, |second| {
            read::<T, _>(gradient, |gradient| match largest {
                None => {
                    adam(factors, param, gradient, first, second, None);
                    Ok(())
                }
                Some(largest) => write::<T>(largest, |largest| {
                    adam(factors, param, gradient, first, second, Some(largest));
                    Ok(())
                }),
            })
        })))
    })
}

/// One step of gradient descent, in place, with momentum if there is one.
///
/// ```text
/// g = gradient + weight_decay · p
/// m = g at the first step, else momentum · m + (1 − dampening) g
/// p = p − learning_rate · (m, or g + momentum · m with nesterov, or g without a momentum)
/// ```
///
/// Agrees with torch's `SGD`.
///
/// # Errors
///
/// If shapes or number types differ, or two of the tensors share memory.
pub fn sgd_step(
    param: &Var,
    gradient: &Tensor,
    momentum: Option<&Var>,
    step: &SgdStep,
) -> Result<()> {
    let state: Vec<&Tensor> = momentum.into_iter().map(|var| var.as_tensor()).collect();
    check("sgd_step", param, gradient, &state)?;
    let (keep, take) = if step.first {
        (0.0, 1.0)
    } else {
        (step.momentum, 1.0 - step.dampening)
    };
    if !in_place(param, &state) {
        let gradient = (gradient + (param.as_tensor() * step.weight_decay)?)?;
        let direction = match momentum {
            None => gradient,
            Some(momentum) => {
                // At the first step the old momentum is not read: it may hold anything.
                let new = if step.first {
                    gradient.clone()
                } else {
                    ((momentum.as_tensor() * keep)? + (&gradient * take)?)?
                };
                momentum.set(&new)?;
                if step.nesterov {
                    (gradient + (new * step.momentum)?)?
                } else {
                    new
                }
            }
        };
        return param.set(&(param.as_tensor() - (direction * step.learning_rate)?)?);
    }
    by_type!(param.dtype(), "sgd_step", T => {
        let number = <T as candle_core::WithDType>::from_f64;
        let factors = Sgd::<T> {
            rate: number(step.learning_rate),
            decay: number(step.weight_decay),
            keep: number(keep),
            take: number(take),
            ahead: step.nesterov.then_some(number(step.momentum)),
        };
        write::<T>(param, |param| read::<T, _>(gradient, |gradient| match momentum {
            None => {
                sgd(factors, param, gradient, None);
                Ok(())
            }
            Some(momentum) => write::<T>(momentum, |momentum| {
                if step.first {
                    momentum.fill(0.0);
                }
                sgd(factors, param, gradient, Some(momentum));
                Ok(())
            }),
        }))
    })
}

/// The Euclidean length of all gradients as one vector, for clipping. Summed in f64, in the order given.
///
/// # Errors
///
/// If a tensor cannot be read.
pub fn global_norm(gradients: &[&Tensor]) -> Result<f64> {
    let mut sum = 0.0;
    for gradient in gradients {
        sum += if serves(gradient) {
            by_type!(gradient.dtype(), "global_norm", T => read::<T, _>(gradient, |x| Ok(sum_of_squares(x))))?
        } else {
            gradient
                .to_dtype(DType::F32)?
                .sqr()?
                .sum_all()?
                .to_dtype(DType::F64)?
                .to_scalar::<f64>()?
        };
    }
    Ok(sum.sqrt())
}

/// Whether the slices serve: then parameter and state are changed where they lie.
fn in_place(param: &Tensor, state: &[&Tensor]) -> bool {
    serves(param) && param.is_contiguous() && state.iter().all(|x| x.is_contiguous())
}

fn check(name: &str, param: &Tensor, gradient: &Tensor, state: &[&Tensor]) -> Result<()> {
    for (what, x) in
        std::iter::once(("gradient", gradient)).chain(state.iter().map(|x| ("state", *x)))
    {
        if x.dims() != param.dims() || x.dtype() != param.dtype() {
            bail!(
                "{name}: the parameter is {:?} of shape {:?}, its {what} {:?} of shape {:?}; they must agree",
                param.dtype(),
                param.dims(),
                x.dtype(),
                x.dims()
            );
        }
    }
    if in_place(param, state) {
        let all: Vec<&Tensor> = std::iter::once(param)
            .chain(state.iter().copied())
            .collect();
        for (i, x) in all.iter().enumerate() {
            apart(x, gradient)?;
            for y in &all[i + 1..] {
                apart(x, y)?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    const ADAM: AdamStep = AdamStep {
        learning_rate: 0.1,
        beta1: 0.9,
        beta2: 0.999,
        eps: 1e-8,
        weight_decay: 0.0,
        decoupled: false,
        step: 1,
    };

    fn near(x: &Var, expected: &[f64]) -> Result<()> {
        let found = x.to_vec1::<f64>()?;
        assert!(
            found
                .iter()
                .zip(expected)
                .all(|(x, y)| (x - y).abs() < 1e-9),
            "{found:?}, not {expected:?}"
        );
        Ok(())
    }

    fn zeros() -> Result<Var> {
        Var::zeros(2, DType::F64, &Device::Cpu)
    }

    #[test]
    fn the_first_step_of_adam_is_the_learning_rate_whatever_the_gradient() -> Result<()> {
        let param = Var::new(&[1f64, -2.0], &Device::Cpu)?;
        let gradient = Tensor::new(&[100f64, -0.01], &Device::Cpu)?;
        adam_step(&param, &gradient, &zeros()?, &zeros()?, &ADAM)?;
        near(&param, &[0.9, -1.9 - 1e-7])?;
        Ok(())
    }

    #[test]
    fn decoupled_decay_shrinks_and_coupled_decay_joins_the_gradient() -> Result<()> {
        let gradient = Tensor::new(&[0f64, 0.0], &Device::Cpu)?;
        let param = Var::new(&[1f64, -2.0], &Device::Cpu)?;
        let step = AdamStep {
            weight_decay: 0.5,
            decoupled: true,
            ..ADAM
        };
        adam_step(&param, &gradient, &zeros()?, &zeros()?, &step)?;
        near(&param, &[0.95, -1.9])?;
        let param = Var::new(&[1f64, -2.0], &Device::Cpu)?;
        adam_step(
            &param,
            &gradient,
            &zeros()?,
            &zeros()?,
            &AdamStep {
                decoupled: false,
                ..step
            },
        )?;
        assert!((param.to_vec1::<f64>()?[0] - 0.9).abs() < 1e-7);
        Ok(())
    }

    #[test]
    fn momentum_starts_as_the_gradient() -> Result<()> {
        let step = SgdStep {
            learning_rate: 0.1,
            momentum: 0.9,
            dampening: 0.5,
            nesterov: false,
            weight_decay: 0.0,
            first: true,
        };
        let (param, momentum) = (
            Var::new(&[1f64, 0.0], &Device::Cpu)?,
            Var::new(&[f64::NAN, 9.0], &Device::Cpu)?,
        );
        let gradient = Tensor::new(&[1f64, 2.0], &Device::Cpu)?;
        sgd_step(&param, &gradient, Some(&momentum), &step)?;
        near(&momentum, &[1.0, 2.0])?;
        near(&param, &[0.9, -0.2])?;
        sgd_step(
            &param,
            &gradient,
            Some(&momentum),
            &SgdStep {
                first: false,
                ..step
            },
        )?;
        near(&momentum, &[1.4, 2.8])?; // 0.9 · 1 + 0.5 · 1
        near(&param, &[0.76, -0.48])?;
        sgd_step(
            &param,
            &gradient,
            Some(&momentum),
            &SgdStep {
                first: false,
                nesterov: true,
                ..step
            },
        )?;
        near(&momentum, &[1.76, 3.52])?;
        near(
            &param,
            &[
                0.76 - 0.1 * (1.0 + 0.9 * 1.76),
                -0.48 - 0.1 * (2.0 + 0.9 * 3.52),
            ],
        )
    }

    #[test]
    fn tensors_that_share_memory_are_refused_and_not_waited_for() -> Result<()> {
        let (param, state) = (zeros()?, zeros()?);
        assert!(adam_step(&param, &param.detach(), &state, &zeros()?, &ADAM).is_err());
        assert!(adam_step(&param, zeros()?.as_tensor(), &state, &state, &ADAM).is_err());
        assert!(adam_step(&param, &state.detach(), &state, &zeros()?, &ADAM).is_err());
        Ok(())
    }

    /// f16 has no slice version, so it goes through candle operations.
    #[test]
    fn both_ways_take_the_same_steps() -> Result<()> {
        let noise = |seed| crate::test_util::noise((7, 5), seed);
        let start = noise(1)?;
        // Small squares would be lost in f16.
        let settings = AdamStep {
            weight_decay: 0.1,
            beta2: 0.9,
            ..ADAM
        };
        for (decoupled, amsgrad) in [(false, false), (true, false), (false, true)] {
            let run = |dtype: DType| -> Result<Tensor> {
                let param = Var::from_tensor(&start.to_dtype(dtype)?)?;
                let state: Vec<Var> = (0..3)
                    .map(|_| Var::zeros((7, 5), dtype, &Device::Cpu))
                    .collect::<Result<_>>()?;
                for step in 1..4 {
                    let gradient = noise(step)?.to_dtype(dtype)?;
                    let settings = AdamStep {
                        decoupled,
                        step,
                        eps: 1e-3,
                        ..settings
                    };
                    if amsgrad {
                        amsgrad_step(
                            &param, &gradient, &state[0], &state[1], &state[2], &settings,
                        )?;
                    } else {
                        adam_step(&param, &gradient, &state[0], &state[1], &settings)?;
                    }
                }
                param.to_dtype(DType::F64)
            };
            let difference = (run(DType::F64)? - run(DType::F16)?)?
                .abs()?
                .max_all()?
                .to_scalar::<f64>()?;
            assert!(difference < 5e-3, "{difference}");
        }
        for (momentum, nesterov) in [(false, false), (true, false), (true, true)] {
            let run = |dtype: DType| -> Result<Tensor> {
                let param = Var::from_tensor(&start.to_dtype(dtype)?)?;
                let state = Var::zeros((7, 5), dtype, &Device::Cpu)?;
                for step in 1..4 {
                    let gradient = noise(step)?.to_dtype(dtype)?;
                    let settings = SgdStep {
                        learning_rate: 0.1,
                        momentum: 0.9,
                        dampening: if nesterov { 0.0 } else { 0.3 },
                        nesterov,
                        weight_decay: 0.1,
                        first: step == 1,
                    };
                    sgd_step(&param, &gradient, momentum.then_some(&state), &settings)?;
                }
                param.to_dtype(DType::F64)
            };
            let difference = (run(DType::F64)? - run(DType::F16)?)?
                .abs()?
                .max_all()?
                .to_scalar::<f64>()?;
            assert!(difference < 5e-3, "{difference}");
        }
        Ok(())
    }

    #[test]
    fn the_norm_is_that_of_all_gradients_together() -> Result<()> {
        let x = Tensor::new(&[3f32, 0.0], &Device::Cpu)?;
        let y = Tensor::new(&[[4f64], [12.0]], &Device::Cpu)?;
        assert_eq!(global_norm(&[&x, &y])?, 13.0);
        assert_eq!(global_norm(&[])?, 0.0);
        Ok(())
    }
}
