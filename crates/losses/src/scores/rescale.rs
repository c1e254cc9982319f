//! Targets on the scale from 0 to 1.

use candle_core::{Result, Tensor};
use nearfar_core::{Error, Finite};

/// From `low`, the target of rows that have nothing in common, to `high`, that of equal rows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rescale {
    pub(crate) low: Finite,
    pub(crate) high: Finite,
}

impl Rescale {
    pub(crate) fn check(self, place: &str) -> std::result::Result<(), Error> {
        if self.low.get() == self.high.get() {
            return Err(Error::Settings(format!(
                "{place}: `low` and `high` are both {}; they must differ",
                self.low
            )));
        }
        Ok(())
    }

    /// A target to its place between 0 and 1.
    pub(crate) fn to_unit(self, target: &Tensor) -> Result<Tensor> {
        let span = self.high.get() - self.low.get();
        (target - self.low.get())? / span
    }

    /// And back.
    pub(crate) fn to_target(self, unit: &Tensor) -> Result<Tensor> {
        unit.affine(self.high.get() - self.low.get(), self.low.get())
    }
}
