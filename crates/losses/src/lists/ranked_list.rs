//! Ranked list loss.

use candle_core::{Result, Tensor};
use nearfar_core::{Finite, Fraction, NonNegative, Positive};
use nearfar_kernels::{Row, RowFunctional, RowSum, hinge, masked_softmax, rows};
use serde::{Deserialize, Serialize};

use crate::family::{ListLoss, Weighted};
use crate::{Compares, Compat};

/// Wants an anchor's positives within one distance and its negatives beyond another, `margin` farther; of those that are not,
/// the hardest count most.
///
/// ```text
/// l(a) = (1 − balance) Σ_p w_p (d_p − (alpha − margin)) + balance Σ_n w_n (alpha − d_n)
/// p over the positives with d_p > alpha − margin, w_p ∝ exp(positive_temperature · (d_p − (alpha − margin)))
/// n over the negatives with d_n < alpha,          w_n ∝ exp(negative_temperature · (alpha − d_n))
/// ```
///
/// The weights of a side add up to 1. Averaged over all anchors; a side that an anchor lacks adds 0. With one class there is only
/// the positive side, with all classes distinct only the negative one. A pair that a miner lists twice counts once.
///
/// The weights have no gradient, as weights do not; `detach = false` lets it through.
///
/// `compat = "pml"`: the weights have a gradient; what they are divided by is larger by 10⁻⁵ for each reference; and pairs at
/// distance 0 do not count.
///
/// Source: Wang et al., "Ranked list loss for deep metric learning", CVPR 2019, <https://arxiv.org/abs/1903.03238>, equations 2
/// to 8. With `compat = "pml"` it agrees with `RankedListLoss` of pytorch-metric-learning 2.9.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// use nearfar_losses::{ListLoss, RankedList};
///
/// let similarity = Tensor::new(&[[0f64, -1.5, -1.0]], &Device::Cpu)?; // Itself, a positive at 1.5, a negative at 1.
/// let positive = Tensor::new(&[[0f64, 1.0, 0.0]], &Device::Cpu)?;
/// let negative = Tensor::new(&[[0f64, 0.0, 1.0]], &Device::Cpu)?;
/// let loss = RankedList::default().lists(&similarity, &positive, &negative)?;
/// assert!((loss.values.to_vec1::<f64>()?[0] - 0.45).abs() < 1e-12); // Half of 1.5 − 0.8 and of 1.2 − 1.
/// # Ok::<(), candle_core::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RankedList {
    /// How much farther negatives shall be.
    pub margin: Positive,
    /// Negatives beyond it cost nothing; `1 + margin/2` where nothing is said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alpha: Option<Finite>,
    /// How sharply the farthest positives stand out.
    pub positive_temperature: NonNegative,
    /// How sharply the nearest negatives stand out.
    pub negative_temperature: NonNegative,
    /// What the negatives count, the positives counting the rest.
    pub balance: Fraction,
    /// Whether weights are constants to the gradient.
    pub detach: bool,
    /// Another library's convention.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compat: Option<Compat>,
}

impl Default for RankedList {
    /// Those of the paper, for rows of length 1.
    fn default() -> Self {
        Self {
            margin: Positive::literal(0.4),
            alpha: None,
            positive_temperature: NonNegative::literal(0.0),
            negative_temperature: NonNegative::literal(10.0),
            balance: Fraction::literal(0.5),
            detach: true,
            compat: None,
        }
    }
}

/// What the peer adds to the sum of the weights for each column.
const PML_EPSILON: f64 = 1e-5;

impl RankedList {
    /// The average of what pairs miss, above zero, weighed by it: `(n, m) → (n)`. `there` is a mask of u8.
    fn side(&self, missed: &Tensor, there: &Tensor, temperature: f64) -> Result<Tensor> {
        let exponents = (missed * temperature)?;
        let missed = hinge(missed)?;
        match self.compat {
            None => {
                let exponents = if self.detach {
                    exponents.detach()
                } else {
                    exponents
                };
                (masked_softmax(&exponents, there)? * missed)?.sum(1)
            }
            Some(Compat::Pml) => {
                // Exponentials relative to the row's largest, which is 0 or more for what is there.
                let zero = exponents.zeros_like()?;
                let exponents = there.where_cond(&exponents, &zero)?;
                let largest = exponents.detach().max_keepdim(1)?;
                let weights = exponents.broadcast_sub(&largest)?.exp()?;
                let weights = there.where_cond(&weights, &zero)?;
                let extra = (largest.neg()?.exp()? * (PML_EPSILON * missed.dim(1)? as f64))?;
                let sum = (weights.sum_keepdim(1)? + extra)?.squeeze(1)?;
                (weights * missed)?.sum(1)? / sum
            }
        }
    }
}

impl ListLoss for RankedList {
    fn lists(&self, similarity: &Tensor, positive: &Tensor, negative: &Tensor) -> Result<Weighted> {
        let margin = self.margin.get();
        let alpha = self.alpha.map_or(1.0 + margin / 2.0, Finite::get);
        let too_far = similarity.affine(-1.0, margin - alpha)?; // d − (α − m)
        let too_near = (similarity + alpha)?; // α − d
        let active = |mask: &Tensor, missed: &Tensor| -> Result<Tensor> {
            let there = (mask.ne(0f64)? * missed.detach().gt(0f64)?)?;
            match self.compat {
                None => Ok(there),
                Some(Compat::Pml) => there * similarity.detach().lt(0f64)?,
            }
        };
        let positives = active(positive, &too_far)?;
        let negatives = active(negative, &too_near)?;
        let pull = self.side(&too_far, &positives, self.positive_temperature.get())?;
        let push = self.side(&too_near, &negatives, self.negative_temperature.get())?;
        let balance = self.balance.get();
        let values = ((pull * (1.0 - balance))? + (push * balance)?)?;
        let weights = values.detach().ones_like()?;
        Ok(Weighted { values, weights })
    }

