//! Additive angular margin by the size of the class.

use candle_core::{Result, Tensor};
use nearfar_core::{Error, NonNegative, Positive};
use serde::{Deserialize, Serialize};

use super::angle;
use super::softmax::softmax_over_classes;
use crate::ToCenters;
use crate::family::{ByRow, ClassificationLoss, Head};

/// Wants each row nearer to its class center than to any other, by an angle that is larger for rare classes.
///
/// ```text
/// as ArcFace, with margin_c = a n_c^(−power) + b
/// ```
///
/// `n_c` is how many training samples class `c` has (1 for none). `a` and `b` are such that the rarest class gets `largest` and
/// the most frequent `smallest`; where all are of one size, all get `largest`. With one class the loss is 0.
///
/// The centers are parameters of the loss: `centers`, `(c, d)`. Labels are `0..c`. A miner, if there is one, gives each row a
/// weight: how often it is in a tuple, over the largest such count.
///
/// Source: Ha et al., "Google Landmark Recognition 2020 Competition Third Place Solution", 2020,
/// <https://arxiv.org/abs/2010.05350>, equation 2.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// use nearfar_losses::{ClassificationLoss, DynamicArcFace, ToCenters};
///
/// let margins = DynamicArcFace::default().margins(&[1, 16, 81])?;
/// assert!((margins[0] - 0.5).abs() < 1e-12 && (margins[2] - 0.2).abs() < 1e-12);
/// assert!((margins[1] - (0.2 + 0.3 * (1.0 / 2.0 - 1.0 / 3.0) / (1.0 - 1.0 / 3.0))).abs() < 1e-12);
/// # Ok::<(), nearfar_core::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DynamicArcFace {
    /// The margin of the most frequent class, in radians.
    pub smallest: NonNegative,
    /// The margin of the rarest class, in radians; below π.
    pub largest: NonNegative,
    /// How fast the margin falls with the size of the class.
    pub power: Positive,
    /// What the cosines are multiplied by before the softmax.
    pub scale: Positive,
}

impl Default for DynamicArcFace {
    /// The paper's power, margins around ArcFace's usual one, and its scale.
    fn default() -> Self {
        Self {
            smallest: NonNegative::literal(0.2),
            largest: NonNegative::literal(0.5),
            power: Positive::literal(0.25),
            scale: Positive::literal(64.0),
        }
    }
}

impl DynamicArcFace {
    /// The margin of each class, by how many training samples it has.
    ///
    /// # Errors
    /// [`Error::Settings`] when the smallest margin is above the largest, or that is not below π.
    pub fn margins(&self, class_sizes: &[u64]) -> std::result::Result<Vec<f64>, Error> {
        self.check()?;
        let (smallest, largest) = (self.smallest.get(), self.largest.get());
        let powers: Vec<f64> = class_sizes
            .iter()
            .map(|&size| (size.max(1) as f64).powf(-self.power.get()))
            .collect();
        let low = powers.iter().copied().fold(f64::INFINITY, f64::min);
        let high = powers.iter().copied().fold(0.0, f64::max);
        let share = |power: f64| match high > low {
            true => (power - low) / (high - low),
            false => 1.0,
        };
        Ok(powers
            .into_iter()
            .map(|power| smallest + (largest - smallest) * share(power))
            .collect())
    }
}

impl ClassificationLoss for DynamicArcFace {
    fn logits(&self, to: &ToCenters) -> Result<Tensor> {
        let margins = self.margins(&to.class_sizes)?;
        let (n, classes) = to.own.dims2()?;
        if margins.len() != classes {
            Err(Error::Settings(format!(
                "dynamic_arcface: there are {classes} classes, and the sizes of {} are told",
                margins.len()
            )))?;
        }
        // The margin of each row's class; none where it is not known.
        let own = to.own.to_vec2::<u8>()?;
        let margins: Vec<f64> = (0..n)
            .map(|row| {
                own[row]
                    .iter()
                    .position(|&it| it == 1)
                    .map_or(0.0, |c| margins[c])
            })
            .collect();
        let harder = angle::plus(&to.of_own(&to.cosine)?, &margins)?;
        to.with_own(&to.cosine, &harder)? * self.scale.get()
    }

    fn by_row(&self, head: &Head<'_>) -> Option<ByRow> {
        let margins = self.margins(head.class_sizes).ok()?;
        let own = move |cosine, class: u32| {
            let margin = margins.get(class as usize).copied().unwrap_or(0.0);
            angle::plus_one(cosine, margin)
        };
        Some(ByRow::cosines(softmax_over_classes(
            self.scale.get(),
            head,
            own,
        )))
    }

    fn wants_class_sizes(&self) -> bool {
        true
    }

    fn check(&self) -> std::result::Result<(), Error> {
        if self.smallest.get() > self.largest.get() {
            return Err(Error::Settings(format!(
                "dynamic_arcface: `smallest` is {}, which is above `largest`, {}",
                self.smallest, self.largest
            )));
        }
        angle::below_pi("dynamic_arcface", "largest", self.largest.get())
    }
}
