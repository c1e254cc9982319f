//! Adadelta.

use candle_core::{Result, Var};
use nearfar_core::{Fraction, NonNegative};
use serde::{Deserialize, Serialize};

use super::{Memory, Move, Rule, average, with_decay};

/// Adadelta: steps in the units of the parameters, from the sizes of earlier steps.
///
/// ```text
/// g ← g + weight_decay · w
/// v ← ρ v + (1 − ρ) g²
/// Δ ← √(u + eps) / √(v + eps) · g
/// u ← ρ u + (1 − ρ) Δ²
/// w ← w − learning_rate · Δ
/// ```
///
/// Agrees with `torch.optim.Adadelta`. Source: Zeiler, "Adadelta", 2012, <https://arxiv.org/abs/1212.5701>, algorithm 1, which has no
/// learning rate (that is, 1) and ρ = 0.95.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Adadelta {
    /// Where a schedule starts from.
    pub learning_rate: NonNegative,
    /// How much of the averages is kept.
    pub rho: Fraction,
    /// Added below the roots; the size of the first steps.
    pub eps: NonNegative,
    /// Pull towards zero, as a part of the gradient.
    pub weight_decay: NonNegative,
}

impl Default for Adadelta {
    /// As in torch.
    fn default() -> Self {
        Self {
            learning_rate: NonNegative::literal(1.0),
            rho: Fraction::literal(0.9),
            eps: NonNegative::literal(1e-6),
            weight_decay: NonNegative::literal(0.0),
        }
    }
}

const SQUARES: &str = "squared_gradient";
const STEPS: &str = "squared_step";

impl Rule for Adadelta {
    fn remembers(&self) -> &'static [&'static str] {
        &[SQUARES, STEPS]
    }

    fn step(&self, it: &Move<'_>, memory: &mut Memory) -> Result<()> {
        let gradient = with_decay(it, self.weight_decay.get())?;
        let (rho, eps) = (self.rho.get(), self.eps.get());
        let squares = memory.tensor(SQUARES, it.var)?;
        let steps = memory.tensor(STEPS, it.var)?;
        average(&squares, rho, &gradient.sqr()?)?;
        let root = |tensor: &Var| (tensor.as_detached_tensor() + eps)?.sqrt();
        let step = ((root(&steps)? / root(&squares)?)? * gradient)?;
        average(&steps, rho, &step.sqr()?)?;
        it.var
            .set(&(it.var.as_tensor() - (step * it.learning_rate)?)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::optim::{Optimizer, PerTensor};
    use candle_core::{Device, Tensor};

    #[test]
    fn two_steps_as_torch_makes_them() -> Result<()> {
        let w = Var::new(&[1f64], &Device::Cpu)?;
        let mut adadelta = PerTensor::new(Adadelta::default());
        let g = Tensor::new(&[2f64], &Device::Cpu)?;
        // v = 0.4; Δ = √1e-6 / √0.400001 · 2.
        adadelta.update(&[Move::new("w", &w, &g, 1.0)])?;
        let first = 2.0 * (1e-6f64 / 0.400001).sqrt();
        assert!((w.to_vec1::<f64>()?[0] - (1.0 - first)).abs() < 1e-14);
        // u = 0.1 Δ²; v = 0.36 + 0.4.
        adadelta.update(&[Move::new("w", &w, &g, 1.0)])?;
        let second = 2.0 * ((0.1 * first * first + 1e-6) / 0.760001).sqrt();
        assert!((w.to_vec1::<f64>()?[0] - (1.0 - first - second)).abs() < 1e-14);
        Ok(())
    }

    #[test]
    fn three_steps_of_torch() -> Result<()> {
        // torch.optim.Adadelta(lr=0.5, rho=0.8, eps=1e-4, weight_decay=0.1) of torch 2.8, in float64.
        let adadelta = Adadelta {
            learning_rate: NonNegative::literal(0.5),
            rho: Fraction::literal(0.8),
            eps: NonNegative::literal(1e-4),
            weight_decay: NonNegative::literal(0.1),
        };
        let w = Var::new(&[1f64, -2.0], &Device::Cpu)?;
        let mut optimizer = PerTensor::new(adadelta);
        let steps = [
            (
                [2.0, -1.0],
                [0.988_820_293_864_727_1, -1.988_821_600_638_400_7],
            ),
            (
                [0.5, 3.0],
                [0.984_017_623_428_760_5, -2.003_584_522_872_633],
            ),
            (
                [0.0, -0.25],
                [0.983_140_151_916_380_8, -2.000_100_803_890_499_7],
            ),
        ];
        for (gradient, want) in steps {
            let gradient = Tensor::new(&gradient, &Device::Cpu)?;
            optimizer.update(&[Move::new("w", &w, &gradient, 0.5)])?;
            for (got, want) in w.to_vec1::<f64>()?.iter().zip(want) {
                assert!((got - want).abs() < 1e-14, "{got} {want}");
            }
        }
        Ok(())
    }
}
