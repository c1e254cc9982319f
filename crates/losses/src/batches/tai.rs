//! Grades of pairs of sentences.

use candle_core::{Device, Result, Tensor};
use nearfar_core::{Comparison, Error, Loss, Parameter, Reducer, Relation, Rng, Stateful, Terms};
use nearfar_kernels::log_softmax;
use serde::{Deserialize, Serialize};
use std::num::NonZeroUsize;

use super::softmax_nli::{Layer, Seen};
use crate::family::BatchLoss;
use crate::over::batches::{Formula, Whole};
use crate::over::rows_of_pairs;
use crate::{Compares, Join, Reads};

/// Wants a linear layer on the difference and the product of two rows to give the grades of the pair their shares of its score.
///
/// ```text
/// p = softmax(W [|x − y|; x ∘ y] + b) over the grades 1..K
/// l = KL(q ‖ p),   q_⌊t⌋ = ⌊t⌋ − t + 1,   q_⌊t⌋+1 = t − ⌊t⌋,   0 elsewhere
/// ```
///
/// The predicted score is `Σ_k k p_k`. Targets are from 1 to `K`. The layer is of the loss, `head.weight` and `head.bias`. Reads
/// scored pairs.
///
/// Source: Tai, Socher, Manning, "Improved Semantic Representations From Tree-Structured Long Short-Term Memory Networks", ACL 2015,
/// <https://arxiv.org/abs/1503.00075>, equations 15 to 17, without the layer of sigmoids between.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Tai {
    /// The highest grade; the lowest is 1.
    pub grades: NonZeroUsize,
}

impl Default for Tai {
    /// From 1 to 5, as in the paper's data, SICK.
    fn default() -> Self {
        Self {
            grades: NonZeroUsize::new(5).expect("5 is above 0"),
        }
    }
}

impl BatchLoss for Tai {
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
        join.refuse_scorer(name, "a layer of its own")?;
        join.refuse_metric(name)?;
        join.refuse_miner(name)?;
        let formula = Grades {
            name,
            grades: self.grades.get(),
            layer: Layer::new(self.grades.get(), 2, name, &join)?,
        };
        Ok(Whole::boxed(formula, join.reducer.take(), Reducer::Mean {}))
    }
}

#[derive(Debug)]
struct Grades {
    name: &'static str,
    grades: usize,
    layer: Layer,
}

impl Stateful for Grades {}

/// The shares of the grades `1..=grades` of a score, and `Σ q log q`.
fn shares(target: f64, grades: usize) -> (Vec<f64>, f64) {
    let mut shares = vec![0f64; grades];
    let below = target.floor();
    let lower = below as usize - 1;
    shares[lower] = below - target + 1.0;
    if let Some(upper) = shares.get_mut(lower + 1) {
        *upper = target - below;
    }
    let entropy = shares
        .iter()
        .filter(|&&q| q > 0.0)
        .map(|q| q * q.ln())
        .sum();
    (shares, entropy)
}

impl Formula for Grades {
    fn terms(&self, comparison: &Comparison<'_>, _: &mut Rng) -> Result<Vec<Terms>> {
        let Relation::Scored { pairs, targets } = comparison.relation else {
            return Err(comparison.cannot_read(self.name, Reads::ScoredPairs.name()))?;
        };
        comparison.check()?;
        let is_grade = |target: f32| (1.0..=self.grades as f32).contains(&target);
        if let Some(pair) = targets.iter().position(|&target| !is_grade(target)) {
            Err(Error::Input(format!(
                "{}: pair {pair} has the target {}, but grades are from 1 to {}",
                self.name, targets[pair], self.grades
            )))?;
        }
        if pairs.is_empty() {
            return Ok(vec![Terms::none("score", comparison)]);
        }
        let (x, y) = rows_of_pairs(comparison, pairs)?;
        let log_p = log_softmax(&self.layer.logits(&Seen::Symmetric.of(&x, &y)?)?)?;
        let (mut wanted, mut entropies) = (Vec::new(), Vec::new());
        for &target in targets {
            let (shares, entropy) = shares(f64::from(target), self.grades);
            wanted.extend(shares);
            entropies.push(entropy);
        }
        let t = targets.len();
        let (dtype, device) = (log_p.dtype(), log_p.device());
        let wanted = Tensor::from_vec(wanted, (t, self.grades), &Device::Cpu)?;
        let entropies = Tensor::from_vec(entropies, t, &Device::Cpu)?;
        let wanted = wanted.to_dtype(dtype)?.to_device(device)?;
        let entropies = entropies.to_dtype(dtype)?.to_device(device)?;
        let values = (entropies - (wanted * log_p)?.sum(1)?)?;
        let anchors = pairs.anchors.clone();
        Ok(vec![Terms::tuples("score", values, anchors, comparison)?])
    }

    fn parameters(&self) -> Vec<Parameter> {
        self.layer.parameters()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_score_between_two_grades_is_shared_by_them() {
        assert_eq!(shares(3.0, 5).0, [0.0, 0.0, 1.0, 0.0, 0.0]);
        assert_eq!(shares(4.25, 5).0, [0.0, 0.0, 0.0, 0.75, 0.25]);
        assert_eq!(shares(5.0, 5), (vec![0.0, 0.0, 0.0, 0.0, 1.0], 0.0));
        let wanted = 0.75 * 0.75f64.ln() + 0.25 * 0.25f64.ln();
        assert!((shares(4.25, 5).1 - wanted).abs() < 1e-15);
    }
}
