//! Making a file appear all at once, and keeping others out meanwhile.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Read, Seek, Write},
    path::Path,
};

use super::Error;

/// Moves a finished part to its place, so that the place has the whole file or what was there before, even if the
/// machine stops now.
pub(super) fn publish(part: &Path, target: &Path) -> Result<(), Error> {
    let failed = |action, path: &Path| {
        let path = path.display().to_string();
        move |source| Error::Io {
            action,
            path,
            source,
        }
    };
    File::open(part)
        .and_then(|file| file.sync_all())
        .map_err(failed("write", part))?;
    fs::rename(part, target).map_err(failed("rename to", target))?;
    let folder = target.parent().unwrap_or(Path::new("."));
    sync_folder(folder).map_err(failed("write", folder))
}

#[cfg(unix)]
fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Folders cannot be opened as files here, and the file system keeps the order by itself.
#[cfg(not(unix))]
fn sync_folder(_: &Path) -> io::Result<()> {
    Ok(())
}

/// Held while a data set is fetched; the system lets go of it when the process ends, however it ends.
#[derive(Debug)]
pub(super) struct Lock {
    _file: File,
}

impl Lock {
    /// The lock of the data set `set` in its folder. The file stays: whoever removed it could remove another's.
    pub(super) fn of(set: &str, folder: &Path) -> Result<Self, Error> {
        let path = folder.join(".lock");
        let failed = |action| {
            let path = path.display().to_string();
            move |source| Error::Io {
                action,
                path,
                source,
            }
        };
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(&path)
            .map_err(failed("open"))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                let read = file.take(20).read_to_string(&mut holder);
                let known = read.is_ok()
                    && !holder.is_empty()
                    && holder.chars().all(|it| it.is_ascii_digit());
                return Err(Error::Busy {
                    set: set.to_owned(),
                    holder: known.then_some(holder),
                });
            }
            Err(TryLockError::Error(source)) => return Err(failed("lock")(source)),
        }
        file.set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| write!(file, "{}", std::process::id()))
            .map_err(failed("write"))?;
        Ok(Self { _file: file })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_many_who_want_the_lock_one_gets_it_and_the_next_after_it() -> Result<(), Error> {
        let folder = tempfile::tempdir().expect("a folder");
        let held = Lock::of("a", folder.path())?;
        match Lock::of("a", folder.path()) {
            Err(Error::Busy { set, holder }) => {
                assert_eq!(
                    (set.as_str(), holder),
                    ("a", Some(std::process::id().to_string()))
                );
            }
            other => panic!("{other:?}"),
        }
        drop(held);
        Lock::of("a", folder.path())?;
        Ok(())
    }
}
