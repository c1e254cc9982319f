//! Pairs of two samples.

use nearfar_core::{Fraction, Rng, Stateful};
use serde::{Deserialize, Serialize};

use super::{Counts, Sampler, by_class, cycle::Cycle, half, positive};
use crate::{Dataset, Error};

/// Pairs of two samples of one class, or of two classes, in fixed shares.
///
/// A batch has twice `size` rows: rows `2i` and `2i + 1` are pair `i`. The first of a pair cycles through random orders of
/// the samples that can be one (a positive pair needs a class of two); the second is uniform among those that fit. An
/// epoch has as many batches as the samples fill, at least one.
///
/// The two-tower batches of Hadsell, Chopra and LeCun, "Dimensionality reduction by learning an invariant mapping",
/// CVPR 2006.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PairSampler {
    /// Pairs a batch.
    pub size: usize,
    /// Share of the pairs that are of one class. They are spread evenly, so that every batch has its share, rounded.
    pub positive: Fraction,
    /// Batches an epoch, instead of as many as the samples fill.
    pub batches: Option<usize>,
}

impl Default for PairSampler {
    fn default() -> Self {
        Self {
            size: 64,
            positive: half(),
            batches: None,
        }
    }
}

impl PairSampler {
    pub(super) fn check(&self, counts: &Counts<'_>) -> Result<(), Error> {
        positive("sampler.pairs.size", self.size)?;
        if let Some(batches) = self.batches {
            positive("sampler.pairs.batches", batches)?;
        }
        if self.positive.get() > 0.0 && counts.counts.iter().all(|(_, count)| *count < 2) {
            return Err(Error::Settings(format!(
                "`sampler.pairs` wants pairs of one class, but all {} classes have one sample; use `positive = 0`, or other \
                 data",
                counts.counts.len()
            )));
        }
        if self.positive.get() < 1.0 && counts.counts.len() < 2 {
            return Err(Error::Settings(
                "`sampler.pairs` wants pairs of two classes, but there is one to train on; use `positive = 1`, or other data"
                    .into(),
            ));
        }
        Ok(())
    }

    pub(super) fn build(
        &self,
        _: &dyn Dataset,
        counts: &Counts<'_>,
    ) -> Result<Box<dyn Sampler>, Error> {
        self.check(counts)?;
        Ok(Box::new(self.clone()))
    }

    /// Whether pair `index` of an epoch is positive: the whole part of `positive · index + ½` grows there.
    fn is_positive(&self, index: usize) -> bool {
        let whole = |index: usize| (self.positive.get() * index as f64 + 0.5).floor();
        whole(index + 1) > whole(index)
    }
}

impl Stateful for PairSampler {}

impl Sampler for PairSampler {
    fn epoch(&self, labels: &[u32], rng: &mut Rng) -> Vec<Vec<u32>> {
        let classes = by_class(labels);
        let order: Vec<u32> = classes
            .iter()
            .flat_map(|(_, members)| members.iter().copied())
            .collect();
        // Where each class begins and ends in `order`, by class; and the class and place of each sample.
        let mut spans = Vec::with_capacity(classes.len());
        let mut places = vec![(0, 0); labels.len()];
        let mut start = 0;
        for (class, (_, members)) in classes.iter().enumerate() {
            spans.push((start, members.len()));
            for (place, &index) in members.iter().enumerate() {
                places[index as usize] = (class, start + place);
            }
            start += members.len();
        }
        let in_company = order
            .iter()
            .copied()
            .filter(|&index| spans[places[index as usize].0].1 > 1)
            .collect();
        let (mut first_of_one, mut first_of_two) =
            (Cycle::new(in_company), Cycle::new(order.clone()));

        let batches = self
            .batches
            .unwrap_or(labels.len() / (2 * self.size).max(1))
            .max(1);
        let mut pair = |index: usize| -> Option<[u32; 2]> {
            let one_class = self.is_positive(index);
            let from = if one_class {
                &mut first_of_one
            } else {
                &mut first_of_two
            };
            let first = *from.take(1, rng).first()?;
            let (class, place) = places[first as usize];
            let (start, count) = spans[class];
            let second = if one_class {
                let other = start + rng.below(count - 1); // All of its class but itself.
                if other < place { other } else { other + 1 }
            } else {
                let others = order.len() - count;
                if others == 0 {
                    return None;
                }
                let other = rng.below(others); // All that come before its class, or after it.
                if other < start { other } else { other + count }
            };
            Some([first, order[second]])
        };
        (0..batches)
            .map(|batch| {
                (batch * self.size..(batch + 1) * self.size)
                    .filter_map(&mut pair)
                    .flatten()
                    .collect()
            })
            .collect()
    }

    fn pairs(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nearfar_core::{Purpose, Seed};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn pairs_are_of_one_class_and_of_two_in_their_shares(
            sizes in prop::collection::vec(1usize..6, 2..6), size in 1usize..9, share in 0.0f64..=1.0, seed: u64,
        ) {
            prop_assume!(sizes.iter().any(|&size| size > 1));
            let labels: Vec<u32> = sizes.iter().enumerate().flat_map(|(class, &size)| vec![class as u32; size]).collect();
            let sampler = PairSampler { size, positive: Fraction::new(share).unwrap(), batches: Some(5) };
            let batches = sampler.epoch(&labels, &mut Seed(seed).rng(Purpose::Sampling, 0));
            let mut positives = 0;
            for (number, batch) in batches.iter().enumerate() {
                prop_assert_eq!(batch.len(), 2 * size);
                for pair in batch.chunks(2) {
                    prop_assert_ne!(pair[0], pair[1]);
                    positives += usize::from(labels[pair[0] as usize] == labels[pair[1] as usize]);
                }
                prop_assert!((positives as f64 - share * ((number + 1) * size) as f64).abs() <= 0.5 + 1e-9);
            }
        }
    }

    #[test]
    fn what_is_impossible_is_refused() {
        let check = |positive: f64, labels: &[u32]| {
            PairSampler {
                positive: Fraction::new(positive).unwrap(),
                ..PairSampler::default()
            }
            .check(&Counts::of(labels, &[]))
            .map_err(|error| error.to_string())
        };
        assert!(
            check(0.5, &[0, 1, 2])
                .unwrap_err()
                .contains("all 3 classes have one sample")
        );
        assert!(check(0.5, &[7, 7]).unwrap_err().contains("there is one"));
        assert_eq!(check(0.0, &[0, 1]), Ok(()));
        assert_eq!(check(1.0, &[7, 7]), Ok(()));
    }
}
