//! The linear unit that a softplus opens.

use candle_core::{Result, Tensor};

use crate::host::serves;
use crate::lanes::Element;
use crate::pointwise::{self, Pointwise};
use crate::sigmoid::logistic;
use crate::softplus::smooth_part;

/// `x tanh(log(1 + e^x))`, of any shape.
///
/// Value and gradient are finite for every number.
///
/// Source: Misra, "Mish: a self regularized non-monotonic activation function", BMVC 2020,
/// <https://arxiv.org/abs/1908.08681>. Agrees with torch's `mish`.
pub fn mish(x: &Tensor) -> Result<Tensor> {
    if serves(x) {
        pointwise::apply(x, Mish)
    } else {
        reference(x)
    }
}

/// [`mish`](crate::mish) in candle operations.
pub fn reference(x: &Tensor) -> Result<Tensor> {
    x * crate::softplus::reference(x)?.tanh()?
}

struct Mish;

impl Pointwise for Mish {
    const NAME: &'static str = "mish";
    const COST: usize = 1024;

    #[inline(always)]
    fn value<T: Element>(&self, x: T) -> T {
        x * smooth_part(x).tanh()
    }

    #[inline(always)]
    fn pull<T: Element>(&self, x: T, _: T, gradient: T) -> T {
        let open = smooth_part(x).tanh();
        gradient * (open + x * (T::ONE - open * open) * logistic(x))
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Var};

    use super::*;

    #[test]
    fn at_zero_it_is_open_by_three_fifths() -> Result<()> {
        for version in [mish, reference] {
            let x = Var::new(&[-1e4f64, 0.0, 1e4], &Device::Cpu)?;
            let y = version(&x)?;
            let values = y.to_vec1::<f64>()?;
            assert_eq!([values[0].abs(), values[1], values[2]], [0.0, 0.0, 1e4]);
            let gradients = y.backward()?;
            let gradient = gradients
                .get(&x)
                .expect("it depends on its input")
                .to_vec1::<f64>()?;
            // tanh(log 2) = (4 − 1) / (4 + 1)
            assert!(gradient[0].abs() < 1e-12 && (gradient[1] - 0.6).abs() < 1e-12);
            assert!((gradient[2] - 1.0).abs() < 1e-12);
        }
        Ok(())
    }
}
