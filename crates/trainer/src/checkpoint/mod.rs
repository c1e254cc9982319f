//! What is kept of a run, and the way to disk and back.

mod format;
mod fs;
mod memory_fs;
mod store;

use std::collections::BTreeMap;

use candle_core::Tensor;
use nearfar_core::Seed;

use crate::progress::{Counters, Position};

pub use format::{FORMAT, Manifest, ManifestFile, load, sha256};
pub use fs::{DiskFs, Fs};
pub use memory_fs::{MemoryFs, PowerCut};
pub use store::{Checkpoints, Loaded, Saved, best, latest};

/// Everything that a run remembers, as a plain value. Random streams need no place in it: they are functions of the seed, their
/// purpose and the position.
#[derive(Clone, Debug)]
pub struct Checkpoint {
    /// The seed of the run.
    pub seed: Seed,
    /// Where the run stands.
    pub position: Position,
    /// What happened so far.
    pub counters: Counters,
    /// Tensors of the towers, by name: the model.
    pub model: BTreeMap<String, Tensor>,
    /// What the optimizer remembers.
    pub optimizer: BTreeMap<String, Tensor>,
    /// What everything else remembers, by component and name: `loss`, `loss.parameters`, `gradients`, `batches`, `observer.<name>`.
    /// A component that remembers nothing is listed all the same.
    pub components: BTreeMap<String, BTreeMap<String, Tensor>>,
    /// How many batches have gradients in the component `gradients`.
    pub gathered: u64,
    /// Whether it was the best when it was saved. `best` then names it, until there is a better one.
    pub best: bool,
}
