//! Reading archives that came from somewhere else, without unpacking them to disk.
//!
//! Nothing here writes a file, so there is no path to slip out of; the names are still held to the strictest reading,
//! because whoever asks for a member by name should get the one everybody else sees. Refused are names that are
//! absolute, climb with `..`, hold a NUL, a control character or a backslash, or occur twice; links, devices and other
//! entries that are not regular files; encrypted members; members that overlap; and whatever grows past the
//! [`Limits`]. Sizes that an archive claims are never believed: memory grows with the bytes that really arrive.
//!
//! Two names that differ in case only are two members, since no file system is asked.
//!
//! ```
//! use nearfar_catalogue::archive::{self, Limits};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let folder = tempfile::tempdir()?;
//! # let path = folder.path().join("a.zip");
//! # let members = [("a/1.txt".to_owned(), b"one".to_vec()), ("b/2.txt".to_owned(), b"two".to_vec())];
//! # archive::write_zip(std::fs::File::create(&path)?, &members)?;
//! let mut found = Vec::new();
//! archive::read(&path, &Limits::default(), |name| name.starts_with("a/"), |name, bytes| {
//!     found.push((name.to_owned(), bytes));
//!     Ok::<(), archive::Error>(())
//! })?;
//! assert_eq!(found, [("a/1.txt".to_owned(), b"one".to_vec())]);
//! # Ok(())
//! # }
//! ```

use std::{
    collections::BTreeSet,
    fs::File,
    io::{self, BufReader, Read, Seek, SeekFrom, Write},
    path::Path,
};

use flate2::read::MultiGzDecoder;

mod error;
mod name;
mod tar_gz;
mod zip;

pub use error::{Error, NameFault};
pub use name::normalize;
pub use tar_gz::read_tar_gz_from;
pub use zip::{read_zip_from, write_zip};

/// How much an archive may hold before it is taken for an attack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Entries, folders included.
    pub entries: u64,
    /// Bytes of one member, unpacked.
    pub member_bytes: u64,
    /// Bytes of all members read, unpacked.
    pub total_bytes: u64,
    /// Unpacked bytes for each byte of the archive file; the first [`Limits::FREE_BYTES`] do not count, so that a
    /// tiny archive of one repetitive text passes.
    pub ratio: u64,
}

impl Limits {
    /// Unpacked bytes that are let pass whatever the ratio.
    pub const FREE_BYTES: u64 = 1 << 20;

    /// Bytes that may come out of an archive file of `archive_bytes`.
    fn out_of(&self, archive_bytes: u64) -> u64 {
        let by_ratio = archive_bytes
            .saturating_mul(self.ratio)
            .max(Self::FREE_BYTES);
        by_ratio.min(self.total_bytes)
    }
}

impl Default for Limits {
    /// A million entries, 256 MiB a member, 4 GiB in all, 100 times the size of the file.
    fn default() -> Self {
        Self {
            entries: 1_000_000,
            member_bytes: 256 << 20,
            total_bytes: 4 << 30,
            ratio: 100,
        }
    }
}

/// Reads a zip or tar.gz archive, told apart by its first bytes. See [`read_zip`].
///
/// # Errors
/// As [`read_zip`].
pub fn read<E: From<Error>>(
    path: &Path,
    limits: &Limits,
    wanted: impl FnMut(&str) -> bool,
    visit: impl FnMut(&str, Vec<u8>) -> Result<(), E>,
) -> Result<(), E> {
    let (mut file, label) = open(path)?;
    let mut magic = [0; 2];
    let read = read_up_to(&mut file, &mut magic)
        .and_then(|count| file.seek(SeekFrom::Start(0)).map(|_| count));
    let count = read.map_err(|source| Error::Read {
        archive: label.clone(),
        name: None,
        source,
    })?;
    match &magic[..count] {
        b"PK" => read_zip_from(file, &label, limits, wanted, visit),
        [0x1f, 0x8b] => read_tar_gz_from(file, &label, limits, wanted, visit),
        _ => Err(Error::Unknown { archive: label }.into()),
    }
}

/// Reads the members of a zip archive for which `wanted` says yes, in the order of its directory.
///
/// `wanted` sees the [normalized](normalize) name of every regular file, `visit` gets the name and the bytes of those
/// chosen. Stored and deflated members are known; checksums are verified.
///
/// # Errors
/// The archive cannot be read, is malformed, breaks one of the rules of this module or a limit, or `visit` fails.
pub fn read_zip<E: From<Error>>(
    path: &Path,
    limits: &Limits,
    wanted: impl FnMut(&str) -> bool,
    visit: impl FnMut(&str, Vec<u8>) -> Result<(), E>,
) -> Result<(), E> {
    let (file, label) = open(path)?;
    read_zip_from(file, &label, limits, wanted, visit)
}

/// Reads the members of a gzipped tar archive for which `wanted` says yes, in the order they lie in it. See
/// [`read_zip`].
///
/// # Errors
/// As [`read_zip`].
pub fn read_tar_gz<E: From<Error>>(
    path: &Path,
    limits: &Limits,
    wanted: impl FnMut(&str) -> bool,
    visit: impl FnMut(&str, Vec<u8>) -> Result<(), E>,
) -> Result<(), E> {
    let (file, label) = open(path)?;
    read_tar_gz_from(file, &label, limits, wanted, visit)
}

/// The bytes of one member of a zip or tar.gz archive.
///
/// # Errors
/// As [`read_zip`]; and [`Error::Missing`] where there is no such member.
pub fn member(path: &Path, limits: &Limits, name: &str) -> Result<Vec<u8>, Error> {
    let mut found = None;
    read(
        path,
        limits,
        |it| it == name,
        |_, bytes| {
            found = Some(bytes);
            Ok::<(), Error>(())
        },
    )?;
    found.ok_or_else(|| Error::Missing {
        archive: path.display().to_string(),
        name: name.to_owned(),
    })
}

