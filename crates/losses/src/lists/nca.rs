//! Neighborhood components analysis.

use candle_core::{Result, Tensor};
use nearfar_core::Positive;
use nearfar_kernels::{Row, RowFunctional, RowSum, masked_log_sum_exp, rows};
use serde::{Deserialize, Serialize};

use crate::Compares;
use crate::family::{ListLoss, Mined, Weighted};
use crate::lists::has;

/// Wants a neighbor that is drawn at random, near ones more often, to be of the anchor's class. Also known as the soft nearest
/// neighbor loss, of temperature `1/scale`.
///
/// ```text
/// l(a) = −log( Σ_p exp(−scale · d(a, p)) / Σ_j exp(−scale · d(a, j)) )     j over all positives p and all negatives
/// ```
///
/// Averaged over the anchors that have a positive; a batch without positives is nothing to learn, and with one class the loss
/// is 0. One near positive is enough: classes may have several places. Computed as a difference of two log-sum-exps, which
/// neither overflows nor vanishes. A miner does not cut the lists, it weighs the anchors.
///
/// Source: Goldberger et al., "Neighbourhood components analysis", NIPS 2004; Frosst, Papernot, Hinton, "Analyzing and improving
/// representations with the soft nearest neighbor loss", ICML 2019, <https://arxiv.org/abs/1902.01889>, equation 1. Agrees with
/// `NCALoss` of pytorch-metric-learning 2.9, which gives NaN where no anchor has a positive.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// use nearfar_losses::{ListLoss, NCA};
///
/// let similarity = Tensor::new(&[[0f64, -0.5, -0.5]], &Device::Cpu)?; // Itself, a positive and a negative as far.
/// let positive = Tensor::new(&[[0f64, 1.0, 0.0]], &Device::Cpu)?;
/// let negative = Tensor::new(&[[0f64, 0.0, 1.0]], &Device::Cpu)?;
/// let loss = NCA::default().lists(&similarity, &positive, &negative)?;
/// assert!((loss.values.to_vec1::<f64>()?[0] - 2f64.ln()).abs() < 1e-12);
/// # Ok::<(), candle_core::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NCA {
    /// What distances are multiplied by: the larger, the more the nearest count.
    pub scale: Positive,
}

impl Default for NCA {
    /// 1, as in the paper.
    fn default() -> Self {
        Self {
            scale: Positive::literal(1.0),
        }
    }
}

impl ListLoss for NCA {
    fn lists(&self, similarity: &Tensor, positive: &Tensor, negative: &Tensor) -> Result<Weighted> {
        let scaled = (similarity * self.scale.get())?;
        let all = masked_log_sum_exp(&scaled, &(positive + negative)?)?;
        let own = masked_log_sum_exp(&scaled, positive)?;
        let weights = has(positive)?;
        let values = ((all - own)? * &weights)?;
        Ok(Weighted { values, weights })
    }

    fn mined(&self) -> Mined {
        Mined::Weights
    }

    fn compares(&self) -> Compares {
        Compares::Distance("squared_euclidean")
    }

    fn by_row(&self) -> Option<Box<dyn RowFunctional>> {
        let by = self.scale.get() as f32;
        Some(Box::new(OfAnchor { by }))
    }
}

struct OfAnchor {
    by: f32,
}

impl RowFunctional for OfAnchor {
    fn row(&self, mut row: Row<'_>) -> [RowSum; 2] {
        let (positives, [before, after]) = row.split();
        if positives.is_empty() {
            before.fill(0.0);
            after.fill(0.0);
            return [RowSum::default(); 2];
        }
        let own = rows::log_sum_exp(&mut [&mut *positives], self.by);
        let others = rows::log_sum_exp(&mut [&mut *before, &mut *after], self.by);
        let cost = rows::softplus(others - own);
        let by = self.by * cost.slope;
        rows::multiply(positives, -by);
        rows::multiply(before, by);
        rows::multiply(after, by);
        let sum = RowSum {
            value: f64::from(cost.value),
            terms: 1,
            active: usize::from(cost.value > 0.0),
        };
        [sum, RowSum::default()]
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    /// Defect of the peer: NaN without positives.
    #[test]
    fn anchors_without_positives_are_left_out_and_far_ones_stay_finite() -> Result<()> {
        let similarity = Tensor::new(&[[0f32, -1e4, -1.0], [-1.0, -2.0, -3.0]], &Device::Cpu)?;
        let positive = Tensor::new(&[[0f32, 1.0, 0.0], [0.0; 3]], &Device::Cpu)?;
        let negative = Tensor::new(&[[0f32, 0.0, 1.0], [1.0; 3]], &Device::Cpu)?;
        let Weighted { values, weights } =
            NCA::default().lists(&similarity, &positive, &negative)?;
        assert_eq!(values.to_vec1::<f32>()?, [9999.0, 0.0]);
        assert_eq!(weights.to_vec1::<f32>()?, [1.0, 0.0]);
        Ok(())
    }
}
