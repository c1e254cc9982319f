//! Supervised contrastive loss.

use candle_core::{Result, Tensor};
use nearfar_core::{Positive, Reducer};
use nearfar_kernels::{Row, RowFunctional, RowSum, masked_log_sum_exp, rows, softplus};
use serde::{Deserialize, Serialize};

use crate::family::{ListLoss, Weighted};
use crate::lists::{any, has};

/// Wants each positive to stand out of all others of its anchor, the other positives among them.
///
/// ```text
/// l(a) = −1/P Σ_p log( exp(s(a, p)/t) / Σ_j exp(s(a, j)/t) )     j over all P positives and all negatives, t = temperature
/// ```
///
/// An anchor without positives costs 0. Averaged over the anchors that cost something (the reducer `avg_nonzero`); a batch
/// without positives or without negatives is nothing to learn. With two rows in each class it is `nt_xent`. A pair that a miner
/// lists twice counts once.
///
/// Source: Khosla et al., "Supervised contrastive learning", NeurIPS 2020, <https://arxiv.org/abs/2004.11362>, equation 2 (the sum
/// outside of the logarithm). Agrees with `SupConLoss` of pytorch-metric-learning 2.9.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// use nearfar_losses::{ListLoss, SupCon};
///
/// let similarity = Tensor::new(&[[1f64, 0.5, 0.5, 0.5]], &Device::Cpu)?; // Itself, two positives, a negative.
/// let positive = Tensor::new(&[[0f64, 1.0, 1.0, 0.0]], &Device::Cpu)?;
/// let negative = Tensor::new(&[[0f64, 0.0, 0.0, 1.0]], &Device::Cpu)?;
/// let loss = SupCon::default().lists(&similarity, &positive, &negative)?;
/// assert!((loss.values.to_vec1::<f64>()?[0] - 3f64.ln()).abs() < 1e-12); // Each is one of three.
/// # Ok::<(), candle_core::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SupCon {
    /// What similarities are divided by: the smaller, the more the nearest count.
    pub temperature: Positive,
}

impl Default for SupCon {
    /// 0.1, as in the paper.
    fn default() -> Self {
        Self {
            temperature: Positive::literal(0.1),
        }
    }
}

impl ListLoss for SupCon {
    fn lists(&self, similarity: &Tensor, positive: &Tensor, negative: &Tensor) -> Result<Weighted> {
        let scaled = (similarity / self.temperature.get())?;
        let positives = masked_log_sum_exp(&scaled, positive)?; // (n)
        let negatives = masked_log_sum_exp(&scaled, negative)?;
        let present = positive.ne(0f64)?;
        let kept = present.where_cond(&scaled, &scaled.zeros_like()?)?;
        let count = present.to_dtype(scaled.dtype())?.sum(1)?;
        let mean = (kept.sum(1)? / count.maximum(1f64)?)?;
        // The logarithm of all is that of the positives and what the negatives add: however little that is, it is above zero,
        // and the anchor costs something.
        let added = softplus(&(negatives - &positives)?)?;
        let values = (((positives - mean)? + added)? * has(positive)?)?;
        let any = (any(positive)? * any(negative)?)?;
        let weights = count.ones_like()?.broadcast_mul(&any)?;
        Ok(Weighted { values, weights })
    }

    fn reducer(&self) -> Reducer {
        Reducer::AvgNonzero {}
    }

    fn by_row(&self) -> Option<Box<dyn RowFunctional>> {
        let by = (1.0 / self.temperature.get()) as f32;
        Some(Box::new(OfAnchor { by }))
    }
}

struct OfAnchor {
    /// One over the temperature.
    by: f32,
}

impl RowFunctional for OfAnchor {
    fn row(&self, mut row: Row<'_>) -> [RowSum; 2] {
        let (positives, [before, after]) = row.split();
        let mut sum = RowSum {
            terms: 1,
            ..RowSum::default()
        };
        if positives.is_empty() {
            before.fill(0.0);
            after.fill(0.0);
            return [sum, RowSum::default()];
        }
        let count = positives.len() as f32;
        let mean = positives.iter().sum::<f32>() * self.by / count;
        let own = rows::log_sum_exp(&mut [&mut *positives], self.by);
        let others = rows::log_sum_exp(&mut [&mut *before, &mut *after], self.by);
        let added = rows::softplus(others - own);
        sum.value = f64::from(own - mean) + f64::from(added.value);
        sum.active = usize::from(sum.value > 0.0);
        // Each has its share of the softmax over all; positives are pulled alike.
        let (share, pull) = (self.by * (1.0 - added.slope), self.by / count);
        positives.iter_mut().for_each(|x| *x = share * *x - pull);
        rows::multiply(before, self.by * added.slope);
        rows::multiply(after, self.by * added.slope);
        [sum, RowSum::default()]
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn a_positive_that_is_nearly_certain_still_costs_something() -> Result<()> {
        let similarity = Tensor::new(&[[1f32, 0.9, -0.9], [1.0, 0.0, 0.0]], &Device::Cpu)?;
        let positive = Tensor::new(&[[0f32, 1.0, 0.0], [0.0; 3]], &Device::Cpu)?;
        let negative = Tensor::new(&[[0f32, 0.0, 1.0], [0.0, 1.0, 1.0]], &Device::Cpu)?;
        let values = SupCon::default()
            .lists(&similarity, &positive, &negative)?
            .values;
        let values = values.to_vec1::<f32>()?;
        assert!((values[0] / (-18f32).exp() - 1.0).abs() < 1e-5); // (−0.9 − 0.9) / 0.1
        assert_eq!(values[1], 0.0);
        Ok(())
    }
}
