//! Stochastic gradient descent.

use candle_core::Result;
use nearfar_core::{Error, Fraction, NonNegative};
use nearfar_kernels::{SgdStep, sgd_step};
use serde::{Deserialize, Serialize};

use super::{Memory, Move, Rule};

/// Stochastic gradient descent, with momentum where wanted.
///
/// ```text
/// g ← g + weight_decay · w
/// v ← momentum · v + (1 − dampening) · g        at the first step v ← g
/// w ← w − learning_rate · v                      nesterov: w − learning_rate · (g + momentum · v)
/// ```
///
/// Agrees with `torch.optim.SGD`. Source: Sutskever, Martens, Dahl, Hinton, "On the importance of initialization and momentum in
/// deep learning", ICML 2013; the form without the rate inside of the velocity is torch's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Sgd {
    /// Where a schedule starts from.
    pub learning_rate: NonNegative,
    /// How much of the velocity is kept; 0 is none at all.
    pub momentum: Fraction,
    /// How much of a new gradient does not reach the velocity.
    pub dampening: Fraction,
    /// Looks ahead by one velocity. Wants momentum, and no dampening.
    pub nesterov: bool,
    /// Pull towards zero, as a part of the gradient.
    pub weight_decay: NonNegative,
}

impl Default for Sgd {
    /// As in torch, with a rate that suits unit rows.
    fn default() -> Self {
        Self {
            learning_rate: NonNegative::literal(0.01),
            momentum: Fraction::literal(0.0),
            dampening: Fraction::literal(0.0),
            nesterov: false,
            weight_decay: NonNegative::literal(0.0),
        }
    }
}

impl Sgd {
    pub(super) fn checked(&self) -> std::result::Result<Self, Error> {
        if self.nesterov && (self.momentum.get() == 0.0 || self.dampening.get() != 0.0) {
            return Err(Error::Settings(format!(
                "sgd: `nesterov` wants `momentum` above 0 and `dampening` 0; they are {} and {}",
                self.momentum, self.dampening
            )));
        }
        Ok(self.clone())
    }
}

const VELOCITY: &str = "velocity";

impl Rule for Sgd {
    fn remembers(&self) -> &'static [&'static str] {
        if self.momentum.get() == 0.0 {
            &[]
        } else {
            &[VELOCITY]
        }
    }

    fn step(&self, it: &Move<'_>, memory: &mut Memory) -> Result<()> {
        let velocity = if self.momentum.get() == 0.0 {
            None
        } else {
            Some(memory.tensor(VELOCITY, it.var)?)
        };
        let step = SgdStep {
            learning_rate: it.learning_rate,
            momentum: match &velocity {
                Some(_) => it.momentum.unwrap_or(self.momentum.get()),
                None => 0.0,
            },
            dampening: self.dampening.get(),
            nesterov: self.nesterov,
            weight_decay: self.weight_decay.get() * it.decay,
            first: memory.steps == 1,
        };
        sgd_step(it.var, it.gradient, velocity.as_ref(), &step)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::optim::{Optimizer, PerTensor};
    use candle_core::{Device, Tensor, Var};

    #[test]
    fn momentum_on_paper() -> Result<()> {
        let sgd = Sgd {
            momentum: Fraction::literal(0.5),
            ..Sgd::default()
        };
        let mut sgd = PerTensor::new(sgd);
        let w = Var::new(&[1f64], &Device::Cpu)?;
        let g = Tensor::new(&[1f64], &Device::Cpu)?;
        sgd.update(&[Move::new("w", &w, &g, 0.1)])?; // v = 1
        assert!((w.to_vec1::<f64>()?[0] - 0.9).abs() < 1e-12);
        sgd.update(&[Move::new("w", &w, &g, 0.1)])?; // v = 1.5
        assert!((w.to_vec1::<f64>()?[0] - 0.75).abs() < 1e-12);
        Ok(())
    }

    #[test]
    fn a_momentum_of_the_step_goes_before_its_own() -> Result<()> {
        let w = Var::new(&[1f64], &Device::Cpu)?;
        let g = Tensor::new(&[1f64], &Device::Cpu)?;
        let with = |momentum: f64| Move {
            momentum: Some(momentum),
            ..Move::new("w", &w, &g, 0.1)
        };
        let sgd = Sgd {
            momentum: Fraction::literal(0.5),
            ..Sgd::default()
        };
        let mut sgd = PerTensor::new(sgd);
        sgd.update(&[with(0.9)])?; // v = 1
        sgd.update(&[with(0.25)])?; // v = 1.25
        assert!((w.to_vec1::<f64>()?[0] - 0.775).abs() < 1e-12);
        // Without a velocity there is nothing to keep.
        PerTensor::new(Sgd::default()).update(&[with(0.9)])?;
        assert!((w.to_vec1::<f64>()?[0] - 0.675).abs() < 1e-12);
        Ok(())
    }

    #[test]
    fn nesterov_without_momentum_is_refused() {
        let sgd = Sgd {
            nesterov: true,
            ..Sgd::default()
        };
        assert!(matches!(sgd.checked(), Err(Error::Settings(_))));
    }
}
