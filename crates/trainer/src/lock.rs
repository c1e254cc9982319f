//! One run a folder.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;

use crate::error::Error;

/// Holds a run's folder, so that no second process writes into it. It is given back when this is dropped or the process ends,
/// however that happens.
///
/// The file `.lock` stays: were it removed, two processes could each hold a file of that name.
#[derive(Debug)]
pub struct RunLock {
    _file: File,
}

impl RunLock {
    /// The name of the file in the folder.
    pub const FILE: &str = ".lock";

    /// Takes a folder that is there.
    ///
    /// # Errors
    /// [`Error::Locked`] with the number of the process that holds it; [`Error::Io`] when there is no such folder.
    pub fn acquire(folder: &Path) -> Result<Self, Error> {
        let path = folder.join(Self::FILE);
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false) // It may be another's.
            .open(&path)
            .map_err(Error::io("open", &path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut text = String::new();
                // Some systems let nobody read a file that is locked; then the number is not known.
                let read = file.read_to_string(&mut text);
                return Err(Error::Locked {
                    path: folder.to_path_buf(),
                    pid: read.ok().and_then(|_| text.trim().parse().ok()),
                });
            }
            Err(TryLockError::Error(source)) => return Err(Error::io("lock", &path)(source)),
        }
        let pid = std::process::id();
        file.set_len(0)
            .and_then(|()| file.seek(SeekFrom::Start(0)))
            .and_then(|_| writeln!(file, "{pid}"))
            .map_err(Error::io("write to", &path))?;
        Ok(Self { _file: file })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_many_that_start_at_once_one_has_the_folder() {
        let folder = tempfile::tempdir().expect("a folder");
        let barrier = std::sync::Barrier::new(16);
        let (barrier, path) = (&barrier, folder.path());
        let held: Vec<Option<RunLock>> = std::thread::scope(|scope| {
            let start = || {
                barrier.wait();
                RunLock::acquire(path).ok()
            };
            let threads: Vec<_> = (0..16).map(|_| scope.spawn(start)).collect();
            threads
                .into_iter()
                .map(|thread| thread.join().expect("no panic"))
                .collect()
        });
        assert_eq!(held.iter().flatten().count(), 1);

        let error = RunLock::acquire(folder.path()).expect_err("held");
        assert!(
            matches!(error, Error::Locked { pid, .. } if pid == Some(std::process::id())),
            "{error}"
        );
        assert!(
            error.to_string().contains("another run (process "),
            "{error}"
        );
        drop(held);
        RunLock::acquire(folder.path()).expect("given back");
    }
}
