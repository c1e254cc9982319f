//! Cross-entropy of pairs: the same, or not.

use std::num::NonZeroUsize;

use candle_core::{Result, Tensor, Var};
use nearfar_core::{
    Comparison, Loss, Mode, Pairs, Parameter, Positive, Reducer, Relation, Rng, SignedPairs,
    Similarity, Stateful, Terms,
};
use nearfar_kernels::softplus;
use serde::{Deserialize, Serialize};

use crate::family::BatchLoss;
use crate::over::batches::{Formula, Whole};
use crate::over::rows_of_pairs;
use crate::over::scores::Scoring;
use crate::{Compares, Join, Reads, prefix};

/// Wants a scorer of pairs to tell pairs that belong together from those that do not, by a logistic regression.
///
/// ```text
/// P(same) = σ(s)        l = −log σ(s) for a pair that belongs together,  −log(1 − σ(s)) for one that does not
/// ```
///
/// The score `s` is what `scorer` gives: `scorer.weighted_l1` is the head of Koch et al., `scorer.cross_input` the network of Ahmed
/// et al., which sees both images at once. Without a scorer it is `scale · similarity + bias`, both learned, `scale` and `bias`, which
/// start at 10 and −5: on unit rows the cosine of 0.5 is where the two are equally likely.
///
/// By class, each two rows of a batch are one pair, and most of them do not belong together. All that do are taken, and `negatives`
/// times as many of the others, drawn anew for each batch; all others where there are fewer. What is drawn is a function of the rows,
/// not of their order. Listed pairs are all taken as they are. With `limit`, so many pairs at most are drawn of each batch. Without a
/// pair that belongs together there is nothing to learn by class.
///
/// Source: Koch, Zemel, Salakhutdinov, "Siamese Neural Networks for One-shot Image Recognition", ICML Deep Learning Workshop 2015,
/// section 3.2, which has as many pairs of either kind; Ahmed, Jones, Marks, "An Improved Deep Learning Architecture for Person
/// Re-Identification", CVPR 2015, which has two negatives for each positive, `negatives = 2`. Without a scorer: Zhai et al., "Sigmoid
/// Loss for Language Image Pre-Training", 2023, <https://arxiv.org/abs/2303.15343>, there over all pairs.
///
/// Choose it for a scorer, which other losses cannot train; the neighbors of a search are those of the embeddings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PairCrossEntropy {
    /// Pairs that do not belong together for each that does.
    pub negatives: Positive,
    /// Pairs of a batch at most; no limit where it is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<NonZeroUsize>,
}

impl Default for PairCrossEntropy {
    /// As many of either kind, without a limit.
    fn default() -> Self {
        Self {
            negatives: Positive::literal(1.0),
            limit: None,
        }
    }
}

impl BatchLoss for PairCrossEntropy {
    fn reads(&self) -> Reads {
        Reads::ClassesOrPairs
    }

    fn compares(&self) -> Compares {
        Compares::Similarity("cosine")
    }

    fn takes_miner(&self) -> bool {
        false
    }

    fn takes_scorer(&self) -> bool {
        true
    }

    fn build(&self, name: &'static str, mut join: Join) -> Result<Box<dyn Loss>> {
        join.refuse_miner(name)?;
        let score = match join.scorer.take() {
            Some(scorer) => {
                join.refuse_own(name, "the scores of its scorer")?;
                Score::Scorer(scorer)
            }
            None => {
                let constant = |value: f64| -> Result<Var> {
                    Var::from_tensor(&Tensor::full(value, 1, &join.device)?.to_dtype(join.dtype)?)
                };
                Score::Similarity {
                    scale: constant(10.0)?,
                    bias: constant(-5.0)?,
                    similarity: join.similarity(name, "cosine")?,
                }
            }
        };
        let formula = OfPairs {
            name,
            settings: self.clone(),
            score,
        };
        Ok(Whole::boxed(formula, join.reducer.take(), Reducer::Mean {}))
    }
}

