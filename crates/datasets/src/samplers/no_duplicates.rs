//! No text twice in a batch.

use std::collections::{BTreeMap, BTreeSet};

use nearfar_core::{Rng, Stateful};
use serde::{Deserialize, Serialize};

use super::{Sampler, positive};
use crate::{Dataset, Error, Value};

/// Every sample once an epoch, in a random order, with no input twice in a batch.
///
/// Where the other rows of a batch are the negatives, a text that is in it twice would be its own negative. A sample one of
/// whose inputs is in a batch already waits for a later one; so an epoch may have more batches than the samples fill, and the
/// last ones may be small. Inputs are compared by what is read of them: texts by their words, images by their pixels. They are
/// all read once at the start.
///
/// As `NoDuplicatesBatchSampler` of sentence-transformers 6.2.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NoDuplicates {
    /// Samples a batch.
    pub size: usize,
    /// Whether batches that are smaller than the others are left out; never the only one.
    pub drop_last: bool,
}

impl Default for NoDuplicates {
    fn default() -> Self {
        Self {
            size: 64,
            drop_last: false,
        }
    }
}

impl NoDuplicates {
    pub(super) fn build(&self, data: &dyn Dataset) -> Result<Box<dyn Sampler>, Error> {
        positive("sampler.no_duplicates.size", self.size)?;
        let mut inputs = Vec::with_capacity(data.len());
        for index in 0..data.len() as u32 {
            // One that cannot be read is left to the loader, which says so or leaves it out.
            let sample = data.sample(index);
            let keys = sample.map(|it| it.inputs.iter().map(fingerprint).collect());
            inputs.push(keys.unwrap_or_default());
        }
        Ok(Box::new(Distinct {
            settings: self.clone(),
            inputs,
        }))
    }
}

/// A number for an input, the same for the same one.
pub(super) fn fingerprint(value: &Value) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325u64; // FNV-1a of 32-bit words; then mixed, so that all bits count.
    let mut add = |word: u32| hash = (hash ^ u64::from(word)).wrapping_mul(0x0100_0000_01b3);
    match value {
        Value::Tokens(words) => words.iter().for_each(|&it| add(it)),
        Value::Parsed { words, parse } => {
            words.iter().for_each(|&it| add(it));
            let heads = parse.heads().iter();
            heads.for_each(|head| add(head.map_or(u32::MAX, |it| it)));
        }
        Value::Features(numbers) => numbers.iter().for_each(|it| add(it.to_bits())),
        Value::Image(image) => {
            let size = [image.channels, image.height, image.width];
            size.iter().for_each(|&it| add(it as u32));
            image.values.iter().for_each(|it| add(it.to_bits()));
        }
        Value::Array(array) => {
            array.shape.iter().for_each(|&it| add(it as u32));
            array.values.iter().for_each(|it| add(it.to_bits()));
        }
        Value::Sound(sound) => {
            add(sound.rate);
            sound.samples.iter().for_each(|it| add(it.to_bits()));
        }
        Value::Frames(frames) => {
            add(frames.width as u32);
            frames.values.iter().for_each(|it| add(it.to_bits()));
        }
    }
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash ^ (hash >> 33)
}

/// The settings with the inputs of some data.
struct Distinct {
    settings: NoDuplicates,
    /// Fingerprints of the inputs of each sample.
    inputs: Vec<Vec<u64>>,
}

impl Stateful for Distinct {}

impl Sampler for Distinct {
    fn epoch(&self, _: &[u32], rng: &mut Rng) -> Vec<Vec<u32>> {
        let size = self.settings.size.max(1);
        let mut batches: Vec<Vec<u32>> = Vec::new();
        let mut open = BTreeSet::new(); // Batches with room.
        let mut free_from = BTreeMap::<u64, usize>::new(); // The batch after the last that has an input.
        for sample in rng.permutation(self.inputs.len()) {
            let keys = &self.inputs[sample as usize];
            let from = keys.iter().filter_map(|key| free_from.get(key)).max();
            let from = from.copied().unwrap_or(0);
            let batch = open.range(from..).next().copied().unwrap_or_else(|| {
                batches.push(Vec::with_capacity(size.min(1024)));
                open.insert(batches.len() - 1);
                batches.len() - 1
            });
            batches[batch].push(sample);
            if batches[batch].len() == size {
                open.remove(&batch);
            }
            for &key in keys {
                free_from.insert(key, batch + 1);
            }
        }
        if self.settings.drop_last && batches.iter().any(|it| it.len() == size) {
            batches.retain(|it| it.len() == size);
        }
        batches
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samplers::tests::{data, distinct, stream};

    #[test]
    fn no_input_is_twice_in_a_batch_and_every_sample_is_there_once() {
        let mut data = data();
        for repeated in [30, 5, 1] {
            data.inputs = (0..data.labels.len() as u32)
                .map(|it| it % repeated)
                .collect();
            let sampler = NoDuplicates {
                size: 8,
                drop_last: false,
            };
            let sampler = sampler.build(&data).expect("it fits");
            let batches = sampler.epoch(&data.labels, &mut stream(0));
            for batch in &batches {
                assert!(batch.len() <= 8);
                assert_eq!(
                    distinct(batch.iter().map(|&it| data.inputs[it as usize])),
                    batch.len()
                );
            }
            let mut all = batches.concat();
            all.sort_unstable();
            assert!(all.into_iter().eq(0..data.labels.len() as u32));
        }
    }
}
