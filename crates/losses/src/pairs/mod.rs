//! Formulas of pairs: [`PairLoss`](crate::PairLoss).

mod contrastive;

pub use contrastive::{Contrastive, PairForm};
