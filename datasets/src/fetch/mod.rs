//! Getting data sets: from upstream, or from a mirror.
//!
//! A file comes into `<data>/<set>/<file>.part`, is compared with the catalogue there, and is moved to its place only if
//! it is right. What is interrupted goes on where it stopped; what is wrong is removed, and the error says both hashes.
//!
//! ```no_run
//! use nearfar_catalogue::{Catalogue, data_folder, fetch::{self, Options, Source}};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let catalogue = Catalogue::builtin();
//! let set = catalogue.get("sick")?;
//! fetch::fetch(set, &data_folder(), &Source::Upstream, &Options::default(), &mut |event| eprintln!("{event}"))?;
//! # Ok(())
//! # }
//! ```

use std::{
    ffi::OsStr,
    fmt, fs, io,
    io::Read,
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use crate::{
    DataSet, File, Proof, Sha256, archive,
    verify::{Mismatch, compare},
};

mod address;
mod error;
mod http;
mod mirror;
mod publish;

pub use error::Error;
use mirror::{Mirror, Place};
use publish::Lock;

/// Where data sets come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// The addresses in the catalogue.
    Upstream,
    /// A mirror in a folder: `<set>/<file>`, with an `INDEX.toml` or without.
    Folder(PathBuf),
    /// A mirror of the same form at an address.
    Address(String),
}

impl FromStr for Source {
    type Err = Error;

    /// An address (`https://…`; `http://…` on this machine), a `file://` address of a folder, or else a folder.
    fn from_str(text: &str) -> Result<Self, Error> {
        if let Some(path) = text.strip_prefix("file://") {
            let path = path.strip_prefix("localhost").unwrap_or(path);
            if !path.starts_with('/') {
                let fault = "is not an address of a folder on this machine; write `file:///…`";
                return Err(Error::Address {
                    address: text.to_owned(),
                    fault,
                });
            }
            return Ok(Self::Folder(path.into()));
        }
        if text.contains("://") {
            address::Address::parse(text).map_err(|fault| Error::Address {
                address: text.to_owned(),
                fault,
            })?;
            return Ok(Self::Address(text.to_owned()));
        }
        Ok(Self::Folder(text.into()))
    }
}

impl TryFrom<&OsStr> for Source {
    type Error = Error;

    /// As from a text; what is no text is a folder.
    fn try_from(text: &OsStr) -> Result<Self, Error> {
        text.to_str()
            .map_or_else(|| Ok(Self::Folder(text.into())), str::parse)
    }
}

/// How patient a download is.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// Time to find the host and to connect.
    pub connect: Duration,
    /// Time without a byte after which the connection counts as failed.
    pub silence: Duration,
    /// Bytes a second that have to come, measured over `silence`.
    pub slowest: u64,
    /// How often a failed connection is tried again before it is given up; an attempt that brought a MiB does not count.
    pub retries: u32,
    /// Time before the first retry; it doubles each time, up to 30 s.
    pub back_off: Duration,
    /// How many redirects are followed.
    pub redirects: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(20),
            silence: Duration::from_secs(30),
            slowest: 1024,
            retries: 5,
            back_off: Duration::from_millis(500),
            redirects: 5,
        }
    }
}

/// What happens, as it happens. `file` is `<set>/<file>`. Printed, it is one line for a person.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// A file begins to come.
    Start {
        /// The file.
        file: &'a str,
        /// Where from.
        from: &'a str,
    },
    /// Some of it came.
    Bytes {
        /// The file.
        file: &'a str,
        /// Bytes so far, those of earlier attempts included.
        done: u64,
        /// Bytes in all, if known.
        total: Option<u64>,
    },
    /// It goes on where it stopped.
    Resume {
        /// The file.
        file: &'a str,
        /// Bytes that were there.
        at: u64,
    },
    /// The connection failed and is tried again.
    Retry {
        /// The file.
        file: &'a str,
        /// Why it failed.
        error: &'a Error,
        /// Time before the next attempt.
        wait: Duration,
    },
    /// This address did not do, and the next one is tried, or the same one from the start.
    Again {
        /// The file.
        file: &'a str,
        /// Why.
        error: &'a Error,
    },
    /// An optional file is left out.
    Skipped {
        /// The file.
        file: &'a str,
        /// Why.
        reason: &'a str,
    },
    /// The file was there already and is right.
    Present {
        /// The file.
        file: &'a str,
    },
    /// The file came, is right, and is in its place.
    Done {
        /// The file.
        file: &'a str,
        /// By what it is known to be right.
        proof: Proof,
    },
}

