//! Normalized temperature-scaled cross entropy.

use candle_core::{Result, Tensor};
use nearfar_core::Positive;
use nearfar_kernels::{Row, RowFunctional, RowSum, masked_log_sum_exp, rows, softplus};
use serde::{Deserialize, Serialize};

use crate::family::{ListLoss, Weighted};
use crate::lists::{any, has, repeated};

/// Wants to tell each positive from all negatives of its anchor. Also known as InfoNCE.
///
/// ```text
/// coupled              l(a, p) = −log( exp(s(a, p)/t) / (exp(s(a, p)/t) + Σ_n exp(s(a, n)/t)) )     t = temperature
/// decoupled            l(a, p) = −s(a, p)/t + log Σ_n exp(s(a, n)/t)
/// decoupled_weighted   l(a, p) = −w(a, p) s(a, p)/t + log Σ_n exp(s(a, n)/t)
///                      w(a, p) = 2 − exp(s(a, p)/sigma) / mean of exp(s/sigma) over all positive pairs, without a gradient
/// ```
///
/// `decoupled` (DCL) drops the positive from the sum, so that the pull of a pair does not fade as it comes near; it learns from
/// small batches, and its value may be below zero. `decoupled_weighted` (DCLW) pulls far positives more than near ones.
///
/// Averaged over all positive pairs; other positives of the anchor are not in the sum. Computed as
/// `softplus(log Σ_n exp(s(a, n)/t) − s(a, p)/t)`, which neither overflows nor is capped. A positive whose anchor has no
/// negative costs 0, or, decoupled, is left out; a batch without positives or without negatives is nothing to learn.
///
/// Source: Sohn, "Improved deep metric learning with multi-class N-pair loss objective", NIPS 2016; van den Oord, Li,
/// Vinyals 2018, <https://arxiv.org/abs/1807.03748>; Chen et al., "SimCLR", 2020, <https://arxiv.org/abs/2002.05709>.
/// Decoupled: Yeh et al., "Decoupled contrastive learning", ECCV 2022, <https://arxiv.org/abs/2110.06848>, equations 6 and 7.
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
    /// Whether the positive is one of those that it is told from.
    pub form: NTXentForm,
    /// What similarities are divided by: the smaller, the more the nearest negatives count.
    pub temperature: Positive,
    /// What similarities are divided by for the weights of `decoupled_weighted`.
    pub sigma: Positive,
}

/// Whether the positive is one of those that it is told from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NTXentForm {
    /// It is.
    #[default]
    Coupled,
    /// It is not.
    Decoupled,
    /// It is not, and counts the more the farther it is.
    DecoupledWeighted,
}

impl Default for NTXent {
    /// 0.07, as for most networks since Wu et al. 2018, <https://arxiv.org/abs/1805.01978>; SimCLR has 0.1 to 0.5.
    /// `sigma` is that of decoupled contrastive learning.
    fn default() -> Self {
        Self {
            form: NTXentForm::Coupled,
            temperature: Positive::literal(0.07),
            sigma: Positive::literal(0.5),
        }
    }
}

impl NTXent {
    /// What the pull of each positive is multiplied by, `(n, m)`, without a gradient.
    fn weights(&self, similarity: &Tensor, positive: &Tensor) -> Result<Tensor> {
        let (n, m) = similarity.dims2()?;
        let scaled = (similarity.detach() / self.sigma.get())?;
        let flat = repeated(&scaled, positive)?.reshape((1, n * m))?;
        let mask = positive.contiguous()?.reshape((1, n * m))?;
        let mean = (masked_log_sum_exp(&flat, &mask)?
            - positive.sum_all()?.maximum(1f64)?.reshape(1)?.log()?)?;
        let relative = scaled.broadcast_sub(&mean)?;
        // Of what is no positive the exponential may overflow.
        let kept = positive
            .ne(0f64)?
            .where_cond(&relative, &relative.zeros_like()?)?;
        kept.exp()?.affine(-1.0, 2.0)
    }
}

