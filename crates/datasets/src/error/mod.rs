//! What can be wrong with data, and with what was asked of it.

mod fault;
mod sink;

pub use fault::{ConlluFault, Fault, IdxFault, SoundFault};
pub(crate) use sink::{Sink, Strict};

use std::{io, path::Path};

use nearfar_catalogue::archive;

/// Data that are not there or cannot be used, or settings that do not fit them.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Files of a data set of the catalogue are not in the folder of data sets.
    #[error(
        "`{set}` is not in {folder}: {} not there; run `cargo xtask fetch-data {set}` (`--from DIR` takes it from a \
         mirror), or let NEARFAR_DATASETS name the folder that has it",
        are(.files)
    )]
    NotFetched {
        /// The data set.
        set: String,
        /// Where its files should be.
        folder: String,
        /// The files that are not there.
        files: Vec<String>,
    },
    /// Files of a data set of the catalogue cannot be right.
    #[error("`{set}` is damaged: {}; delete it and run `cargo xtask fetch-data {set}`", .faults.join("; "))]
    Damaged {
        /// The data set.
        set: String,
        /// What is wrong, a clause for each file.
        faults: Vec<String>,
    },
    /// A file or folder cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// Where.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// The content of a file cannot be used.
    #[error("{}: {fault}", place(.path, *.row))]
    Bad {
        /// The file.
        path: String,
        /// Its line, counted from 1, where it has lines.
        row: Option<u64>,
        /// What is wrong, and what would be right.
        fault: Fault,
    },
    /// A file does not hold an image of a known kind, or a damaged one.
    #[error("{path} cannot be decoded as an image; replace the file, or take it out of the data")]
    Image {
        /// The file, or the archive and member.
        path: String,
        /// Why.
        source: image::ImageError,
    },
    /// Settings that are out of range, or do not fit the data.
    #[error("{0}")]
    Settings(String),
    /// More samples could not be read than are allowed to be left out.
    #[error("{left_out} samples cannot be used, and {most} may be left out; the last is here")]
    TooManyBad {
        /// Samples that could not be read so far.
        left_out: u64,
        /// Samples that may be left out.
        most: u64,
        /// Why the last one could not be read.
        source: Box<Error>,
    },
    /// The catalogue's word on a data set.
    #[error(transparent)]
    Catalogue(Box<nearfar_catalogue::Error>),
    /// An archive cannot or must not be read.
    #[error(transparent)]
    Archive(#[from] archive::Error),
    /// A tensor cannot be made.
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
}

/// Whose fault an [`Error`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blame {
    /// What was asked for.
    Settings,
    /// The content of the data.
    Data,
    /// The disk, a missing file, the machine.
    Environment,
}

impl From<nearfar_catalogue::Error> for Error {
    fn from(error: nearfar_catalogue::Error) -> Self {
        Self::Catalogue(Box::new(error)) // It holds hashes, and is far larger than ours.
    }
}

impl Error {
    /// Whose fault it is: a command ends with another exit code for each.
    pub fn blame(&self) -> Blame {
        match self {
            Self::Settings(_) => Blame::Settings,
            Self::Bad { .. }
            | Self::Image { .. }
            | Self::TooManyBad { .. }
            | Self::Damaged { .. } => Blame::Data,
            Self::NotFetched { .. } | Self::Read { .. } => Blame::Environment,
            Self::Catalogue(error) => match &**error {
                nearfar_catalogue::Error::UnknownDataSet { .. } => Blame::Settings,
                error if error.is_bad_data() => Blame::Data,
                _ => Blame::Environment,
            },
            Self::Archive(archive::Error::Open { .. }) => Blame::Environment,
            Self::Archive(_) => Blame::Data,
            Self::Tensor(error) => match nearfar_core::Error::of(error) {
                Some(nearfar_core::Error::Settings(_)) => Blame::Settings,
                Some(_) => Blame::Data,
                None => Blame::Environment,
            },
        }
    }

