//! The smooth positive part.

use candle_core::{Result, Tensor};

use crate::host::serves;
use crate::lanes::Element;
use crate::pointwise::{self, Pointwise};
use crate::sigmoid::logistic;

/// The smooth positive part `log(1 + e^x)`, of any shape.
///
/// Computed as `max(x, 0) + log1p(e^−|x|)`, so that value and gradient are right for every finite number; far below zero
/// it is `e^x` and not 0. Its gradient is [`sigmoid`](crate::sigmoid).
///
/// ```
/// # use candle_core::{Device, Tensor};
/// let x = Tensor::new(&[-1e4f32, 0.0, 1e4], &Device::Cpu)?;
/// assert_eq!(nearfar_kernels::softplus(&x)?.to_vec1::<f32>()?, [0.0, 2f32.ln(), 1e4]);
/// # Ok::<(), candle_core::Error>(())
/// ```
pub fn softplus(x: &Tensor) -> Result<Tensor> {
    if serves(x) {
        pointwise::apply(x, Softplus)
    } else {
        reference(x)
    }
}

/// [`softplus`](crate::softplus) in candle operations. Far below zero its value is 0, for want of a `log1p`.
pub fn reference(x: &Tensor) -> Result<Tensor> {
    // The larger of x and 0 is held constant: log(e^(x−m) + e^−m) + m has the right gradient for any m.
    let larger = crate::hinge::reference(&x.detach())?;
    let sum = ((x - &larger)?.exp()? + larger.neg()?.exp()?)?;
    sum.log()? + larger
}

/// The logarithm of [`sigmoid`](crate::sigmoid), `−log(1 + e^−x)`, of any shape: finite where the sigmoid has become 0.
pub fn log_sigmoid(x: &Tensor) -> Result<Tensor> {
    softplus(&x.neg()?)?.neg()
}

/// The smooth positive part of one number. The exponential is that of a number below zero, so it cannot overflow.
#[inline(always)]
pub(crate) fn smooth_part<T: Element>(x: T) -> T {
    let small = (T::ZERO - x.abs()).exp().ln_1p();
    if x > T::ZERO { x + small } else { small }
}

struct Softplus;

impl Pointwise for Softplus {
    const NAME: &'static str = "softplus";
    const COST: usize = 512;

    #[inline(always)]
    fn value<T: Element>(&self, x: T) -> T {
        smooth_part(x)
    }

    #[inline(always)]
    fn pull<T: Element>(&self, x: T, _: T, gradient: T) -> T {
        gradient * logistic(x)
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Var};

    use super::*;

    #[test]
    fn value_and_gradient_hold_far_from_zero() -> Result<()> {
        for version in [softplus, reference] {
            let x = Var::new(&[-1e4f32, 0.0, 1e4], &Device::Cpu)?;
            let y = version(&x)?;
            assert_eq!(y.to_vec1::<f32>()?, [0.0, 2f32.ln(), 1e4]);
            let gradients = y.backward()?;
            let gradient = gradients
                .get(&x)
                .expect("it depends on its input")
                .to_vec1::<f32>()?;
            assert_eq!(gradient, [0.0, 0.5, 1.0]);
        }
        Ok(())
    }

    #[test]
    fn far_below_zero_it_is_the_exponential() -> Result<()> {
        let y = softplus(&Tensor::new(&[-50f32, f32::NAN], &Device::Cpu)?)?.to_vec1::<f32>()?;
        assert_eq!(y[0], (-50f32).exp());
        assert!(y[1].is_nan());
        Ok(())
    }
}
