//! Tensor operations with gradients for deep metric learning, fast on a CPU.

mod conv_block;
mod slices;

pub use conv_block::{ConvBlock, ConvBlockOutput, Norm, conv_block, conv_block_reference};
pub use slices::{INSTRUCTION_SET_VARIABLE, instruction_set};
