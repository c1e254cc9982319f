//! Layers: what backbones and heads are made of.
//!
//! A layer makes its tensors in a [`Params`](crate::Params) when it is built, and is then a function: `forward` takes
//! the input and the [`Mode`](nearfar_core::Mode). Weight names are torch's.

mod batch_norm;
mod conv_block;
mod dropout;
mod embedding;
mod linear;
mod lstm;

pub use batch_norm::{BatchNorm, Normalization, Statistics};
pub use conv_block::{ConvBlock, ConvSettings};
pub use dropout::dropout;
pub(crate) use dropout::rate as dropout_rate;
pub use embedding::Embedding;
pub use linear::Linear;
pub use lstm::{Lstm, LstmSettings};
