//! Pairs of all distances alike.

use std::num::NonZeroUsize;

use nearfar_core::{Candidate, Candidates, Miner, Pairs, Rng, SignedPairs, Stateful, Tuples};
use serde::{Deserialize, Serialize};

/// Pairs drawn so that every distance that occurs is seen alike.
///
/// The positive distances of a batch, from the least to the greatest, are divided into bins of one width. From each bin
/// that is not empty, pairs are drawn evenly and with replacement; of the negative ones the same. Pairs come row by row. One
/// whose distance is not finite belongs to no bin.
///
/// Agrees with `UniformHistogramMiner` of pytorch-metric-learning 2.9 in its bins.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct UniformHistogram {
    /// How many bins each sign has.
    pub bins: NonZeroUsize,
    /// How many positive pairs are drawn from a bin.
    pub positives_per_bin: usize,
    /// How many negative pairs are drawn from a bin.
    pub negatives_per_bin: usize,
}

impl Default for UniformHistogram {
    /// The peer's values.
    fn default() -> Self {
        Self {
            bins: NonZeroUsize::new(100).expect("it is 100"),
            positives_per_bin: 10,
            negatives_per_bin: 10,
        }
    }
}

impl UniformHistogram {
    /// The bounds of the bins over some distances, one more than there are bins; empty where no distance is finite.
    ///
    /// ```
    /// use nearfar_miners::UniformHistogram;
    ///
    /// let miner = UniformHistogram { bins: 4.try_into()?, ..UniformHistogram::default() };
    /// assert_eq!(miner.edges(&[3.0, 1.0, 1.5]), [1.0, 1.5, 2.0, 2.5, 3.0]);
    /// assert_eq!(miner.counts(&[3.0, 1.0, 1.5]), [1, 1, 0, 1]);
    /// # Ok::<(), std::num::TryFromIntError>(())
    /// ```
    pub fn edges(&self, distances: &[f64]) -> Vec<f64> {
        let finite = || distances.iter().copied().filter(|it| it.is_finite());
        let (Some(least), Some(greatest)) = (finite().reduce(f64::min), finite().reduce(f64::max))
        else {
            return Vec::new();
        };
        let bins = self.bins.get();
        let step = match (greatest - least) / bins as f64 {
            step if step.is_finite() => step,
            _ => greatest / bins as f64 - least / bins as f64, // Their difference is too large for a number.
        };
        // From both ends, as torch does it.
        let edge = |place: usize| match place < bins.div_ceil(2) {
            true => least + step * place as f64,
            false => greatest - step * (bins - place) as f64,
        };
        (0..=bins).map(edge).collect()
    }

    /// How many of some distances are in each bin.
    pub fn counts(&self, distances: &[f64]) -> Vec<usize> {
        let edges = self.edges(distances);
        let mut counts = vec![0; self.bins.get()];
        for &distance in distances {
            if let Some(bin) = self.bin(&edges, distance) {
                counts[bin] += 1;
            }
        }
        counts
    }

    /// The bin of a distance: from its lower bound to below the next one, which the last bin includes.
    fn bin(&self, edges: &[f64], distance: f64) -> Option<usize> {
        if !distance.is_finite() {
            return None;
        }
        let reached = edges.partition_point(|&edge| edge <= distance);
        Some(reached.saturating_sub(1).min(self.bins.get() - 1))
    }

    /// So many pairs of each bin.
    fn draw(&self, pairs: &[(u32, Candidate)], per_bin: usize, rng: &mut Rng) -> Pairs {
        let distances: Vec<f64> = pairs.iter().map(|(_, it)| it.distance).collect();
        let edges = self.edges(&distances);
        let mut bins: Vec<Vec<(u32, u32)>> = vec![Vec::new(); self.bins.get()];
        for (anchor, it) in pairs {
            if let Some(bin) = self.bin(&edges, it.distance) {
                bins[bin].push((*anchor, it.index));
            }
        }
        let mut drawn: Vec<(u32, u32)> = Vec::new();
        for bin in bins.iter().filter(|bin| !bin.is_empty()) {
            drawn.extend((0..per_bin).map(|_| bin[rng.below(bin.len())]));
        }
        drawn.sort_unstable();
        drawn.into_iter().collect()
    }
}

impl Stateful for UniformHistogram {}

impl Miner for UniformHistogram {
    fn mine(&self, candidates: &Candidates, rng: &mut Rng) -> Tuples {
        let (mut positives, mut negatives) = (Vec::new(), Vec::new());
        for anchor in candidates.anchors() {
            positives.extend(candidates.positives(anchor).map(|it| (anchor, it)));
            negatives.extend(candidates.negatives(anchor).map(|it| (anchor, it)));
        }
        Tuples::Pairs(SignedPairs {
            positive: self.draw(&positives, self.positives_per_bin, rng),
            negative: self.draw(&negatives, self.negatives_per_bin, rng),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_batches::{line, mined_with};

    #[test]
    fn each_bin_that_is_not_empty_gives_as_many() {
        let rows = line(&[0.0, 1.0, 1.1, 1.2, 5.0], &[0, 0, 0, 0, 0]);
        let miner = UniformHistogram {
            bins: NonZeroUsize::new(5).expect("some"),
            positives_per_bin: 300,
            negatives_per_bin: 2,
        };
        // From 0.1 to 5 in steps of 0.98: 0.1 and 0.2 (6 pairs) with 1 (2); 1.1 and 1.2 (4); none; 3.8, 3.9 and 4 (6) up to
        // 4.02; 5 (2).
        let pairs = mined_with(&miner, &rows, 3).into_pairs();
        assert_eq!(pairs.positive.len(), 4 * 300);
        assert!(pairs.negative.is_empty());
        assert!(pairs.positive.iter().collect::<Vec<_>>().is_sorted());
        let between_0_and_4 = pairs
            .positive
            .iter()
            .filter(|&pair| pair == (0, 4) || pair == (4, 0));
        assert_eq!(between_0_and_4.count(), 300);
    }

    #[test]
    fn equal_distances_are_one_bin_and_infinite_ones_none() {
        let miner = UniformHistogram::default();
        assert_eq!(miner.counts(&[2.0, 2.0])[99], 2);
        assert_eq!(miner.counts(&[f64::INFINITY, f64::NAN]), [0; 100]);
        let counts = miner.counts(&[-f64::MAX, f64::MAX, 0.0]);
        assert_eq!((counts[0], counts.iter().sum::<usize>()), (1, 3));
    }
}
