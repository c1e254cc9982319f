//! Triplets by how well they keep a margin.

use nearfar_core::{Candidates, Miner, NonNegative, Rng, Stateful, Triplets, Tuples};
use serde::{Deserialize, Serialize};

/// Triplets of one difficulty, by how much farther the negative is than the positive.
///
/// ```text
/// gap(a, p, n) = d(a, n) − d(a, p)
/// violating  gap ≤ margin
/// hard       gap ≤ 0
/// semi_hard  0 < gap ≤ margin
/// easy       gap > margin
/// ```
///
/// They come in the order of all triplets: anchor outermost, then positive, then negative. A gap that is not a number is
/// not easy, so bad rows stay in sight.
///
/// Agrees with `TripletMarginMiner` of pytorch-metric-learning 2.9, where `violating` is called `all`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TripletMargin {
    /// In units of the distance.
    pub margin: NonNegative,
    /// Which triplets are taken.
    pub difficulty: Difficulty,
}

/// How well a triplet keeps the margin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Difficulty {
    /// It does not: hard or semi-hard.
    #[default]
    Violating,
    /// The negative is no farther than the positive.
    Hard,
    /// The negative is farther, but by no more than the margin.
    SemiHard,
    /// It does.
    Easy,
}

impl Difficulty {
    /// Whether a triplet with this gap is of it.
    pub(crate) fn holds(self, gap: f64, margin: f64) -> bool {
        let easy = gap > margin;
        match self {
            Self::Violating => !easy,
            Self::Hard => gap <= 0.0 || gap.is_nan(),
            Self::SemiHard => gap > 0.0 && !easy,
            Self::Easy => easy,
        }
    }
}

impl Default for TripletMargin {
    /// All that violate the margin of FaceNet.
    fn default() -> Self {
        Self {
            margin: NonNegative::literal(0.2),
            difficulty: Difficulty::Violating,
        }
    }
}

impl Stateful for TripletMargin {}

impl Miner for TripletMargin {
    fn mine(&self, candidates: &Candidates, _: &mut Rng) -> Tuples {
        let margin = self.margin.get();
        let mut triplets = Triplets::default();
        for anchor in candidates.anchors() {
            for positive in candidates.positives(anchor) {
                for negative in candidates.negatives(anchor) {
                    let gap = negative.distance - positive.distance;
                    if self.difficulty.holds(gap, margin) {
                        triplets.push(anchor, positive.index, negative.index);
                    }
                }
            }
        }
        Tuples::Triplets(triplets)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_batches::{f8, line, mined};

    fn count(difficulty: Difficulty, margin: f64, rows: &nearfar_core::Embeddings) -> Vec<u32> {
        let margin = NonNegative::new(margin).expect("0 or greater");
        let triplets = mined(&TripletMargin { margin, difficulty }, rows).into_triplets();
        triplets
            .iter()
            .filter(|triplet| triplet.0 == 0)
            .map(|triplet| triplet.2)
            .collect()
    }

    #[test]
    fn gaps_at_the_bounds_belong_to_the_harder_side() {
        // The anchor 0 has its positive at 1, and negatives at 0.5, 1, 1.5, 2 and 3.
        let rows = line(
            &[0.0, 1.0, 0.5, -1.0, 1.5, 2.0, 3.0],
            &[0, 0, 1, 2, 3, 4, 5],
        );
        assert_eq!(count(Difficulty::Hard, 1.0, &rows), [2, 3]);
        assert_eq!(count(Difficulty::SemiHard, 1.0, &rows), [4, 5]);
        assert_eq!(count(Difficulty::Easy, 1.0, &rows), [6]);
        assert_eq!(count(Difficulty::Violating, 1.0, &rows), [2, 3, 4, 5]);
    }

    #[test]
    fn the_reference_batch_is_mined_as_by_the_peer() {
        let all = mined(&TripletMargin::default(), &f8()).into_triplets();
        assert_eq!(all.len(), 41);
    }
}