impl fmt::Display for Event<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Start { file, from } => write!(f, "{file}: from {from}"),
            Self::Bytes {
                file,
                done,
                total: Some(total),
            } => write!(f, "{file}: {done} of {total} bytes"),
            Self::Bytes {
                file,
                done,
                total: None,
            } => write!(f, "{file}: {done} bytes"),
            Self::Resume { file, at } => write!(f, "{file}: goes on after {at} bytes"),
            Self::Retry { file, error, wait } => {
                write!(
                    f,
                    "{file}: {}; next attempt in {:.1} s",
                    chain(error),
                    wait.as_secs_f64()
                )
            }
            Self::Again { file, error } => write!(f, "{file}: {}; trying again", chain(error)),
            Self::Skipped { file, reason } => write!(f, "{file}: left out, {reason}"),
            Self::Present { file } => write!(f, "{file}: is there and right"),
            Self::Done {
                file,
                proof: Proof::Bytes,
            } => write!(f, "{file}: verified by its SHA-256"),
            Self::Done {
                file,
                proof: Proof::Content,
            } => write!(f, "{file}: verified by its content"),
        }
    }
}

/// An error and its causes on one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}

/// What became of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was there already.
    Present(Proof),
    /// It came.
    Fetched(Proof),
    /// It is optional, and was left out for this reason.
    Skipped(String),
}

/// Gets every file of a data set that is not there yet, or not right, into `<data>/<name>/`.
///
/// Files that are there are read and verified first; a damaged one is replaced. `watch` sees what happens. Gives what
/// became of each file, in the order of the catalogue; a data set without files gives an empty list.
///
/// # Errors
/// The first file that could not be got, or was wrong. What came before stays.
pub fn fetch(
    set: &DataSet,
    data: &Path,
    source: &Source,
    options: &Options,
    watch: &mut dyn FnMut(Event<'_>),
) -> Result<Vec<(String, Outcome)>, Error> {
    if set.files.is_empty() {
        return Ok(vec![]);
    }
    if let Some(present) = all_present(set, data) {
        for file in &set.files {
            watch(Event::Present {
                file: &format!("{}/{}", set.name, file.name),
            });
        }
        return Ok(present);
    }
    let folder = data.join(&set.name);
    fs::create_dir_all(&folder).map_err(|source| io_error("make the folder", &folder, source))?;
    let _lock = Lock::of(&set.name, &folder)?;
    let mut job = Job {
        set,
        folder,
        options,
        watch,
    };
    // The index of a mirror is read when the first file is missing.
    let mut mirror = None;
    let mut outcomes = Vec::new();
    for file in &set.files {
        let label = format!("{}/{}", set.name, file.name);
        let target = job.folder.join(&file.name);
        let outcome = if let Ok(Ok(proof)) = compare(&target, file) {
            (job.watch)(Event::Present { file: &label });
            Outcome::Present(proof)
        } else {
            if mirror.is_none() {
                mirror = match source {
                    Source::Upstream => None,
                    Source::Folder(root) => Some(Mirror::folder(root)?),
                    Source::Address(root) => Some(Mirror::address(root, options)?),
                };
            }
            match &mirror {
                None => job.take_upstream(file, &label)?,
                Some(mirror) => job.take_mirrored(mirror, file, &label)?,
            }
        };
        outcomes.push((file.name.clone(), outcome));
    }
    Ok(outcomes)
}

/// Every file, if all are there and right. Nothing is written for that, so the folder may be one of a read-only mirror.
fn all_present(set: &DataSet, data: &Path) -> Option<Vec<(String, Outcome)>> {
    let present = |file: &File| match compare(&set.path(data, file), file) {
        Ok(Ok(proof)) => Some((file.name.clone(), Outcome::Present(proof))),
        _ => None,
    };
    set.files.iter().map(present).collect()
}

struct Job<'a> {
    set: &'a DataSet,
    folder: PathBuf,
    options: &'a Options,
    watch: &'a mut dyn FnMut(Event<'_>),
}

