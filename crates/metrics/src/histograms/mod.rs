//! Distances of rows that are histograms.

mod bhattacharyya;
mod chi_square;
mod earth_mover;
mod hellinger;
mod jeffreys;
mod jeffries_matusita;
mod jensen_shannon;
mod jensen_shannon_distance;
mod kullback_leibler;
mod matusita;
mod rows;
mod total_variation;

pub use bhattacharyya::Bhattacharyya;
pub use chi_square::ChiSquare;
pub use earth_mover::EarthMover;
pub use hellinger::Hellinger;
pub use jeffreys::Jeffreys;
pub use jeffries_matusita::JeffriesMatusita;
pub use jensen_shannon::JensenShannon;
pub use jensen_shannon_distance::JensenShannonDistance;
pub use kullback_leibler::KullbackLeibler;
pub use matusita::Matusita;
pub use total_variation::TotalVariation;

pub(crate) use jensen_shannon::jensen_shannon as jensen_shannon_of;
