//! Adam and AdamW.

use candle_core::Result;
use nearfar_core::{Error, Fraction, NonNegative};
use nearfar_kernels::{AdamStep, adam_step, amsgrad_step};
use serde::{Deserialize, Serialize};

use super::{Memory, Move, Rule};

/// Adam: each number by a rate of its own.
///
/// ```text
/// g ← g + weight_decay · w
/// m ← β₁ m + (1 − β₁) g                v ← β₂ v + (1 − β₂) g²
/// w ← w − learning_rate / (1 − β₁ᵗ) · m / (√v / √(1 − β₂ᵗ) + eps)
/// ```
///
/// With `amsgrad`, v in the last line is the largest so far. `t` counts the steps at which the parameter had a gradient, from 1.
///
/// Agrees with `torch.optim.Adam`. Source: Kingma, Ba, "Adam", ICLR 2015, <https://arxiv.org/abs/1412.6980>, algorithm 1; AMSGrad:
/// Reddi, Kale, Kumar, ICLR 2018, <https://arxiv.org/abs/1904.09237>.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Adam {
    /// Where a schedule starts from.
    pub learning_rate: NonNegative,
    /// How much of the average gradient is kept; below 1.
    pub beta1: Fraction,
    /// How much of the average squared gradient is kept; below 1.
    pub beta2: Fraction,
    /// Added to the divisor.
    pub eps: NonNegative,
    /// Pull towards zero, as a part of the gradient; [`AdamW`] is the one that keeps it out.
    pub weight_decay: NonNegative,
    /// Divides by the largest average so far.
    pub amsgrad: bool,
}

impl Default for Adam {
    /// The numbers of the paper.
    fn default() -> Self {
        Self {
            learning_rate: NonNegative::literal(1e-3),
            beta1: Fraction::literal(0.9),
            beta2: Fraction::literal(0.999),
            eps: NonNegative::literal(1e-8),
            weight_decay: NonNegative::literal(0.0),
            amsgrad: false,
        }
    }
}

/// Adam with weight decay beside the gradient: `w ← w − learning_rate · weight_decay · w` before the step of [`Adam`].
///
/// Agrees with `torch.optim.AdamW`. Source: Loshchilov, Hutter, "Decoupled weight decay regularization", ICLR 2019,
/// <https://arxiv.org/abs/1711.05101>, in torch's form, where the decay is multiplied with the rate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AdamW {
    /// Where a schedule starts from.
    pub learning_rate: NonNegative,
    /// How much of the average gradient is kept; below 1.
    pub beta1: Fraction,
    /// How much of the average squared gradient is kept; below 1.
    pub beta2: Fraction,
    /// Added to the divisor.
    pub eps: NonNegative,
    /// Pull towards zero in each step, times the learning rate.
    pub weight_decay: NonNegative,
    /// Divides by the largest average so far.
    pub amsgrad: bool,
}

impl Default for AdamW {
    /// As in torch.
    fn default() -> Self {
        Self {
            learning_rate: NonNegative::literal(1e-3),
            beta1: Fraction::literal(0.9),
            beta2: Fraction::literal(0.999),
            eps: NonNegative::literal(1e-8),
            weight_decay: NonNegative::literal(0.01),
            amsgrad: false,
        }
    }
}

fn check(name: &str, beta1: Fraction, beta2: Fraction) -> std::result::Result<(), Error> {
    for (setting, beta) in [("beta1", beta1), ("beta2", beta2)] {
        if beta.get() >= 1.0 {
            return Err(Error::Settings(format!(
                "{name}: `{setting}` is {beta}; it must be below 1, or no gradient is ever seen"
            )));
        }
    }
    Ok(())
}

impl Adam {
    pub(super) fn checked(&self) -> std::result::Result<Self, Error> {
        check("adam", self.beta1, self.beta2)?;
        Ok(self.clone())
    }
}

impl AdamW {
    pub(super) fn checked(&self) -> std::result::Result<Self, Error> {
        check("adamw", self.beta1, self.beta2)?;
        Ok(self.clone())
    }
}

