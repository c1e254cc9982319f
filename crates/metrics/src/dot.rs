//! Inner product.

use candle_core::{D, Result, Tensor};
use nearfar_core::{Form, Gram, Similarity, shape};

/// `Σ_k x_k y_k`
///
/// Of the rows as they are: `DotProductSimilarity` of pytorch-metric-learning 2.9 divides them by their length first
/// unless told otherwise, and is a [`Cosine`](crate::Cosine) then.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dot {}

impl Similarity for Dot {
    fn matrix(&self, x: &Tensor, y: &Tensor) -> Result<Tensor> {
        shape::rows_of_one_width("dot", ("x", x), ("y", y))?;
        x.matmul(&y.t()?)
    }

    fn paired(&self, x: &Tensor, y: &Tensor) -> Result<Tensor> {
        shape::same("dot", ("x", x), ("y", y))?;
        (x * y)?.sum(D::Minus1)
    }

    fn form(&self) -> Form {
        Form::Gram {
            kind: Gram::Dot,
            unit_rows: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn products_are_added_up() -> Result<()> {
        let x = Tensor::new(&[[1f32, 2.0], [0.0, 1.0]], &Device::Cpu)?;
        let y = Tensor::new(&[[3f32, 4.0], [5.0, 6.0]], &Device::Cpu)?;
        assert_eq!(
            Dot {}.matrix(&x, &y)?.to_vec2::<f32>()?,
            [[11.0, 17.0], [4.0, 6.0]]
        );
        assert_eq!(Dot {}.paired(&x, &y)?.to_vec1::<f32>()?, [11.0, 6.0]);
        Ok(())
    }
}
