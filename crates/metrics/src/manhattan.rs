//! Manhattan distance.

use candle_core::{D, Result, Tensor};
use nearfar_core::{Axioms, Distance, shape};
use nearfar_kernels::absolute;

/// `Σ_k |x_k − y_k|`
///
/// The gradient of a coordinate is its sign, and 0 where the two rows agree in it. A metric.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Manhattan {}

impl Distance for Manhattan {
    fn matrix(&self, x: &Tensor, y: &Tensor) -> Result<Tensor> {
        shape::rows_of_one_width("manhattan", ("x", x), ("y", y))?;
        nearfar_kernels::manhattan(x, y)
    }

    fn paired(&self, x: &Tensor, y: &Tensor) -> Result<Tensor> {
        shape::same("manhattan", ("x", x), ("y", y))?;
        absolute(&(x - y)?)?.sum(D::Minus1)
    }

    fn axioms(&self) -> Axioms {
        Axioms::METRIC
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn one_walks_along_the_axes() -> Result<()> {
        let x = Tensor::new(&[[0f32, 0.0]], &Device::Cpu)?;
        let y = Tensor::new(&[[3f32, -4.0]], &Device::Cpu)?;
        assert_eq!(Manhattan {}.matrix(&x, &y)?.to_vec2::<f32>()?, [[7.0]]);
        assert_eq!(Manhattan {}.paired(&x, &y)?.to_vec1::<f32>()?, [7.0]);
        Ok(())
    }
}
