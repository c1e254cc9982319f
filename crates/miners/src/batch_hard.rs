//! The hardest triplet of each anchor.

use nearfar_core::{Candidates, Miner, Rng, Stateful, Triplets, Tuples};
use serde::{Deserialize, Serialize};

use crate::nearer::{farthest, nearest};

/// For each anchor, its farthest positive and its nearest negative.
///
/// An anchor without a positive or without a negative gives nothing; of equally far rows the first is taken.
///
/// Source: Hermans, Beyer, Leibe, "In defense of the triplet loss for person re-identification", 2017,
/// <https://arxiv.org/abs/1703.07737>. Agrees with `BatchHardMiner` of pytorch-metric-learning 2.9.
///
/// Choose it for clean labels: one wrong label is the hardest of all. With a fresh network it may pull everything to one
/// point; then begin with [`SemiHard`](crate::SemiHard), or take the smooth form of the loss.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BatchHard {}

impl Stateful for BatchHard {}

impl Miner for BatchHard {
    fn mine(&self, candidates: &Candidates, _: &mut Rng) -> Tuples {
        let mut triplets = Triplets::default();
        for anchor in candidates.anchors() {
            let positive = farthest(candidates.positives(anchor));
            let negative = nearest(candidates.negatives(anchor));
            if let (Some(positive), Some(negative)) = (positive, negative) {
                triplets.push(anchor, positive.index, negative.index);
            }
        }
        Tuples::Triplets(triplets)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_batches::{f8, line, mined};

    #[test]
    fn each_anchor_gives_its_hardest_triplet() {
        let rows = line(&[0.0, 1.0, 3.0, 2.0, 9.0], &[0, 0, 0, 1, 2]);
        let triplets = mined(&BatchHard {}, &rows).into_triplets();
        assert_eq!(
            triplets.iter().collect::<Vec<_>>(),
            [(0, 2, 3), (1, 2, 3), (2, 0, 3)]
        );
    }

    #[test]
    fn the_reference_batch_is_mined_as_by_the_peer() {
        let triplets = mined(&BatchHard {}, &f8()).into_triplets();
        assert_eq!(triplets.anchors(), [0, 1, 2, 3, 4, 5, 6, 7]);
        assert_eq!(triplets.positives(), [1, 0, 3, 2, 7, 4, 1, 4]);
        assert_eq!(triplets.negatives(), [2, 2, 0, 6, 0, 6, 5, 3]);
    }
}
