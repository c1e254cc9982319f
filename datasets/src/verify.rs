//! Whether a data set is here, and is what it should be.

use std::{fs, io, path::Path};

use crate::{DataSet, Error, File, Sha256, content};

/// Whether a data set is in a folder, as far as names and sizes tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Status {
    /// Every file that is needed is there and can be right.
    Present,
    /// Files that are needed are not there.
    Missing {
        /// Their names.
        files: Vec<String>,
    },
    /// Files are there that cannot be right.
    Damaged {
        /// What is wrong, a clause for each file.
        faults: Vec<String>,
    },
}

/// By what a file was known to be right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    /// Its bytes have the SHA-256 of the catalogue.
    Bytes,
    /// Its content has the digest of the catalogue; its bytes are packed another way.
    Content,
}

/// The files that were verified, and by what; optional ones that are not there are left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    /// Names of the files, in the order of the catalogue.
    pub files: Vec<(String, Proof)>,
}

/// Looks at names and sizes only, which takes no time; [`verify`] reads all bytes.
///
/// An archive that is known by its content may have any size. A set without files, such as the digits in this crate, is
/// always present.
pub fn status(data: &Path, set: &DataSet) -> Status {
    let (mut missing, mut faults) = (Vec::new(), Vec::new());
    for file in &set.files {
        let path = set.path(data, file);
        match fs::metadata(&path) {
            Ok(found) if !found.is_file() => {
                faults.push(format!("{} is not a file", path.display()))
            }
            Ok(found) if file.content.is_none() && found.len() != file.bytes => {
                faults.push(format!(
                    "{} has {} bytes, not {}",
                    path.display(),
                    found.len(),
                    file.bytes
                ));
            }
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if !file.optional {
                    missing.push(file.name.clone());
                }
            }
            Err(error) => faults.push(format!("cannot read {}: {error}", path.display())),
        }
    }
    if !faults.is_empty() {
        Status::Damaged { faults }
    } else if !missing.is_empty() {
        Status::Missing { files: missing }
    } else {
        Status::Present
    }
}

/// Reads every file of a data set that is in the folder `data` (as `<data>/<name>/<file>`) and compares it with the
/// catalogue.
///
/// # Errors
/// The first file that is missing, cannot be read or is wrong.
pub fn verify(data: &Path, set: &DataSet) -> Result<Verified, Error> {
    let mut verified = Verified::default();
    for file in &set.files {
        let path = set.path(data, file);
        match verify_file(&path, file) {
            Ok(proof) => verified.files.push((file.name.clone(), proof)),
            Err(Error::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                if !file.optional {
                    return Err(Error::MissingFile {
                        set: set.name.clone(),
                        path: path.display().to_string(),
                    });
                }
            }
            Err(error) => return Err(error),
        }
    }
    Ok(verified)
}

/// Reads a file, wherever it lies, and compares it with what the catalogue says of it.
///
/// # Errors
/// The file cannot be read, or is wrong.
pub fn verify_file(path: &Path, file: &File) -> Result<Proof, Error> {
    let path_text = path.display().to_string();
    match compare(path, file)? {
        Ok(proof) => Ok(proof),
        Err(Mismatch::Size { found, expected }) => Err(Error::WrongSize {
            path: path_text,
            found,
            expected,
        }),
        Err(Mismatch::Hash { found, expected }) => Err(Error::WrongHash {
            path: path_text,
            found,
            expected,
        }),
        Err(Mismatch::Content { found, expected }) => Err(Error::WrongContent {
            path: path_text,
            found,
            expected,
        }),
    }
}

/// How a file differs from what the catalogue says of it.
pub(crate) enum Mismatch {
    Size { found: u64, expected: u64 },
    Hash { found: Sha256, expected: Sha256 },
    Content { found: Sha256, expected: Sha256 },
}

/// As [`verify_file`], with a difference told from a failure.
pub(crate) fn compare(path: &Path, file: &File) -> Result<Result<Proof, Mismatch>, Error> {
    let failed = |source| Error::Read {
        path: path.display().to_string(),
        source,
    };
    let (hash, bytes) = Sha256::of_file(path).map_err(failed)?;
    if hash == file.sha256 {
        return Ok(Ok(Proof::Bytes));
    }
    let Some(content) = &file.content else {
        return Ok(Err(if bytes == file.bytes {
            Mismatch::Hash {
                found: hash,
                expected: file.sha256,
            }
        } else {
            Mismatch::Size {
                found: bytes,
                expected: file.bytes,
            }
        }));
    };
    let (found, expected) = (content::digest(path, content)?, content.digest);
    Ok(if found == expected {
        Ok(Proof::Content)
    } else {
        Err(Mismatch::Content { found, expected })
    })
}
