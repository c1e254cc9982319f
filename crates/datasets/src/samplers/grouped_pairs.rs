//! Pairs of one question together.

use std::collections::BTreeMap;

use nearfar_core::{Rng, Stateful};
use serde::{Deserialize, Serialize};

use super::{Sampler, no_duplicates::fingerprint, positive};
use crate::{Annotation, Dataset, Error};

/// Every pair once an epoch, in a random order in which pairs with the same first input stay together: a question with all its answers.
///
/// For losses that compare the scores of two pairs of one anchor, such as `margin_mse`. A batch takes whole groups while they fit; a
/// group of more than `size` pairs is a few batches of its own. Inputs are compared by what is read of them, and are all read once at
/// the start. In a batch of scored pairs, pairs with the same first input have one anchor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GroupedPairs {
    /// Pairs a batch at most.
    pub size: usize,
}

impl Default for GroupedPairs {
    fn default() -> Self {
        Self { size: 64 }
    }
}

impl GroupedPairs {
    pub(super) fn build(&self, data: &dyn Dataset) -> Result<Box<dyn Sampler>, Error> {
        positive("sampler.grouped_pairs.size", self.size)?;
        if data.annotation() != Annotation::ScoredPairs {
            return Err(Error::Settings(format!(
                "`sampler.grouped_pairs` puts scored pairs together, but the data are {}; use `sampler.shuffled`",
                data.annotation().name()
            )));
        }
        let mut groups = BTreeMap::<u64, Vec<u32>>::new();
        let mut alone = Vec::new();
        for index in 0..data.len() as u32 {
            // One that cannot be read is left to the loader, which says so or leaves it out.
            match data.sample(index) {
                Ok(sample) if !sample.inputs.is_empty() => {
                    let key = fingerprint(&sample.inputs[0]);
                    groups.entry(key).or_default().push(index);
                }
                _ => alone.push(vec![index]),
            }
        }
        let mut groups: Vec<Vec<u32>> = groups.into_values().chain(alone).collect();
        groups.sort_unstable(); // By their first pair, whatever the fingerprints are.
        Ok(Box::new(Groups {
            size: self.size,
            groups,
        }))
    }
}

/// The pairs of each first input.
struct Groups {
    size: usize,
    groups: Vec<Vec<u32>>,
}

impl Stateful for Groups {}

impl Sampler for Groups {
    fn epoch(&self, _: &[u32], rng: &mut Rng) -> Vec<Vec<u32>> {
        let mut batches: Vec<Vec<u32>> = vec![Vec::new()];
        for group in rng.permutation(self.groups.len()) {
            let mut group = self.groups[group as usize].clone();
            rng.shuffle(&mut group);
            for part in group.chunks(self.size) {
                match batches.last_mut() {
                    Some(batch) if batch.len() + part.len() <= self.size => batch.extend(part),
                    _ => batches.push(part.to_vec()),
                }
            }
        }
        batches.retain(|batch| !batch.is_empty());
        batches
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Sample, Value};
    use nearfar_core::{Purpose, Seed};

    struct Pairs(Vec<u32>);

    impl Dataset for Pairs {
        fn labels(&self) -> &[u32] {
            &self.0
        }
        fn sample(&self, index: u32) -> Result<Sample, Error> {
            let question = Value::Tokens(vec![1, self.0[index as usize]]);
            let inputs = vec![question, Value::Tokens(vec![index + 1])];
            Ok(Sample { inputs })
        }
        fn annotation(&self) -> Annotation {
            Annotation::ScoredPairs
        }
    }

    #[test]
    fn questions_are_not_torn_apart_and_every_pair_comes_once() -> Result<(), Error> {
        let pairs = Pairs(vec![1, 2, 3, 1, 2, 4, 1, 5, 5, 5, 5, 5]);
        let sampler = GroupedPairs { size: 4 }.build(&pairs)?;
        for epoch in 0..5 {
            let batches = sampler.epoch(&pairs.0, &mut Seed(1).rng(Purpose::Sampling, epoch));
            let mut all = batches.concat();
            all.sort_unstable();
            assert_eq!(all, (0..12).collect::<Vec<u32>>());
            assert!(batches.iter().all(|it| it.len() <= 4));
            // Only the fifth question has more than a batch.
            for question in 1..5 {
                let with =
                    |batch: &&Vec<u32>| batch.iter().any(|&it| pairs.0[it as usize] == question);
                assert_eq!(batches.iter().filter(with).count(), 1);
            }
        }
        assert!(GroupedPairs { size: 0 }.build(&pairs).is_err());
        Ok(())
    }
}
