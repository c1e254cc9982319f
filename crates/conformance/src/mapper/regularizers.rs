//! Regularizers of pytorch-metric-learning, as far as losses that are ours are stored with them.
//!
//! They are not ours yet. They stand here as an added term, so that the loss beside them is compared and not left out.

use candle_core::{DType, Tensor};
use nearfar_kernels::{l2_normalize, safe_sqrt};

use crate::golden::{Mapped, Object, Trouble};

/// A regularizer of rows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Regularizer {
    /// `RegularFaceRegularizer`: the mean of the cosine of each row to the nearest other.
    RegularFace,
    /// `LpRegularizer(p=2)`: the mean length of a row, or of its square.
    Length { squared: bool },
}

impl Regularizer {
    pub(super) fn of_object(object: Option<Object>) -> Mapped<Option<Self>> {
        let Some(Object { name, mut params }) = object else {
            return Ok(None);
        };
        let regularizer = match name.as_str() {
            "RegularFaceRegularizer" => Self::RegularFace,
            "LpRegularizer" => {
                let (p, power) = (params.number_or("p", 2.0)?, params.number_or("power", 1.0)?);
                match (p, power) {
                    (2.0, 1.0) => Self::Length { squared: false },
                    (2.0, 2.0) => Self::Length { squared: true },
                    _ => return Err(Trouble::unmapped(format!("p = {p}, power = {power}"))),
                }
            }
            other => return Err(Trouble::unmapped(format!("the regularizer {other}"))),
        };
        params.finish()?;
        Ok(Some(regularizer))
    }

    /// Rows `(n, d)` to a scalar.
    pub(super) fn of_rows(self, rows: &Tensor) -> Mapped<Tensor> {
        match self {
            Self::Length { squared } => {
                let squares = rows.sqr()?.sum(1)?;
                let lengths = if squared {
                    squares
                } else {
                    safe_sqrt(&squares)?
                };
                Ok(lengths.mean_all()?)
            }
            Self::RegularFace => {
                let unit = l2_normalize(rows)?;
                let cosines = unit.matmul(&unit.t()?)?; // (n, n)
                let n = cosines.dim(0)?;
                let own = Tensor::eye(n, DType::F64, rows.device())?.to_dtype(rows.dtype())?;
                // The nearest other is chosen without a gradient of the choice.
                let nearest = (cosines.detach() - (own * 4.0)?)?.argmax_keepdim(1)?;
                Ok(cosines.gather(&nearest, 1)?.mean_all()?)
            }
        }
    }
}
