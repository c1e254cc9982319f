//! Squared Euclidean distance.

use candle_core::{Result, Tensor};
use nearfar_core::{Axioms, Distance, Form, Gram, shape};

/// `Σ_k (x_k − y_k)²`
///
/// On rows of length 1 it is `2 − 2 cos`. It has no triangle inequality: on a line, 0 to 2 is 4, but over 1 it is 1 and 1.
/// `LpDistance(power=2)` of pytorch-metric-learning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SquaredEuclidean {}

impl Distance for SquaredEuclidean {
    fn matrix(&self, x: &Tensor, y: &Tensor) -> Result<Tensor> {
        shape::rows_of_one_width("squared_euclidean", ("x", x), ("y", y))?;
        nearfar_kernels::squared_euclidean(x, y)
    }

    fn paired(&self, x: &Tensor, y: &Tensor) -> Result<Tensor> {
        shape::same("squared_euclidean", ("x", x), ("y", y))?;
        nearfar_kernels::paired_squared_euclidean(x, y)
    }

    fn axioms(&self) -> Axioms {
        Axioms {
            triangle: false,
            ..Axioms::METRIC
        }
    }

    fn form(&self) -> Form {
        Form::Gram {
            kind: Gram::Squared,
            unit_rows: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn on_a_line_it_is_the_square_of_the_difference() -> Result<()> {
        let x = Tensor::new(&[[0f64], [1.0]], &Device::Cpu)?;
        let y = Tensor::new(&[[2f64], [-1.0]], &Device::Cpu)?;
        assert_eq!(
            SquaredEuclidean {}.matrix(&x, &y)?.to_vec2::<f64>()?,
            [[4.0, 1.0], [1.0, 4.0]]
        );
        assert_eq!(
            SquaredEuclidean {}.paired(&x, &y)?.to_vec1::<f64>()?,
            [4.0, 4.0]
        );
        Ok(())
    }
}
