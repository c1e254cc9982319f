//! The order of angles in the complex plane.

use candle_core::{D, Device, Result, Tensor};
use nearfar_core::{Comparison, Loss, Positive, Reducer, Relation, Rng, Stateful, Terms};
use nearfar_kernels::{absolute, l2_normalize};
use serde::{Deserialize, Serialize};

use crate::family::BatchLoss;
use crate::over::batches::{Formula, Whole};
use crate::over::rows_of_pairs;
use crate::scores::ordered;
use crate::{Compares, Join, Reads};

/// Wants pairs with a higher target to have a higher similarity of angles, where cosines have no gradient left.
///
/// ```text
/// x = a + i b, y = c + i d of the two halves of each row;   s = |Σ_k (re_k + im_k)|
/// re = (a c + b d) / z · ‖y‖/‖x‖,   im = (b c − a d) / z · ‖y‖/‖x‖,   z = Σ (c² + d²)
/// L = log(1 + Σ_{i, j: t_i < t_j} e^(scale · (s_i − s_j)))
/// ```
///
/// Since `z = ‖y‖²`, the factors are those of rows at length 1. A row of odd width is taken with a 0 at its end. It is one term for
/// the whole batch; where all targets are equal it is 0. Reads scored pairs.
///
/// Source: Li, Li, "AnglE-optimized Text Embeddings", ACL 2024, <https://arxiv.org/abs/2309.12871>, equations 5 to 9; `AnglELoss` of
/// sentence-transformers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AnglE {
    /// What differences of similarities are multiplied by.
    pub scale: Positive,
}

impl Default for AnglE {
    /// That of the paper.
    fn default() -> Self {
        Self {
            scale: Positive::literal(20.0),
        }
    }
}

impl BatchLoss for AnglE {
    fn reads(&self) -> Reads {
        Reads::ScoredPairs
    }

    fn compares(&self) -> Compares {
        Compares::Centers
    }

    fn takes_miner(&self) -> bool {
        false
    }

    fn build(&self, name: &'static str, mut join: Join) -> Result<Box<dyn Loss>> {
        join.refuse_scorer(name, "angles of the rows themselves")?;
        join.refuse_metric(name)?;
        join.refuse_miner(name)?;
        let formula = Angles {
            name,
            scale: self.scale.get(),
        };
        Ok(Whole::boxed(formula, join.reducer.take(), Reducer::Mean {}))
    }
}

#[derive(Debug)]
struct Angles {
    name: &'static str,
    scale: f64,
}

impl Stateful for Angles {}

impl Formula for Angles {
    fn terms(&self, comparison: &Comparison<'_>, _: &mut Rng) -> Result<Vec<Terms>> {
        let Relation::Scored { pairs, targets } = comparison.relation else {
            return Err(comparison.cannot_read(self.name, Reads::ScoredPairs.name()))?;
        };
        comparison.check()?;
        if pairs.is_empty() {
            return Ok(vec![Terms::none("score", comparison)]);
        }
        let (x, y) = rows_of_pairs(comparison, pairs)?;
        let score = similarity(&x, &y)?;
        let targets = Tensor::from_slice(targets, targets.len(), &Device::Cpu)?;
        let targets = targets.to_dtype(score.dtype())?.to_device(score.device())?;
        let value = ordered(&score, &targets, self.scale)?;
        Ok(vec![Terms::of_batch("score", &value, comparison)?])
    }
}

/// `|Σ (re + im)|` of paired rows, `(t)`.
fn similarity(x: &Tensor, y: &Tensor) -> Result<Tensor> {
    let halves = |rows: &Tensor| -> Result<(Tensor, Tensor)> {
        let unit = l2_normalize(rows)?;
        let odd = unit.dim(1)? % 2;
        let unit = unit.pad_with_zeros(D::Minus1, 0, odd)?;
        let half = unit.dim(1)? / 2;
        Ok((unit.narrow(1, 0, half)?, unit.narrow(1, half, half)?))
    };
    let ((a, b), (c, d)) = (halves(x)?, halves(y)?);
    let real = ((&a * &c)? + (&b * &d)?)?;
    let imaginary = ((&b * &c)? - (&a * &d)?)?;
    absolute(&(real + imaginary)?.sum(1)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_formula_with_its_lengths() -> Result<()> {
        let x = Tensor::new(&[[1f64, 2.0, -0.5, 0.3]], &Device::Cpu)?;
        let y = Tensor::new(&[[0.4f64, -1.0, 2.0, 0.7]], &Device::Cpu)?;
        let (a, b, c, d) = ([1.0, 2.0], [-0.5, 0.3], [0.4, -1.0], [2.0, 0.7]);
        let z: f64 = 0.16 + 1.0 + 4.0 + 0.49;
        let ratio = (1.0f64 + 4.0 + 0.25 + 0.09).sqrt() / z.sqrt();
        let sum: f64 = (0..2)
            .map(|k| (a[k] * c[k] + b[k] * d[k] + b[k] * c[k] - a[k] * d[k]) / z / ratio)
            .sum();
        let found = similarity(&x, &y)?.to_vec1::<f64>()?[0];
        assert!((found - sum.abs()).abs() < 1e-12, "{found} {sum}");
        Ok(())
    }
}
