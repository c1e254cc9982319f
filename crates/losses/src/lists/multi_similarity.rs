//! Multi-similarity loss.

use candle_core::{Result, Tensor};
use nearfar_core::{Finite, Positive};
use nearfar_kernels::{Row, RowFunctional, RowSum, masked_log_sum_exp, rows, softplus};
use serde::{Deserialize, Serialize};

use crate::family::{ListLoss, Weighted};

/// Weighs each pair against the anchor's other pairs.
///
/// ```text
/// l(a) = 1/alpha · log(1 + Σ_p exp(−alpha (s(a, p) − base))) + 1/beta · log(1 + Σ_n exp(beta (s(a, n) − base)))
/// ```
///
/// Averaged over all anchors; a side that an anchor lacks adds 0. With one class there is only the positive side, with all
/// classes distinct only the negative one. A pair that a miner lists twice counts once.
///
/// Source: Wang et al., "Multi-similarity loss with general pair weighting for deep metric learning", CVPR 2019,
/// <https://arxiv.org/abs/1904.06627>, equation 15. Agrees with `MultiSimilarityLoss` of pytorch-metric-learning 2.9.
///
/// Choose it with the miner of the same name.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// use nearfar_losses::{ListLoss, MultiSimilarity};
///
/// let similarity = Tensor::new(&[[1f32, 0.5, 0.5]], &Device::Cpu)?; // Itself, a positive, a negative.
/// let positive = Tensor::new(&[[0f32, 1.0, 0.0]], &Device::Cpu)?;
/// let negative = Tensor::new(&[[0f32, 0.0, 1.0]], &Device::Cpu)?;
/// let loss = MultiSimilarity::default().lists(&similarity, &positive, &negative)?;
/// let value = loss.values.to_vec1::<f32>()?[0];
/// assert!((value - (0.5 + 0.02) * 2f32.ln()).abs() < 1e-6); // 1/alpha · log 2 + 1/beta · log 2
/// # Ok::<(), candle_core::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MultiSimilarity {
    /// How sharply the hardest positives stand out.
    pub alpha: Positive,
    /// How sharply the hardest negatives stand out.
    pub beta: Positive,
    /// The similarity that divides positives from negatives.
    pub base: Finite,
}

impl Default for MultiSimilarity {
    /// `alpha` and `beta` are the paper's; `base` is that of the authors' code, where the paper has 1.
    fn default() -> Self {
        Self {
            alpha: Positive::literal(2.0),
            beta: Positive::literal(50.0),
            base: Finite::literal(0.5),
        }
    }
}

impl ListLoss for MultiSimilarity {
    fn lists(&self, similarity: &Tensor, positive: &Tensor, negative: &Tensor) -> Result<Weighted> {
        let (alpha, beta, base) = (self.alpha.get(), self.beta.get(), self.base.get());
        // log(1 + Σ exp) is the softplus of log Σ exp; of no pairs that is far below zero, and the softplus 0.
        let pull = masked_log_sum_exp(&similarity.affine(-alpha, alpha * base)?, positive)?;
        let push = masked_log_sum_exp(&similarity.affine(beta, -beta * base)?, negative)?;
        let values = ((softplus(&pull)? / alpha)? + (softplus(&push)? / beta)?)?; // (n)
        let weights = values.ones_like()?;
        Ok(Weighted { values, weights })
    }

    fn by_row(&self) -> Option<Box<dyn RowFunctional>> {
        Some(Box::new(OfAnchor {
            alpha: self.alpha.get() as f32,
            beta: self.beta.get() as f32,
            base: self.base.get() as f32,
        }))
    }
}

struct OfAnchor {
    alpha: f32,
    beta: f32,
    base: f32,
}

impl RowFunctional for OfAnchor {
    fn row(&self, mut row: Row<'_>) -> [RowSum; 2] {
        let (positives, [before, after]) = row.split();
        let (alpha, beta) = (self.alpha, self.beta);
        let pull = rows::softplus_sum(&mut [&mut *positives], -alpha, self.base);
        rows::multiply(positives, 1.0 / alpha);
        let push = rows::softplus_sum(&mut [&mut *before, &mut *after], beta, self.base);
        rows::multiply(before, 1.0 / beta);
        rows::multiply(after, 1.0 / beta);
        let value = f64::from(pull / alpha) + f64::from(push / beta);
        let active = usize::from(value > 0.0);
        [
            RowSum {
                value,
                terms: 1,
                active,
            },
            RowSum::default(),
        ]
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn a_missing_side_adds_nothing_and_large_values_stay_finite() -> Result<()> {
        let similarity = Tensor::new(&[[0.5f32, 0.5], [1e6, 0.5]], &Device::Cpu)?;
        let none = similarity.zeros_like()?;
        let all = similarity.ones_like()?;
        let loss = MultiSimilarity::default();
        assert_eq!(
            loss.lists(&similarity, &none, &none)?
                .values
                .to_vec1::<f32>()?,
            [0.0, 0.0]
        );
        let pushed = loss
            .lists(&similarity, &none, &all)?
            .values
            .to_vec1::<f32>()?;
        assert!((pushed[0] - 3f32.ln() / 50.0).abs() < 1e-7);
        assert!((pushed[1] - (1e6 - 0.5)).abs() < 1.0);
        Ok(())
    }
}
