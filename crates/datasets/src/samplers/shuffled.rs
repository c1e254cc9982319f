//! Every sample once.

use nearfar_core::{Rng, Stateful};
use serde::{Deserialize, Serialize};

use super::{Sampler, positive};
use crate::Error;

/// Every sample once an epoch, in a random order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Shuffled {
    /// Samples a batch.
    pub size: usize,
    /// Whether the last batch of an epoch is left out when it is smaller than the others; never the only one.
    pub drop_last: bool,
}

impl Default for Shuffled {
    fn default() -> Self {
        Self {
            size: 64,
            drop_last: false,
        }
    }
}

impl Shuffled {
    pub(super) fn check(&self) -> Result<(), Error> {
        positive("sampler.shuffled.size", self.size)
    }
}

impl Stateful for Shuffled {}

impl Sampler for Shuffled {
    fn epoch(&self, labels: &[u32], rng: &mut Rng) -> Vec<Vec<u32>> {
        let order = rng.permutation(labels.len());
        let mut batches: Vec<Vec<u32>> = order
            .chunks(self.size.max(1))
            .map(<[u32]>::to_vec)
            .collect();
        if self.drop_last && batches.len() > 1 {
            batches.retain(|batch| batch.len() == self.size);
        }
        batches
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nearfar_core::{Purpose, Seed};

    #[test]
    fn an_epoch_holds_every_sample_once() {
        let batches = Shuffled {
            size: 4,
            drop_last: false,
        }
        .epoch(&[0; 10], &mut Seed(1).rng(Purpose::Sampling, 0));
        assert_eq!(batches.iter().map(Vec::len).collect::<Vec<_>>(), [4, 4, 2]);
        let mut all = batches.concat();
        assert!(!all.is_sorted());
        all.sort_unstable();
        assert_eq!(all, (0..10).collect::<Vec<_>>());
    }

    #[test]
    fn the_last_batch_is_dropped_when_asked_but_never_the_only_one() {
        let epoch = |size| {
            Shuffled {
                size,
                drop_last: true,
            }
            .epoch(&[0; 10], &mut Seed(1).rng(Purpose::Sampling, 0))
        };
        assert_eq!(epoch(4).iter().map(Vec::len).collect::<Vec<_>>(), [4, 4]);
        assert_eq!(epoch(64).iter().map(Vec::len).collect::<Vec<_>>(), [10]);
    }
}
