//! Zip archives.

use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};

use zip::{CompressionMethod, ZipArchive, ZipWriter, result::ZipError, write::SimpleFileOptions};

use super::{Error, Limits, Seen};

/// [`read_zip`](super::read_zip) from any reader that can seek; `label` names it in messages.
///
/// # Errors
/// As [`read_zip`](super::read_zip).
pub fn read_zip_from<E: From<Error>>(
    mut reader: impl Read + Seek,
    label: &str,
    limits: &Limits,
    mut wanted: impl FnMut(&str) -> bool,
    mut visit: impl FnMut(&str, Vec<u8>) -> Result<(), E>,
) -> Result<(), E> {
    let size = reader
        .seek(SeekFrom::End(0))
        .and_then(|size| reader.seek(SeekFrom::Start(0)).map(|_| size))
        .map_err(|source| Error::Read {
            archive: label.to_owned(),
            name: None,
            source,
        })?;
    let mut archive =
        ZipArchive::new(BufReader::new(reader)).map_err(|error| broken(label, None, error))?;
    let mut seen = Seen::new(label, limits, size);
    if archive.len() as u64 > limits.entries {
        return Err(Error::Entries {
            archive: label.to_owned(),
            limit: limits.entries,
        }
        .into());
    }
    // The reader keeps one entry for each name, so repeated names show only here.
    if archive.has_duplicate_names() {
        let name = "a name in its directory".to_owned();
        return Err(Error::Duplicate {
            archive: label.to_owned(),
            name,
        }
        .into());
    }
    if archive
        .has_overlapping_entries()
        .map_err(|error| broken(label, None, error))?
    {
        return Err(Error::Overlap {
            archive: label.to_owned(),
        }
        .into());
    }
    for index in 0..archive.len() {
        seen.entry()?;
        // Raw, so that the name and kind of an encrypted or unknown member are seen before its bytes are asked for.
        let (name, claimed, encrypted) = {
            let entry = archive
                .by_index_raw(index)
                .map_err(|error| broken(label, None, error))?;
            let raw = entry.name_raw().to_vec();
            if let Some(kind) = kind(entry.unix_mode()) {
                let name = raw.escape_ascii().to_string();
                return Err(Error::Kind {
                    archive: label.to_owned(),
                    name,
                    kind,
                }
                .into());
            }
            // Names without the UTF-8 flag are in code page 437, which the reader turns into UTF-8.
            let text = entry
                .name()
                .map(|name| name.into_owned().into_bytes())
                .unwrap_or(raw);
            if entry.is_dir() {
                seen.folder(&text)?;
                continue;
            }
            (seen.name(&text)?, entry.size(), entry.encrypted())
        };
        if !wanted(&name) {
            continue;
        }
        if encrypted {
            return Err(Error::Encrypted {
                archive: label.to_owned(),
                name,
            }
            .into());
        }
        let entry = archive
            .by_index(index)
            .map_err(|error| broken(label, Some(&name), error))?;
        let bytes = seen.bytes(&name, entry, claimed)?;
        visit(&name, bytes)?;
    }
    Ok(())
}

/// What an entry is, if its mode says that it is neither a file nor a folder.
fn kind(mode: Option<u32>) -> Option<&'static str> {
    match mode? & 0o170_000 {
        0 | 0o100_000 | 0o040_000 => None,
        0o120_000 => Some("a symbolic link"),
        0o020_000 | 0o060_000 => Some("a device"),
        0o010_000 => Some("a named pipe"),
        0o140_000 => Some("a socket"),
        _ => Some("of an unknown kind"),
    }
}

fn broken(label: &str, name: Option<&str>, error: ZipError) -> Error {
    let archive = label.to_owned();
    match error {
        ZipError::Io(source) => Error::Read {
            archive,
            name: name.map(str::to_owned),
            source,
        },
        other => {
            let place = name.map(|name| format!("`{name}`: ")).unwrap_or_default();
            Error::Malformed {
                archive,
                message: format!("{place}{other}"),
            }
        }
    }
}

/// Writes members as a deflated zip archive. The same members give the same bytes: there are no times in it.
///
/// # Errors
/// A name is repeated or too long, or `writer` fails.
pub fn write_zip<W: Write + Seek>(writer: W, members: &[(String, Vec<u8>)]) -> io::Result<()> {
    let options = SimpleFileOptions::default()
        .compression_method(CompressionMethod::Deflated)
        .last_modified_time(zip::DateTime::default())
        .unix_permissions(0o644);
    let mut zip = ZipWriter::new(writer);
    for (name, bytes) in members {
        zip.start_file(name.as_str(), options)
            .map_err(io::Error::other)?;
        zip.write_all(bytes)?;
    }
    zip.finish().map_err(io::Error::other)?.flush()
}
