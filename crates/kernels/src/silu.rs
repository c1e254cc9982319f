//! The sigmoid linear unit.

use candle_core::{Result, Tensor};

use crate::host::serves;
use crate::lanes::Element;
use crate::pointwise::{self, Pointwise};
use crate::sigmoid::logistic;

/// The sigmoid linear unit `x σ(x)`, of any shape, also called swish.
///
/// Value and gradient are finite for every number. Its gradient is `σ(x) (1 + x (1 − σ(x)))`.
///
/// Source: Elfwing, Uchibe, Doya, "Sigmoid-weighted linear units", Neural Networks 2018,
/// <https://arxiv.org/abs/1702.03118>. Agrees with torch's `silu`.
pub fn silu(x: &Tensor) -> Result<Tensor> {
    if serves(x) {
        pointwise::apply(x, Silu)
    } else {
        reference(x)
    }
}

/// [`silu`](crate::silu) in candle operations.
pub fn reference(x: &Tensor) -> Result<Tensor> {
    x * crate::sigmoid::reference(x)?
}

struct Silu;

impl Pointwise for Silu {
    const NAME: &'static str = "silu";
    const COST: usize = 256;

    #[inline(always)]
    fn value<T: Element>(&self, x: T) -> T {
        x * logistic(x)
    }

    #[inline(always)]
    fn pull<T: Element>(&self, x: T, _: T, gradient: T) -> T {
        let open = logistic(x);
        gradient * open * (T::ONE + x * (T::ONE - open))
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Var};

    use super::*;

    #[test]
    fn it_is_half_open_at_zero_and_finite_far_away() -> Result<()> {
        for version in [silu, reference] {
            let x = Var::new(&[-1e4f32, 0.0, 1e4], &Device::Cpu)?;
            let y = version(&x)?;
            assert_eq!(y.to_vec1::<f32>()?, [0.0, 0.0, 1e4]);
            let gradients = y.backward()?;
            let gradient = gradients
                .get(&x)
                .expect("it depends on its input")
                .to_vec1::<f32>()?;
            assert_eq!(gradient, [0.0, 0.5, 1.0]);
        }
        Ok(())
    }
}