const FIRST: &str = "first_moment";
const SECOND: &str = "second_moment";
const LARGEST: &str = "largest_second_moment";

fn remembers(amsgrad: bool) -> &'static [&'static str] {
    if amsgrad {
        &[FIRST, SECOND, LARGEST]
    } else {
        &[FIRST, SECOND]
    }
}

/// One step of either, where the numbers lie.
fn update(it: &Move<'_>, step: AdamStep, amsgrad: bool, memory: &mut Memory) -> Result<()> {
    let step = AdamStep {
        learning_rate: it.learning_rate,
        beta1: it.momentum.unwrap_or(step.beta1),
        weight_decay: step.weight_decay * it.decay,
        step: memory.steps,
        ..step
    };
    let first = memory.tensor(FIRST, it.var)?;
    let second = memory.tensor(SECOND, it.var)?;
    if amsgrad {
        let largest = memory.tensor(LARGEST, it.var)?;
        return amsgrad_step(it.var, it.gradient, &first, &second, &largest, &step);
    }
    adam_step(it.var, it.gradient, &first, &second, &step)
}

impl Rule for Adam {
    fn remembers(&self) -> &'static [&'static str] {
        remembers(self.amsgrad)
    }

    fn step(&self, it: &Move<'_>, memory: &mut Memory) -> Result<()> {
        let step = AdamStep {
            learning_rate: 0.0, // The move's and the memory's numbers follow.
            step: 0,
            beta1: self.beta1.get(),
            beta2: self.beta2.get(),
            eps: self.eps.get(),
            weight_decay: self.weight_decay.get(),
            decoupled: false,
        };
        update(it, step, self.amsgrad, memory)
    }
}

impl Rule for AdamW {
    fn remembers(&self) -> &'static [&'static str] {
        remembers(self.amsgrad)
    }

    fn step(&self, it: &Move<'_>, memory: &mut Memory) -> Result<()> {
        let step = AdamStep {
            learning_rate: 0.0, // The move's and the memory's numbers follow.
            step: 0,
            beta1: self.beta1.get(),
            beta2: self.beta2.get(),
            eps: self.eps.get(),
            weight_decay: self.weight_decay.get(),
            decoupled: true,
        };
        update(it, step, self.amsgrad, memory)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::optim::{Optimizer, PerTensor};
    use candle_core::{Device, Tensor, Var};

    #[test]
    fn the_first_step_is_the_learning_rate() -> Result<()> {
        // m / (1 − β₁) = g and √(v / (1 − β₂)) = |g|, so that w moves by the rate whatever the gradient's size.
        let w = Var::new(&[1f64, 1.0, 1.0], &Device::Cpu)?;
        let g = Tensor::new(&[1e-3f64, -70.0, 0.0], &Device::Cpu)?;
        PerTensor::new(Adam::default()).update(&[Move::new("w", &w, &g, 0.1)])?;
        for (got, want) in w.to_vec1::<f64>()?.iter().zip([0.9, 1.1, 1.0]) {
            assert!((got - want).abs() < 1e-5, "{got} {want}");
        }
        Ok(())
    }

    #[test]
    fn decoupled_decay_works_without_a_gradient() -> Result<()> {
        let w = Var::new(&[1f64], &Device::Cpu)?;
        let g = Tensor::new(&[0f64], &Device::Cpu)?;
        PerTensor::new(AdamW::default()).update(&[Move::new("w", &w, &g, 0.5)])?;
        assert!((w.to_vec1::<f64>()?[0] - 0.995).abs() < 1e-12); // 1 − 0.5 · 0.01
        Ok(())
    }

    #[test]
    fn a_beta_of_one_is_refused() {
        let adam = Adam {
            beta2: Fraction::literal(1.0),
            ..Adam::default()
        };
        let message = adam
            .checked()
            .expect_err("no gradient would be seen")
            .to_string();
        assert!(message.contains("`beta2` is 1"), "{message}");
    }
}
