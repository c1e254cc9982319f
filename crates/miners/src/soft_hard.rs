//! Any that are hard.

use nearfar_core::{Candidate, Candidates, Miner, Rng, Stateful, Triplets, Tuples};
use serde::{Deserialize, Serialize};

use crate::nearer::{farthest, nearest};

/// For each anchor, any hard positive and any hard negative.
///
/// ```text
/// positive  any of those farther than the nearest negative; any at all where there is none
/// negative  any of those nearer than the farthest positive; any at all where there is none
/// ```
///
/// Draws are even. An anchor without a positive or without a negative gives nothing. Where
/// [`BatchHard`](crate::BatchHard) would always see the same row, perhaps a wrongly labeled one, this sees all that are hard.
///
/// Source: Roth, Milbich, Sinha, Gupta, Ommer, Cohen, "Revisiting training strategies and generalization performance in deep
/// metric learning", ICML 2020, <https://arxiv.org/abs/2002.08473>.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SoftHard {}

/// One of the hard, or one of all.
fn draw(
    all: impl Iterator<Item = Candidate> + Clone,
    is_hard: impl Fn(f64) -> bool,
    rng: &mut Rng,
) -> Option<Candidate> {
    let hard: Vec<Candidate> = all.clone().filter(|it| is_hard(it.distance)).collect();
    match rng.choose(&hard) {
        Some(&one) => Some(one),
        None => rng.choose(&all.collect::<Vec<_>>()).copied(),
    }
}

impl Stateful for SoftHard {}

impl Miner for SoftHard {
    fn mine(&self, candidates: &Candidates, rng: &mut Rng) -> Tuples {
        let mut triplets = Triplets::default();
        for anchor in candidates.anchors() {
            let (positives, negatives) =
                (candidates.positives(anchor), candidates.negatives(anchor));
            let (Some(far), Some(near)) = (farthest(positives.clone()), nearest(negatives.clone()))
            else {
                continue;
            };
            let positive = draw(positives, |distance| distance > near.distance, rng);
            let negative = draw(negatives, |distance| distance < far.distance, rng);
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
    use crate::test_batches::{line, mined_with};

    #[test]
    fn every_hard_row_is_drawn_and_where_there_is_none_any() {
        // The anchor 0 has positives at 1, 2 and 4, of which 2 and 4 are farther than its nearest negative, and negatives at
        // 1.5, 3 and 5, of which 1.5 and 3 are nearer than its farthest positive. The row 6 is at 50 with row 7 at 50.5.
        let rows = line(
            &[0.0, 1.0, 2.0, 4.0, 1.5, 3.0, 50.0, 50.5],
            &[0, 0, 0, 0, 1, 1, 2, 2],
        );
        let (mut first, mut easy) = (Vec::new(), Vec::new());
        for seed in 0..100 {
            let triplets = mined_with(&SoftHard {}, &rows, seed).into_triplets();
            assert_eq!(triplets.len(), 8);
            first.extend(
                triplets
                    .iter()
                    .filter(|it| it.0 == 0)
                    .map(|(_, p, n)| (p, n)),
            );
            easy.extend(
                triplets
                    .iter()
                    .filter(|it| it.0 == 6)
                    .map(|(_, p, n)| (p, n)),
            );
        }
        first.sort_unstable();
        first.dedup();
        assert_eq!(first, [(2, 4), (2, 5), (3, 4), (3, 5)]);
        easy.sort_unstable();
        easy.dedup();
        assert_eq!(easy, (0..6).map(|n| (7, n)).collect::<Vec<_>>());
    }
}
