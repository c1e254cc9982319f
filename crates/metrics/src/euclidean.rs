//! Euclidean distance.

use candle_core::{Result, Tensor};
use nearfar_core::{Axioms, Distance, Form, Gram, shape};
use nearfar_kernels::{paired_squared_euclidean, safe_sqrt};

/// `√Σ_k (x_k − y_k)²`
///
/// Rows that coincide have distance 0 and gradient 0, as in torch's `cdist`. A metric.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Euclidean {}

impl Distance for Euclidean {
    fn matrix(&self, x: &Tensor, y: &Tensor) -> Result<Tensor> {
        shape::rows_of_one_width("euclidean", ("x", x), ("y", y))?;
        nearfar_kernels::euclidean(x, y)
    }

    fn paired(&self, x: &Tensor, y: &Tensor) -> Result<Tensor> {
        shape::same("euclidean", ("x", x), ("y", y))?;
        safe_sqrt(&paired_squared_euclidean(x, y)?)
    }

    fn axioms(&self) -> Axioms {
        Axioms::METRIC
    }

    fn form(&self) -> Form {
        Form::Gram {
            kind: Gram::Euclidean,
            unit_rows: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn the_sides_of_a_triangle_are_three_four_and_five() -> Result<()> {
        let x = Tensor::new(&[[0f32, 0.0], [3.0, 0.0]], &Device::Cpu)?;
        let y = Tensor::new(&[[3f32, 4.0], [3.0, 0.0]], &Device::Cpu)?;
        assert_eq!(
            Euclidean {}.matrix(&x, &y)?.to_vec2::<f32>()?,
            [[5.0, 3.0], [4.0, 0.0]]
        );
        assert_eq!(Euclidean {}.paired(&x, &y)?.to_vec1::<f32>()?, [5.0, 0.0]);
        Ok(())
    }
}
