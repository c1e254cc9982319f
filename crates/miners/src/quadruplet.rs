//! Triplets with a second negative.

use nearfar_core::{Candidate, Candidates, Rng, Triplets};
use serde::{Deserialize, Serialize};

use crate::nearer::nearest;
use crate::{BatchHard, OnePerPair, SemiHard};

/// An anchor, a positive and two negatives of two classes, by row of one batch.
///
/// A loss of quadruplets compares the pair of anchor and positive with the pair of anchor and first negative, and with the
/// pair of the two negatives.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Quadruplets {
    triplets: Triplets,
    seconds: Vec<u32>,
}

impl Quadruplets {
    /// Adds one.
    pub fn push(&mut self, anchor: u32, positive: u32, first: u32, second: u32) {
        self.triplets.push(anchor, positive, first);
        self.seconds.push(second);
    }

    /// The triplets of anchor, positive and first negative.
    pub fn triplets(&self) -> &Triplets {
        &self.triplets
    }

    /// Row of each second negative.
    pub fn seconds(&self) -> &[u32] {
        &self.seconds
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.seconds.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.seconds.is_empty()
    }

    /// Each as `(anchor, positive, first negative, second negative)`.
    pub fn iter(&self) -> impl Iterator<Item = (u32, u32, u32, u32)> + '_ {
        let seconds = self.seconds.iter().copied();
        self.triplets
            .iter()
            .zip(seconds)
            .map(|((a, p, n), second)| (a, p, n, second))
    }
}

impl FromIterator<(u32, u32, u32, u32)> for Quadruplets {
    fn from_iter<I: IntoIterator<Item = (u32, u32, u32, u32)>>(quadruplets: I) -> Self {
        let mut list = Self::default();
        for (anchor, positive, first, second) in quadruplets {
            list.push(anchor, positive, first, second);
        }
        list
    }
}

/// Hard or semi-hard triplets, each with a second negative of a third class.
///
/// ```text
/// first   the negative of the triplet
/// second  the row nearest to it (or any), of a class that is neither the anchor's nor the first negative's
/// ```
///
/// Of equally far rows the first is taken; a batch of fewer than three classes gives nothing. It needs the distances of all
/// rows of a batch to one another, and their classes: of two sets and of listed pairs it takes nothing.
///
/// This is no [`Miner`](nearfar_core::Miner), whose tuples are pairs or triplets. The quadruplet loss takes all quadruplets
/// by formula; this is for loops of one's own.
///
/// Source of the tuples: Chen, Chen, Zhang, Huang, "Beyond triplet loss: a deep quadruplet network for person
/// re-identification", CVPR 2017, <https://arxiv.org/abs/1704.01719>.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use nearfar_core::{Candidates, Comparison, Embeddings, Purpose, Seed};
/// use nearfar_miners::QuadrupletMiner;
///
/// let rows = Tensor::new(&[[0f32], [1.], [3.], [7.], [4.]], &Device::Cpu)?;
/// let rows = Embeddings::labeled(rows, vec![0, 0, 1, 2, 3])?;
/// let distances = rows.vectors.broadcast_sub(&rows.vectors.t()?)?.abs()?;
/// let candidates = Candidates::new(&distances, &Comparison::within(&rows), "example")?;
/// let quadruplets = QuadrupletMiner::default().mine(&candidates, &mut Seed(7).rng(Purpose::Mining, 0));
/// assert_eq!(quadruplets.iter().collect::<Vec<_>>(), [(0, 1, 2, 4), (1, 0, 2, 4)]);
/// # Ok::<(), candle_core::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct QuadrupletMiner {
    /// Which triplets.
    pub triplets: FirstThree,
    /// Which second negative.
    pub second: OnePerPair,
}

/// Where the first three of a quadruplet come from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FirstThree {
    /// The hardest triplet of each anchor.
    BatchHard(BatchHard),
    /// Semi-hard triplets.
    SemiHard(SemiHard),
}

impl Default for QuadrupletMiner {
    /// The hardest of all.
    fn default() -> Self {
        Self {
            triplets: FirstThree::BatchHard(BatchHard {}),
            second: OnePerPair::Nearest,
        }
    }
}

impl QuadrupletMiner {
    /// The quadruplets of a batch.
    pub fn mine(&self, candidates: &Candidates, rng: &mut Rng) -> Quadruplets {
        use nearfar_core::Miner;
        let labels = candidates.anchor_labels();
        if !candidates.is_within() || labels.len() != candidates.anchors().len() {
            return Quadruplets::default();
        }
        let triplets = match &self.triplets {
            FirstThree::BatchHard(miner) => miner.mine(candidates, rng),
            FirstThree::SemiHard(miner) => miner.mine(candidates, rng),
        };
        let mut quadruplets = Quadruplets::default();
        for (anchor, positive, first) in triplets.into_triplets().iter() {
            let own = labels[anchor as usize];
            let others = candidates
                .negatives(first)
                .filter(|it| labels[it.index as usize] != own);
            let second = match self.second {
                OnePerPair::Nearest => nearest(others),
                OnePerPair::Random => rng.choose(&others.collect::<Vec<Candidate>>()).copied(),
            };
            if let Some(second) = second {
                quadruplets.push(anchor, positive, first, second.index);
            }
        }
        quadruplets
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_batches::{candidates, f8, line};
    use nearfar_core::{Purpose, Seed};

    fn mined(miner: &QuadrupletMiner, rows: &nearfar_core::Embeddings) -> Quadruplets {
        miner.mine(&candidates(rows), &mut Seed(2).rng(Purpose::Mining, 0))
    }

    #[test]
    fn the_four_are_of_three_classes_and_the_second_is_nearest_to_the_first() {
        let rows = f8();
        let seen = candidates(&rows);
        for triplets in [
            FirstThree::BatchHard(BatchHard {}),
            FirstThree::SemiHard(SemiHard::default()),
        ] {
            for second in [OnePerPair::Nearest, OnePerPair::Random] {
                let miner = QuadrupletMiner {
                    triplets: triplets.clone(),
                    second,
                };
                let found = mined(&miner, &rows);
                assert_eq!(found.len(), 8);
                for (a, p, n, m) in found.iter() {
                    let label = |row: u32| rows.labels[row as usize];
                    assert!(a != p && label(a) == label(p));
                    assert!(label(n) != label(a) && label(m) != label(a) && label(m) != label(n));
                    let nearer = (0..8).filter(|&it| {
                        label(it) != label(a)
                            && label(it) != label(n)
                            && seen.distance(n, it) < seen.distance(n, m)
                    });
                    assert!(second == OnePerPair::Random || nearer.count() == 0);
                }
            }
        }
    }

    #[test]
    fn two_classes_are_too_few() {
        let rows = line(&[0.0, 1.0, 2.0, 3.0], &[0, 0, 1, 1]);
        assert!(mined(&QuadrupletMiner::default(), &rows).is_empty());
        assert!(mined(&QuadrupletMiner::default(), &line(&[], &[])).is_empty());
    }
}
