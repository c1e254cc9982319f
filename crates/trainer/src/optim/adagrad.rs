//! Adagrad.

use candle_core::Result;
use nearfar_core::NonNegative;
use serde::{Deserialize, Serialize};

use super::{Memory, Move, Rule, with_decay};

/// Adagrad: gradients divided by the root of the sum of all their squares.
///
/// ```text
/// g ← g + weight_decay · w
/// s ← s + g²                             from `start` on
/// w ← w − learning_rate / (1 + (t − 1) · decay) · g / (√s + eps)
/// ```
///
/// Agrees with `torch.optim.Adagrad`. Source: Duchi, Hazan, Singer, JMLR 2011.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Adagrad {
    /// Where a schedule starts from.
    pub learning_rate: NonNegative,
    /// How the rate falls with the steps; torch's `lr_decay`.
    pub decay: NonNegative,
    /// What the sum of squares starts from; torch's `initial_accumulator_value`.
    pub start: NonNegative,
    /// Added to the divisor.
    pub eps: NonNegative,
    /// Pull towards zero, as a part of the gradient.
    pub weight_decay: NonNegative,
}

impl Default for Adagrad {
    /// As in torch.
    fn default() -> Self {
        Self {
            learning_rate: NonNegative::literal(0.01),
            decay: NonNegative::literal(0.0),
            start: NonNegative::literal(0.0),
            eps: NonNegative::literal(1e-10),
            weight_decay: NonNegative::literal(0.0),
        }
    }
}

const SQUARES: &str = "squared_gradient";

impl Rule for Adagrad {
    fn remembers(&self) -> &'static [&'static str] {
        &[SQUARES]
    }

    fn step(&self, it: &Move<'_>, memory: &mut Memory) -> Result<()> {
        let gradient = with_decay(it, self.weight_decay.get())?;
        let squares = memory.tensor(SQUARES, it.var)?;
        let before = if memory.steps == 1 {
            squares.as_detached_tensor().affine(0.0, self.start.get())?
        } else {
            squares.as_detached_tensor()
        };
        squares.set(&(before + gradient.sqr()?)?)?;
        let rate = it.learning_rate / (1.0 + (memory.steps - 1) as f64 * self.decay.get());
        let divisor = (squares.as_detached_tensor().sqrt()? + self.eps.get())?;
        it.var
            .set(&(it.var.as_tensor() - ((gradient / divisor)? * rate)?)?)
    }
}
