//! FastAP loss.

use std::num::NonZeroU32;

use candle_core::{Result, Tensor};
use nearfar_core::Positive;
use nearfar_kernels::{Row, RowFunctional, RowSum, rows};
use serde::{Deserialize, Serialize};

use crate::Compares;
use crate::family::{ListLoss, Mined, Weighted};
use crate::lists::bins::{AtNode, Bins};
use crate::lists::has;

/// One minus the average precision of each query's ranking, where rows within a bin of distance are tied.
///
/// ```text
/// l(q) = 1 − 1/P Σ_b h+(b) H+(b) / H(b)     h+: the query's positives at each node, h: all rows; H+ and H: up to it
/// ```
///
/// The nodes lie from 0 to `largest`, both included, and a row counts for the two nodes it is between; one that is farther
/// counts for the last. Averaged over the queries that have a positive; with one class the loss is 0, and a batch without
/// positives is nothing to learn. A query is not ranked by itself. A miner does not cut the lists, it weighs the queries.
/// The more rows there are, the better the distribution is known: take batches of a hundred and more.
///
/// Source: Cakir et al., "Deep metric learning to rank", CVPR 2019, equations 4 to 9. Agrees with `FastAPLoss` of
/// pytorch-metric-learning 2.9.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// use nearfar_losses::{FastAP, ListLoss};
///
/// let similarity = Tensor::new(&[[0f64, -2.0, -0.4]], &Device::Cpu)?; // Itself, a positive behind a negative.
/// let positive = Tensor::new(&[[0f64, 1.0, 0.0]], &Device::Cpu)?;
/// let negative = Tensor::new(&[[0f64, 0.0, 1.0]], &Device::Cpu)?;
/// let loss = FastAP::default().lists(&similarity, &positive, &negative)?;
/// assert!((loss.values.to_vec1::<f64>()?[0] - 0.5).abs() < 1e-12); // The second place.
/// # Ok::<(), candle_core::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FastAP {
    /// Into how many bins the distances are divided: one less than there are nodes.
    pub bins: NonZeroU32,
    /// The largest distance that there is.
    pub largest: Positive,
}

impl Default for FastAP {
    /// Ten bins, as in the paper; 4 is the largest squared distance of rows of length 1.
    fn default() -> Self {
        Self {
            bins: NonZeroU32::new(10).expect("it is not zero"),
            largest: Positive::literal(4.0),
        }
    }
}

impl ListLoss for FastAP {
    fn lists(&self, similarity: &Tensor, positive: &Tensor, negative: &Tensor) -> Result<Weighted> {
        let bins = self.bins.get();
        let positions = (similarity * (-f64::from(bins) / self.largest.get()))?;
        let places = Bins {
            count: bins as usize,
            at_node: AtNode::Nothing,
        };
        let precision = places.value(
            &positions,
            [positive, negative],
            |of_positives, of_negatives| {
                let positives_to = of_positives.cumsum(1)?;
                let all_to = (of_positives + of_negatives)?.cumsum(1)?;
                let found = (of_positives * positives_to)?;
                let there = found.gt(0f64)?;
                let safe = there.where_cond(&all_to, &all_to.ones_like()?)?;
                let found = there.where_cond(&(&found / safe)?, &found.zeros_like()?)?;
                found.sum(1)? / positive.sum(1)?.maximum(1f64)?
            },
        )?;
        let weights = has(positive)?;
        let values = (precision.affine(-1.0, 1.0)? * &weights)?;
        Ok(Weighted { values, weights })
    }

    fn mined(&self) -> Mined {
        Mined::Weights
    }

    fn compares(&self) -> Compares {
        Compares::Distance("squared_euclidean")
    }

    fn by_row(&self) -> Option<Box<dyn RowFunctional>> {
        let bins = self.bins.get();
        Some(Box::new(OfQuery(rows::Nodes {
            bins: bins as usize,
            scale: (-f64::from(bins) / self.largest.get()) as f32,
            shift: 0.0,
            at_node: false,
        })))
    }
}

struct OfQuery(rows::Nodes);

impl RowFunctional for OfQuery {
    fn row(&self, mut row: Row<'_>) -> [RowSum; 2] {
        let nodes = self.0.bins + 1;
        let (positives, [before, after]) = row.split();
        if positives.is_empty() {
            before.fill(0.0);
            after.fill(0.0);
            return [RowSum::default(); 2];
        }
        let count = positives.len() as f32;
        let (mut own, mut others) = (vec![0.0; nodes], vec![0.0; nodes]);
        self.0.count(positives, &mut own);
        self.0.count(before, &mut others);
        self.0.count(after, &mut others);
        // Where a node has positives: how many there are up to it, and the share of them among all.
        let (mut own_to, mut all_to, mut precision) = (0.0, 0.0, 0.0);
        let mut at = Vec::with_capacity(nodes);
        for (&own, &others) in own.iter().zip(&others) {
            own_to += own;
            all_to += own + others;
            at.push(if own * own_to > 0.0 {
                precision += own * own_to / all_to;
                Some((own_to, all_to))
            } else {
                None
            });
        }
        let value = 1.0 - precision / count;
        // The derivatives of what is lost by the counts of each node: they change what is up to all after it.
        let (mut through_own, mut through_all) = (0.0, 0.0);
        let (mut of_own, mut of_others) = (vec![0.0; nodes], vec![0.0; nodes]);
        for node in (0..nodes).rev() {
            let mut direct = 0.0;
            if let Some((own_to, all_to)) = at[node] {
                through_own += own[node] / all_to;
                through_all += own[node] * own_to / (all_to * all_to);
                direct = own_to / all_to;
            }
            of_own[node] = -(direct + through_own - through_all) / count;
            of_others[node] = through_all / count;
        }
        self.0.slopes(positives, &of_own);
        self.0.slopes(before, &of_others);
        self.0.slopes(after, &of_others);
        let sum = RowSum {
            value: f64::from(value),
            terms: 1,
            active: usize::from(value > 0.0),
        };
        [sum, RowSum::default()]
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn rows_of_one_bin_are_tied() -> Result<()> {
        // Two positives at the first node, one negative with them and one behind: precision 2/3 at each.
        let similarity = Tensor::new(&[[0f64, 0.0, 0.0, -1.0]], &Device::Cpu)?;
        let positive = Tensor::new(&[[1f64, 1.0, 0.0, 0.0]], &Device::Cpu)?;
        let negative = Tensor::new(&[[0f64, 0.0, 1.0, 1.0]], &Device::Cpu)?;
        let values = FastAP::default()
            .lists(&similarity, &positive, &negative)?
            .values;
        assert!((values.to_vec1::<f64>()?[0] - 1.0 / 3.0).abs() < 1e-15);
        Ok(())
    }
}