/// The bytes in a gzip file, under the limits of one member.
///
/// # Errors
/// The file cannot be read, is not gzip or ends early, or grows past a limit.
pub fn gunzip(path: &Path, limits: &Limits) -> Result<Vec<u8>, Error> {
    let (file, label) = open(path)?;
    let size = file
        .metadata()
        .map_err(|source| Error::Read {
            archive: label.clone(),
            name: None,
            source,
        })?
        .len();
    gunzip_from(BufReader::new(file), size, &label, limits)
}

/// [`gunzip`] of `size` bytes from any reader; `label` names it in messages.
///
/// # Errors
/// As [`gunzip`].
pub fn gunzip_from(
    reader: impl Read,
    size: u64,
    label: &str,
    limits: &Limits,
) -> Result<Vec<u8>, Error> {
    let allowed = limits.out_of(size);
    let cap = allowed.min(limits.member_bytes);
    let mut bytes = Vec::new();
    MultiGzDecoder::new(reader)
        .take(cap.saturating_add(1))
        .read_to_end(&mut bytes)
        .map_err(|source| Error::Read {
            archive: label.to_owned(),
            name: None,
            source,
        })?;
    if bytes.len() as u64 > cap {
        return Err(too_large(label, label, limits, allowed, size));
    }
    Ok(bytes)
}

fn open(path: &Path) -> Result<(File, String), Error> {
    let label = path.display().to_string();
    match File::open(path) {
        Ok(file) => Ok((file, label)),
        Err(source) => Err(Error::Open {
            archive: label,
            source,
        }),
    }
}

fn read_up_to(reader: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match reader.read(&mut buffer[filled..])? {
            0 => break,
            count => filled += count,
        }
    }
    Ok(filled)
}

/// What one walk through an archive has seen so far.
struct Seen<'a> {
    archive: &'a str,
    limits: &'a Limits,
    /// Bytes of the archive file.
    archive_bytes: u64,
    /// Bytes that may still come out of it.
    left: u64,
    entries: u64,
    names: BTreeSet<String>,
}

impl<'a> Seen<'a> {
    fn new(archive: &'a str, limits: &'a Limits, archive_bytes: u64) -> Self {
        let left = limits.out_of(archive_bytes);
        Self {
            archive,
            limits,
            archive_bytes,
            left,
            entries: 0,
            names: BTreeSet::new(),
        }
    }

    fn entry(&mut self) -> Result<(), Error> {
        self.entries += 1;
        if self.entries > self.limits.entries {
            return Err(Error::Entries {
                archive: self.archive.to_owned(),
                limit: self.limits.entries,
            });
        }
        Ok(())
    }

    /// Holds the name of a folder to the same rules; `./` is one too.
    fn folder(&self, raw: &[u8]) -> Result<(), Error> {
        match self.normalized(raw) {
            Ok(_)
            | Err(Error::Name {
                fault: NameFault::Empty,
                ..
            }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn normalized(&self, raw: &[u8]) -> Result<String, Error> {
        let fault = |fault| Error::Name {
            archive: self.archive.to_owned(),
            name: raw.escape_ascii().to_string(),
            fault,
        };
        normalize(std::str::from_utf8(raw).map_err(|_| fault(NameFault::NotUtf8))?).map_err(fault)
    }

    /// The normalized form of a regular file's name, which must be new.
    fn name(&mut self, raw: &[u8]) -> Result<String, Error> {
        let name = self.normalized(raw)?;
        if !self.names.insert(name.clone()) {
            return Err(Error::Duplicate {
                archive: self.archive.to_owned(),
                name,
            });
        }
        Ok(name)
    }

    /// All bytes of a member, counted against the limits.
    fn bytes(&mut self, name: &str, reader: impl Read, claimed: u64) -> Result<Vec<u8>, Error> {
        let cap = self.limits.member_bytes.min(self.left);
        // What the archive claims is a hint for the first allocation and no more.
        let mut bytes = Vec::with_capacity(claimed.min(1 << 16) as usize);
        reader
            .take(cap.saturating_add(1))
            .read_to_end(&mut bytes)
            .map_err(|source| Error::Read {
                archive: self.archive.to_owned(),
                name: Some(name.to_owned()),
                source,
            })?;
        let count = bytes.len() as u64;
        if count > cap {
            return Err(too_large(
                self.archive,
                name,
                self.limits,
                self.limits.out_of(self.archive_bytes),
                self.archive_bytes,
            ));
        }
        self.left -= count;
        Ok(bytes)
    }
}

/// Says which of the limits was the one that was hit.
fn too_large(
    archive: &str,
    name: &str,
    limits: &Limits,
    allowed: u64,
    archive_bytes: u64,
) -> Error {
    let (archive, name) = (archive.to_owned(), name.to_owned());
    if limits.member_bytes <= allowed {
        Error::MemberBytes {
            archive,
            name,
            limit: limits.member_bytes,
        }
    } else if allowed < limits.total_bytes {
        Error::Ratio {
            archive,
            name,
            archive_bytes,
            limit: limits.ratio,
        }
    } else {
        Error::TotalBytes {
            archive,
            name,
            limit: limits.total_bytes,
        }
    }
}

/// Discards what is written, and refuses to take more than so many bytes. For walking over members nobody asked for.
struct Sink(u64);

impl Write for Sink {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.0 = self
            .0
            .checked_sub(buffer.len() as u64)
            .ok_or_else(|| io::Error::other("grows past the limit"))?;
        Ok(buffer.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
