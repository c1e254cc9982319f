//! Anything, evenly.

use std::num::NonZeroUsize;

use nearfar_core::{Candidate, Candidates, Miner, Rng, SignedPairs, Stateful, Triplets, Tuples};
use serde::{Deserialize, Serialize};

/// For each anchor, some positives and as many negatives, drawn evenly and with replacement.
///
/// An anchor without a positive or without a negative gives nothing. As pairs there is one negative for each positive, so
/// that a batch's many negatives do not drown its positives.
///
/// As triplets it draws like `t_per_anchor` of pytorch-metric-learning 2.9.
///
/// Choose it as the baseline that another miner has to beat.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Random {
    /// How many are drawn for each anchor.
    pub per_anchor: NonZeroUsize,
    /// What they are drawn as.
    pub shape: Shape,
}

/// What tuples are made of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Shape {
    /// An anchor with a positive and a negative.
    #[default]
    Triplets,
    /// An anchor with a positive, and an anchor with a negative, in lists of one length.
    Pairs,
}

impl Default for Random {
    /// One triplet for each anchor: there is no paper to follow.
    fn default() -> Self {
        Self {
            per_anchor: NonZeroUsize::MIN,
            shape: Shape::Triplets,
        }
    }
}

impl Stateful for Random {}

impl Miner for Random {
    fn mine(&self, candidates: &Candidates, rng: &mut Rng) -> Tuples {
        let (mut triplets, mut pairs) = (Triplets::default(), SignedPairs::default());
        let (mut positives, mut negatives) = (Vec::<Candidate>::new(), Vec::<Candidate>::new());
        for anchor in candidates.anchors() {
            positives.clear();
            positives.extend(candidates.positives(anchor));
            negatives.clear();
            negatives.extend(candidates.negatives(anchor));
            for _ in 0..self.per_anchor.get() {
                let (Some(positive), Some(negative)) = (
                    rng.choose(&positives).copied(),
                    rng.choose(&negatives).copied(),
                ) else {
                    break;
                };
                match self.shape {
                    Shape::Triplets => triplets.push(anchor, positive.index, negative.index),
                    Shape::Pairs => {
                        pairs.positive.push(anchor, positive.index);
                        pairs.negative.push(anchor, negative.index);
                    }
                }
            }
        }
        match self.shape {
            Shape::Triplets => Tuples::Triplets(triplets),
            Shape::Pairs => Tuples::Pairs(pairs),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_batches::{line, mined_with};

    fn random(per_anchor: usize, shape: Shape) -> Random {
        let per_anchor = NonZeroUsize::new(per_anchor).expect("some");
        Random { per_anchor, shape }
    }

    #[test]
    fn as_many_as_wanted_are_drawn_for_each_anchor_that_has_both() {
        let rows = line(&[0.0, 1.0, 2.0, 3.0], &[0, 0, 0, 1]);
        let triplets = mined_with(&random(5, Shape::Triplets), &rows, 1).into_triplets();
        assert_eq!(triplets.len(), 15); // The last row has no positive.
        let pairs = mined_with(&random(5, Shape::Pairs), &rows, 1).into_pairs();
        assert_eq!((pairs.positive.len(), pairs.negative.len()), (15, 15));
        assert_eq!(pairs.positive.anchors, pairs.negative.anchors);
    }

    #[test]
    fn draws_are_even() {
        let rows = line(&[0.0, 1.0, 2.0, 3.0, 4.0, 5.0], &[0, 0, 0, 1, 2, 3]);
        let triplets = mined_with(&random(3_000, Shape::Triplets), &rows, 7).into_triplets();
        let mut counts = [0; 6];
        for (_, positive, negative) in triplets.iter().filter(|it| it.0 == 0) {
            counts[positive as usize] += 1;
            counts[negative as usize] += 1;
        }
        // Five standard deviations: √(3000 · 1/2 · 1/2) and √(3000 · 1/3 · 2/3).
        assert!(
            counts[1..3]
                .iter()
                .all(|&count: &i32| (count - 1500).abs() < 137),
            "{counts:?}"
        );
        assert!(
            counts[3..].iter().all(|&count| (count - 1000).abs() < 130),
            "{counts:?}"
        );
    }
}
