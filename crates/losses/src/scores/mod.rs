//! Formulas of scores that pairs should have: [`ScoreLoss`](crate::ScoreLoss).

mod malstm;
mod pair_regression;
mod rescale;

pub use malstm::MaLSTM;
pub use pair_regression::{PairRegression, Residual};
