//! Formulas of triplets: [`TripletLoss`](crate::TripletLoss).

mod triplet_margin;
mod triplet_ratio;

pub use triplet_margin::{Power, TripletMargin};
pub use triplet_ratio::TripletRatio;
