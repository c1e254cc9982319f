//! The logistic function.

use candle_core::{Result, Tensor};

use crate::host::serves;
use crate::lanes::Element;
use crate::pointwise::{self, Pointwise};

/// The logistic function `1 / (1 + e^−x)`, of any shape: the derivative of [`softplus`](crate::softplus).
///
/// Value and gradient are finite for every number, also where `e^−x` overflows.
pub fn sigmoid(x: &Tensor) -> Result<Tensor> {
    if serves(x) {
        pointwise::apply(x, Sigmoid)
    } else {
        reference(x)
    }
}

/// [`sigmoid`](crate::sigmoid) in candle operations.
pub fn reference(x: &Tensor) -> Result<Tensor> {
    // 1 / (1 + e^−x) has the gradient 0 · ∞ where the exponential overflows; tanh has not.
    (x * 0.5)?.tanh()?.affine(0.5, 0.5)
}

/// The logistic function of one number. The exponential is that of a number below zero, so it cannot overflow.
#[inline(always)]
pub(crate) fn logistic<T: Element>(x: T) -> T {
    let small = (T::ZERO - x.abs()).exp();
    if x < T::ZERO {
        small / (T::ONE + small)
    } else {
        T::ONE / (T::ONE + small)
    }
}

struct Sigmoid;

impl Pointwise for Sigmoid {
    const NAME: &'static str = "sigmoid";
    const COST: usize = 256;

    #[inline(always)]
    fn value<T: Element>(&self, x: T) -> T {
        logistic(x)
    }

    #[inline(always)]
    fn pull<T: Element>(&self, _: T, y: T, gradient: T) -> T {
        gradient * y * (T::ONE - y)
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Var};

    use super::*;

    #[test]
    fn large_numbers_saturate_without_nan() -> Result<()> {
        for version in [sigmoid, reference] {
            let x = Var::new(&[-1e4f32, 0.0, 1e4], &Device::Cpu)?;
            let y = version(&x)?;
            assert_eq!(y.to_vec1::<f32>()?, [0.0, 0.5, 1.0]);
            let gradients = y.backward()?;
            let gradient = gradients
                .get(&x)
                .expect("it depends on its input")
                .to_vec1::<f32>()?;
            assert_eq!(gradient, [0.0, 0.25, 0.0]);
        }
        Ok(())
    }
}
