//! Losses that join themselves.

use candle_core::{Result, Tensor};
use nearfar_core::{Error, Loss};

use crate::family::BatchLoss;
use crate::{Defaults, Family, Join, Reads};

pub(crate) const FAMILY: Family = Family::Batches;

pub(crate) fn reads(loss: &impl BatchLoss) -> Reads {
    loss.reads()
}

pub(crate) fn defaults(loss: &impl BatchLoss) -> Defaults {
    Defaults {
        compares: loss.compares(),
        reducer: loss.reducer(),
    }
}

pub(crate) fn join(name: &'static str, loss: impl BatchLoss, join: Join) -> Result<Box<dyn Loss>> {
    loss.check()?;
    loss.build(name, join)
}

/// A score of a pair is no target.
pub(crate) fn estimate(_: &impl BatchLoss, _: &Tensor) -> Result<Option<Tensor>> {
    Ok(None)
}

pub(crate) fn check(loss: &impl BatchLoss) -> std::result::Result<(), Error> {
    loss.check()
}
