//! Lifted structure loss.

use candle_core::{DType, Device, Result, Tensor};
use nearfar_core::Finite;
use nearfar_kernels::{
    EMPTY, Row, RowFunctional, RowSum, hinge, log_sum_exp, masked_log_sum_exp, rows,
};
use serde::{Deserialize, Serialize};

use crate::family::{ListLoss, Lists, Weighted};
use crate::lists::{any, repeated};
use crate::over::rows::{AllRows, Functional};
use crate::{Compares, Compat};

/// Wants each positive pair nearer than all negatives of both of its rows, the nearest of which count most.
///
/// ```text
/// l(i, j) = ½ max(0, d(i, j) − positive_margin + log( Σ_k exp(negative_margin − d(i, k)) + Σ_l exp(negative_margin − d(j, l)) ))²
/// k over the negatives of i, l over those of j
/// ```
///
/// Averaged over all positive pairs. The sum of a pair is put together from one log-sum-exp for each row, so the cost is that of
/// the distances. A positive that is not an anchor itself has no negatives of its own. A pair whose rows both have no negative
/// costs 0; a batch without positives or without negatives is nothing to learn.
///
/// `compat = "pml"`: a pair whose rows have no negative costs `½ max(0, d − positive_margin)²`; and against other rows than the
/// anchors the negatives of reference `j` are those of anchor `j`, whatever it is.
///
/// Source: Oh Song et al., "Deep metric learning via lifted structured feature embedding", CVPR 2016,
/// <https://arxiv.org/abs/1511.06452>, equation 4. Agrees with `LiftedStructureLoss` of pytorch-metric-learning 2.9 within a
/// batch, and with `compat = "pml"` everywhere.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// use nearfar_losses::{Lifted, ListLoss};
///
/// let similarity = Tensor::new(&[[0f64, -1.0, -2.0]], &Device::Cpu)?; // Itself, a positive at 1, a negative at 2.
/// let positive = Tensor::new(&[[0f64, 1.0, 0.0]], &Device::Cpu)?;
/// let negative = Tensor::new(&[[0f64, 0.0, 1.0]], &Device::Cpu)?;
/// let loss = Lifted::default().lists(&similarity, &positive, &negative)?;
/// assert_eq!(loss.values.to_vec2::<f64>()?[0][1], 0.0); // 1 + (1 − 2)
/// # Ok::<(), candle_core::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Lifted {
    /// What a positive distance may be for nothing.
    pub positive_margin: Finite,
    /// Up to where negatives count fully.
    pub negative_margin: Finite,
    /// Another library's convention.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compat: Option<Compat>,
}

impl Default for Lifted {
    /// Those of the paper, for distances of rows as they are.
    fn default() -> Self {
        Self {
            positive_margin: Finite::literal(0.0),
            negative_margin: Finite::literal(1.0),
            compat: None,
        }
    }
}

impl Lifted {
    /// `rows` says for each reference which anchor it is, if it is one.
    fn over(
        &self,
        similarity: &Tensor,
        positive: &Tensor,
        negative: &Tensor,
        rows: &[Option<u32>],
    ) -> Result<Weighted> {
        let (n, m) = similarity.dims2()?;
        let (dtype, device) = (similarity.dtype(), similarity.device());
        let shifted = repeated(&(similarity + self.negative_margin.get())?, negative)?;
        let own = masked_log_sum_exp(&shifted, negative)?; // (n)
        // One more for references without negatives of their own.
        let none = Tensor::new(&[EMPTY], device)?.to_dtype(dtype)?;
        let places: Vec<u32> = rows.iter().map(|row| row.unwrap_or(n as u32)).collect();
        let places = Tensor::from_vec(places, m, device)?;
        let other = Tensor::cat(&[&own, &none], 0)?.index_select(&places, 0)?; // (m)
        // A row and its copy are one row, whose negatives count once.
        let other = other.unsqueeze(0)?.broadcast_as((n, m))?;
        let other = same(rows, n, device)?.where_cond(&none.broadcast_as((n, m))?, &other)?;
        let own = own.unsqueeze(1)?.broadcast_as((n, m))?;
        let mut both = log_sum_exp(&Tensor::stack(&[&own, &other], 2)?)?; // (n, m)
        if self.compat == Some(Compat::Pml) {
            let empty = both.detach().le(EMPTY / 2.0)?;
            both = empty.where_cond(&both.zeros_like()?, &both)?;
        }
        let missed = ((both - similarity)? - self.positive_margin.get())?;
        let values = (hinge(&missed)?.sqr()? * 0.5)?;
        let weights = positive.broadcast_mul(&any(negative)?)?;
        Ok(Weighted { values, weights })
    }
}

/// Where a reference is the anchor itself.
fn same(rows: &[Option<u32>], n: usize, device: &Device) -> Result<Tensor> {
    let mut mask = vec![0u8; n * rows.len()];
    for (column, row) in rows.iter().enumerate() {
        if let Some(row) = row {
            mask[*row as usize * rows.len() + column] = 1;
        }
    }
    Tensor::from_vec(mask, (n, rows.len()), device)?.to_dtype(DType::U8)
}

