//! Formulas of scores that pairs should have: [`ScoreLoss`](crate::ScoreLoss).

mod cosent;
mod malstm;
mod pair_regression;
mod pearson;
mod rescale;

pub use cosent::CoSENT;
pub(crate) use cosent::ordered;
pub use malstm::MaLSTM;
pub use pair_regression::{PairRegression, Residual};
pub use pearson::Pearson;