    /// Whether data with it can still be trained on.
    pub fn is_warning(&self) -> bool {
        matches!(
            self,
            Self::Bad {
                fault: Fault::LoneClass { .. }
                    | Fault::Duplicate { .. }
                    | Fault::Constant { .. }
                    | Fault::LoneLabel { .. }
                    | Fault::OneTarget
                    | Fault::OneDomain { .. }
                    | Fault::EmptyMask
                    | Fault::SharedClass {
                        required: false,
                        ..
                    }
                    | Fault::Name,
                ..
            }
        )
    }

    /// The file it is about, if it is about one.
    pub fn path(&self) -> Option<&str> {
        match self {
            Self::Read { path, .. } | Self::Bad { path, .. } | Self::Image { path, .. } => {
                Some(path)
            }
            Self::NotFetched { folder, .. } => Some(folder),
            _ => None,
        }
    }

    /// The line of that file.
    pub fn row(&self) -> Option<u64> {
        match self {
            Self::Bad { row, .. } => *row,
            _ => None,
        }
    }

    pub(crate) fn bad(path: impl Into<String>, row: impl Into<Option<u64>>, fault: Fault) -> Self {
        Self::Bad {
            path: path.into(),
            row: row.into(),
            fault,
        }
    }

    pub(crate) fn sound(path: &str, fault: SoundFault) -> Self {
        Self::bad(path, None, Fault::Sound(fault))
    }

    pub(crate) fn read(path: &Path, source: io::Error) -> Self {
        Self::Read {
            path: shown(path),
            source,
        }
    }
}

fn place(path: &str, row: Option<u64>) -> String {
    match row {
        Some(row) => format!("{path}, row {row}"),
        None => path.to_owned(),
    }
}

fn are(files: &[String]) -> String {
    match files {
        [one] => format!("{one} is"),
        all => format!("{} are", all.join(", ")),
    }
}

/// A path as text. Bytes that are not UTF-8 and control characters are shown as `%FF`; a `%` then is `%25`.
pub(crate) fn shown(path: &Path) -> String {
    let bytes = path.as_os_str().as_encoded_bytes();
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.chars().any(char::is_control) => text.to_owned(),
        _ => {
            let mut text = String::new();
            for chunk in bytes.utf8_chunks() {
                for letter in chunk.valid().chars() {
                    if letter.is_control() || letter == '%' {
                        let mut buffer = [0; 4];
                        letter
                            .encode_utf8(&mut buffer)
                            .bytes()
                            .for_each(|byte| text += &format!("%{byte:02X}"));
                    } else {
                        text.push(letter);
                    }
                }
                chunk
                    .invalid()
                    .iter()
                    .for_each(|byte| text += &format!("%{byte:02X}"));
            }
            text
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_say_where_what_and_what_would_be_right() {
        let error = Error::bad("a.csv", 7, Fault::EmptyLabel);
        assert_eq!(
            error.to_string(),
            "a.csv, row 7: the label is empty; give every row a label, or drop the row"
        );
        assert_eq!(
            (error.path(), error.row(), error.blame()),
            (Some("a.csv"), Some(7), Blame::Data)
        );
        let known = vec!["sentence_A".to_owned(), "score".to_owned()];
        let error = Error::bad(
            "a.csv",
            1,
            Fault::NoColumn {
                column: "sentence_a".into(),
                known,
            },
        );
        assert_eq!(
            error.to_string(),
            "a.csv, row 1: there is no column `sentence_a`; did you mean `sentence_A`?"
        );
        let error = Error::NotFetched {
            set: "mnist".into(),
            folder: "data/mnist".into(),
            files: vec!["a.gz".into(), "b.gz".into()],
        };
        assert!(
            error.to_string().starts_with(
                "`mnist` is not in data/mnist: a.gz, b.gz are not there; run `cargo xtask fetch-data mnist`"
            ),
            "{error}"
        );
    }

    #[cfg(unix)]
    #[test]
    fn names_that_are_not_plain_are_escaped() {
        use std::os::unix::ffi::OsStrExt;
        let show = |bytes: &[u8]| shown(Path::new(std::ffi::OsStr::from_bytes(bytes)));
        assert_eq!(show(b"a 50%.png"), "a 50%.png");
        assert_eq!(show("ä.png".as_bytes()), "ä.png");
        assert_eq!(show(b"a\n50%\xff.png"), "a%0A50%25%FF.png");
    }
}