impl Job<'_> {
    fn take_upstream(&mut self, file: &File, label: &str) -> Result<Outcome, Error> {
        if !file.pack.is_empty() {
            let packed = self.packed(file, label);
            return self.unless_optional(file, label, packed);
        }
        if file.urls.is_empty() {
            let nothing = Err(Error::NoUpstream {
                file: label.to_owned(),
            });
            return self.unless_optional(file, label, nothing);
        }
        // An archive that is known by its content may be of any size within reason.
        let (bytes, limit) = match &file.content {
            None => (Some(file.bytes), file.bytes),
            Some(content) => (None, content.max_bytes),
        };
        for (index, url) in file.urls.iter().enumerate() {
            let error = match self.downloaded(url, file, label, bytes, limit) {
                Ok(proof) => return Ok(Outcome::Fetched(proof)),
                Err(error) => error,
            };
            if index + 1 == file.urls.len() || !error.is_of_the_address() {
                return self.unless_optional(file, label, Err(error));
            }
            (self.watch)(Event::Again {
                file: label,
                error: &error,
            });
        }
        unreachable!("the last address returns")
    }

    fn take_mirrored(
        &mut self,
        mirror: &Mirror,
        file: &File,
        label: &str,
    ) -> Result<Outcome, Error> {
        let Some((place, bytes)) = mirror.find(self.set, &file.name) else {
            let missing = Err(Error::NotInMirror {
                mirror: mirror.to_string(),
                file: label.to_owned(),
            });
            return self.unless_optional(file, label, missing);
        };
        let limit = file
            .content
            .as_ref()
            .map_or(file.bytes, |it| it.max_bytes.max(file.bytes));
        let proof = match place {
            Place::Path(path) => self.copied(&path, file, label, limit),
            Place::Address(url) => {
                let bytes = if file.content.is_some() {
                    bytes.filter(|it| *it <= limit)
                } else {
                    Some(file.bytes)
                };
                self.downloaded(&url, file, label, bytes, limit)
            }
        };
        self.unless_optional(file, label, proof)
    }

    /// What became of a file that came or did not; an optional one may be missing, but not wrong.
    fn unless_optional(
        &mut self,
        file: &File,
        label: &str,
        proof: Result<Proof, Error>,
    ) -> Result<Outcome, Error> {
        match proof {
            Ok(proof) => Ok(Outcome::Fetched(proof)),
            Err(
                error @ (Error::NoUpstream { .. }
                | Error::NotInMirror { .. }
                | Error::Status {
                    status: 404 | 410, ..
                }),
            ) if file.optional => {
                let reason = error.to_string();
                (self.watch)(Event::Skipped {
                    file: label,
                    reason: &reason,
                });
                Ok(Outcome::Skipped(reason))
            }
            Err(error) => Err(error),
        }
    }

    /// A file from one address. What went on from an earlier part and turned out wrong is fetched once more from the
    /// start, since the earlier part may have been of another version.
    fn downloaded(
        &mut self,
        url: &str,
        file: &File,
        label: &str,
        bytes: Option<u64>,
        limit: u64,
    ) -> Result<Proof, Error> {
        let part = self.part(&file.name);
        (self.watch)(Event::Start {
            file: label,
            from: url,
        });
        let want = http::Want {
            label,
            bytes,
            limit,
        };
        let resumed = http::download(url, &part, &want, self.options, self.watch)?;
        match self.accepted(&part, file, label, url) {
            Err(error) if resumed && error.is_bad_data() => {
                (self.watch)(Event::Again {
                    file: label,
                    error: &error,
                });
                http::download(url, &part, &want, self.options, self.watch)?;
                self.accepted(&part, file, label, url)
            }
            other => other,
        }
    }

    fn copied(
        &mut self,
        from: &Path,
        file: &File,
        label: &str,
        limit: u64,
    ) -> Result<Proof, Error> {
        let part = self.part(&file.name);
        let from_text = from.display().to_string();
        (self.watch)(Event::Start {
            file: label,
            from: &from_text,
        });
        http::discard(&part)?;
        let source = fs::File::open(from).map_err(|source| io_error("open", from, source))?;
        let mut target =
            fs::File::create(&part).map_err(|source| io_error("write", &part, source))?;
        let copied = io::copy(&mut source.take(limit.saturating_add(1)), &mut target);
        drop(target);
        let copied = copied
            .map_err(|source| io_error("copy to", &part, source))
            .inspect_err(|_| {
                let _ = http::discard(&part); // The first error is the one to tell.
            })?;
        if copied > limit {
            http::discard(&part)?;
            return Err(Error::TooLarge {
                from: from_text,
                file: label.to_owned(),
                limit,
            });
        }
        (self.watch)(Event::Bytes {
            file: label,
            done: copied,
            total: Some(copied),
        });
        self.accepted(&part, file, label, &from_text)
    }

    /// An archive that is made here of single files.
    fn packed(&mut self, file: &File, label: &str) -> Result<Proof, Error> {
        let part = self.part(&file.name);
        let mut members = Vec::new();
        let mut pieces = Vec::new();
        for (index, piece) in file.pack.iter().enumerate() {
            let path = self.part(&format!("{}.{index}", file.name));
            let label = format!("{}/{}", self.set.name, piece.member);
            (self.watch)(Event::Start {
                file: &label,
                from: &piece.url,
            });
            // What is cut off later may come.
            let (bytes, limit) = if piece.trim_end {
                (None, piece.bytes + 16)
            } else {
                (Some(piece.bytes), piece.bytes)
            };
            let want = http::Want {
                label: &label,
                bytes,
                limit,
            };
            let mut resumed = http::download(&piece.url, &path, &want, self.options, self.watch)?;
            let content = loop {
                let mut content =
                    fs::read(&path).map_err(|source| io_error("read", &path, source))?;
                if piece.trim_end {
                    let end = content
                        .iter()
                        .rposition(|it| !matches!(it, b'\r' | b'\n'))
                        .map_or(0, |it| it + 1);
                    content.truncate(end);
                }
                let (found, expected) = (Sha256::of(&content), piece.sha256);
                if found == expected {
                    break content;
                }
                http::discard(&path)?;
                let error = Error::WrongHash {
                    from: piece.url.clone(),
                    file: label.clone(),
                    found,
                    expected,
                };
                if !resumed {
                    return Err(error);
                }
                (self.watch)(Event::Again {
                    file: &label,
                    error: &error,
                });
                http::download(&piece.url, &path, &want, self.options, self.watch)?;
                resumed = false;
            };
            members.push((piece.member.clone(), content));
            pieces.push(path);
        }
        http::discard(&part)?;
        fs::File::create(&part)
            .and_then(|it| archive::write_zip(io::BufWriter::new(it), &members))
            .map_err(|source| io_error("write", &part, source))?;
        let proof = self.accepted(&part, file, label, "upstream's single files")?;
        pieces.iter().try_for_each(|it| http::discard(it))?;
        Ok(proof)
    }

    fn part(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.part"))
    }

    /// Compares a part with the catalogue, and moves it to its place or removes it.
    fn accepted(
        &mut self,
        part: &Path,
        file: &File,
        label: &str,
        from: &str,
    ) -> Result<Proof, Error> {
        let (from, name) = (from.to_owned(), label.to_owned());
        let error = match compare(part, file) {
            Ok(Ok(proof)) => {
                publish::publish(part, &self.folder.join(&file.name))?;
                http::discard(part)?;
                (self.watch)(Event::Done { file: label, proof });
                return Ok(proof);
            }
            // The disk failed; what is there may be right.
            Err(crate::Error::Read { source, .. }) => return Err(io_error("read", part, source)),
            Err(error) if !error.is_bad_data() => {
                return Err(io_error("read", part, io::Error::other(error)));
            }
            Err(error) => Error::Unreadable {
                from,
                file: name,
                source: Box::new(error),
            },
            Ok(Err(Mismatch::Size { found, expected })) => Error::WrongSize {
                from,
                file: name,
                found,
                expected,
            },
            Ok(Err(Mismatch::Hash { found, expected })) => Error::WrongHash {
                from,
                file: name,
                found,
                expected,
            },
            Ok(Err(Mismatch::Content { found, expected })) => Error::WrongContent {
                from,
                file: name,
                found,
                expected,
            },
        };
        http::discard(part)?;
        Err(error)
    }
}

fn io_error(action: &'static str, path: &Path, source: io::Error) -> Error {
    Error::Io {
        action,
        path: path.display().to_string(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_an_address_or_a_folder() {
        let parse = |text: &str| text.parse::<Source>();
        assert_eq!(
            parse("../sets").ok(),
            Some(Source::Folder("../sets".into()))
        );
        assert_eq!(
            parse("file:///a/b").ok(),
            Some(Source::Folder("/a/b".into()))
        );
        assert_eq!(
            parse("file://localhost/a").ok(),
            Some(Source::Folder("/a".into()))
        );
        assert_eq!(
            parse("https://a.org/x").ok(),
            Some(Source::Address("https://a.org/x".to_owned()))
        );
        for bad in [
            "http://a.org/x",
            "ftp://a.org",
            "file://a.org/x",
            "https://",
        ] {
            assert!(matches!(parse(bad), Err(Error::Address { .. })), "{bad}");
        }
    }
}
