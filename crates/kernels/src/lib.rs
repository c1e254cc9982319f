//! Tensor operations with gradients for deep metric learning, fast on a CPU.

mod conv_block;

pub use conv_block::{ConvBlock, ConvBlockOutput, Norm, conv_block, conv_block_reference};
