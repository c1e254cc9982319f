//! FastAP loss.

use std::num::NonZeroU32;

use candle_core::{Result, Tensor};
use nearfar_core::Positive;
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
