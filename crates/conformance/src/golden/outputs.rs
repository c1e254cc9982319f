//! Our values, by role.

use std::collections::BTreeMap;

use candle_core::Tensor;

use super::{Array, Mapped};

/// Our values, by role.
#[derive(Clone, Debug, Default)]
pub struct Outputs {
    pub(super) arrays: Vec<(String, Array)>,
    pub(super) left_out: Vec<&'static str>,
    pub(super) by_definition: BTreeMap<&'static str, Vec<bool>>,
    pub(super) defined: BTreeMap<&'static str, Array>,
}

impl Outputs {
    /// Adds one.
    pub fn put(&mut self, role: impl Into<String>, array: Array) {
        self.arrays.push((role.into(), array));
    }

    /// Adds the numbers of a tensor.
    ///
    /// # Errors
    /// Those of candle.
    pub fn put_tensor(&mut self, role: impl Into<String>, tensor: &Tensor) -> Mapped<()> {
        self.put(role, Array::of(tensor)?);
        Ok(())
    }

    /// Says of an output that there is nothing of ours to compare with it. It is counted beside the cases.
    pub fn leave_out(&mut self, role: &'static str) {
        self.left_out.push(role);
    }

    /// Says which rows of an output are 0 by our definition and something else by the peer's. They are not compared, the
    /// others are.
    pub fn zero_by_definition(&mut self, role: &'static str, rows: Vec<bool>) {
        if rows.contains(&true) {
            self.by_definition.insert(role, rows);
        }
    }

    /// Says what an output is by definition where the other library is wrong without a mark: then that is wanted of ours. It is
    /// counted beside the cases.
    pub fn define(&mut self, role: &'static str, array: Array) {
        self.defined.insert(role, array);
    }

    /// Whether some rows are by our definition alone.
    pub fn is_by_definition(&self) -> bool {
        !self.by_definition.is_empty()
    }

    pub(super) fn find(&self, role: &str) -> Option<&Array> {
        self.arrays
            .iter()
            .find(|(it, _)| it == role)
            .map(|(_, array)| array)
    }
}
