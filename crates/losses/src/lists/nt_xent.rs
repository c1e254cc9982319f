//! Normalized temperature-scaled cross entropy.

use candle_core::{Result, Tensor};
use nearfar_core::Positive;
use nearfar_kernels::{Row, RowFunctional, RowSum, masked_log_sum_exp, rows, softplus};
use serde::{Deserialize, Serialize};

use crate::family::{ListLoss, Weighted};

/// Wants to tell each positive from all negatives of its anchor. Also known as InfoNCE.
///
/// ```text
/// l(a, p) = −log( exp(s(a, p)/t) / (exp(s(a, p)/t) + Σ_n exp(s(a, n)/t)) )     t = temperature
/// ```
///
/// Averaged over all positive pairs; other positives of the anchor are not in the sum. Computed as
/// `softplus(log Σ_n exp(s(a, n)/t) − s(a, p)/t)`, which neither overflows nor is capped. A positive whose anchor has no
/// negative costs 0; a batch without positives or without negatives is nothing to learn.
///
/// Source: Sohn, "Improved deep metric learning with multi-class N-pair loss objective", NIPS 2016; van den Oord, Li,
/// Vinyals 2018, <https://arxiv.org/abs/1807.03748>; Chen et al., "SimCLR", 2020, <https://arxiv.org/abs/2002.05709>.
/// Agrees with `NTXentLoss` of pytorch-metric-learning 2.9, which cuts single values off at 87 in f32.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// use nearfar_core::Positive;
/// use nearfar_losses::{ListLoss, NTXent};
///
/// let similarity = Tensor::new(&[[1f32, 0.5, 0.5]], &Device::Cpu)?; // Itself, a positive, a negative.
/// let positive = Tensor::new(&[[0f32, 1.0, 0.0]], &Device::Cpu)?;
/// let negative = Tensor::new(&[[0f32, 0.0, 1.0]], &Device::Cpu)?;
/// let loss = NTXent::default().lists(&similarity, &positive, &negative)?;
/// assert!((loss.values.to_vec2::<f32>()?[0][1] - 2f32.ln()).abs() < 1e-6); // One of two.
/// assert_eq!(loss.weights.to_vec2::<f32>()?, [[0.0, 1.0, 0.0]]);
/// # Ok::<(), candle_core::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NTXent {
    /// What similarities are divided by: the smaller, the more the nearest negatives count.
    pub temperature: Positive,
}

impl Default for NTXent {
    /// 0.07, as for most networks since Wu et al. 2018, <https://arxiv.org/abs/1805.01978>; SimCLR has 0.1 to 0.5.
    fn default() -> Self {
        Self {
            temperature: Positive::literal(0.07),
        }
    }
}

impl ListLoss for NTXent {
    fn lists(&self, similarity: &Tensor, positive: &Tensor, negative: &Tensor) -> Result<Weighted> {
        let scaled = (similarity / self.temperature.get())?;
        // A negative that a miner lists k times is k negatives.
        let repeats = negative.maximum(1f64)?.log()?;
        let negatives = masked_log_sum_exp(&(&scaled + repeats)?, negative)?; // (n)
        let values = softplus(&negatives.unsqueeze(1)?.broadcast_sub(&scaled)?)?; // (n, m)
        let any = negative.sum_all()?.ne(0f64)?.to_dtype(positive.dtype())?;
        let weights = positive.broadcast_mul(&any)?;
        Ok(Weighted { values, weights })
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
            terms: positives.len(),
            ..RowSum::default()
        };
        if positives.is_empty() {
            before.fill(0.0);
            after.fill(0.0);
            return [sum, RowSum::default()];
        }
        let negatives = rows::log_sum_exp(&mut [&mut *before, &mut *after], self.by);
        // Each positive is a softplus, and all share the softmax of the negatives.
        let mut pushed = 0.0;
        for value in positives {
            let z = negatives - self.by * *value;
            let slope = if z == f32::NEG_INFINITY {
                0.0
            } else {
                1.0 / (1.0 + (-z).exp())
            };
            let cost = z.max(0.0) + (-z.abs()).exp().ln_1p();
            sum.value += f64::from(cost);
            sum.active += usize::from(cost > 0.0);
            *value = -slope * self.by;
            pushed += slope * self.by;
        }
        rows::multiply(before, pushed);
        rows::multiply(after, pushed);
        [sum, RowSum::default()]
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn positives_without_negatives_cost_nothing_unless_there_are_none_at_all() -> Result<()> {
        let similarity = Tensor::new(&[[0.3f64, 0.1], [0.2, 0.9]], &Device::Cpu)?;
        let positive = Tensor::new(&[[0f64, 1.0], [1.0, 0.0]], &Device::Cpu)?;
        let negative = Tensor::new(&[[0f64, 0.0], [0.0, 1.0]], &Device::Cpu)?;
        let loss = NTXent {
            temperature: Positive::literal(0.5),
        };
        let Weighted { values, weights } = loss.lists(&similarity, &positive, &negative)?;
        let values = values.to_vec2::<f64>()?;
        assert_eq!(values[0][1], 0.0);
        assert!((values[1][0] - (1.0 + 1.4f64.exp()).ln()).abs() < 1e-14); // (0.9 − 0.2) / 0.5
        assert_eq!(weights.to_vec2::<f64>()?, [[0.0, 1.0], [1.0, 0.0]]);
        let none = negative.zeros_like()?;
        let weights = loss.lists(&similarity, &positive, &none)?.weights;
        assert_eq!(weights.to_vec2::<f64>()?, [[0.0; 2]; 2]);
        // Twice the same negative is two negatives.
        let twice = loss
            .lists(&similarity, &positive, &(negative * 2.0)?)?
            .values;
        let twice = twice.to_vec2::<f64>()?[1][0];
        assert!((twice - (1.0 + 2.0 * 1.4f64.exp()).ln()).abs() < 1e-14);
        Ok(())
    }
}
