#![doc = include_str!("../README.md")]

// What the operations are made of.
mod host;
mod lanes;
mod slices;

// Pointwise.
mod pointwise;

mod absolute;
mod elu;
mod gelu;
mod hard_swish;
mod hinge;
mod leaky_relu;
mod mish;
mod safe_sqrt;
mod sigmoid;
mod silu;
mod softplus;

// Rows.
mod l1_normalize;
mod l2_normalize;
mod layer_norm;
mod rotary;
mod softmax;
mod standardize;

// Rows of sequences.
mod attention;

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
mod conv;
mod conv_block;
mod pool;

// Sequences.
mod gru;
mod lstm;

// Parameters.
mod optim;

pub mod reference;
pub mod test_util;

pub use absolute::absolute;
pub use attention::{Heads, attention, weights as attention_weights};
pub use conv::{Conv, conv};
pub use conv_block::{ConvBlock, ConvBlockOutput, Norm, conv_block, conv_block_reference};
pub use covariance::{covariance, variances_and_redundancy};
pub use elu::elu;
pub use euclidean::euclidean;
pub use gelu::{gelu, gelu_tanh};
pub use gru::{GruWeights, gru};
pub use hard_swish::hard_swish;
pub use hinge::{hinge, relu};
pub use l1_normalize::l1_normalize;
pub use l2_normalize::{TINY_NORM, l2_normalize};
pub use layer_norm::layer_norm;
pub use leaky_relu::leaky_relu;
pub use linear::linear;
pub use lstm::{Direction, LstmStates, lstm, lstm_from, lstm_last, lstm_parameters};
pub use manhattan::manhattan;
pub use mish::mish;
pub use optim::{AdamStep, SgdStep, adam_step, amsgrad_step, global_norm, sgd_step};
pub use pair_loss::{
    Base, Count, Fold, PairLoss, PairPart, Row, RowForm, RowFunctional, RowSum, Rows, ops as rows,
    pair_loss, row_survey,
};
pub use paired_squared::paired_squared_euclidean;
pub use pool::{Slide, Windows, average_pool, max_pool};
pub use rotary::{Pairing, rotary};
pub use row_pairs::{RowOf, RowPair, paired_rows, row_pairs};
pub use safe_sqrt::safe_sqrt;
pub use sigmoid::sigmoid;
pub use silu::silu;
pub use slices::{INSTRUCTION_SET_VARIABLE, instruction_set};
pub use softmax::{EMPTY, log_softmax, log_sum_exp, masked_log_sum_exp, masked_softmax, softmax};
pub use softplus::{log_sigmoid, softplus};
pub use squared_euclidean::squared_euclidean;
pub use standardize::{rms_normalize, standardize};
