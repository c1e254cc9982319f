//! The hardest share of all pairs.

use nearfar_core::{
    Candidate, Candidates, Fraction, Miner, Pairs, Rng, SignedPairs, Stateful, Tuples,
};
use serde::{Deserialize, Serialize};

use crate::nearer::nearer;

/// The hardest share of the positive pairs of a whole batch, and of its negative pairs.
///
/// ```text
/// ⌈fraction · #⌉ farthest of the # positive pairs, ⌈fraction · #⌉ nearest of the # negative pairs
/// ```
///
/// Of equally far pairs the first are taken. In the paper a cascade of networks learns from ever fewer pairs, each from the
/// hardest of those that the one before it took. Here each of them has this miner with a fraction of its own, and what one
/// took is shown to the next as [listed pairs](nearfar_core::Relation::Listed).
///
/// Source: Yuan, Yang, Zhang, "Hard-aware deeply cascaded embedding", ICCV 2017, <https://arxiv.org/abs/1611.05720>. Agrees
/// with `HDCMiner` of pytorch-metric-learning 2.9, whose ties are in no fixed order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Hdc {
    /// Which share is taken.
    pub fraction: Fraction,
}

impl Default for Hdc {
    /// Half of them, as the peer has it; the paper's cascade has 1, 0.5 and 0.2.
    fn default() -> Self {
        Self {
            fraction: Fraction::literal(0.5),
        }
    }
}

impl Hdc {
    /// The first of a share of some pairs by an order that is told by `before`; row-major.
    fn hardest(
        &self,
        mut pairs: Vec<(u32, Candidate)>,
        before: impl Fn(f64, f64) -> bool,
    ) -> Pairs {
        let count = (self.fraction.get() * pairs.len() as f64).ceil() as usize;
        pairs.sort_by(|(_, a), (_, b)| {
            // Stable, so that of equals the first come first.
            before(b.distance, a.distance).cmp(&before(a.distance, b.distance))
        });
        pairs.truncate(count);
        pairs.sort_unstable_by_key(|(anchor, other)| (*anchor, other.index));
        pairs
            .iter()
            .map(|(anchor, it)| (*anchor, it.index))
            .collect()
    }
}

impl Stateful for Hdc {}

impl Miner for Hdc {
    fn mine(&self, candidates: &Candidates, _: &mut Rng) -> Tuples {
        let anchors = || candidates.anchors();
        let positives = anchors().flat_map(|a| candidates.positives(a).map(move |it| (a, it)));
        let negatives = anchors().flat_map(|a| candidates.negatives(a).map(move |it| (a, it)));
        Tuples::Pairs(SignedPairs {
            positive: self.hardest(positives.collect(), |a, b| nearer(b, a)),
            negative: self.hardest(negatives.collect(), nearer),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_batches::{candidates, line, mined};
    use nearfar_core::{Comparison, Purpose, Relation, Seed};

    fn hdc(fraction: f64) -> Hdc {
        Hdc {
            fraction: Fraction::new(fraction).expect("a share"),
        }
    }

    #[test]
    fn the_hardest_of_the_whole_batch_are_taken_and_of_equals_the_first() {
        let rows = line(&[0.0, 1.0, 3.0, 10.0, 5.0], &[0, 0, 0, 1, 1]);
        // Positives: 0–1 at 1, 0–2 at 3, 1–2 at 2, 3–4 at 5. Negatives: the nearest are 2–4 at 2 and 1–4 at 4.
        let pairs = mined(&hdc(0.4), &rows).into_pairs();
        let positive: Vec<_> = pairs.positive.iter().collect();
        assert_eq!(positive, [(0, 2), (2, 0), (3, 4), (4, 3)], "⌈0.4 · 8⌉ = 4");
        let negative: Vec<_> = pairs.negative.iter().collect();
        assert_eq!(
            negative,
            [(0, 4), (1, 4), (2, 4), (4, 1), (4, 2)],
            "⌈0.4 · 12⌉ = 5"
        );
        assert!(mined(&hdc(0.0), &rows).into_pairs().is_empty());
        assert_eq!(mined(&hdc(1.0), &rows).into_pairs().len(), 20);
    }

    #[test]
    fn a_chain_of_them_takes_the_hardest_of_the_hardest() {
        let rows = line(&[0.0, 1.0, 3.0, 10.0, 5.0], &[0, 0, 0, 1, 1]);
        let first = mined(&hdc(0.4), &rows).into_pairs();
        let listed = Comparison {
            relation: Relation::Listed(&first),
            ..Comparison::within(&rows)
        };
        let distances: Vec<f64> = candidates(&rows)
            .anchors()
            .flat_map(|a| (0..5).map(move |b| (a, b)))
            .map(|(a, b)| candidates(&rows).distance(a, b))
            .collect();
        let distances = candle_core::Tensor::from_vec(distances, (5, 5), &candle_core::Device::Cpu)
            .expect("square");
        let shown = Candidates::new(&distances, &listed, "test").expect("listed");
        let second = hdc(0.5).mine(&shown, &mut Seed(0).rng(Purpose::Mining, 0));
        let second = second.into_pairs();
        assert_eq!(second.positive.iter().collect::<Vec<_>>(), [(3, 4), (4, 3)]);
        let negative: Vec<_> = second.negative.iter().collect();
        assert_eq!(negative, [(1, 4), (2, 4), (4, 2)]);
    }
}
