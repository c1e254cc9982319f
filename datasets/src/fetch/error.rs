//! What can go wrong on the way to a file.

use std::io;

use crate::Sha256;

/// A data set that could not be fetched. `file` is `<set>/<file>`, `from` the address or path it was to come from.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The address is none, or one that is not asked.
    #[error("`{address}` {fault}")]
    Address {
        /// The address.
        address: String,
        /// What is wrong with it.
        fault: &'static str,
    },
    /// The folder of a mirror is not there.
    #[error("the mirror {folder} is not a folder")]
    NoMirror {
        /// The folder.
        folder: String,
    },
    /// The index of a mirror cannot be understood.
    #[error("{index} is not the index of a mirror")]
    Index {
        /// Path or address of the index.
        index: String,
        /// Why.
        source: Box<toml::de::Error>,
    },
    /// The mirror does not have the file.
    #[error("the mirror {mirror} has no {file}")]
    NotInMirror {
        /// The mirror.
        mirror: String,
        /// The file.
        file: String,
    },
    /// Upstream has nothing that would verify.
    #[error(
        "upstream has no {file} that would verify; take it from a mirror of the data sets, with `--from`"
    )]
    NoUpstream {
        /// The file.
        file: String,
    },
    /// Somebody else is fetching this data set into this folder.
    #[error("another fetch of `{set}` is running{}; wait for it, or fetch into another folder", .holder.as_ref().map(|it| format!(" (process {it})")).unwrap_or_default())]
    Busy {
        /// The data set.
        set: String,
        /// The process, if it could be told.
        holder: Option<String>,
    },
    /// The server refused.
    #[error("{from} answered with status {status}")]
    Status {
        /// The address.
        from: String,
        /// The HTTP status.
        status: u16,
    },
    /// Too many redirects.
    #[error("{from} redirects more than {limit} times, the last time to {last}")]
    Redirects {
        /// The first address.
        from: String,
        /// Redirects that are followed.
        limit: u32,
        /// Where the last one pointed to.
        last: String,
    },
    /// A redirect to somewhere that is not followed.
    #[error("{from} redirects to `{to}`, which {fault}")]
    Redirect {
        /// The address.
        from: String,
        /// Where it points to.
        to: String,
        /// Why that is not followed.
        fault: &'static str,
    },
    /// The server broke the rules of HTTP.
    #[error("{from} gave an answer that makes no sense: {message}")]
    Protocol {
        /// The address.
        from: String,
        /// What it did.
        message: String,
    },
    /// The connection failed, or ended early.
    #[error("the connection to {from} failed")]
    Connection {
        /// The address.
        from: String,
        /// Why.
        source: io::Error,
    },
    /// There is no secure connection: the certificate is not valid for this address, or not trusted.
    #[error("there is no secure connection to {from}")]
    Tls {
        /// The address.
        from: String,
        /// Why.
        source: io::Error,
    },
    /// The answer is slower than it may be.
    #[error("{from} sends less than {slowest} bytes a second")]
    Slow {
        /// The address.
        from: String,
        /// Bytes a second it should send.
        slowest: u64,
    },
    /// The file is larger than it can be.
    #[error("{from} gives more than the {limit} bytes that {file} may have; nothing was kept")]
    TooLarge {
        /// The address or path.
        from: String,
        /// The file.
        file: String,
        /// Bytes it may have.
        limit: u64,
    },
    /// The file has another size than it must have.
    #[error("{from} gives {found} bytes, but {file} has {expected}; nothing was kept")]
    WrongSize {
        /// The address or path.
        from: String,
        /// The file.
        file: String,
        /// Bytes announced or there.
        found: u64,
        /// Bytes it must have.
        expected: u64,
    },
    /// The file has other bytes than it must have.
    #[error(
        "{from} gave {file} with the SHA-256 {found}, not {expected}; nothing was kept. If this repeats, the file has \
         changed there: take it from a mirror with `--from`, or check the new one and correct the catalogue"
    )]
    WrongHash {
        /// The address or path.
        from: String,
        /// The file.
        file: String,
        /// Hash of what came.
        found: Sha256,
        /// Hash it must have.
        expected: Sha256,
    },
    /// The archive has other content than it must have.
    #[error(
        "{from} gave {file} with other bytes than the known archive and a content of digest {found}, not {expected}; \
         nothing was kept. If this repeats, the file has changed there: take it from a mirror with `--from`, or check \
         the new one and correct the catalogue"
    )]
    WrongContent {
        /// The address or path.
        from: String,
        /// The file.
        file: String,
        /// Digest of what came.
        found: Sha256,
        /// Digest it must have.
        expected: Sha256,
    },
    /// What came is no archive, or one that must not be read.
    #[error(
        "{from} gave {file} with other bytes than the known archive, and they cannot be read; nothing was kept"
    )]
    Unreadable {
        /// The address or path.
        from: String,
        /// The file.
        file: String,
        /// Why.
        source: Box<crate::Error>,
    },
    /// Reading or writing a file here failed.
    #[error("cannot {action} {path}")]
    Io {
        /// What was to be done.
        action: &'static str,
        /// The file or folder.
        path: String,
        /// Why.
        source: io::Error,
    },
}

impl Error {
    /// Whether the data that came is at fault, rather than the connection, the disk or the request.
    pub fn is_bad_data(&self) -> bool {
        matches!(
            self,
            Self::Index { .. }
                | Self::TooLarge { .. }
                | Self::WrongSize { .. }
                | Self::WrongHash { .. }
                | Self::WrongContent { .. }
                | Self::Unreadable { .. }
        )
    }

    /// Whether what was asked for cannot be, rather than failed.
    pub fn is_usage(&self) -> bool {
        matches!(
            self,
            Self::Address { .. } | Self::NoMirror { .. } | Self::NoUpstream { .. }
        )
    }

    /// Whether trying again may help.
    pub(crate) fn is_passing(&self) -> bool {
        match self {
            // A host without an address will not get one within the minute.
            Self::Connection { source, .. } => source.kind() != io::ErrorKind::NotFound,
            Self::Slow { .. } | Self::Protocol { .. } => true,
            Self::Status { status, .. } => matches!(status, 408 | 425 | 429 | 500..=599),
            _ => false,
        }
    }

    /// Whether another address may have the file.
    pub(crate) fn is_of_the_address(&self) -> bool {
        !matches!(self, Self::Io { .. } | Self::Busy { .. })
    }
}
