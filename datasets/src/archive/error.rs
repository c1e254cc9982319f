//! What can be wrong with an archive.

use std::{fmt, io};

/// An archive that cannot or must not be read. `archive` is its path, `name` the member's.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file cannot be opened.
    #[error("cannot open {archive}")]
    Open {
        /// Path of the archive.
        archive: String,
        /// Why.
        source: io::Error,
    },
    /// The bytes cannot be read or unpacked: a damaged archive, or a failing disk.
    #[error("cannot read {}{archive}", .name.as_ref().map(|name| format!("`{name}` in ")).unwrap_or_default())]
    Read {
        /// Path of the archive.
        archive: String,
        /// The member, if it is known by then.
        name: Option<String>,
        /// Why.
        source: io::Error,
    },
    /// Neither zip nor gzip by its first bytes.
    #[error("{archive} is neither a zip nor a tar.gz archive")]
    Unknown {
        /// Path of the archive.
        archive: String,
    },
    /// The structure of the archive is broken.
    #[error("{archive} is not a valid archive: {message}")]
    Malformed {
        /// Path of the archive.
        archive: String,
        /// What the reader says.
        message: String,
    },
    /// The name of an entry is not a plain relative path.
    #[error("{archive}: the name `{name}` {fault}; such archives are not read")]
    Name {
        /// Path of the archive.
        archive: String,
        /// The name, with escapes for what is not printable.
        name: String,
        /// What is wrong with it.
        fault: NameFault,
    },
    /// An entry is no regular file and no folder.
    #[error("{archive}: `{name}` is {kind}; only regular files and folders are read")]
    Kind {
        /// Path of the archive.
        archive: String,
        /// The name, with escapes for what is not printable.
        name: String,
        /// What it is, with its article.
        kind: &'static str,
    },
    /// Two members have one name.
    #[error("{archive}: `{name}` occurs more than once, so it is not clear which is meant")]
    Duplicate {
        /// Path of the archive.
        archive: String,
        /// The name, or how many names repeat.
        name: String,
    },
    /// Members share bytes of the file, as in a bomb.
    #[error("{archive}: members overlap in the file; such archives are not read")]
    Overlap {
        /// Path of the archive.
        archive: String,
    },
    /// The member needs a password.
    #[error("{archive}: `{name}` is encrypted; only plain members are read")]
    Encrypted {
        /// Path of the archive.
        archive: String,
        /// The member.
        name: String,
    },
    /// There is no such member.
    #[error("{archive} has no member `{name}`")]
    Missing {
        /// Path of the archive.
        archive: String,
        /// The member that was asked for.
        name: String,
    },
    /// Too many entries.
    #[error("{archive} has more than {limit} entries")]
    Entries {
        /// Path of the archive.
        archive: String,
        /// Entries allowed.
        limit: u64,
    },
    /// One member is too large.
    #[error("{archive}: `{name}` holds more than {limit} bytes")]
    MemberBytes {
        /// Path of the archive.
        archive: String,
        /// The member.
        name: String,
        /// Bytes allowed.
        limit: u64,
    },
    /// All members together are too large.
    #[error("{archive}: with `{name}` it holds more than {limit} bytes")]
    TotalBytes {
        /// Path of the archive.
        archive: String,
        /// The member that was one too many.
        name: String,
        /// Bytes allowed.
        limit: u64,
    },
    /// The archive grows too much when it is unpacked.
    #[error(
        "{archive}: with `{name}` it unpacks to more than {limit} times its {archive_bytes} bytes"
    )]
    Ratio {
        /// Path of the archive.
        archive: String,
        /// The member that was one too many.
        name: String,
        /// Size of the archive file.
        archive_bytes: u64,
        /// Bytes allowed for each byte of the file.
        limit: u64,
    },
}

/// What is wrong with a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NameFault {
    /// There is nothing in it.
    Empty,
    /// It starts at a root or a drive.
    Absolute,
    /// It has a `..` component.
    Climbs,
    /// It has a NUL or another control character.
    Control,
    /// It has a backslash, which is a separator to some and a letter to others.
    Backslash,
    /// It is longer than 4,096 bytes, or a component than 255.
    Long,
    /// It is not UTF-8.
    NotUtf8,
}

impl fmt::Display for NameFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "is empty",
            Self::Absolute => "is absolute",
            Self::Climbs => "climbs with `..`",
            Self::Control => "has a control character",
            Self::Backslash => "has a backslash",
            Self::Long => "is too long",
            Self::NotUtf8 => "is not UTF-8",
        })
    }
}
