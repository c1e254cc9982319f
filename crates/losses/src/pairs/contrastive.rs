//! Contrastive loss.

use candle_core::{Result, Tensor};
use nearfar_core::{Finite, Positive, Reducer};
use nearfar_kernels::{Row, RowFunctional, RowSum, hinge, rows};
use serde::{Deserialize, Serialize};

use crate::family::PairLoss;

/// Wants what belongs together within one distance, and what does not beyond another.
///
/// ```text
/// linear         positive  max(0, d − positive_margin)        negative  max(0, negative_margin − d)
/// squared_half   positive  ½ max(0, d − positive_margin)²     negative  ½ max(0, negative_margin − d)²
/// squared        positive  max(0, d − positive_margin)²       negative  max(0, negative_margin − d)²
/// energy         positive  2/bound · d²                       negative  2 bound · exp(−2.77 d / bound)
/// ```
///
/// `squared_half` is the loss of the paper, averaged over all pairs of both kinds; its pull fades as a pair comes to where
/// it should be. `linear` is what many use today: its pull stays, each kind is averaged over its active terms (the reducer
/// `avg_nonzero`), and the two averages are added. `squared` is twice the paper's. `energy` is the form of the year before, for
/// distances from 0 to `bound` (there the Manhattan distance), and has no margins; it too is averaged over all pairs. A term at the hinge is zero, is not active, and has gradient zero.
///
/// With one class there is only the positive side, with all classes distinct only the negative one.
///
/// Margins are in units of the distance. A similarity is taken as the distance `−s`, whose margins are below zero; for
/// cosines the distance `cosine_distance` is plainer.
///
/// Source: Hadsell, Chopra, LeCun, "Dimensionality reduction by learning an invariant mapping", CVPR 2006, equation 4;
/// with a margin for positives too, Lin et al. 2015, <https://arxiv.org/abs/1501.00102>; `energy`: Chopra, Hadsell, LeCun,
/// "Learning a similarity metric discriminatively, with application to face verification", CVPR 2005, equation 8. The linear
/// form agrees with `ContrastiveLoss` of pytorch-metric-learning 2.9 for the same distance, `squared_half` with a negative
/// margin of 0.5 and the distance `cosine_distance` with that of sentence-transformers.
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
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PairForm {
    /// Itself.
    #[default]
    Linear,
    /// Half of its square.
    SquaredHalf,
    /// Its square.
    Squared,
    /// The paper of 2005: a square for positives, an exponential for negatives, without margins.
    Energy {
        /// The largest distance that there is.
        bound: Positive,
    },
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
            PairForm::SquaredHalf => missed.sqr()? * 0.5,
            PairForm::Squared => missed.sqr(),
            PairForm::Linear | PairForm::Energy { .. } => Ok(missed),
        }
    }
}

impl PairLoss for Contrastive {
    fn positive(&self, distance: &Tensor) -> Result<Tensor> {
        match self.form {
            PairForm::Energy { bound } => distance.sqr()? * (2.0 / bound.get()),
            _ => self.cost(&(distance - self.positive_margin.get())?),
        }
    }

    fn negative(&self, distance: &Tensor) -> Result<Tensor> {
        match self.form {
            PairForm::Energy { bound } => {
                let bound = bound.get();
                (distance * (DECAY / bound))?.exp()? * (2.0 * bound)
            }
            _ => self.cost(&distance.affine(-1.0, self.negative_margin.get())?),
        }
    }

    fn reducer(&self) -> Reducer {
        match self.form {
            PairForm::Linear => Reducer::AvgNonzero {},
            _ => Reducer::Divisor {}, // Over all pairs, of both kinds.
        }
    }

    fn by_row(&self) -> Option<Box<dyn RowFunctional>> {
        let square = match self.form {
            PairForm::Linear => None,
            PairForm::SquaredHalf => Some(0.5),
            PairForm::Squared => Some(1.0),
            PairForm::Energy { .. } => return None,
        };
        Some(Box::new(AllPairs {
            square,
            positive_margin: self.positive_margin.get() as f32,
            negative_margin: self.negative_margin.get() as f32,
        }))
    }
}

/// All pairs of one anchor.
struct AllPairs {
    /// What the square of what is missed is multiplied by; none for the linear form.
    square: Option<f32>,
    positive_margin: f32,
    negative_margin: f32,
}

impl RowFunctional for AllPairs {
    fn row(&self, mut row: Row<'_>) -> [RowSum; 2] {
        let (positives, negatives) = row.split();
        let mut sums = [RowSum::default(); 2];
        let cost = |values: &mut [f32], sign: f32, margin: f32| match self.square {
            None => rows::hinge(values, 1.0, sign, margin),
            Some(by) => rows::squared_hinge(values, by, sign, margin),
        };
        sums[0] += cost(positives, 1.0, self.positive_margin);
        for values in negatives {
            sums[1] += cost(values, -1.0, self.negative_margin);
        }
        sums
    }

    fn apart(&self) -> bool {
        true
    }
}

/// How the energy of a negative falls, in units of the bound.
const DECAY: f64 = -2.77;

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

    #[test]
    fn the_energy_falls_from_twice_the_bound_and_meets_the_squares_in_the_middle() -> Result<()> {
        let distance = Tensor::new(&[0.0f64, 2.0, 4.0], &Device::Cpu)?;
        let loss = Contrastive {
            form: PairForm::Energy {
                bound: Positive::literal(4.0),
            },
            ..Contrastive::default()
        };
        assert_eq!(loss.positive(&distance)?.to_vec1::<f64>()?, [0.0, 2.0, 8.0]);
        let negative = loss.negative(&distance)?.to_vec1::<f64>()?;
        assert_eq!(negative[0], 8.0);
        assert!((negative[1] - 2.0).abs() < 0.01); // 8 e^(−1.385)
        let squared = Contrastive {
            form: PairForm::Squared,
            negative_margin: Finite::literal(3.0),
            ..Contrastive::default()
        };
        assert_eq!(
            squared.positive(&distance)?.to_vec1::<f64>()?,
            [0.0, 4.0, 16.0]
        );
        assert_eq!(
            squared.negative(&distance)?.to_vec1::<f64>()?,
            [9.0, 1.0, 0.0]
        );
        Ok(())
    }
}
