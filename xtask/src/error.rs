//! What can go wrong with a task, and the exit codes.

use std::io;

use nearfar_catalogue::fetch;

/// A task that failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// A name of a data set is not known, or a data set is damaged.
    #[error(transparent)]
    Catalogue(#[from] nearfar_catalogue::Error),
    /// A data set could not be fetched.
    #[error(transparent)]
    Fetch(#[from] fetch::Error),
    /// Some data sets could not be fetched; each was reported.
    #[error("{} could not be fetched", .names.join(", "))]
    Sets { names: Vec<String>, code: u8 },
    /// A program could not be started.
    #[error("cannot start {program}")]
    Start { program: String, source: io::Error },
    /// A program failed. It has said why.
    #[error("{program} failed")]
    Program { program: String, code: Option<i32> },
    /// Cargo succeeded, and yet did not say where a program is.
    #[error("cargo did not say where it built `{name}`; is it still in the workspace?")]
    NotBuilt { name: &'static str },
    /// A package that the lock file does not have.
    #[error("the lock file has no `{name}`, which candle's feature `cuda` needs")]
    NoPackage { name: &'static str },
    /// The reference that `nearfar` gives is not of the form expected.
    #[error("`nearfar config reference --json` gave something else than was expected")]
    Reference { source: serde_json::Error },
    /// A name in the reference cannot be the name of a file.
    #[error(
        "`nearfar config reference --json` has the key `{key}`, which is not a word of small letters and `_`"
    )]
    Key { key: String },
    /// Files of the reference are not up to date.
    #[error("not up to date: {}; run `cargo xtask docs`", .files.join(", "))]
    OutOfDate { files: Vec<String> },
    /// Runs that failed; each has said why.
    #[error("no scores for {}; what `nearfar` said stands above", .names.join(", "))]
    Runs { names: Vec<String> },
    /// A name that cannot be compared.
    #[error("`{name}` is not a loss that learns from classes; those are {known}")]
    NoSuchLoss { name: String, known: String },
    /// A file is not what was expected.
    #[error("{path} is not what was expected")]
    Reading {
        path: String,
        source: serde_json::Error,
    },
    /// A file cannot be read or written.
    #[error("cannot {action} {path}")]
    Io {
        action: &'static str,
        path: String,
        source: io::Error,
    },
}

impl Error {
    /// The exit code for it.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Catalogue(nearfar_catalogue::Error::UnknownDataSet { .. }) => 2,
            Self::Catalogue(error) if error.is_bad_data() => 3,
            Self::Catalogue(_) => 5,
            Self::Fetch(error) if error.is_usage() => 2,
            Self::Fetch(error) if error.is_bad_data() => 3,
            Self::Fetch(_) => 5,
            Self::Sets { code, .. } => *code,
            Self::Program { code, .. } => code
                .and_then(|it| u8::try_from(it).ok())
                .filter(|it| *it != 0)
                .unwrap_or(1),
            Self::NoSuchLoss { .. } => 2,
            Self::Reading { .. } => 3,
            Self::NotBuilt { .. }
            | Self::NoPackage { .. }
            | Self::Reference { .. }
            | Self::Key { .. }
            | Self::OutOfDate { .. }
            | Self::Runs { .. } => 1,
            Self::Start { .. } | Self::Io { .. } => 5,
        }
    }
}

/// An error and its causes on one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}
