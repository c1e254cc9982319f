//! What can go wrong with a data set that is here, or should be.

use std::io;

use crate::{Sha256, archive};

/// A data set that is not known, not there, or not what it should be.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No data set has this name.
    #[error("there is no data set `{name}`; {}", known_or_hint(.hint.as_deref(), .known))]
    UnknownDataSet {
        /// The name that was asked for.
        name: String,
        /// The known name that is most like it.
        hint: Option<String>,
        /// All known names.
        known: Vec<String>,
    },
    /// A file of the data set is not there.
    #[error(
        "`{set}` lacks {path}; fetch the data set, or let NEARFAR_DATASETS name a folder that has it"
    )]
    MissingFile {
        /// The data set.
        set: String,
        /// Where the file should be.
        path: String,
    },
    /// A file has another size than it must have.
    #[error("{path} has {found} bytes, not {expected}; delete it and fetch it again")]
    WrongSize {
        /// The file.
        path: String,
        /// Bytes it has.
        found: u64,
        /// Bytes it should have.
        expected: u64,
    },
    /// A file has other bytes than it must have.
    #[error("{path} has the SHA-256 {found}, not {expected}; delete it and fetch it again")]
    WrongHash {
        /// The file.
        path: String,
        /// Hash of its bytes.
        found: Sha256,
        /// Hash it should have.
        expected: Sha256,
    },
    /// An archive is neither the known one nor has its content.
    #[error(
        "{path} has other bytes than the known archive, and its content has the digest {found}, not {expected}; delete \
         it and fetch it again"
    )]
    WrongContent {
        /// The file.
        path: String,
        /// Digest of its content.
        found: Sha256,
        /// Digest it should have.
        expected: Sha256,
    },
    /// An image in an archive cannot be decoded, so its pixels have no digest.
    #[error("{archive}: `{name}` is not a valid image")]
    Image {
        /// The archive.
        archive: String,
        /// The member.
        name: String,
        /// Why.
        source: image::ImageError,
    },
    /// A file cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// An archive cannot or must not be read.
    #[error(transparent)]
    Archive(#[from] archive::Error),
}

impl Error {
    /// Whether the data is at fault, rather than the disk or the name that was given.
    pub fn is_bad_data(&self) -> bool {
        match self {
            Self::WrongSize { .. }
            | Self::WrongHash { .. }
            | Self::WrongContent { .. }
            | Self::Image { .. } => true,
            Self::Archive(archive::Error::Open { .. }) => false,
            // A damaged stream is told by its kind; what is left is the disk.
            Self::Archive(archive::Error::Read { source, .. }) => matches!(
                source.kind(),
                io::ErrorKind::InvalidData
                    | io::ErrorKind::InvalidInput
                    | io::ErrorKind::UnexpectedEof
                    | io::ErrorKind::Other
            ),
            Self::Archive(_) => true,
            Self::UnknownDataSet { .. } | Self::MissingFile { .. } | Self::Read { .. } => false,
        }
    }
}

fn known_or_hint(hint: Option<&str>, known: &[String]) -> String {
    match hint {
        Some(hint) => format!("did you mean `{hint}`?"),
        None => format!("known are `{}`", known.join("`, `")),
    }
}
