#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

// By name.
mod registry;

// Everything, or anything.
mod all;
mod random;

// By the order of the distances.
mod batch_easy_hard;
mod batch_hard;
mod hdc;
mod moderate_positive;
mod multi_similarity;
mod n_hard;
mod soft_hard;

// By how far a pair or a triplet is from its margin.
mod angular;
mod pair_margin;
mod semi_hard;
mod triplet_margin;

// By classes, and beside them.
mod hard_cluster;
mod packaged;
mod rho_switch;

// By chance, according to the distances.
mod distance_weighted;
mod uniform_histogram;

// Of four rows.
mod quadruplet;

mod intervals;
mod nearer;

#[cfg(test)]
mod test_batches;

pub use all::All;
pub use angular::{Angle, Angular};
pub use batch_easy_hard::{BatchEasyHard, Strategy};
pub use batch_hard::BatchHard;
pub use distance_weighted::DistanceWeighted;
pub use hard_cluster::HardCluster;
pub use hdc::Hdc;
pub use intervals::{Interval, Ranks};
pub use moderate_positive::ModeratePositive;
pub use multi_similarity::MultiSimilarity;
pub use n_hard::NHard;
pub use packaged::Packaged;
pub use pair_margin::PairMargin;
pub use quadruplet::{FirstThree, QuadrupletMiner, Quadruplets};
pub use random::{Random, Shape};
pub use registry::MinerConfig;
pub use rho_switch::{Base, RhoSwitch};
pub use semi_hard::{OnePerPair, SemiHard};
pub use soft_hard::SoftHard;
pub use triplet_margin::{Difficulty, TripletMargin};
pub use uniform_histogram::UniformHistogram;
