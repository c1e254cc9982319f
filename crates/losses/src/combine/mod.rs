//! Losses made of losses.

pub(crate) mod beside;
pub(crate) mod sum;
