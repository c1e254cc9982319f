//! The exponential linear unit.

use candle_core::{Result, Tensor};

use crate::host::serves;
use crate::lanes::Element;
use crate::pointwise::{self, Pointwise};

/// The exponential linear unit, of any shape: `x` above zero and `alpha (e^x − 1)` else.
///
/// Its gradient at 0 is `alpha`, as in torch. Nothing overflows, and small numbers below zero keep their digits.
///
/// Source: Clevert, Unterthiner, Hochreiter, "Exponential linear units", ICLR 2016, <https://arxiv.org/abs/1511.07289>.
/// Agrees with torch's `elu`.
pub fn elu(x: &Tensor, alpha: f64) -> Result<Tensor> {
    if serves(x) {
        pointwise::apply(x, Elu { alpha })
    } else {
        reference(x, alpha)
    }
}

/// [`elu`](crate::elu) in candle operations.
pub fn reference(x: &Tensor, alpha: f64) -> Result<Tensor> {
    let above = x.gt(0f64)?;
    // The exponential of a large number would have the gradient 0 · ∞.
    let below = above.where_cond(&x.zeros_like()?, x)?;
    above.where_cond(x, &below.exp()?.affine(alpha, -alpha)?)
}

struct Elu {
    alpha: f64,
}

impl Pointwise for Elu {
    const NAME: &'static str = "elu";
    const COST: usize = 256;

    #[inline(always)]
    fn value<T: Element>(&self, x: T) -> T {
        if x > T::ZERO {
            x
        } else {
            T::from_f64(self.alpha) * x.exp_m1()
        }
    }

    #[inline(always)]
    fn pull<T: Element>(&self, x: T, _: T, gradient: T) -> T {
        if x > T::ZERO {
            gradient
        } else {
            gradient * T::from_f64(self.alpha) * x.exp()
        }
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Var};

    use super::*;

    #[test]
    fn it_levels_off_below_zero() -> Result<()> {
        for version in [elu, reference] {
            let x = Var::new(&[-1e4f64, 0.0, 1e4], &Device::Cpu)?;
            let y = version(&x, 0.5)?;
            assert_eq!(y.to_vec1::<f64>()?, [-0.5, 0.0, 1e4]);
            let gradients = y.backward()?;
            let gradient = gradients
                .get(&x)
                .expect("it depends on its input")
                .to_vec1::<f64>()?;
            assert_eq!(gradient, [0.0, 0.5, 1.0]);
        }
        Ok(())
    }
}
