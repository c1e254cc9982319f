//! Pairs on the wrong side of a margin.

use nearfar_core::{Candidates, Finite, Miner, Rng, SignedPairs, Stateful, Tuples};
use serde::{Deserialize, Serialize};

/// Positives that are farther than a margin, and negatives that are nearer than another.
///
/// ```text
/// positive (a, p) if d(a, p) > positive_margin
/// negative (a, n) if d(a, n) < negative_margin
/// ```
///
/// With the margins of a contrastive loss it takes the pairs that loss has something to say to. A loss of similarities
/// shows its miner the distances `−s`: of it a similarity of 0.8 is the margin −0.8.
///
/// Agrees with `PairMarginMiner` of pytorch-metric-learning 2.9.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PairMargin {
    /// Positives beyond it are taken. In units of the distance.
    pub positive_margin: Finite,
    /// Negatives within it are taken. In units of the distance.
    pub negative_margin: Finite,
}

impl Default for PairMargin {
    /// The peer's values, for rows of length 1.
    fn default() -> Self {
        Self {
            positive_margin: Finite::literal(0.2),
            negative_margin: Finite::literal(0.8),
        }
    }
}

impl Stateful for PairMargin {}

impl Miner for PairMargin {
    fn mine(&self, candidates: &Candidates, _: &mut Rng) -> Tuples {
        let mut pairs = SignedPairs::default();
        for anchor in candidates.anchors() {
            for positive in candidates.positives(anchor) {
                if positive.distance > self.positive_margin.get() {
                    pairs.positive.push(anchor, positive.index);
                }
            }
            for negative in candidates.negatives(anchor) {
                if negative.distance < self.negative_margin.get() {
                    pairs.negative.push(anchor, negative.index);
                }
            }
        }
        Tuples::Pairs(pairs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_batches::{f8, line, mined};

    #[test]
    fn pairs_at_the_margin_are_left_out() {
        let rows = line(&[0.0, 1.0, 0.5, 2.0], &[0, 0, 1, 1]);
        let margin = Finite::literal;
        let miner = PairMargin {
            positive_margin: margin(1.0),
            negative_margin: margin(1.0),
        };
        let pairs = mined(&miner, &rows).into_pairs();
        // Positives at 1 and 1.5, negatives at 0.5 (twice each way), 1 and 2.
        let positive: Vec<_> = pairs.positive.iter().collect();
        assert_eq!(positive, [(2, 3), (3, 2)]);
        let negative: Vec<_> = pairs.negative.iter().collect();
        assert_eq!(negative, [(0, 2), (1, 2), (2, 0), (2, 1)]);
    }

    #[test]
    fn the_reference_batch_is_mined_as_by_the_peer() {
        let pairs = mined(&PairMargin::default(), &f8()).into_pairs();
        assert_eq!((pairs.positive.len(), pairs.negative.len()), (14, 12));
    }
}
