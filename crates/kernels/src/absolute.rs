//! The absolute value.

use candle_core::{Result, Tensor};

use crate::host::serves;
use crate::lanes::Element;
use crate::pointwise::{self, Pointwise};

/// The absolute value, of any shape.
///
/// Its gradient is the sign of `x`, and 0 at 0, as in torch; candle's own `abs` gives 1 there, so that two equal rows
/// push one another.
pub fn absolute(x: &Tensor) -> Result<Tensor> {
    if serves(x) {
        pointwise::apply(x, Absolute)
    } else {
        reference(x)
    }
}

/// [`absolute`](crate::absolute) in candle operations.
pub fn reference(x: &Tensor) -> Result<Tensor> {
    // The sign is constant to candle, so the gradient of the product is the sign itself.
    x * x.sign()?
}

struct Absolute;

impl Pointwise for Absolute {
    const NAME: &'static str = "absolute";
    const COST: usize = 16;

    #[inline(always)]
    fn value<T: Element>(&self, x: T) -> T {
        x.abs()
    }

    #[inline(always)]
    fn pull<T: Element>(&self, x: T, _: T, gradient: T) -> T {
        if x > T::ZERO {
            gradient
        } else if x < T::ZERO {
            T::ZERO - gradient
        } else {
            T::ZERO
        }
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Var};

    use super::*;

    #[test]
    fn zero_is_pulled_nowhere() -> Result<()> {
        for version in [absolute, reference] {
            let x = Var::new(&[-2f64, 0.0, 3.0], &Device::Cpu)?;
            let y = version(&x)?;
            assert_eq!(y.to_vec1::<f64>()?, [2.0, 0.0, 3.0]);
            let gradients = y.backward()?;
            let gradient = gradients
                .get(&x)
                .expect("it depends on its input")
                .to_vec1::<f64>()?;
            assert_eq!(gradient, [-1.0, 0.0, 1.0]);
        }
        Ok(())
    }
}
