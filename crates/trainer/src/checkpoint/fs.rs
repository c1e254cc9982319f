//! The file operations that a checkpoint is made of.

use std::fmt::Debug;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::Path;

/// The file operations that a checkpoint is made of: on a disk, or in memory for tests that make any of them fail.
pub trait Fs: Debug + Send + Sync {
    /// Makes a folder and those above it; it is no error when it is there.
    ///
    /// # Errors
    /// What the system says.
    fn create_dir(&self, path: &Path) -> io::Result<()>;
    /// Makes a file that is not there yet, with these bytes.
    ///
    /// # Errors
    /// What the system says. The file may be there in part.
    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()>;
    /// Brings a file's bytes to the disk.
    ///
    /// # Errors
    /// What the system says.
    fn sync_file(&self, path: &Path) -> io::Result<()>;
    /// Brings a folder's entries to the disk.
    ///
    /// # Errors
    /// What the system says.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;
    /// Gives a file or folder another name; a file of that name is replaced.
    ///
    /// # Errors
    /// What the system says.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    ///
    /// # Errors
    /// What the system says.
    fn remove_file(&self, path: &Path) -> io::Result<()>;
    /// Removes an empty folder.
    ///
    /// # Errors
    /// What the system says.
    fn remove_dir(&self, path: &Path) -> io::Result<()>;
    /// Names in a folder, in order. Names that are not UTF-8 are none of ours and not listed.
    ///
    /// # Errors
    /// What the system says.
    fn read_dir(&self, path: &Path) -> io::Result<Vec<String>>;
    /// The bytes of a file, but no more than `limit + 1`.
    ///
    /// # Errors
    /// What the system says.
    fn read(&self, path: &Path, limit: u64) -> io::Result<Vec<u8>>;
}

/// The file system of the machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct DiskFs;

impl Fs for DiskFs {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        fs::create_dir_all(path)
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).create_new(true).open(path)?;
        file.write_all(bytes)
    }

    fn sync_file(&self, path: &Path) -> io::Result<()> {
        // Of all descriptors of a file it is the file that is synced. Windows wants one that may write.
        OpenOptions::new().write(true).open(path)?.sync_all()
    }

    #[cfg(unix)]
    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }

    /// Other systems know no such thing; their journals keep the order of renames.
    #[cfg(not(unix))]
    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        fs::remove_dir(path)
    }

    fn read_dir(&self, path: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(path)? {
            names.extend(entry?.file_name().into_string());
        }
        names.sort();
        Ok(names)
    }

    fn read(&self, path: &Path, limit: u64) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let file = File::open(path)?;
        file.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
        Ok(bytes)
    }
}
