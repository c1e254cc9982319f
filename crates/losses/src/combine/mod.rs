//! Losses made of losses.

pub(crate) mod sum;
