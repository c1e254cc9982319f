//! The readable version of every operation, in candle operations alone: what runs on devices and number types without a
//! kernel of their own, and the oracle of the tests.
//!
//! Same names, same arguments, same values and gradients as in the crate root. Use those; these are here to be read and
//! to be compared with.

pub use crate::absolute::reference as absolute;
pub use crate::attention::reference as attention;
pub use crate::conv::reference as conv;
pub use crate::conv_block::conv_block_reference as conv_block;
pub use crate::covariance::{
    reference as covariance, variances_and_redundancy_reference as variances_and_redundancy,
};
pub use crate::elu::reference as elu;
pub use crate::euclidean::reference as euclidean;
pub use crate::gelu::reference as gelu;
pub use crate::gelu::reference_tanh as gelu_tanh;
pub use crate::gru::reference as gru;
pub use crate::hard_swish::reference as hard_swish;
pub use crate::hinge::reference as hinge;
pub use crate::l2_normalize::reference as l2_normalize;
pub use crate::layer_norm::reference as layer_norm;
pub use crate::leaky_relu::reference as leaky_relu;
pub use crate::linear::reference as linear;
pub use crate::lstm::{last as lstm_last, reference as lstm};
pub use crate::manhattan::reference as manhattan;
pub use crate::mish::reference as mish;
pub use crate::pair_loss::reference as pair_loss;
pub use crate::paired_squared::reference as paired_squared_euclidean;
pub use crate::pool::reference::{average_pool, max_pool};
pub use crate::safe_sqrt::reference as safe_sqrt;
pub use crate::sigmoid::reference as sigmoid;
pub use crate::silu::reference as silu;
pub use crate::softmax::reference::{
    log_softmax, log_sum_exp, masked_log_sum_exp, masked_softmax, softmax,
};
pub use crate::softplus::reference as softplus;
pub use crate::squared_euclidean::reference as squared_euclidean;
pub use crate::standardize::reference as standardize;
pub use crate::standardize::reference_rms as rms_normalize;
