//! Pairs that are hard against the hardest of the other sign.

use nearfar_core::{Candidates, Miner, NonNegative, Rng, SignedPairs, Stateful, Tuples};
use serde::{Deserialize, Serialize};

use crate::nearer::{farthest, nearest};

/// Positives that are no nearer than the nearest negative, and negatives that are no farther than the farthest positive,
/// by a margin.
///
/// ```text
/// positive (a, p) if d(a, p) + epsilon > min over negatives of d(a, n)
/// negative (a, n) if d(a, n) − epsilon < max over positives of d(a, p)
/// ```
///
/// An anchor without negatives gives no positive pair, one without positives no negative pair. The paper says it with
/// cosine similarities, `s = −d`; a loss of similarities shows its miner their negatives, so `epsilon` keeps its unit.
///
/// Source: Wang et al., "Multi-similarity loss with general pair weighting for deep metric learning", CVPR 2019,
/// <https://arxiv.org/abs/1904.06627>, equations 12 and 13. Agrees with `MultiSimilarityMiner` of pytorch-metric-learning
/// 2.9.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MultiSimilarity {
    /// How much easier than the hardest of the other sign a pair may be, in units of the distance.
    pub epsilon: NonNegative,
}

impl Default for MultiSimilarity {
    /// The paper's 0.1.
    fn default() -> Self {
        Self {
            epsilon: NonNegative::literal(0.1),
        }
    }
}

impl Stateful for MultiSimilarity {}

impl Miner for MultiSimilarity {
    fn mine(&self, candidates: &Candidates, _: &mut Rng) -> Tuples {
        let epsilon = self.epsilon.get();
        let mut pairs = SignedPairs::default();
        for anchor in candidates.anchors() {
            if let Some(hardest) = nearest(candidates.negatives(anchor)) {
                for positive in candidates.positives(anchor) {
                    if positive.distance + epsilon > hardest.distance {
                        pairs.positive.push(anchor, positive.index);
                    }
                }
            }
            if let Some(hardest) = farthest(candidates.positives(anchor)) {
                for negative in candidates.negatives(anchor) {
                    if negative.distance - epsilon < hardest.distance {
                        pairs.negative.push(anchor, negative.index);
                    }
                }
            }
        }
        Tuples::Pairs(pairs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_batches::{f8, line, mined, mined_by_cosine};

    #[test]
    fn pairs_are_compared_with_the_hardest_of_the_other_sign() {
        let rows = line(&[0.0, 1.0, 1.05, 4.0], &[0, 0, 1, 1]);
        let pairs = mined(&MultiSimilarity::default(), &rows).into_pairs();
        // The anchor 0 has its positive at 1 and its negatives at 1.05 and 4, the anchor 3 its at 2.95 and at 3 and 4.
        assert_eq!(
            pairs.positive.iter().collect::<Vec<_>>(),
            [(0, 1), (1, 0), (2, 3), (3, 2)]
        );
        assert_eq!(
            pairs.negative.iter().collect::<Vec<_>>(),
            [(0, 2), (1, 2), (2, 0), (2, 1), (3, 1)]
        );
    }

    #[test]
    fn the_reference_batch_is_mined_as_by_the_peer() {
        let pairs = mined_by_cosine(&MultiSimilarity::default(), &f8()).into_pairs();
        assert_eq!((pairs.positive.len(), pairs.negative.len()), (13, 26));
    }
}
