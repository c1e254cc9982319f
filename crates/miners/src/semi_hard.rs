//! Triplets whose negative is farther than the positive, but not by the margin.

use nearfar_core::{Candidate, Candidates, Miner, NonNegative, Rng, Stateful, Triplets, Tuples};
use serde::{Deserialize, Serialize};

use crate::nearer::nearest;
use crate::triplet_margin::Difficulty;

/// Triplets whose negative is farther than the positive, but by no more than a margin.
///
/// ```text
/// 0 < d(a, n) − d(a, p) ≤ margin
/// ```
///
/// The field reads "semi-hard" in two ways, and this is both. By default all such triplets are taken, as by
/// `TripletMarginMiner(type_of_triplets="semihard")` of pytorch-metric-learning 2.9. With `one_per_pair`, each pair of
/// anchor and positive has one negative, as in the paper; a pair without a semi-hard negative gives nothing.
///
/// Source: Schroff, Kalenichenko, Philbin, "FaceNet", CVPR 2015, <https://arxiv.org/abs/1503.03832>, section 3.2.
///
/// Choose it to begin with: unlike the hardest triplets, these do not pull a fresh network to one point. Its margin is
/// that of the loss.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SemiHard {
    /// In units of the distance.
    pub margin: NonNegative,
    /// Which negative stands for a pair; all of them if left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub one_per_pair: Option<OnePerPair>,
}

/// Which semi-hard negative stands for a pair of anchor and positive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnePerPair {
    /// The nearest; of several the first.
    Nearest,
    /// Any, evenly.
    Random,
}

impl Default for SemiHard {
    /// The margin of the paper, and all triplets.
    fn default() -> Self {
        Self {
            margin: NonNegative::literal(0.2),
            one_per_pair: None,
        }
    }
}

impl Stateful for SemiHard {}

impl Miner for SemiHard {
    fn mine(&self, candidates: &Candidates, rng: &mut Rng) -> Tuples {
        let margin = self.margin.get();
        let mut triplets = Triplets::default();
        let mut semi_hard: Vec<Candidate> = Vec::new();
        for anchor in candidates.anchors() {
            for positive in candidates.positives(anchor) {
                semi_hard.clear();
                semi_hard.extend(candidates.negatives(anchor).filter(|negative| {
                    Difficulty::SemiHard.holds(negative.distance - positive.distance, margin)
                }));
                let chosen = match self.one_per_pair {
                    None => {
                        for negative in &semi_hard {
                            triplets.push(anchor, positive.index, negative.index);
                        }
                        None
                    }
                    Some(OnePerPair::Nearest) => nearest(semi_hard.iter().copied()),
                    Some(OnePerPair::Random) => rng.choose(&semi_hard).copied(),
                };
                if let Some(negative) = chosen {
                    triplets.push(anchor, positive.index, negative.index);
                }
            }
        }
        Tuples::Triplets(triplets)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_batches::{f8, line, mined, mined_with};

    #[test]
    fn both_readings_take_from_the_same_triplets() {
        let rows = line(&[0.0, 1.0, 1.15, 1.1, 9.0, 0.5], &[0, 0, 1, 2, 3, 4]);
        let of = |one_per_pair: Option<OnePerPair>, seed: u64| {
            let miner = SemiHard {
                one_per_pair,
                ..SemiHard::default()
            };
            let triplets = mined_with(&miner, &rows, seed).into_triplets();
            triplets.iter().filter(|it| it.0 == 0).collect::<Vec<_>>()
        };
        assert_eq!(of(None, 0), [(0, 1, 2), (0, 1, 3)]);
        assert_eq!(of(Some(OnePerPair::Nearest), 0), [(0, 1, 3)]);
        let drawn: Vec<u32> = (0..40)
            .flat_map(|seed| of(Some(OnePerPair::Random), seed))
            .map(|triplet| triplet.2)
            .collect();
        assert_eq!(drawn.len(), 40, "one for the pair, each time");
        assert!(drawn.contains(&2) && drawn.contains(&3));
    }

    #[test]
    fn the_reference_batch_is_mined_as_by_the_peer() {
        let triplets = mined(&SemiHard::default(), &f8()).into_triplets();
        assert_eq!(
            triplets.iter().collect::<Vec<_>>(),
            [
                (0, 1, 3),
                (2, 3, 5),
                (4, 5, 2),
                (4, 5, 6),
                (5, 4, 0),
                (5, 4, 2),
                (5, 7, 6),
                (6, 0, 7)
            ]
        );
    }
}
