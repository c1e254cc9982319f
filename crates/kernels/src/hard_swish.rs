//! The sigmoid linear unit of straight lines.

use candle_core::{Result, Tensor};

use crate::host::serves;
use crate::lanes::Element;
use crate::pointwise::{self, Pointwise};

/// `x · min(max(x + 3, 0), 6) / 6`, of any shape: [`silu`](crate::silu) of straight lines.
///
/// Its gradient is 0 up to −3, 1 from 3 on, and `x / 3 + 1/2` between, as in torch's `hardswish`.
///
/// Source: Howard et al., "Searching for MobileNetV3", ICCV 2019, <https://arxiv.org/abs/1905.02244>, section 5.2.
pub fn hard_swish(x: &Tensor) -> Result<Tensor> {
    if serves(x) {
        pointwise::apply(x, HardSwish)
    } else {
        reference(x)
    }
}

/// [`hard_swish`](crate::hard_swish) in candle operations.
pub fn reference(x: &Tensor) -> Result<Tensor> {
    // Between the kinks a parabola, which is not made from numbers beyond them: their squares may overflow.
    let zero = x.zeros_like()?;
    let between = (x.abs()?.lt(3f64)?).where_cond(x, &zero)?;
    let parabola = (&between * between.affine(1.0 / 6.0, 0.5)?)?;
    let open = x.ge(3f64)?.where_cond(x, &parabola)?;
    // NaN is neither above nor below, and stays.
    x.ne(x)?.where_cond(x, &open)
}

struct HardSwish;

impl Pointwise for HardSwish {
    const NAME: &'static str = "hard_swish";
    const COST: usize = 16;

    #[inline(always)]
    fn value<T: Element>(&self, x: T) -> T {
        let three = T::from_f64(3.0);
        if x <= T::ZERO - three {
            T::ZERO
        } else if x >= three {
            x
        } else {
            x * (x * T::from_f64(1.0 / 6.0) + T::from_f64(0.5))
        }
    }

    #[inline(always)]
    fn pull<T: Element>(&self, x: T, _: T, gradient: T) -> T {
        let three = T::from_f64(3.0);
        if x <= T::ZERO - three {
            T::ZERO
        } else if x >= three {
            gradient
        } else {
            gradient * (x * T::from_f64(1.0 / 3.0) + T::from_f64(0.5))
        }
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Var};

    use super::*;

    #[test]
    fn it_is_shut_below_minus_three_and_open_above_three() -> Result<()> {
        for version in [hard_swish, reference] {
            let x = Var::new(
                &[-1e30f32, -3.0, 0.0, 1.5, 3.0, 1e30, f32::NAN],
                &Device::Cpu,
            )?;
            let y = version(&x)?;
            let values = y.to_vec1::<f32>()?;
            assert_eq!(values[..6], [0.0, 0.0, 0.0, 1.125, 3.0, 1e30]);
            assert!(values[6].is_nan());
            let gradients = y.narrow(0, 0, 6)?.backward()?;
            let gradient = gradients
                .get(&x)
                .expect("it depends on its input")
                .to_vec1::<f32>()?;
            assert_eq!(gradient[..6], [0.0, 0.0, 0.5, 1.0, 1.0, 1.0]);
        }
        Ok(())
    }
}