    fn compares(&self) -> Compares {
        Compares::Distance("euclidean")
    }

    fn by_row(&self) -> Option<Box<dyn RowFunctional>> {
        let margin = self.margin.get();
        let alpha = self.alpha.map_or(1.0 + margin / 2.0, Finite::get);
        let balance = self.balance.get() as f32;
        let pml = self.compat == Some(Compat::Pml);
        Some(Box::new(OfAnchor {
            positive: OfSide {
                sign: -1.0,
                from: (margin - alpha) as f32,
                temperature: self.positive_temperature.get() as f32,
                by: 1.0 - balance,
            },
            negative: OfSide {
                sign: 1.0,
                from: alpha as f32,
                temperature: self.negative_temperature.get() as f32,
                by: balance,
            },
            pml,
            constant: self.detach && !pml,
        }))
    }
}

struct OfAnchor {
    positive: OfSide,
    negative: OfSide,
    pml: bool,
    /// Whether weights have no gradient.
    constant: bool,
}

/// What a pair misses is `sign · s + from`.
struct OfSide {
    sign: f32,
    from: f32,
    temperature: f32,
    by: f32,
}

impl OfAnchor {
    /// The weighed average of what is missed, times what the side counts; the values become its slopes.
    fn side(&self, slices: &mut [&mut [f32]], side: &OfSide, columns: usize) -> f32 {
        let (mut places, mut missed) = (Vec::new(), Vec::new());
        for (slice, values) in slices.iter_mut().enumerate() {
            for (column, value) in values.iter_mut().enumerate() {
                let similarity = std::mem::take(value);
                let gap = side.sign * similarity + side.from;
                if gap > 0.0 && (!self.pml || similarity < 0.0) {
                    places.push((slice, column));
                    missed.push(gap);
                }
            }
        }
        if missed.is_empty() {
            return 0.0;
        }
        let largest = side.temperature * rows::maximum(&missed);
        let mut weights = missed.clone();
        let mut sum = rows::exp_sum(&mut weights, side.temperature, -largest);
        if self.pml {
            sum += (-largest).exp() * (PML_EPSILON * columns as f64) as f32;
        }
        let value = rows::product(&weights, &missed) / sum;
        for ((&(slice, column), &weight), &gap) in places.iter().zip(&weights).zip(&missed) {
            let mut slope = weight / sum;
            if !self.constant {
                slope *= 1.0 + side.temperature * (gap - value);
            }
            slices[slice][column] = side.by * side.sign * slope;
        }
        side.by * value
    }
}

impl RowFunctional for OfAnchor {
    fn row(&self, mut row: Row<'_>) -> [RowSum; 2] {
        let columns = row.values.len();
        let (positives, [before, after]) = row.split();
        let pull = self.side(&mut [positives], &self.positive, columns);
        let push = self.side(&mut [before, after], &self.negative, columns);
        let value = f64::from(pull) + f64::from(push);
        let sum = RowSum {
            value,
            terms: 1,
            active: usize::from(value > 0.0),
        };
        [sum, RowSum::default()]
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Var};

    use super::*;

    fn masks() -> Result<(Tensor, Tensor)> {
        let positive = Tensor::new(&[[1f64, 1.0, 0.0, 0.0]], &Device::Cpu)?;
        let negative = Tensor::new(&[[0f64, 0.0, 1.0, 1.0]], &Device::Cpu)?;
        Ok((positive, negative))
    }

    #[test]
    fn weights_are_constants_to_the_gradient_unless_told_otherwise() -> Result<()> {
        let (positive, negative) = masks()?;
        let gradient = |loss: &RankedList| -> Result<Vec<f64>> {
            let similarity = Var::new(&[[-1.0f64, -0.9, -1.1, -0.7]], &Device::Cpu)?;
            let value = loss.lists(&similarity, &positive, &negative)?.values;
            let gradients = value.backward()?;
            let gradient = gradients.get(&similarity).expect("it depends on them");
            Ok(gradient.to_vec2::<f64>()?.remove(0))
        };
        let mut loss = RankedList::default();
        let found = gradient(&loss)?;
        // Of each half, positives alike, and negatives by exp(10 · 0.1) and exp(10 · 0.5).
        let nearest = 1.0 / (1.0 + (-4f64).exp());
        for (found, wanted) in
            found
                .iter()
                .zip([-0.25, -0.25, 0.5 * (1.0 - nearest), 0.5 * nearest])
        {
            assert!((found - wanted).abs() < 1e-14, "{found} {wanted}");
        }
        loss.detach = false;
        assert!((gradient(&loss)?[3] - found[3]).abs() > 1e-3);
        Ok(())
    }

    #[test]
    fn an_empty_side_adds_nothing() -> Result<()> {
        let similarity = Tensor::new(&[[-0.1f64, -0.2, -9.0, -9.0]], &Device::Cpu)?;
        let (positive, negative) = masks()?;
        for compat in [None, Some(Compat::Pml)] {
            let loss = RankedList {
                compat,
                ..RankedList::default()
            };
            let values = loss.lists(&similarity, &positive, &negative)?.values;
            assert_eq!(values.to_vec1::<f64>()?, [0.0]);
        }
        Ok(())
    }
}
