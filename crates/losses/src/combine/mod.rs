//! Losses made of losses, and what is added to them.

pub(crate) mod beside;
mod changed;
pub(crate) mod matryoshka;
pub(crate) mod memory;
pub(crate) mod regularized;
pub(crate) mod regularizers;
pub(crate) mod self_supervised;
pub(crate) mod sum;
