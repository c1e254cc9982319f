//! The hardest negative with a positive that is not too hard.

use nearfar_core::{Candidates, Miner, Rng, Stateful, Triplets, Tuples};
use serde::{Deserialize, Serialize};

use crate::nearer::{farthest, nearest};

/// For each anchor, its nearest negative with the farthest of the positives that are nearer than it.
///
/// Where no positive is nearer than the negative, the nearest positive is taken. So a class that lies on a curved surface is
/// pulled together along it, and not straight through what is between. An anchor without a positive or without a negative
/// gives nothing; of equally far rows the first is taken.
///
/// Source: Shi, Yang, Zhu, Liao, Lei, Zheng, Li, "Embedding deep metric for person re-identification: a study against large
/// variations", ECCV 2016, <https://arxiv.org/abs/1611.00137>, section 3.1.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ModeratePositive {}

impl Stateful for ModeratePositive {}

impl Miner for ModeratePositive {
    fn mine(&self, candidates: &Candidates, _: &mut Rng) -> Tuples {
        let mut triplets = Triplets::default();
        for anchor in candidates.anchors() {
            let Some(negative) = nearest(candidates.negatives(anchor)) else {
                continue;
            };
            let positives = candidates.positives(anchor);
            let moderate = positives
                .clone()
                .filter(|it| it.distance < negative.distance);
            if let Some(positive) = farthest(moderate).or_else(|| nearest(positives)) {
                triplets.push(anchor, positive.index, negative.index);
            }
        }
        Tuples::Triplets(triplets)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_batches::{line, mined};

    #[test]
    fn positives_beyond_the_negative_are_left_for_later() {
        let rows = line(&[0.0, 1.0, 2.0, 4.0, 3.0, -9.0], &[0, 0, 0, 0, 1, 1]);
        let triplets = mined(&ModeratePositive {}, &rows).into_triplets();
        let found: Vec<_> = triplets.iter().collect();
        assert_eq!(
            found[0],
            (0, 2, 4),
            "2 is nearer than the negative at 3, and 4 is not"
        );
        assert_eq!(found[3], (3, 2, 4), "none is nearer than 1, so the nearest");
        assert_eq!(found[5], (5, 4, 0));
    }
}