/// What gives a pair its score.
#[derive(Debug)]
enum Score {
    Scorer(Box<dyn nearfar_core::PairScorer>),
    Similarity {
        similarity: Box<dyn Similarity>,
        scale: Var,
        bias: Var,
    },
}

#[derive(Debug)]
struct OfPairs {
    name: &'static str,
    settings: PairCrossEntropy,
    score: Score,
}

impl OfPairs {
    /// The pairs to learn from.
    fn pairs(&self, comparison: &Comparison<'_>, rng: &mut Rng) -> Result<SignedPairs> {
        let mut pairs = SignedPairs::all(comparison, self.name)?;
        let (ours, theirs) = (&comparison.anchors.ids, &comparison.references.ids);
        let within = std::ptr::eq(comparison.anchors, comparison.references);
        let balanced = matches!(comparison.relation, Relation::SameClass);
        for list in [&mut pairs.positive, &mut pairs.negative] {
            let ids = |&(a, b): &(u32, u32)| (ours[a as usize], theirs[b as usize]);
            let mut kept: Vec<(u32, u32)> = list.iter().collect();
            if balanced {
                if within {
                    // Both ways around are one pair.
                    kept.retain(|pair| ids(pair).0 < ids(pair).1);
                }
                kept.sort_by_key(ids);
            }
            *list = kept.into_iter().collect();
        }
        let wanted = |ratio: f64, of: usize| (ratio * of as f64).round() as usize;
        let limit = self.settings.limit.map_or(usize::MAX, NonZeroUsize::get);
        if balanced {
            let ratio = self.settings.negatives.get();
            let share = wanted(1.0 / (1.0 + ratio), limit).max(1);
            let positives = pairs.positive.len().min(share);
            let negatives = wanted(ratio, positives).max(usize::from(positives > 0));
            draw(&mut pairs.positive, positives, rng);
            draw(&mut pairs.negative, negatives.min(limit - positives), rng);
        } else {
            let all = pairs.positive.len() + pairs.negative.len();
            if all > limit {
                let share = wanted(pairs.positive.len() as f64 / all as f64, limit);
                draw(&mut pairs.positive, share, rng);
                draw(&mut pairs.negative, limit - share, rng);
            }
        }
        Ok(pairs)
    }

    /// `(t)`
    fn score(&self, comparison: &Comparison<'_>, pairs: &Pairs, rng: &mut Rng) -> Result<Tensor> {
        match &self.score {
            Score::Scorer(scorer) => scorer.score(
                comparison.anchors,
                comparison.references,
                pairs,
                Mode::Train(rng),
            ),
            Score::Similarity {
                similarity,
                scale,
                bias,
            } => {
                let (x, y) = rows_of_pairs(comparison, pairs)?;
                let similarity = similarity.paired(&x, &y)?;
                similarity.broadcast_mul(scale)?.broadcast_add(bias)
            }
        }
    }
}

/// So many of them at most, in their order, each choice as likely as every other.
fn draw(pairs: &mut Pairs, count: usize, rng: &mut Rng) {
    if pairs.len() <= count {
        return;
    }
    let mut chosen = rng.permutation(pairs.len());
    chosen.truncate(count);
    chosen.sort_unstable();
    let all: Vec<(u32, u32)> = pairs.iter().collect();
    *pairs = chosen.into_iter().map(|at| all[at as usize]).collect();
}

impl Stateful for OfPairs {}

