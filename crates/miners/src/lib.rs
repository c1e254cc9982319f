#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

// By name.
mod registry;

// Everything, or anything.
mod all;
mod random;

// By the order of the distances.
mod batch_hard;
mod multi_similarity;

// By how far a triplet is from its margin.
mod semi_hard;
mod triplet_margin;

// By chance, according to the distances.
mod distance_weighted;

mod nearer;

#[cfg(test)]
mod test_batches;

pub use all::All;
pub use batch_hard::BatchHard;
pub use distance_weighted::DistanceWeighted;
pub use multi_similarity::MultiSimilarity;
pub use random::{Random, Shape};
pub use registry::MinerConfig;
pub use semi_hard::{OnePerPair, SemiHard};
pub use triplet_margin::{Difficulty, TripletMargin};
