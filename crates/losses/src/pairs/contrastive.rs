//! Contrastive loss.

use candle_core::{Result, Tensor};
use nearfar_core::{Finite, Reducer};
use nearfar_kernels::{Row, RowFunctional, RowSum, hinge};
use serde::{Deserialize, Serialize};

use crate::family::PairLoss;

/// Wants what belongs together within one distance, and what does not beyond another.
///
/// ```text
/// linear         positive  max(0, d − positive_margin)        negative  max(0, negative_margin − d)
/// squared_half   positive  ½ max(0, d − positive_margin)²     negative  ½ max(0, negative_margin − d)²
/// ```
///
/// `squared_half` is the loss of the paper, averaged over all pairs of both kinds; its pull fades as a pair comes to where
/// it should be. `linear` is what many use today: its pull stays, each kind is averaged over its active terms (the reducer
/// `avg_nonzero`), and the two averages are added. A term at the hinge is zero, is not active, and has gradient zero.
///
/// With one class there is only the positive side, with all classes distinct only the negative one.
///
/// Margins are in units of the distance. A similarity is taken as the distance `−s`, whose margins are below zero; for
/// cosines the distance `cosine_distance` is plainer.
///
/// Source: Hadsell, Chopra, LeCun, "Dimensionality reduction by learning an invariant mapping", CVPR 2006, equation 4;
/// with a margin for positives too, Lin et al. 2015, <https://arxiv.org/abs/1501.00102>. The linear form agrees with
/// `ContrastiveLoss` of pytorch-metric-learning 2.9 for the same distance.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// use nearfar_losses::{Contrastive, PairLoss};
///
/// let distance = Tensor::new(&[0.25f32, 3.0], &Device::Cpu)?;
/// let loss = Contrastive::default();
/// assert_eq!(loss.positive(&distance)?.to_vec1::<f32>()?, [0.25, 3.0]);
/// assert_eq!(loss.negative(&distance)?.to_vec1::<f32>()?, [0.75, 0.0]);
/// # Ok::<(), candle_core::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Contrastive {
    /// What a distance costs.
    pub form: PairForm,
    /// Positives within it cost nothing.
    pub positive_margin: Finite,
    /// Negatives beyond it cost nothing.
    pub negative_margin: Finite,
}

/// What the distance by which a pair misses its margin costs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PairForm {
    /// Itself.
    #[default]
    Linear,
    /// Half of its square.
    SquaredHalf,
}

impl Default for Contrastive {
    /// The margins of the paper. The form is the linear one, which learns better from mixed batches and is what other
    /// libraries mean by the name.
    fn default() -> Self {
        Self {
            form: PairForm::Linear,
            positive_margin: Finite::literal(0.0),
            negative_margin: Finite::literal(1.0),
        }
    }
}

impl Contrastive {
    fn cost(&self, missed: &Tensor) -> Result<Tensor> {
        let missed = hinge(missed)?;
        match self.form {
            PairForm::Linear => Ok(missed),
            PairForm::SquaredHalf => missed.sqr()? * 0.5,
        }
    }
}

impl PairLoss for Contrastive {
    fn positive(&self, distance: &Tensor) -> Result<Tensor> {
        self.cost(&(distance - self.positive_margin.get())?)
    }

    fn negative(&self, distance: &Tensor) -> Result<Tensor> {
        self.cost(&distance.affine(-1.0, self.negative_margin.get())?)
    }

    fn reducer(&self) -> Reducer {
        match self.form {
            PairForm::Linear => Reducer::AvgNonzero {},
            PairForm::SquaredHalf => Reducer::Divisor {}, // Over all pairs, of both kinds.
        }
    }

    fn by_row(&self) -> Option<Box<dyn RowFunctional>> {
        Some(Box::new(AllPairs {
            form: self.form,
            positive_margin: self.positive_margin.get() as f32,
            negative_margin: self.negative_margin.get() as f32,
        }))
    }
}

/// All pairs of one anchor.
struct AllPairs {
    form: PairForm,
    positive_margin: f32,
    negative_margin: f32,
}

impl AllPairs {
    /// `scale · value − shift` to costs, with their slopes in place of the values.
    fn cost(&self, values: &mut [f32], sign: f32, margin: f32, sum: &mut RowSum) {
        sum.terms += values.len();
        let (mut total, mut active) = (0f64, 0u32);
        // Short runs are added up in f32, for the compiler to do several at once.
        for values in values.chunks_mut(64) {
            let (mut some, mut count) = (0f32, 0u32);
            match self.form {
                PairForm::Linear => {
                    for value in values {
                        let missed = (sign * (*value - margin)).max(0.0);
                        some += missed;
                        count += u32::from(missed > 0.0);
                        *value = if missed > 0.0 { sign } else { 0.0 };
                    }
                }
                PairForm::SquaredHalf => {
                    for value in values {
                        let missed = (sign * (*value - margin)).max(0.0);
                        some += 0.5 * missed * missed;
                        count += u32::from(missed > 0.0);
                        *value = sign * missed;
                    }
                }
            }
            total += f64::from(some);
            active += count;
        }
        sum.value += total;
        sum.active += active as usize;
    }
}

impl RowFunctional for AllPairs {
    fn row(&self, mut row: Row<'_>) -> [RowSum; 2] {
        let (positives, negatives) = row.split();
        let mut sums = [RowSum::default(); 2];
        self.cost(positives, 1.0, self.positive_margin, &mut sums[0]);
        for values in negatives {
            self.cost(values, -1.0, self.negative_margin, &mut sums[1]);
        }
        sums
    }

    fn apart(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn squares_are_halved_and_both_margins_count() -> Result<()> {
        let distance = Tensor::new(&[0.5f64, 1.5, 2.5], &Device::Cpu)?;
        let loss = Contrastive {
            form: PairForm::SquaredHalf,
            positive_margin: Finite::literal(0.5),
            negative_margin: Finite::literal(2.5),
        };
        assert_eq!(loss.positive(&distance)?.to_vec1::<f64>()?, [0.0, 0.5, 2.0]);
        assert_eq!(loss.negative(&distance)?.to_vec1::<f64>()?, [2.0, 0.5, 0.0]);
        Ok(())
    }
}
