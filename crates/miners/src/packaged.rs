//! Triplets as they came.

use nearfar_core::{Candidates, Miner, Rng, Stateful, Triplets, Tuples};
use serde::{Deserialize, Serialize};

/// Rows that came packaged as triplets: 3k is an anchor, 3k + 1 its positive and 3k + 2 its negative.
///
/// For data whose only ground truth are triplets, as the sampler `fixed_triplets` makes them: places count, and labels do
/// not. Rows left over at the end are in no triplet. Of two sets there is no order of rows to go by, and nothing is taken.
///
/// Agrees with `EmbeddingsAlreadyPackagedAsTriplets` of pytorch-metric-learning 2.9, which of a batch with one or two rows
/// left over makes lists of two lengths.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Packaged {}

impl Stateful for Packaged {}

impl Miner for Packaged {
    fn mine(&self, candidates: &Candidates, _: &mut Rng) -> Tuples {
        let whole = candidates.anchors().end / 3;
        let triplets = (0..whole)
            .filter(|_| candidates.is_within())
            .map(|triplet| (3 * triplet, 3 * triplet + 1, 3 * triplet + 2));
        Tuples::Triplets(Triplets::from_iter(triplets))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_batches::{line, mined};

    #[test]
    fn places_count_and_what_is_left_over_is_left_out() {
        let rows = line(&[0.0; 8], &[0, 1, 2, 3, 4, 5, 6, 7]);
        let triplets = mined(&Packaged {}, &rows).into_triplets();
        assert_eq!(triplets.iter().collect::<Vec<_>>(), [(0, 1, 2), (3, 4, 5)]);
    }
}
