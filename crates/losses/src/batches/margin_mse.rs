//! Differences of scores, as a teacher has them.

use candle_core::{Device, Result, Tensor};
use nearfar_core::{Comparison, Loss, Pairs, Reducer, Relation, Rng, Similarity, Stateful, Terms};
use serde::{Deserialize, Serialize};

use crate::family::BatchLoss;
use crate::over::batches::{Formula, Whole, within_range};
use crate::over::rows_of_pairs;
use crate::{Compares, Join, Reads};

/// Wants the scores of two answers to one question to differ as much as a teacher's scores do.
///
/// ```text
/// l = ( (s(a, p) − s(a, q)) − (t_ap − t_aq) )²   for every two scored pairs (a, p), (a, q) of one anchor, p before q
/// ```
///
/// The targets are the teacher's scores, of which only the differences count: a triplet of a question, a good answer and a bad one
/// is two scored pairs. An anchor with one pair has no difference; where no anchor has two there is nothing to learn. Scores are dot
/// products unless another similarity is named. Reads scored pairs.
///
/// Source: Hofstätter et al., "Improving Efficient Neural Ranking Models with Cross-Architecture Knowledge Distillation", 2020,
/// <https://arxiv.org/abs/2010.02666>, equation 1; `MarginMSELoss` of sentence-transformers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MarginMSE {}

impl BatchLoss for MarginMSE {
    fn reads(&self) -> Reads {
        Reads::ScoredPairs
    }

    fn compares(&self) -> Compares {
        Compares::Similarity("dot")
    }

    fn takes_miner(&self) -> bool {
        false
    }

    fn build(&self, name: &'static str, mut join: Join) -> Result<Box<dyn Loss>> {
        join.refuse_scorer(name, "similarities of rows")?;
        join.refuse_miner(name)?;
        let formula = Differences {
            name,
            similarity: join.similarity(name, "dot")?,
        };
        Ok(Whole::boxed(formula, join.reducer.take(), Reducer::Mean {}))
    }
}

#[derive(Debug)]
struct Differences {
    name: &'static str,
    similarity: Box<dyn Similarity>,
}

impl Stateful for Differences {}

impl Formula for Differences {
    fn terms(&self, comparison: &Comparison<'_>, _: &mut Rng) -> Result<Vec<Terms>> {
        let Relation::Scored { pairs, targets } = comparison.relation else {
            return Err(comparison.cannot_read(self.name, Reads::ScoredPairs.name()))?;
        };
        comparison.check()?;
        let (first, second) = of_one_anchor(pairs);
        if first.is_empty() {
            return Ok(vec![Terms::none("score", comparison)]);
        }
        let (x, y) = rows_of_pairs(comparison, pairs)?;
        let score = self.similarity.paired(&x, &y)?;
        let t = first.len();
        let of =
            |index: &[u32]| score.index_select(&Tensor::from_slice(index, t, score.device())?, 0);
        let wanted: Vec<f64> = first
            .iter()
            .zip(&second)
            .map(|(&p, &q)| f64::from(targets[p as usize]) - f64::from(targets[q as usize]))
            .collect();
        let wanted = Tensor::from_vec(wanted, t, &Device::Cpu)?.to_dtype(score.dtype())?;
        let found = (of(&first)? - of(&second)?)?;
        let values = within_range(&(found - wanted.to_device(score.device())?)?.sqr()?)?;
        let anchors = first.iter().map(|&it| pairs.anchors[it as usize]).collect();
        Ok(vec![Terms::tuples("score", values, anchors, comparison)?])
    }
}

/// Every two pairs of one anchor, by their places in the list.
fn of_one_anchor(pairs: &Pairs) -> (Vec<u32>, Vec<u32>) {
    let anchors = &pairs.anchors;
    let mut found = (Vec::new(), Vec::new());
    for (p, anchor) in anchors.iter().enumerate() {
        for (q, other) in anchors.iter().enumerate().skip(p + 1) {
            if anchor == other {
                found.0.push(p as u32);
                found.1.push(q as u32);
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use nearfar_core::{Embeddings, Purpose, Seed};

    use super::*;

    #[derive(Debug)]
    struct Dot;

    impl Similarity for Dot {
        fn matrix(&self, x: &Tensor, y: &Tensor) -> Result<Tensor> {
            x.matmul(&y.t()?)
        }
        fn paired(&self, x: &Tensor, y: &Tensor) -> Result<Tensor> {
            (x * y)?.sum(1)
        }
    }

    #[test]
    fn only_differences_count() -> Result<()> {
        let side = |rows: &[[f64; 1]], start: u64| {
            let vectors = Tensor::from_slice(rows.as_flattened(), (rows.len(), 1), &Device::Cpu)?;
            let ids = (start..start + rows.len() as u64).collect();
            Embeddings::new(vectors, Vec::new(), ids)
        };
        let (questions, answers) = (side(&[[2.0], [1.0]], 0)?, side(&[[3.0], [1.0]], 9)?);
        let pairs = Pairs::from_iter([(0, 0), (1, 0), (0, 1)]);
        let comparison = |targets: &'static [f32]| Comparison {
            anchors: &questions,
            references: &answers,
            relation: Relation::Scored {
                pairs: &pairs,
                targets,
            },
        };
        let join = Join {
            similarity: Some(Box::new(Dot)),
            ..Join::default()
        };
        let loss = MarginMSE {}.build("margin_mse", join)?;
        let value = |targets| -> Result<f64> {
            let total = loss
                .evaluate(&comparison(targets), &mut Seed(0).rng(Purpose::Mining, 0))?
                .total()?;
            total.expect("question 0 has two answers").to_scalar()
        };
        assert_eq!(value(&[5.0, 100.0, 2.0])?, 1.0); // 6 − 2 is 4, and 3 is wanted.
        assert_eq!(value(&[15.0, 0.0, 11.0])?, 0.0);
        Ok(())
    }
}
