//! The readable version: the whole matrix in candle operations, its rows on the host.

use candle_core::{D, DType, Result, Tensor};

use super::{Fold, PairLoss, RowForm, RowFunctional, RowSum, Rows, check};
use crate::{euclidean, squared_euclidean};

/// [`pair_loss`](crate::pair_loss) in candle operations.
pub fn reference(
    form: RowForm,
    rows: &Rows<'_>,
    functional: &dyn RowFunctional,
    fold: &Fold<'_>,
) -> Result<PairLoss> {
    check(rows, fold)?;
    let (x, y) = (rows.anchors, rows.references);
    let matrix = match form {
        RowForm::Euclidean => euclidean::reference(x, y)?,
        RowForm::Squared => squared_euclidean::reference(x, y)?,
        RowForm::Dot => x.matmul(&y.t()?)?,
    };
    let mut total = RowSum::default();
    let mut gradient = matrix
        .flatten_all()?
        .to_dtype(DType::F32)?
        .to_vec1::<f32>()?;
    let width = matrix.dim(D::Minus1)?;
    if width > 0 {
        for (anchor, values) in gradient.chunks_exact_mut(width).enumerate() {
            total += rows.visit(functional, fold, anchor, values);
        }
    }
    let mut loss = PairLoss {
        value: None,
        terms: total.terms,
        active: total.active,
    };
    if let Some(divisor) = fold.divisor(total) {
        let gradient = Tensor::from_vec(gradient, matrix.shape(), matrix.device())?
            .to_dtype(matrix.dtype())?;
        // It has the value 0 and the gradient that the rows gave.
        let change = (&matrix - matrix.detach())?.mul(&gradient)?.sum_all()?;
        loss.value = Some(((change + total.value)? / divisor)?);
    }
    Ok(loss)
}
