//! What can go wrong when a report is written.

/// A file that cannot be written or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// It cannot be written.
    #[error("cannot write {path}")]
    Write {
        /// The file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// It cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// It is not a file of events, or is broken.
    #[error("{path}: record {record} {problem}")]
    Events {
        /// The file.
        path: String,
        /// Which record, from 0 on.
        record: usize,
        /// What is wrong with it.
        problem: &'static str,
    },
}

/// The result of writing or reading.
pub type Result<T> = std::result::Result<T, Error>;
