//! Everything.

use nearfar_core::{Candidates, Miner, Rng, SignedPairs, Stateful, Tuples};
use serde::{Deserialize, Serialize};

/// Every positive and every negative pair; for a loss of triplets, every triplet.
///
/// Pairs come row by row, as everywhere. Joined by anchor they are all triplets: anchor outermost, then positive, then
/// negative.
///
/// A loss without a miner does the same. Over a batch of `n` rows there are about `n²` pairs, but up to `n³` triplets.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct All {}

impl Stateful for All {}

impl Miner for All {
    fn mine(&self, candidates: &Candidates, _: &mut Rng) -> Tuples {
        let mut pairs = SignedPairs::default();
        for anchor in candidates.anchors() {
            for positive in candidates.positives(anchor) {
                pairs.positive.push(anchor, positive.index);
            }
            for negative in candidates.negatives(anchor) {
                pairs.negative.push(anchor, negative.index);
            }
        }
        Tuples::Pairs(pairs)
    }

    fn takes_all(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_batches::{line, mined};

    #[test]
    fn everything_is_taken_once() {
        let tuples = mined(&All {}, &line(&[0.0, 1.0, 5.0], &[0, 0, 1]));
        let triplets = tuples.clone().into_triplets();
        assert_eq!(triplets.iter().collect::<Vec<_>>(), [(0, 1, 2), (1, 0, 2)]);
        let pairs = tuples.into_pairs();
        assert_eq!(pairs.positive.iter().collect::<Vec<_>>(), [(0, 1), (1, 0)]);
        assert_eq!(
            pairs.negative.iter().collect::<Vec<_>>(),
            [(0, 2), (1, 2), (2, 0), (2, 1)]
        );
    }
}
