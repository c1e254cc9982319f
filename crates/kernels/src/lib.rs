//! Tensor operations with gradients for deep metric learning, fast on a CPU.