impl ListLoss for Lifted {
    fn lists(&self, similarity: &Tensor, positive: &Tensor, negative: &Tensor) -> Result<Weighted> {
        let rows = vec![None; similarity.dim(1)?];
        self.over(similarity, positive, negative, &rows)
    }

    fn lists_of(&self, lists: &Lists<'_>) -> Result<Weighted> {
        let (n, m) = lists.similarity.dims2()?;
        let mut rows = vec![None; m];
        if self.compat == Some(Compat::Pml) {
            // By number, whatever lies there.
            let anchors = rows.iter_mut().take(n).zip(0..);
            anchors.for_each(|(row, anchor)| *row = Some(anchor));
        } else {
            for (row, column) in lists.own.iter().enumerate() {
                if let Some(column) = column {
                    rows[*column as usize] = Some(row as u32);
                }
            }
        }
        self.over(lists.similarity, lists.positive, lists.negative, &rows)
    }

    fn compares(&self) -> Compares {
        Compares::Distance("euclidean")
    }

    fn by_rows(&self, all: &AllRows<'_>) -> Result<Functional> {
        // Within a batch both rows of a pair are anchors, and the distance is the same from either.
        if !all.within() {
            return Ok(None);
        }
        let negatives = all.look(|mut row| {
            let (_, [before, after]) = row.split();
            rows::log_sum_exp(&mut [before, after], 1.0) + self.negative_margin.get() as f32
        })?;
        Ok(Some(Box::new(OfRow {
            negatives,
            positive_margin: self.positive_margin.get() as f32,
            pml: self.compat == Some(Compat::Pml),
        })))
    }
}

struct OfRow {
    /// The log-sum-exp over the negatives of each row.
    negatives: Vec<f32>,
    positive_margin: f32,
    pml: bool,
}

impl RowFunctional for OfRow {
    fn row(&self, mut row: Row<'_>) -> [RowSum; 2] {
        let others: Vec<f32> = row
            .positives
            .clone()
            .map(|column| self.negatives[row.place(column)])
            .collect();
        let own = self.negatives[row.anchor];
        let (positives, [before, after]) = row.split();
        let mut sum = RowSum {
            terms: positives.len(),
            ..RowSum::default()
        };
        let mut pushed = 0.0;
        for (value, other) in positives.iter_mut().zip(others) {
            let largest = own.max(other);
            let (both, share) = if largest == f32::NEG_INFINITY {
                (if self.pml { 0.0 } else { largest }, 0.0)
            } else {
                let (x, y) = ((own - largest).exp(), (other - largest).exp());
                (largest + (x + y).ln(), x / (x + y))
            };
            let missed = (both - *value - self.positive_margin).max(0.0);
            sum.value += f64::from(0.5 * missed * missed);
            sum.active += usize::from(missed > 0.0);
            *value = -missed;
            // The pair is a term of its other row too, and this row's negatives are in both.
            pushed += 2.0 * missed * share;
        }
        if pushed > 0.0 {
            rows::log_sum_exp(&mut [&mut *before, &mut *after], 1.0);
            rows::multiply(before, pushed);
            rows::multiply(after, pushed);
        } else {
            before.fill(0.0);
            after.fill(0.0);
        }
        [sum, RowSum::default()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_negatives_of_both_rows_are_added_up() -> Result<()> {
        // Rows at 0, 1 and 3 on a line; the first two are of one class.
        let similarity = Tensor::new(
            &[[0f64, -1.0, -3.0], [-1.0, 0.0, -2.0], [-3.0, -2.0, 0.0]],
            &Device::Cpu,
        )?;
        let positive = Tensor::new(&[[0f64, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0; 3]], &Device::Cpu)?;
        let negative = Tensor::new(
            &[[0f64, 0.0, 1.0], [0.0, 0.0, 1.0], [1.0, 1.0, 0.0]],
            &Device::Cpu,
        )?;
        let lists = Lists {
            similarity: &similarity,
            positive: &positive,
            negative: &negative,
            own: &[Some(0), Some(1), Some(2)],
            labels: &[0, 0, 1],
        };
        let values = |own: &[Option<u32>]| -> Result<Vec<Vec<f64>>> {
            Lifted::default()
                .lists_of(&Lists { own, ..lists })?
                .values
                .to_vec2()
        };
        let wanted = 0.5 * (1.0 + ((-2f64).exp() + (-1f64).exp()).ln()).powi(2);
        let within = values(lists.own)?;
        assert!((within[0][1] - wanted).abs() < 1e-15 && (within[1][0] - wanted).abs() < 1e-15);
        // Of references that are no anchors only the anchor's own negatives are known.
        let between = values(&[None; 3])?;
        assert_eq!(between[0][1], 0.0); // 1 + (1 − 3)
        assert_eq!(between[1][0], 0.0); // 1 + (1 − 2)
        Ok(())
    }
}