impl ListLoss for NTXent {
    fn lists(&self, similarity: &Tensor, positive: &Tensor, negative: &Tensor) -> Result<Weighted> {
        let scaled = (similarity / self.temperature.get())?;
        // A negative that a miner lists k times is k negatives.
        let negatives =
            masked_log_sum_exp(&repeated(&scaled, negative)?, negative)?.unsqueeze(1)?; // (n, 1)
        if self.form == NTXentForm::Coupled {
            let values = softplus(&negatives.broadcast_sub(&scaled)?)?; // (n, m)
            let weights = positive.broadcast_mul(&any(negative)?)?;
            return Ok(Weighted { values, weights });
        }
        let pull = match self.form {
            NTXentForm::DecoupledWeighted => (self.weights(similarity, positive)? * scaled)?,
            _ => scaled,
        };
        Ok(Weighted {
            values: negatives.broadcast_sub(&pull)?,
            weights: positive.broadcast_mul(&has(negative)?.unsqueeze(1)?)?,
        })
    }

    fn by_row(&self) -> Option<Box<dyn RowFunctional>> {
        let by = (1.0 / self.temperature.get()) as f32;
        let coupled = match self.form {
            NTXentForm::Coupled => true,
            NTXentForm::Decoupled => false,
            NTXentForm::DecoupledWeighted => return None, // Its weights are of the whole batch.
        };
        Some(Box::new(OfAnchor { by, coupled }))
    }
}

struct OfAnchor {
    /// One over the temperature.
    by: f32,
    coupled: bool,
}

impl RowFunctional for OfAnchor {
    fn row(&self, mut row: Row<'_>) -> [RowSum; 2] {
        let (positives, [before, after]) = row.split();
        let mut sum = RowSum {
            terms: positives.len(),
            ..RowSum::default()
        };
        let alone = before.len() + after.len() == 0;
        if positives.is_empty() || (alone && !self.coupled) {
            for values in [positives, before, after] {
                values.fill(0.0);
            }
            return [RowSum::default(); 2];
        }
        let negatives = rows::log_sum_exp(&mut [&mut *before, &mut *after], self.by);
        // Each positive is a softplus, and all share the softmax of the negatives.
        let mut pushed = 0.0;
        for value in positives {
            let z = negatives - self.by * *value;
            let slope = if !self.coupled {
                1.0
            } else if z == f32::NEG_INFINITY {
                0.0
            } else {
                1.0 / (1.0 + (-z).exp())
            };
            let cost = if self.coupled {
                z.max(0.0) + (-z.abs()).exp().ln_1p()
            } else {
                z
            };
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
            ..NTXent::default()
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

    #[test]
    fn decoupled_positives_are_not_told_from_themselves_and_weights_have_no_gradient() -> Result<()>
    {
        use candle_core::Var;

        let similarity = Var::new(&[[0.9f64, 0.2], [0.1, 0.4]], &Device::Cpu)?;
        let positive = Tensor::new(&[[1f64, 0.0], [0.0, 1.0]], &Device::Cpu)?;
        let negative = Tensor::new(&[[0f64, 1.0], [1.0, 0.0]], &Device::Cpu)?;
        let run = |form: NTXentForm| -> Result<([f64; 2], Vec<Vec<f64>>)> {
            let loss = NTXent {
                form,
                temperature: Positive::literal(0.5),
                sigma: Positive::literal(0.5),
            };
            let values = loss.lists(&similarity, &positive, &negative)?.values;
            let gradients = (&values * &positive)?.sum_all()?.backward()?;
            let gradient = gradients
                .get(&similarity)
                .expect("it depends on them")
                .to_vec2()?;
            let values = values.to_vec2::<f64>()?;
            Ok(([values[0][0], values[1][1]], gradient))
        };
        let (values, gradient) = run(NTXentForm::Decoupled)?;
        assert!((values[0] + 1.4).abs() < 1e-14 && (values[1] + 0.6).abs() < 1e-14);
        assert_eq!(gradient, [[-2.0, 2.0], [2.0, -2.0]]);
        let (values, gradient) = run(NTXentForm::DecoupledWeighted)?;
        let (near, far) = (1.8f64.exp(), 0.8f64.exp());
        let weights = [near, far].map(|it| 2.0 - 2.0 * it / (near + far));
        for (row, (s, n)) in [(0.9, 0.2), (0.4, 0.1)].into_iter().enumerate() {
            assert!((values[row] - (2.0 * n - weights[row] * 2.0 * s)).abs() < 1e-14);
            assert!((gradient[row][row] + 2.0 * weights[row]).abs() < 1e-14);
        }
        Ok(())
    }
}
