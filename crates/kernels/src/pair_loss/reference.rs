//! The readable version: the whole matrix in candle operations, its rows on the host.

use candle_core::{DType, Result, Tensor};

use super::{Base, Fold, PairLoss, RowForm, RowFunctional, RowSum, Rows, check, part};
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
    let base = match form.base {
        Base::Euclidean => euclidean::reference(x, y)?,
        Base::Squared => squared_euclidean::reference(x, y)?,
        Base::Dot => x.matmul(&y.t()?)?,
    };
    let matrix = base.affine(f64::from(form.scale), f64::from(form.shift))?;
    let (n, m) = matrix.dims2()?;
    let mut order: Vec<u32> = (0..m as u32).collect();
    order.sort_by_key(|&row| rows.reference_groups[row as usize]);
    let groups: Vec<u32> = order
        .iter()
        .map(|&row| rows.reference_groups[row as usize])
        .collect();
    let own = rows.own_in(&order);
    let mut sums = [RowSum::default(); 2];
    let flat = matrix.flatten_all()?.to_dtype(DType::F32)?;
    let flat = flat.to_vec1::<f32>()?;
    let mut gradients = [vec![0f32; n * m], vec![0f32; n * m]];
    let apart = functional.apart();
    for anchor in 0..if m > 0 { n } else { 0 } {
        let given = &flat[anchor * m..(anchor + 1) * m];
        let mut values: Vec<f32> = order.iter().map(|&row| given[row as usize]).collect();
        let group = rows.anchor_groups[anchor];
        let begin = groups.partition_point(|&other| other < group);
        let end = groups.partition_point(|&other| other <= group);
        let own = own.get(anchor).copied().flatten();
        let of_anchor = (anchor, group, own);
        let all = rows.visit(
            functional,
            fold,
            of_anchor,
            begin..end,
            &groups,
            &mut values,
        );
        for (sum, row) in sums.iter_mut().zip(all) {
            *sum += row;
        }
        for (column, (&row, value)) in order.iter().zip(values).enumerate() {
            let part = usize::from(apart && !(begin..end).contains(&column));
            gradients[part][anchor * m + row as usize] = value;
        }
    }
    let parts = if apart { 2 } else { 1 };
    let mut loss = PairLoss { parts: Vec::new() };
    for (sum, gradient) in sums.into_iter().zip(gradients).take(parts) {
        let value = match fold.divisor(sum) {
            None => None,
            Some(divisor) => {
                let gradient = Tensor::from_vec(gradient, matrix.shape(), matrix.device())?
                    .to_dtype(matrix.dtype())?;
                // It has the value 0 and the gradient that the rows gave.
                let change = (&matrix - matrix.detach())?.mul(&gradient)?.sum_all()?;
                Some(((change + sum.value)? / divisor)?)
            }
        };
        loss.parts.push(part(value, sum));
    }
    Ok(loss)
}
