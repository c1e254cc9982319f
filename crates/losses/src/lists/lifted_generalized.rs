//! Generalized lifted structure loss.

use candle_core::{Result, Tensor};
use nearfar_core::Finite;
use nearfar_kernels::{Row, RowFunctional, RowSum, hinge, masked_log_sum_exp, rows};
use serde::{Deserialize, Serialize};

use crate::family::{ListLoss, Weighted};
use crate::lists::has;
use crate::{Compares, Compat};

/// Wants an anchor's farthest positives nearer than its nearest negatives, all of them at once and softly.
///
/// ```text
/// l(a) = max(0, log Σ_p exp(d(a, p) − positive_margin) + log Σ_n exp(negative_margin − d(a, n)))
/// ```
///
/// Averaged over the anchors that have both positives and negatives; others are left out. A batch of one class or of distinct
/// classes is nothing to learn.
///
/// `compat = "pml"`: the logarithm of an empty sum counts as 0, and the average is over all anchors, so that an anchor that has
/// only one side is moved by it.
///
/// Source: Hermans, Beyer, Leibe, "In defense of the triplet loss for person re-identification", 2017,
/// <https://arxiv.org/abs/1703.07737>, equation 9. With `compat = "pml"` it agrees with `GeneralizedLiftedStructureLoss` of
/// pytorch-metric-learning 2.9.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// use nearfar_losses::{LiftedGeneralized, ListLoss};
///
/// let similarity = Tensor::new(&[[0f64, -1.0, -1.5]], &Device::Cpu)?; // Itself, a positive at 1, a negative at 1.5.
/// let positive = Tensor::new(&[[0f64, 1.0, 0.0]], &Device::Cpu)?;
/// let negative = Tensor::new(&[[0f64, 0.0, 1.0]], &Device::Cpu)?;
/// let loss = LiftedGeneralized::default().lists(&similarity, &positive, &negative)?;
/// assert_eq!(loss.values.to_vec1::<f64>()?, [0.5]); // 1 + (1 − 1.5)
/// # Ok::<(), candle_core::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LiftedGeneralized {
    /// What a positive distance may be for nothing.
    pub positive_margin: Finite,
    /// Up to where negatives count fully.
    pub negative_margin: Finite,
    /// Another library's convention.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compat: Option<Compat>,
}

impl Default for LiftedGeneralized {
    /// The one margin of the paper, here 1, is on the side of the negatives.
    fn default() -> Self {
        Self {
            positive_margin: Finite::literal(0.0),
            negative_margin: Finite::literal(1.0),
            compat: None,
        }
    }
}

impl ListLoss for LiftedGeneralized {
    fn lists(&self, similarity: &Tensor, positive: &Tensor, negative: &Tensor) -> Result<Weighted> {
        let (pulls, pushes) = (has(positive)?, has(negative)?); // (n)
        let farthest = similarity.affine(-1.0, -self.positive_margin.get())?;
        let nearest = (similarity + self.negative_margin.get())?;
        // An empty sum is far below zero; times 0 it is 0.
        let pull = (masked_log_sum_exp(&farthest, positive)? * &pulls)?;
        let push = (masked_log_sum_exp(&nearest, negative)? * &pushes)?;
        let values = hinge(&(pull + push)?)?;
        let both = (pulls * pushes)?;
        match self.compat {
            None => Ok(Weighted {
                values: (values * &both)?,
                weights: both,
            }),
            Some(Compat::Pml) => Ok(Weighted {
                weights: values.detach().ones_like()?,
                values,
            }),
        }
    }

    fn compares(&self) -> Compares {
        Compares::Distance("euclidean")
    }

    fn by_row(&self) -> Option<Box<dyn RowFunctional>> {
        Some(Box::new(OfAnchor {
            positive_margin: self.positive_margin.get() as f32,
            negative_margin: self.negative_margin.get() as f32,
            all: self.compat == Some(Compat::Pml),
        }))
    }
}

struct OfAnchor {
    positive_margin: f32,
    negative_margin: f32,
    /// Whether an anchor counts that lacks a side.
    all: bool,
}

impl RowFunctional for OfAnchor {
    fn row(&self, mut row: Row<'_>) -> [RowSum; 2] {
        let (positives, [before, after]) = row.split();
        let both = !positives.is_empty() && before.len() + after.len() > 0;
        let mut sum = RowSum::default();
        if both || self.all {
            sum.terms = 1;
            // Of an empty side 0, margin and all.
            let side = |values: &mut [&mut [f32]], by: f32, margin: f32| {
                let sum = rows::log_sum_exp(values, by);
                if sum == f32::NEG_INFINITY {
                    0.0
                } else {
                    sum + margin
                }
            };
            let pull = side(&mut [&mut *positives], -1.0, -self.positive_margin);
            let negatives = &mut [&mut *before, &mut *after];
            let push = side(negatives, 1.0, self.negative_margin);
            let value = pull + push;
            if value > 0.0 {
                (sum.value, sum.active) = (f64::from(value), 1);
                rows::multiply(positives, -1.0);
                return [sum, RowSum::default()];
            }
        }
        for values in [positives, before, after] {
            values.fill(0.0);
        }
        [sum, RowSum::default()]
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    /// Defect of the peer: anchors of one class, or without a partner, are moved by the side that they have.
    #[test]
    fn an_anchor_with_one_side_is_left_out_unless_compatible() -> Result<()> {
        let similarity = Tensor::new(&[[0f64, -2.0, -0.5]], &Device::Cpu)?;
        let positive = Tensor::new(&[[0f64, 1.0, 0.0]], &Device::Cpu)?;
        let none = positive.zeros_like()?;
        let mut loss = LiftedGeneralized::default();
        let weights = loss.lists(&similarity, &positive, &none)?.weights;
        assert_eq!(weights.to_vec1::<f64>()?, [0.0]);
        loss.compat = Some(Compat::Pml);
        let Weighted { values, weights } = loss.lists(&similarity, &positive, &none)?;
        assert_eq!(
            (values.to_vec1::<f64>()?, weights.to_vec1::<f64>()?),
            (vec![2.0], vec![1.0])
        );
        Ok(())
    }
}
