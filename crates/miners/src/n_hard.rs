//! Several of the hardest.

use nearfar_core::{Candidate, Candidates, Miner, Rng, Stateful, Triplets, Tuples};
use serde::{Deserialize, Serialize};

use crate::Ranks;
use crate::nearer::nearer;

/// For each anchor, positives by how far they are with negatives by how near they are, from one rank to another.
///
/// Every positive of the ranks is taken with every negative of the ranks. With both ranks `[1, 1]` it is
/// [`BatchHard`](crate::BatchHard); with `negatives = [3, 10]` it leaves out the two hardest, which in noisy data are often
/// wrongly labeled. Of equally far rows the first has the first rank; where there are fewer rows than ranks, those that are
/// there are taken.
///
/// As `NHardTripletsMiner` of open-metric-learning 4.0.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NHard {
    /// Ranks of the positives; the farthest is 1.
    pub positives: Ranks,
    /// Ranks of the negatives; the nearest is 1.
    pub negatives: Ranks,
}

impl Default for NHard {
    /// The peer's values: the hardest of each.
    fn default() -> Self {
        Self {
            positives: Ranks::HARDEST,
            negatives: Ranks::HARDEST,
        }
    }
}

/// The indices of some ranks in an order, ascending.
fn ranked(
    candidates: impl Iterator<Item = Candidate>,
    ranks: Ranks,
    before: impl Fn(f64, f64) -> bool,
) -> Vec<u32> {
    let mut all: Vec<Candidate> = candidates.collect();
    // Stable, so that of equals the first come first.
    all.sort_by(|a, b| before(b.distance, a.distance).cmp(&before(a.distance, b.distance)));
    let mut taken: Vec<u32> = ranks.of(&all).iter().map(|it| it.index).collect();
    taken.sort_unstable();
    taken
}

impl Stateful for NHard {}

impl Miner for NHard {
    fn mine(&self, candidates: &Candidates, _: &mut Rng) -> Tuples {
        let mut triplets = Triplets::default();
        for anchor in candidates.anchors() {
            let farther = |a, b| nearer(b, a);
            let positives = ranked(candidates.positives(anchor), self.positives, farther);
            let negatives = ranked(candidates.negatives(anchor), self.negatives, nearer);
            for &positive in &positives {
                for &negative in &negatives {
                    triplets.push(anchor, positive, negative);
                }
            }
        }
        Tuples::Triplets(triplets)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::BatchHard;
    use crate::test_batches::{f8, line, mined};

    #[test]
    fn ranks_are_counted_from_the_hardest() {
        let rows = line(&[0.0, 1.0, 2.0, 4.0, 0.5, 3.0, 5.0], &[0, 0, 0, 0, 1, 2, 3]);
        let ranks = |first, last| Ranks::new(first, last).expect("in order");
        let of_the_first = |positives, negatives| {
            let miner = NHard {
                positives,
                negatives,
            };
            let triplets = mined(&miner, &rows).into_triplets();
            let first = triplets.iter().filter(|it| it.0 == 0);
            first.map(|(_, p, n)| (p, n)).collect::<Vec<_>>()
        };
        let two = of_the_first(ranks(2, 3), ranks(1, 2));
        assert_eq!(two, [(1, 4), (1, 5), (2, 4), (2, 5)]);
        assert_eq!(of_the_first(ranks(1, 1), ranks(3, 9)), [(3, 6)]);
        assert_eq!(of_the_first(ranks(4, 5), ranks(1, 1)), []);
    }

    #[test]
    fn the_first_rank_alone_is_batch_hard() {
        let hardest = mined(&NHard::default(), &f8());
        assert_eq!(hardest, mined(&BatchHard {}, &f8()));
    }
}
