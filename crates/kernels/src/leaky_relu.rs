//! The positive part that leaks.

use candle_core::{Result, Tensor};

use crate::host::serves;
use crate::lanes::Element;
use crate::pointwise::{self, Pointwise};

/// The positive part that leaks, of any shape: `x` above zero and `slope · x` else.
///
/// Its gradient at 0 is `slope`, as in torch's `leaky_relu`.
///
/// Source: Maas, Hannun, Ng, "Rectifier nonlinearities improve neural network acoustic models", ICML 2013.
pub fn leaky_relu(x: &Tensor, slope: f64) -> Result<Tensor> {
    if serves(x) {
        pointwise::apply(x, LeakyRelu { slope })
    } else {
        reference(x, slope)
    }
}

/// [`leaky_relu`](crate::leaky_relu) in candle operations.
pub fn reference(x: &Tensor, slope: f64) -> Result<Tensor> {
    x.gt(0f64)?.where_cond(x, &(x * slope)?)
}

struct LeakyRelu {
    slope: f64,
}

impl Pointwise for LeakyRelu {
    const NAME: &'static str = "leaky_relu";
    const COST: usize = 16;

    #[inline(always)]
    fn value<T: Element>(&self, x: T) -> T {
        if x > T::ZERO {
            x
        } else {
            T::from_f64(self.slope) * x
        }
    }

    #[inline(always)]
    fn pull<T: Element>(&self, x: T, _: T, gradient: T) -> T {
        if x > T::ZERO {
            gradient
        } else {
            T::from_f64(self.slope) * gradient
        }
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Var};

    use super::*;

    #[test]
    fn zero_is_on_the_side_that_leaks() -> Result<()> {
        for version in [leaky_relu, reference] {
            let x = Var::new(&[-2f64, 0.0, 2.0], &Device::Cpu)?;
            let y = version(&x, 0.25)?;
            assert_eq!(y.to_vec1::<f64>()?, [-0.5, 0.0, 2.0]);
            let gradients = y.backward()?;
            let gradient = gradients
                .get(&x)
                .expect("it depends on its input")
                .to_vec1::<f64>()?;
            assert_eq!(gradient, [0.25, 0.25, 1.0]);
        }
        Ok(())
    }
}
