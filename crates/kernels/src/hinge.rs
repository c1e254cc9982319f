//! The positive part.

use candle_core::{Result, Tensor};

use crate::host::serves;
use crate::lanes::Element;
use crate::pointwise::{self, Pointwise};

/// The positive part, `max(0, x)`, of any shape.
///
/// Its gradient at 0 is 0, as in torch; candle's own `relu` gives 1. NaN stays NaN.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// let x = Tensor::new(&[-1f32, 0.0, 2.0], &Device::Cpu)?;
/// assert_eq!(nearfar_kernels::hinge(&x)?.to_vec1::<f32>()?, [0.0, 0.0, 2.0]);
/// # Ok::<(), candle_core::Error>(())
/// ```
pub fn hinge(x: &Tensor) -> Result<Tensor> {
    if serves(x) {
        pointwise::apply(x, Hinge)
    } else {
        reference(x)
    }
}

/// [`hinge`] under the name that networks use.
pub fn relu(x: &Tensor) -> Result<Tensor> {
    hinge(x)
}

/// [`hinge`](crate::hinge) in candle operations.
pub fn reference(x: &Tensor) -> Result<Tensor> {
    x.le(0f64)?.where_cond(&x.zeros_like()?, x)
}

struct Hinge;

impl Pointwise for Hinge {
    const NAME: &'static str = "hinge";
    const COST: usize = 16;

    #[inline(always)]
    fn value<T: Element>(&self, x: T) -> T {
        if x <= T::ZERO { T::ZERO } else { x }
    }

    #[inline(always)]
    fn pull<T: Element>(&self, x: T, _: T, gradient: T) -> T {
        if x <= T::ZERO { T::ZERO } else { gradient }
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Var};

    use super::*;

    #[test]
    fn nothing_pulls_at_the_hinge_and_nan_stays() -> Result<()> {
        for version in [hinge, reference] {
            let x = Var::new(&[-2f64, 0.0, 3.0, f64::NAN], &Device::Cpu)?;
            let y = version(&x)?;
            let values = y.to_vec1::<f64>()?;
            assert_eq!(values[..3], [0.0, 0.0, 3.0]);
            assert!(values[3].is_nan());
            let gradients = y.backward()?;
            let gradient = gradients
                .get(&x)
                .expect("the hinge depends on its input")
                .to_vec1::<f64>()?;
            assert_eq!(gradient, [0.0, 0.0, 1.0, 1.0]);
        }
        Ok(())
    }
}
