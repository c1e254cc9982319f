//! RMSprop.

use candle_core::Result;
use nearfar_core::{Fraction, NonNegative};
use serde::{Deserialize, Serialize};

use super::{Memory, Move, Rule, average, with_decay};

/// RMSprop: gradients divided by the root of their average square.
///
/// ```text
/// g ← g + weight_decay · w
/// v ← α v + (1 − α) g²                  centered: a ← α a + (1 − α) g, and v − a² in the place of v
/// b ← momentum · b + g / (√v + eps)
/// w ← w − learning_rate · b
/// ```
///
/// Agrees with `torch.optim.RMSprop`, which adds `eps` outside of the root. Source: Tieleman, Hinton, lecture 6.5 of "Neural Networks
/// for Machine Learning", 2012; centered: Graves, <https://arxiv.org/abs/1308.0850>.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RmsProp {
    /// Where a schedule starts from.
    pub learning_rate: NonNegative,
    /// How much of the averages is kept.
    pub alpha: Fraction,
    /// Added to the divisor.
    pub eps: NonNegative,
    /// How much of the velocity is kept; 0 is none at all.
    pub momentum: Fraction,
    /// Divides by the deviation instead of the root of the mean square.
    pub centered: bool,
    /// Pull towards zero, as a part of the gradient.
    pub weight_decay: NonNegative,
}

impl Default for RmsProp {
    /// As in torch.
    fn default() -> Self {
        Self {
            learning_rate: NonNegative::literal(0.01),
            alpha: Fraction::literal(0.99),
            eps: NonNegative::literal(1e-8),
            momentum: Fraction::literal(0.0),
            centered: false,
            weight_decay: NonNegative::literal(0.0),
        }
    }
}

const SQUARES: &str = "squared_gradient";
const MEAN: &str = "mean_gradient";
const VELOCITY: &str = "velocity";

impl Rule for RmsProp {
    fn remembers(&self) -> &'static [&'static str] {
        match (self.centered, self.momentum.get() != 0.0) {
            (false, false) => &[SQUARES],
            (false, true) => &[SQUARES, VELOCITY],
            (true, false) => &[SQUARES, MEAN],
            (true, true) => &[SQUARES, MEAN, VELOCITY],
        }
    }

    fn step(&self, it: &Move<'_>, memory: &mut Memory) -> Result<()> {
        let gradient = with_decay(it, self.weight_decay.get())?;
        let alpha = self.alpha.get();
        let squares = memory.tensor(SQUARES, it.var)?;
        average(&squares, alpha, &gradient.sqr()?)?;
        let mut divisor = squares.as_detached_tensor();
        if self.centered {
            let mean = memory.tensor(MEAN, it.var)?;
            average(&mean, alpha, &gradient)?;
            // Rounding can leave a small negative variance where all gradients were the same.
            divisor = (divisor - mean.as_detached_tensor().sqr()?)?.maximum(0f64)?;
        }
        let mut step = (gradient / (divisor.sqrt()? + self.eps.get())?)?;
        if self.momentum.get() != 0.0 {
            let velocity = memory.tensor(VELOCITY, it.var)?;
            let kept = it.momentum.unwrap_or(self.momentum.get());
            step = ((velocity.as_detached_tensor() * kept)? + step)?;
            velocity.set(&step)?;
        }
        it.var
            .set(&(it.var.as_tensor() - (step * it.learning_rate)?)?)
    }
}