impl Formula for OfPairs {
    fn terms(&self, comparison: &Comparison<'_>, rng: &mut Rng) -> Result<Vec<Terms>> {
        if !matches!(
            comparison.relation,
            Relation::SameClass | Relation::Listed(_)
        ) {
            return Err(comparison.cannot_read(self.name, Reads::ClassesOrPairs.name()))?;
        }
        let signed = self.pairs(comparison, rng)?;
        let positives = signed.positive.len();
        let pairs: Pairs = signed
            .positive
            .iter()
            .chain(signed.negative.iter())
            .collect();
        if pairs.is_empty() {
            return Ok(vec![Terms::none("pair", comparison)]);
        }
        // One pass for both kinds: what a scorer learns of a batch it sees together.
        let score = self.score(comparison, &pairs, rng)?;
        let signs = (0..pairs.len()).map(|at| if at < positives { -1f64 } else { 1.0 });
        let signs = Tensor::from_iter(signs, score.device())?.to_dtype(score.dtype())?;
        let values = softplus(&(score * signs)?)?;
        Ok(vec![Terms::tuples(
            "pair",
            values,
            pairs.anchors,
            comparison,
        )?])
    }

    fn parameters(&self) -> Vec<Parameter> {
        match &self.score {
            Score::Scorer(scorer) => {
                prefix::name(Scoring::PARAMETERS, scorer.parameters()).collect()
            }
            Score::Similarity { scale, bias, .. } => [("bias", bias), ("scale", scale)]
                .map(|(name, var)| Parameter {
                    name: name.into(),
                    var: var.clone(),
                    trained: true,
                })
                .into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;
    use nearfar_core::{Embeddings, PairScorer, Purpose, Seed};

    use super::*;

    /// The product of the first numbers of two rows.
    #[derive(Debug)]
    struct Product;

    impl PairScorer for Product {
        fn score(
            &self,
            left: &Embeddings,
            right: &Embeddings,
            pairs: &Pairs,
            mode: Mode<'_>,
        ) -> Result<Tensor> {
            assert!(mode.trains());
            let comparison = Comparison::between(left, right);
            let (x, y) = rows_of_pairs(&comparison, pairs)?;
            (x * y)?.squeeze(1)
        }
    }

    fn loss(settings: PairCrossEntropy) -> Box<dyn Loss> {
        let join = Join {
            scorer: Some(Box::new(Product)),
            ..Join::default()
        };
        settings
            .build("pair_cross_entropy", join)
            .expect("a scorer")
    }

    fn rows(values: &[f64], labels: &[u32]) -> Embeddings {
        let vectors = Tensor::from_slice(values, (values.len(), 1), &Device::Cpu).expect("small");
        Embeddings::labeled(vectors, labels.to_vec()).expect("as many")
    }

    fn stream(at: u64) -> Rng {
        Seed(1).rng(Purpose::Mining, at)
    }

    fn values(loss: &dyn Loss, comparison: &Comparison<'_>, at: u64) -> Vec<f64> {
        let terms = loss.terms(comparison, &mut stream(at)).expect("terms");
        terms[0]
            .values
            .as_ref()
            .map_or(Vec::new(), |it| it.to_vec1().expect("numbers"))
    }

    #[test]
    fn each_pair_is_a_logistic_regression() {
        let rows = rows(&[1.0, 2.0, -1.0], &[0, 0, 1]);
        let comparison = Comparison::within(&rows);
        let all = PairCrossEntropy {
            negatives: Positive::literal(9.0),
            limit: None,
        };
        let softplus = |x: f64| x.exp().ln_1p();
        // The pair (0, 1) scores 2; those with row 2 score −1 and −2 and are right.
        let wanted = [softplus(-2.0), softplus(-1.0), softplus(-2.0)];
        let found = values(&*loss(all), &comparison, 0);
        assert_eq!(found.len(), 3);
        for (found, wanted) in found.iter().zip(wanted) {
            assert!((found - wanted).abs() < 1e-12, "{found} {wanted}");
        }
    }

    #[test]
    fn kinds_are_balanced_and_what_is_drawn_changes() {
        let numbers: Vec<f64> = (0..12).map(|it| 0.1 + f64::from(it)).collect();
        let labels: Vec<u32> = (0..12).map(|it| it / 3).collect();
        let rows = rows(&numbers, &labels);
        let comparison = Comparison::within(&rows);
        let drawn = |ratio: f64, limit: Option<usize>, at| {
            let settings = PairCrossEntropy {
                negatives: Positive::literal(ratio),
                limit: limit.and_then(NonZeroUsize::new),
            };
            values(&*loss(settings), &comparison, at)
        };
        // Four classes of three rows: 12 pairs belong together, 54 do not.
        assert_eq!(drawn(1.0, None, 0).len(), 24);
        assert_eq!(drawn(2.0, None, 0).len(), 36);
        assert_eq!(drawn(100.0, None, 0).len(), 66);
        assert_eq!(drawn(1.0, Some(10), 0).len(), 10);
        assert_eq!(drawn(3.0, Some(1), 0).len(), 1);
        assert_eq!(drawn(1.0, None, 3), drawn(1.0, None, 3));
        assert_ne!(drawn(1.0, None, 3), drawn(1.0, None, 4));
    }

    #[test]
    fn without_a_pair_that_belongs_together_there_is_nothing_to_learn() {
        let rows = rows(&[1.0, 2.0, 3.0], &[0, 1, 2]);
        let loss = loss(PairCrossEntropy::default());
        let evaluated = loss.evaluate(&Comparison::within(&rows), &mut stream(0));
        assert!(evaluated.expect("terms").total().expect("none").is_none());
    }

    #[test]
    fn listed_pairs_are_all_taken() {
        let rows = rows(&[1.0, 2.0, 3.0], &[0, 1, 2]);
        let listed = SignedPairs {
            positive: Pairs::from_iter([(0, 0)]),
            negative: Pairs::from_iter([(1, 1), (2, 2), (2, 1)]),
        };
        let comparison = Comparison {
            relation: Relation::Listed(&listed),
            ..Comparison::within(&rows)
        };
        let of = |limit| {
            let settings = PairCrossEntropy {
                limit: NonZeroUsize::new(limit),
                ..PairCrossEntropy::default()
            };
            values(&*loss(settings), &comparison, 0).len()
        };
        assert_eq!((of(0), of(3)), (4, 3));
    }

    #[test]
    fn a_scorer_has_no_similarity_beside_it_and_its_names_begin_with_its_own() {
        #[derive(Debug)]
        struct Owner(Var);
        impl PairScorer for Owner {
            fn score(
                &self,
                _: &Embeddings,
                _: &Embeddings,
                pairs: &Pairs,
                _: Mode<'_>,
            ) -> Result<Tensor> {
                self.0.broadcast_as(pairs.len())
            }
            fn parameters(&self) -> Vec<Parameter> {
                vec![Parameter {
                    name: "weight".into(),
                    var: self.0.clone(),
                    trained: true,
                }]
            }
        }
        let owner = || {
            let var = Var::new(&[1f64], &Device::Cpu).expect("small");
            Some(Box::new(Owner(var)) as Box<dyn PairScorer>)
        };
        let settings = PairCrossEntropy::default();
        let join = Join {
            scorer: owner(),
            ..Join::default()
        };
        let loss = settings.build("pair_cross_entropy", join).expect("joined");
        assert_eq!(loss.parameters()[0].name, "scorer.weight");
        let join = Join {
            scorer: owner(),
            similarity: Some(Box::new(nearfar_core::NegativeDistance(Box::new(Zero)))),
            ..Join::default()
        };
        let error = settings.build("pair_cross_entropy", join);
        let error = error.expect_err("two of them").to_string();
        assert!(error.contains("leave `similarity` out"), "{error}");
    }

    #[derive(Debug)]
    struct Zero;

    impl nearfar_core::Distance for Zero {
        fn matrix(&self, x: &Tensor, y: &Tensor) -> Result<Tensor> {
            Tensor::zeros((x.dim(0)?, y.dim(0)?), x.dtype(), x.device())
        }
        fn paired(&self, x: &Tensor, _: &Tensor) -> Result<Tensor> {
            Tensor::zeros(x.dim(0)?, x.dtype(), x.device())
        }
        fn axioms(&self) -> nearfar_core::Axioms {
            nearfar_core::Axioms::METRIC
        }
    }
}
