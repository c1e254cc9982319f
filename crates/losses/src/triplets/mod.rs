//! Formulas of triplets: [`TripletLoss`](crate::TripletLoss).

mod triplet_margin;

pub use triplet_margin::{Power, TripletMargin};
