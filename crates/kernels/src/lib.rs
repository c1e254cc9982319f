#![doc = include_str!("../README.md")]

// What the operations are made of.
mod host;
mod lanes;
mod slices;

// Pointwise.
mod pointwise;

mod absolute;
mod hinge;
mod safe_sqrt;
mod sigmoid;
mod softplus;

// Rows.
mod l2_normalize;
mod softmax;

// Columns.
mod covariance;

// Rows by a matrix.
mod linear;

// Every row with every row.
mod differences;
mod euclidean;
mod manhattan;
mod pair_loss;
mod paired_squared;
mod row_pairs;
mod squared_euclidean;

// Images.
mod conv_block;
mod max_pool2d;

// Sequences.
mod lstm;

// Parameters.
mod optim;

pub mod reference;
pub mod test_util;

pub use absolute::absolute;
pub use conv_block::{ConvBlock, ConvBlockOutput, Norm, conv_block, conv_block_reference};
pub use covariance::{covariance, variances_and_redundancy};
pub use euclidean::euclidean;
pub use hinge::{hinge, relu};
pub use l2_normalize::{TINY_NORM, l2_normalize};
pub use linear::linear;
pub use lstm::{Direction, lstm, lstm_last, lstm_parameters};
pub use manhattan::manhattan;
pub use max_pool2d::max_pool2d;
pub use optim::{AdamStep, SgdStep, adam_step, amsgrad_step, global_norm, sgd_step};
pub use pair_loss::{
    Base, Count, Fold, PairLoss, PairPart, Row, RowForm, RowFunctional, RowSum, Rows, ops as rows,
    pair_loss, row_survey,
};
pub use paired_squared::paired_squared_euclidean;
pub use row_pairs::{RowOf, RowPair, paired_rows, row_pairs};
pub use safe_sqrt::safe_sqrt;
pub use sigmoid::sigmoid;
pub use slices::{INSTRUCTION_SET_VARIABLE, instruction_set};
pub use softmax::{EMPTY, log_softmax, log_sum_exp, masked_log_sum_exp, masked_softmax, softmax};
pub use softplus::softplus;
pub use squared_euclidean::squared_euclidean;
