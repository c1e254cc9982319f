//! The square root of squared distances.

use candle_core::{Result, Tensor};

use crate::host::serves;
use crate::lanes::Element;
use crate::pointwise::{self, Pointwise};

/// Square root with gradient 0 at 0, of any shape: rows that coincide pull on nothing.
///
/// The gradient of the plain root is infinite there, and 0 · ∞ is NaN. The root of a negative number is NaN, as usual;
/// [`squared_euclidean`](crate::squared_euclidean) gives none.
pub fn safe_sqrt(squared: &Tensor) -> Result<Tensor> {
    if serves(squared) {
        pointwise::apply(squared, SafeSqrt)
    } else {
        reference(squared)
    }
}

/// [`safe_sqrt`](crate::safe_sqrt) in candle operations.
pub fn reference(squared: &Tensor) -> Result<Tensor> {
    let zero = squared.eq(0f64)?;
    let shifted = (squared + zero.to_dtype(squared.dtype())?)?;
    zero.where_cond(&squared.zeros_like()?, &shifted.sqrt()?)
}

struct SafeSqrt;

impl Pointwise for SafeSqrt {
    const NAME: &'static str = "safe_sqrt";
    const COST: usize = 32;

    #[inline(always)]
    fn value<T: Element>(&self, x: T) -> T {
        x.sqrt()
    }

    #[inline(always)]
    fn pull<T: Element>(&self, x: T, y: T, gradient: T) -> T {
        if x == T::ZERO {
            T::ZERO
        } else {
            gradient / (y + y)
        }
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Var};

    use super::*;

    #[test]
    fn the_gradient_at_zero_is_zero() -> Result<()> {
        for version in [safe_sqrt, reference] {
            let x = Var::new(&[0f64, 4.0, 0.25], &Device::Cpu)?;
            let y = version(&x)?;
            assert_eq!(y.to_vec1::<f64>()?, [0.0, 2.0, 0.5]);
            let gradients = y.backward()?;
            let gradient = gradients
                .get(&x)
                .expect("it depends on its input")
                .to_vec1::<f64>()?;
            assert_eq!(gradient, [0.0, 0.25, 1.0]);
        }
        Ok(())
    }
}
