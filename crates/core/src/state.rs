//! What is remembered from step to step.

use std::collections::BTreeMap;

use candle_core::{Result, Tensor};
use serde::{Deserialize, Serialize};

use crate::{EmbeddingTable, Error, Rng};

/// What a part of a run remembers from step to step, beyond its parameters. All four are optional.
pub trait Stateful {
    /// All of it, by name.
    fn state(&self) -> BTreeMap<String, Tensor> {
        BTreeMap::new()
    }

    /// Takes it back.
    ///
    /// # Errors
    /// When a name is missing, unknown, or has another shape than it should; the message names it.
    fn restore(&mut self, state: &BTreeMap<String, Tensor>) -> Result<()> {
        match state.keys().next() {
            None => Ok(()),
            Some(name) => Err(Error::Input(format!(
                "there is state `{name}` for a part of the run that remembers nothing"
            )))?,
        }
    }

    /// How often it wants to see the whole training set embedded; never by default.
    fn interval(&self) -> Option<Span> {
        None
    }

    /// Rebuilds what it derives from the whole set: a class tree, clusters, hard classes.
    ///
    /// # Errors
    /// When the table does not fit what it is built for.
    fn refresh(&mut self, _table: &EmbeddingTable, _rng: &mut Rng) -> Result<()> {
        Ok(())
    }
}

/// A length of training. In a run file `epochs = 20` or `steps = 4000`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Span {
    /// Batches.
    Steps(u64),
    /// Passes over the training set.
    Epochs(u64),
}
