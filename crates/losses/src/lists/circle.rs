//! Circle loss.

use candle_core::{Result, Tensor};
use nearfar_core::{Finite, Positive, Reducer};
use nearfar_kernels::{Row, RowFunctional, RowSum, hinge, masked_log_sum_exp, rows, softplus};
use serde::{Deserialize, Serialize};

use crate::family::{ListLoss, Weighted};
use crate::lists::has;

/// Wants cosines of positives near 1 and of negatives near 0, and pulls each the more the farther it is from there.
///
/// ```text
/// l(a) = softplus( log Σ_n exp(scale · w_n (s_n − margin)) + log Σ_p exp(−scale · w_p (s_p − (1 − margin))) )
/// w_p = max(0, 1 + margin − s_p)     w_n = max(0, s_n + margin)     without a gradient
/// ```
///
/// The weights are part of the value but constants to the gradient, as in the paper: so the gradient is not that of the value.
/// An anchor that lacks a side costs 0. Averaged over the anchors that cost something (the reducer `avg_nonzero`); a batch of
/// one class or of distinct classes is nothing to learn. A pair that a miner lists twice counts once.
///
/// Source: Sun et al., "Circle loss: a unified perspective of pair similarity optimization", CVPR 2020,
/// <https://arxiv.org/abs/2002.10857>, equations 6 and 8. Agrees with `CircleLoss` of pytorch-metric-learning 2.9.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// use nearfar_losses::{Circle, ListLoss};
///
/// let similarity = Tensor::new(&[[1f64, 0.6, 0.4]], &Device::Cpu)?; // Itself, a positive, a negative, both on their margins.
/// let positive = Tensor::new(&[[0f64, 1.0, 0.0]], &Device::Cpu)?;
/// let negative = Tensor::new(&[[0f64, 0.0, 1.0]], &Device::Cpu)?;
/// let loss = Circle::default().lists(&similarity, &positive, &negative)?;
/// assert!((loss.values.to_vec1::<f64>()?[0] - 2f64.ln()).abs() < 1e-12);
/// # Ok::<(), candle_core::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Circle {
    /// How far from 1 and from 0 the two may stay.
    pub margin: Finite,
    /// How sharply the hardest pairs stand out.
    pub scale: Positive,
}

impl Default for Circle {
    /// The paper's for fine-grained retrieval. It has a margin of 0.25 for faces, with a scale of 256, and for persons, with 128.
    fn default() -> Self {
        Self {
            margin: Finite::literal(0.4),
            scale: Positive::literal(80.0),
        }
    }
}

impl ListLoss for Circle {
    fn lists(&self, similarity: &Tensor, positive: &Tensor, negative: &Tensor) -> Result<Weighted> {
        let (margin, scale) = (self.margin.get(), self.scale.get());
        let still = similarity.detach();
        let pull = (hinge(&still.affine(-1.0, 1.0 + margin)?)? * -scale)?;
        let push = (hinge(&(&still + margin)?)? * scale)?;
        let pull = masked_log_sum_exp(&(pull * (similarity - (1.0 - margin))?)?, positive)?;
        let push = masked_log_sum_exp(&(push * (similarity - margin)?)?, negative)?;
        let both = (has(positive)? * has(negative)?)?; // (n)
        let values = (softplus(&(pull + push)?)? * &both)?;
        let any = both.max_keepdim(0)?;
        let weights = both.ones_like()?.broadcast_mul(&any)?;
        Ok(Weighted { values, weights })
    }

    fn reducer(&self) -> Reducer {
        Reducer::AvgNonzero {}
    }

    fn by_row(&self) -> Option<Box<dyn RowFunctional>> {
        Some(Box::new(OfAnchor {
            margin: self.margin.get() as f32,
            scale: self.scale.get() as f32,
        }))
    }
}

struct OfAnchor {
    margin: f32,
    scale: f32,
}

impl OfAnchor {
    /// Similarities to logits; what each was weighted by comes after.
    fn logits(&self, values: &mut [f32], weights: &mut Vec<f32>, positive: bool) {
        for value in values {
            let (missed, from) = if positive {
                (1.0 + self.margin - *value, 1.0 - self.margin)
            } else {
                (*value + self.margin, self.margin)
            };
            let sign = if positive { -self.scale } else { self.scale };
            let weight = sign * missed.max(0.0);
            *value = weight * (*value - from);
            weights.push(weight);
        }
    }
}

impl RowFunctional for OfAnchor {
    fn row(&self, mut row: Row<'_>) -> [RowSum; 2] {
        let (positives, [before, after]) = row.split();
        let mut sum = RowSum {
            terms: 1,
            ..RowSum::default()
        };
        if positives.is_empty() || before.len() + after.len() == 0 {
            for values in [positives, before, after] {
                values.fill(0.0);
            }
            return [sum, RowSum::default()];
        }
        let mut weights = Vec::with_capacity(positives.len() + before.len() + after.len());
        self.logits(positives, &mut weights, true);
        self.logits(before, &mut weights, false);
        self.logits(after, &mut weights, false);
        let pull = rows::log_sum_exp(&mut [&mut *positives], 1.0);
        let push = rows::log_sum_exp(&mut [&mut *before, &mut *after], 1.0);
        let cost = rows::softplus(pull + push);
        sum.value = f64::from(cost.value);
        sum.active = usize::from(cost.value > 0.0);
        let values = positives.iter_mut().chain(before).chain(after);
        for (value, weight) in values.zip(weights) {
            *value *= cost.slope * weight;
        }
        [sum, RowSum::default()]
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Var};

    use super::*;

    #[test]
    fn the_weights_have_no_gradient() -> Result<()> {
        let similarity = Var::new(&[[1f64, 0.7, 0.5, 0.3, 0.1]], &Device::Cpu)?;
        let positive = Tensor::new(&[[0f64, 1.0, 1.0, 0.0, 0.0]], &Device::Cpu)?;
        let negative = Tensor::new(&[[0f64, 0.0, 0.0, 1.0, 1.0]], &Device::Cpu)?;
        let loss = Circle {
            scale: Positive::literal(4.0),
            ..Circle::default()
        };
        let value = loss.lists(&similarity, &positive, &negative)?.values;
        let gradients = value.backward()?;
        let gradient = gradients
            .get(&similarity)
            .expect("it depends on them")
            .to_vec2::<f64>()?;
        // In closed form: σ(pull + push) times the softmax of a side, its weight and the scale.
        let pulls = [0.7f64, 0.5].map(|s| -4.0 * (1.4 - s) * (s - 0.6));
        let pushes = [0.3f64, 0.1].map(|s| 4.0 * (s + 0.4) * (s - 0.4));
        let sum = |it: [f64; 2]| it[0].exp() + it[1].exp();
        let (pull, push) = (sum(pulls), sum(pushes));
        let q = pull * push / (1.0 + pull * push);
        let wanted = [
            0.0,
            -q * 4.0 * 0.7 * pulls[0].exp() / pull,
            -q * 4.0 * 0.9 * pulls[1].exp() / pull,
            q * 4.0 * 0.7 * pushes[0].exp() / push,
            q * 4.0 * 0.5 * pushes[1].exp() / push,
        ];
        for (found, wanted) in gradient[0].iter().zip(wanted) {
            assert!((found - wanted).abs() < 1e-14, "{found} {wanted}");
        }
        Ok(())
    }
}
