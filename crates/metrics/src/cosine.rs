//! Cosine similarity.

use candle_core::{Result, Tensor};
use nearfar_core::{Form, Gram, Similarity, shape};
use nearfar_kernels::l2_normalize;
use serde::{Deserialize, Serialize};

use crate::Dot;

/// `x·y / (‖x‖ ‖y‖)`, from −1 to 1
///
/// A row of zeros has no direction: its cosine with every row is 0, and so is its gradient. Rounding can leave a value
/// just above 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Cosine {}

impl Similarity for Cosine {
    fn matrix(&self, x: &Tensor, y: &Tensor) -> Result<Tensor> {
        shape::rows_of_one_width("cosine", ("x", x), ("y", y))?;
        // A batch with itself is divided by its lengths once.
        let unit = l2_normalize(x)?;
        if x.id() == y.id() {
            Dot {}.matrix(&unit, &unit)
        } else {
            Dot {}.matrix(&unit, &l2_normalize(y)?)
        }
    }

    fn paired(&self, x: &Tensor, y: &Tensor) -> Result<Tensor> {
        shape::same("cosine", ("x", x), ("y", y))?;
        Dot {}.paired(&l2_normalize(x)?, &l2_normalize(y)?)
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
    fn length_does_not_matter_and_a_row_of_zeros_has_no_direction() -> Result<()> {
        let x = Tensor::new(&[[2f64, 0.0], [0.0, 0.0]], &Device::Cpu)?;
        let y = Tensor::new(&[[3f64, 4.0], [0.0, 9.0]], &Device::Cpu)?;
        let cosines = Cosine {}.matrix(&x, &y)?.to_vec2::<f64>()?;
        assert!((cosines[0][0] - 0.6).abs() < 1e-15);
        assert_eq!((cosines[0][1], &cosines[1]), (0.0, &vec![0.0, 0.0]));
        assert_eq!(Cosine {}.paired(&x, &y)?.to_vec1::<f64>()?[1], 0.0);
        Ok(())
    }
}
