//! What can go wrong in a run.

use std::path::PathBuf;

use nearfar_core::BoxError;

/// What can go wrong in a run, so that a caller can tell bad data from bad settings, a step that is not finite, and a disk.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An error of tensor code; [`Error::kind`] finds ours inside of it.
    #[error(transparent)]
    Tensor(candle_core::Error),

    /// Settings that are out of range or do not fit the model.
    #[error("{0}")]
    Settings(String),

    /// The freeze gate: these were to be trained, and nothing of the loss depends on them.
    #[error(
        "{} without a gradient at the first step that learns: {}; they would never move, so mark them as not trained, \
         list them in `allow_frozen`, or look for an operation without a gradient between them and the loss",
        if names.len() == 1 { "a trained parameter is".to_string() } else { format!("{} trained parameters are", names.len()) },
        names.join(", ")
    )]
    Frozen {
        /// All of them, in the order of their names.
        names: Vec<String>,
    },

    /// A batch could not be made.
    #[error("cannot read batch {batch} of epoch {epoch}")]
    Batches {
        /// The epoch, from 0.
        epoch: u64,
        /// The batch within it, from 0.
        batch: u64,
        /// What its source says.
        source: BoxError,
    },

    /// The training set could not be walked for a refresh.
    #[error("cannot read the training set for a refresh after step {step}")]
    Sweep {
        /// How many steps were made.
        step: u64,
        /// What its source says.
        source: BoxError,
    },

    /// There is nothing to train on.
    #[error("epoch {epoch} has no batch; the training set may be smaller than one batch")]
    EmptyEpoch {
        /// The epoch, from 0.
        epoch: u64,
    },

    /// An evaluation during training failed.
    #[error("cannot evaluate `{split}` after step {step}")]
    Evaluation {
        /// What was to be evaluated.
        split: String,
        /// How many steps were made.
        step: u64,
        /// What it says.
        source: BoxError,
    },

    /// Somebody who watches the run failed.
    #[error("`{name}` failed after step {step}")]
    Observer {
        /// The name in the run.
        name: String,
        /// How many steps were made.
        step: u64,
        /// What it says.
        source: BoxError,
    },

    /// A checkpoint could not be saved, and no more failures are borne.
    #[error("cannot save a checkpoint after step {step}{}; earlier checkpoints are as they were",
        if *failures > 1 { format!(" ({failures} failures in a row)") } else { String::new() })]
    Save {
        /// How many steps were made.
        step: u64,
        /// How many times in a row it failed.
        failures: u64,
        /// What the disk says.
        source: BoxError,
    },

    /// A file operation failed.
    #[error("cannot {doing} {}", path.display())]
    Io {
        /// `read`, `write 1234 bytes to`, …
        doing: String,
        /// What it was done to.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },

    /// A file is not what it was when it was written, or not what it should be.
    #[error("{}: {reason}", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },

    /// A checkpoint of another run configuration.
    #[error(
        "{} is of another run: its configuration has SHA-256 {found}, this one {wanted}; continue with the run file it was made with, \
         or start anew in another folder",
        path.display()
    )]
    OtherRun {
        /// The checkpoint.
        path: PathBuf,
        /// The configuration that it was made with.
        found: String,
        /// The configuration that it should go on with.
        wanted: String,
    },

    /// There are checkpoints, and none of them can be used.
    #[error("no checkpoint in {} can be used: {}", path.display(), reasons.join("; "))]
    NoneUsable {
        /// The folder.
        path: PathBuf,
        /// What is wrong with each, from the newest on.
        reasons: Vec<String>,
    },

    /// A checkpoint that does not fit the run it should continue.
    #[error("the checkpoint does not fit this run: {component}: {reason}")]
    Misfit {
        /// `model`, `optimizer`, `loss`, `observer.best`, …
        component: String,
        /// What does not fit.
        reason: String,
    },

    /// Another process trains in this folder.
    #[error("another run{} works in {}; wait for it, stop it, or choose another folder",
        pid.map(|pid| format!(" (process {pid})")).unwrap_or_default(), path.display())]
    Locked {
        /// The folder of the run.
        path: PathBuf,
        /// The other process, if it has said so.
        pid: Option<u32>,
    },
}

impl Error {
    /// The kind of an error of tensor code: bad shapes, data or settings, or a step that is not finite.
    pub fn kind(&self) -> Option<&nearfar_core::Error> {
        match self {
            Self::Tensor(error) => nearfar_core::Error::of(error),
            _ => None,
        }
    }

    /// Whether a loss, embedding or gradient was not finite.
    pub fn is_non_finite(&self) -> bool {
        matches!(self.kind(), Some(nearfar_core::Error::NonFinite { .. }))
    }

    pub(crate) fn io(
        doing: impl Into<String>,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(std::io::Error) -> Self {
        let (doing, path) = (doing.into(), path.into());
        move |source| Self::Io {
            doing,
            path,
            source,
        }
    }

    pub(crate) fn misfit(component: impl Into<String>, reason: impl ToString) -> Self {
        Self::Misfit {
            component: component.into(),
            reason: reason.to_string(),
        }
    }
}

impl From<candle_core::Error> for Error {
    fn from(error: candle_core::Error) -> Self {
        Self::Tensor(error)
    }
}

impl From<nearfar_core::Error> for Error {
    fn from(error: nearfar_core::Error) -> Self {
        Self::Tensor(error.into())
    }
}
