//! Cosine distance.

use candle_core::{Result, Tensor};
use nearfar_core::{Axioms, Distance, Form, Gram, Similarity};
use serde::{Deserialize, Serialize};

use crate::Cosine;

/// `1 − x·y / (‖x‖ ‖y‖)`, from 0 to 2
///
/// Rows of one direction have distance 0, and a row of zeros has distance 1 to every row, itself included. It has no
/// triangle inequality: from 0° to 90° is 1, but over 45° it is twice 0.29. Rounding can leave a value just below 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CosineDistance {}

impl Distance for CosineDistance {
    fn matrix(&self, x: &Tensor, y: &Tensor) -> Result<Tensor> {
        Cosine {}.matrix(x, y)?.affine(-1.0, 1.0)
    }

    fn paired(&self, x: &Tensor, y: &Tensor) -> Result<Tensor> {
        Cosine {}.paired(x, y)?.affine(-1.0, 1.0)
    }

    fn axioms(&self) -> Axioms {
        Axioms {
            zero_on_self: false, // Not for a row of zeros.
            separates: false,
            triangle: false,
            ..Axioms::METRIC
        }
    }

    fn form(&self) -> Form {
        Form::Gram {
            kind: Gram::Cosine,
            unit_rows: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn opposite_rows_are_two_apart() -> Result<()> {
        let x = Tensor::new(&[[1f32, 0.0]], &Device::Cpu)?;
        let y = Tensor::new(&[[5f32, 0.0], [0.0, 2.0], [-1.0, 0.0]], &Device::Cpu)?;
        assert_eq!(
            CosineDistance {}.matrix(&x, &y)?.to_vec2::<f32>()?,
            [[0.0, 1.0, 2.0]]
        );
        Ok(())
    }
}
