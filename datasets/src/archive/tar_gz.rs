//! Gzipped tar archives.

use std::io::{self, BufReader, Read, Seek, SeekFrom};

use flate2::read::MultiGzDecoder;
use tar::{Archive, EntryType};

use super::{Error, Limits, Seen, Sink};

/// [`read_tar_gz`](super::read_tar_gz) from any reader that can seek; `label` names it in messages.
///
/// # Errors
/// As [`read_tar_gz`](super::read_tar_gz).
pub fn read_tar_gz_from<E: From<Error>>(
    mut reader: impl Read + Seek,
    label: &str,
    limits: &Limits,
    mut wanted: impl FnMut(&str) -> bool,
    mut visit: impl FnMut(&str, Vec<u8>) -> Result<(), E>,
) -> Result<(), E> {
    let failed = |source| Error::Read {
        archive: label.to_owned(),
        name: None,
        source,
    };
    let size = reader
        .seek(SeekFrom::End(0))
        .and_then(|size| reader.seek(SeekFrom::Start(0)).map(|_| size))
        .map_err(failed)?;
    let mut seen = Seen::new(label, limits, size);
    // Members, skipped ones and headers alike come out of one stream; a block of header for each entry, and a few for
    // long names, come on top of the members.
    let headers = limits
        .entries
        .saturating_mul(4096)
        .min(size.saturating_mul(limits.ratio));
    let stream = Bounded {
        reader: MultiGzDecoder::new(BufReader::new(reader)),
        left: seen.left.saturating_add(headers),
    };
    let mut archive = Archive::new(stream);
    for entry in archive.entries().map_err(failed)? {
        let mut entry = entry.map_err(failed)?;
        seen.entry()?;
        let raw = entry.path_bytes().into_owned();
        let kind = match entry.header().entry_type() {
            EntryType::Regular | EntryType::Continuous => None,
            EntryType::Directory => {
                seen.folder(&raw)?;
                continue;
            }
            // Comments for the whole archive, as git writes them.
            EntryType::XGlobalHeader => continue,
            EntryType::GNUSparse => Some("a sparse file"),
            EntryType::Symlink => Some("a symbolic link"),
            EntryType::Link => Some("a hard link"),
            EntryType::Char | EntryType::Block => Some("a device"),
            EntryType::Fifo => Some("a named pipe"),
            _ => Some("of an unknown kind"),
        };
        if let Some(kind) = kind {
            let name = raw.escape_ascii().to_string();
            return Err(Error::Kind {
                archive: label.to_owned(),
                name,
                kind,
            }
            .into());
        }
        let name = seen.name(&raw)?;
        if wanted(&name) {
            let claimed = entry.size();
            let bytes = seen.bytes(&name, &mut entry, claimed)?;
            if (bytes.len() as u64) < claimed {
                let source = io::Error::from(io::ErrorKind::UnexpectedEof);
                return Err(Error::Read {
                    archive: label.to_owned(),
                    name: Some(name),
                    source,
                }
                .into());
            }
            visit(&name, bytes)?;
        } else {
            io::copy(&mut entry, &mut Sink(limits.member_bytes)).map_err(|source| Error::Read {
                archive: label.to_owned(),
                name: Some(name),
                source,
            })?;
        }
    }
    // To the end, where gzip has its checksum.
    let mut rest = archive.into_inner();
    io::copy(&mut rest, &mut io::sink()).map_err(failed)?;
    Ok(())
}

/// Fails, rather than ends, after so many bytes: an end would read as the end of the archive.
struct Bounded<R> {
    reader: R,
    left: u64,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.reader.read(buffer)?;
        self.left = self.left.checked_sub(count as u64).ok_or_else(|| {
            io::Error::other("the archive unpacks to more bytes than are allowed for its size")
        })?;
        Ok(count)
    }
}
