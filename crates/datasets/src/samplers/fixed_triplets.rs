//! The same triplets again and again.

use nearfar_core::{Purpose, Rng, Seed, Stateful};
use serde::{Deserialize, Serialize};

use super::{Counts, Sampler, by_class, positive};
use crate::{Dataset, Error};

/// A fixed random list of triplets, each once an epoch, in a random order.
///
/// A triplet is of two different classes, drawn evenly: an anchor and another sample of the first, and a sample of the second.
/// A batch has three rows for each, the anchor, the positive and the negative one after another; take the miner `packaged` to
/// learn from no other. It shows how a method does where triplets are all that is known.
///
/// The list is a function of the labels and of `list`, whatever the seed of the run: another number gives another list.
///
/// As `FixedSetOfTriplets` of pytorch-metric-learning 2.9.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FixedTriplets {
    /// Triplets in the list.
    pub triplets: usize,
    /// Triplets a batch.
    pub size: usize,
    /// Which list.
    pub list: u64,
}

impl Default for FixedTriplets {
    fn default() -> Self {
        Self {
            triplets: 1000,
            size: 32,
            list: 0,
        }
    }
}

impl FixedTriplets {
    pub(super) fn build(
        &self,
        _: &dyn Dataset,
        counts: &Counts<'_>,
    ) -> Result<Box<dyn Sampler>, Error> {
        positive("sampler.fixed_triplets.triplets", self.triplets)?;
        positive("sampler.fixed_triplets.size", self.size)?;
        if counts.counts.len() < 2 || counts.counts.iter().all(|(_, count)| *count < 2) {
            return Err(Error::Settings(format!(
                "`sampler.fixed_triplets` wants a class of two samples and another class, but of {} classes the largest has \
                 {}; use other data",
                counts.counts.len(),
                counts.counts.iter().map(|it| it.1).max().unwrap_or(0)
            )));
        }
        Ok(Box::new(self.clone()))
    }

    /// The list.
    fn triplets(&self, labels: &[u32]) -> Vec<[u32; 3]> {
        let classes = by_class(labels);
        let with_two = (0..classes.len()).filter(|&it| classes[it].1.len() > 1);
        let with_two: Vec<usize> = with_two.collect();
        if classes.len() < 2 || with_two.is_empty() {
            return Vec::new();
        }
        let mut rng = Seed(self.list).rng(Purpose::Sampling, u64::MAX);
        let triplet = |_| {
            let own = with_two[rng.below(with_two.len())];
            let other = rng.below(classes.len() - 1);
            let (own, other) = (
                &classes[own].1,
                &classes[other + usize::from(other >= own)].1,
            );
            let anchor = rng.below(own.len());
            let positive = rng.below(own.len() - 1);
            let positive = positive + usize::from(positive >= anchor);
            [own[anchor], own[positive], other[rng.below(other.len())]]
        };
        (0..self.triplets).map(triplet).collect()
    }
}

impl Stateful for FixedTriplets {}

impl Sampler for FixedTriplets {
    fn epoch(&self, labels: &[u32], rng: &mut Rng) -> Vec<Vec<u32>> {
        let mut triplets = self.triplets(labels);
        rng.shuffle(&mut triplets);
        triplets
            .chunks(self.size.max(1))
            .map(<[_]>::concat)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samplers::tests::{data, stream};

    #[test]
    fn the_list_of_triplets_is_fixed_and_comes_in_another_order() {
        let data = data();
        let sampler = FixedTriplets {
            triplets: 25,
            size: 4,
            list: 3,
        };
        let epoch = |position| {
            let rows = sampler.epoch(&data.labels, &mut stream(position)).concat();
            let triplets: Vec<[u32; 3]> = rows.chunks(3).map(|it| [it[0], it[1], it[2]]).collect();
            triplets
        };
        let (mut one, mut other) = (epoch(0), epoch(1));
        assert_eq!(one.len(), 25);
        assert_ne!(one, other);
        one.sort_unstable();
        other.sort_unstable();
        assert_eq!(one, other);
        for [anchor, positive, negative] in one {
            let label = |it: u32| data.labels[it as usize];
            assert!(anchor != positive && label(anchor) == label(positive));
            assert_ne!(label(anchor), label(negative));
        }
        let another = FixedTriplets {
            list: 4,
            ..sampler.clone()
        };
        assert_ne!(
            another.epoch(&data.labels, &mut stream(0)),
            sampler.epoch(&data.labels, &mut stream(0))
        );
    }
}
