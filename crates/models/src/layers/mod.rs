//! Layers: what backbones and heads are made of.
//!
//! A layer makes its tensors in a [`Params`](crate::Params) when it is built, and is then a function: `forward` takes
//! the input and the [`Mode`](nearfar_core::Mode). Weight names are torch's.

// In reading order: maps, what bends, normalization, pooling, sequences, what is made of them.
mod conv_block;
mod conv_norm;
mod convolution;
mod embedding;
mod linear;
mod up_convolution;

mod activation;
mod prelu;

mod batch_norm;
mod group_norm;
mod layer_norm;
mod layer_scale;
mod rms_norm;

mod cross_correlation;
mod gem;
mod pooling;
mod statistics_pool;
mod valid;

mod dropout;

mod attention;
mod gru;
mod lstm;
mod rotary;

mod bottleneck;
mod residual;
mod transformer;

pub use activation::Activation;
pub use attention::{Attended, AttentionMask, AttentionSettings, MultiHeadAttention};
pub(crate) use attention::{attend_by_heads, heads_divide};
pub use batch_norm::{BatchNorm, Normalization, Statistics};
pub use bottleneck::Bottleneck;
pub use conv_block::{ConvBlock, ConvSettings};
pub use conv_norm::ConvNorm;
pub use convolution::{Convolution, Convolution1d, Convolution2d, Convolution3d};
pub use cross_correlation::cross_correlation;
pub(crate) use dropout::rate as dropout_rate;
pub use dropout::{drop_path, dropout};
pub use embedding::Embedding;
pub use gem::Gem;
pub use group_norm::GroupNorm;
pub use gru::{Gru, GruSettings};
pub use layer_norm::LayerNorm;
pub use layer_scale::LayerScale;
pub use linear::Linear;
pub use lstm::{Lstm, LstmSettings, LstmState};
pub use nearfar_kernels::{Conv, Pairing, Slide};
pub use pooling::{adaptive_average_pool, adaptive_max_pool, average_pool, max_pool};
pub use prelu::PRelu;
pub use residual::BasicBlock;
pub(crate) use residual::kept;
pub use rms_norm::RmsNorm;
pub use rotary::RotaryPositions;
pub use statistics_pool::{AttentiveStatistics, statistics_pool};
pub use transformer::{TransformerLayer, TransformerSettings};
pub use up_convolution::UpConvolution;
pub(crate) use valid::Valid;
