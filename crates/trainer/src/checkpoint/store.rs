//! Checkpoints in a folder: saved so that a kill or a power cut at any instant loses none that was published.

use std::fmt;
use std::path::{Path, PathBuf};

use super::format::{self, Files, MANIFEST, Manifest};
use super::{Checkpoint, DiskFs, Fs};
use crate::error::Error;

/// The checkpoints of one run, in one folder.
///
/// A checkpoint is a folder `ckpt-00001234`, named for its step. It is built under a temporary name, every file and then the folder
/// are synced, and it gets its name; the folder above is synced, `LATEST` is replaced the same way, and only then are older ones
/// removed. So what has a name is whole, and what a call of [`save`](Self::save) has returned for survives a power cut.
///
/// There must be one of these for a folder at a time: see [`RunLock`](crate::RunLock).
#[derive(Debug)]
pub struct Checkpoints {
    fs: Box<dyn Fs>,
    folder: PathBuf,
    run: String,
    keep: usize,
}

/// What was saved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Saved {
    /// The checkpoint's folder.
    pub path: PathBuf,
    /// Size of its files.
    pub bytes: u64,
}

/// What was loaded.
#[derive(Debug)]
pub struct Loaded {
    /// The newest that can be used, or the best.
    pub checkpoint: Checkpoint,
    /// What its files are; their hashes.
    pub manifest: Manifest,
    /// Its folder.
    pub path: PathBuf,
    /// Newer ones that cannot be used, from the newest on, and why.
    pub skipped: Vec<Error>,
}

impl fmt::Display for Loaded {
    /// Where a run goes on from, and what was wrong with newer checkpoints.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "going on from {}", self.path.display())?;
        for error in &self.skipped {
            write!(f, "; not used: {}", chain(error))?;
        }
        Ok(())
    }
}

/// An error with its causes in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

const LATEST: &str = "LATEST";
const BEST: &str = "best";
const TEMPORARY: &str = ".tmp-";
const REPLACED: &str = ".old-";

impl Checkpoints {
    /// The checkpoints in a folder, which is made if it is not there. What a process that was killed left behind is removed, and a
    /// save that it had published is finished: `LATEST` and `best` name what they should, and what is not kept is removed.
    ///
    /// `run` is the [`sha256`](super::sha256) of the run's resolved configuration. The newest `keep` checkpoints are kept (at least
    /// one), and the best beside them.
    ///
    /// # Errors
    /// [`Error::Io`] with the path and what could not be done.
    pub fn open(folder: impl Into<PathBuf>, run: &str, keep: usize) -> Result<Self, Error> {
        Self::open_on(Box::new(DiskFs), folder, run, keep)
    }

    /// The same on another file system.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_on(
        fs: Box<dyn Fs>,
        folder: impl Into<PathBuf>,
        run: &str,
        keep: usize,
    ) -> Result<Self, Error> {
        let store = Self {
            fs,
            folder: folder.into(),
            run: run.into(),
            keep: keep.max(1),
        };
        store
            .fs
            .create_dir(&store.folder)
            .map_err(Error::io("make the folder", &store.folder))?;
        // The folder's own entry, and those above it: without them a power cut would take all checkpoints at once.
        for (distance, above) in store.folder.ancestors().skip(1).enumerate() {
            let here = Path::new(".");
            let above = if above.as_os_str().is_empty() {
                here
            } else {
                above
            };
            let synced = store.sync_dir(above);
            if distance == 0 {
                synced?; // Those further up may be somebody else's.
            }
        }
        store.sweep()?;
        store.finish()?;
        Ok(store)
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Saves a checkpoint, then removes those that are not kept.
    ///
    /// A checkpoint of the same step is replaced, unless it has the same bytes.
    ///
    /// # Errors
    /// [`Error::Io`] with the path and what could not be done. Checkpoints from before are as they were.
    pub fn save(&self, checkpoint: &Checkpoint) -> Result<Saved, Error> {
        let files = format::files(checkpoint, &self.run)?;
        let name = name_of(checkpoint.position.step);
        let path = self.folder.join(&name);
        let bytes: usize = files.files.iter().map(|(_, bytes)| bytes.len()).sum();

        if !self.is_there(&path, &files) {
            let temporary = self.temporary(&name);
            let published = self.build(&temporary, &files).and_then(|()| {
                self.publish(
                    &temporary,
                    &path,
                    &self.folder.join(format!("{REPLACED}{name}")),
                )
            });
            if let Err(error) = published {
                let _ = self.remove_tree(&temporary); // What stays is swept at the next start.
                return Err(error);
            }
        }
        // Also where it was there already: the power may have been cut before its name reached the disk.
        self.sync_dir(&self.folder)?;
        self.point(LATEST, &name)?;
        if checkpoint.best {
            self.point(BEST, &name)?;
        }
        self.prune(&name)?;
        Ok(Saved {
            path,
            bytes: (bytes + files.manifest.len()) as u64,
        })
    }

    /// The newest checkpoint that can be used; none when there is no checkpoint at all.
    ///
    /// # Errors
    /// [`Error::OtherRun`] when it is of another configuration, and [`Error::NoneUsable`] when all are damaged.
    pub fn latest(&self) -> Result<Option<Loaded>, Error> {
        latest(&*self.fs, &self.folder, Some(&self.run))
    }

    /// The best checkpoint; none when none was marked.
    ///
    /// # Errors
    /// When it is damaged or of another configuration.
    pub fn best(&self) -> Result<Option<Loaded>, Error> {
        best(&*self.fs, &self.folder, Some(&self.run))
    }

    /// Names of all checkpoints, from the oldest on.
    ///
    /// # Errors
    /// [`Error::Io`] when the folder cannot be read.
    pub fn names(&self) -> Result<Vec<String>, Error> {
        names(&*self.fs, &self.folder)
    }

    fn build(&self, temporary: &Path, files: &Files) -> Result<(), Error> {
        self.fs
            .create_dir(temporary)
            .map_err(Error::io("make the folder", temporary))?;
        for (name, bytes) in &files.files {
            self.write(&temporary.join(name), bytes)?;
        }
        self.write(&temporary.join(MANIFEST), &files.manifest)?;
        self.sync_dir(temporary)
    }

    fn publish(&self, temporary: &Path, path: &Path, replaced: &Path) -> Result<(), Error> {
        let name = path.file_name().unwrap_or_default().to_os_string();
        let there = self.read_dir(&self.folder)?;
        if !there.iter().any(|there| **there == *name) {
            return self.rename(temporary, path);
        }
        // A folder cannot take the place of another in one step; the sweep puts the old one back if this ends in between.
        self.rename(path, replaced)?;
        if let Err(error) = self.rename(temporary, path) {
            let _ = self.fs.rename(replaced, path);
            return Err(error);
        }
        self.sync_dir(&self.folder)?;
        self.remove_tree(replaced)
    }

    /// Whether the same checkpoint was saved before, and is whole.
    fn is_there(&self, path: &Path, files: &Files) -> bool {
        let same = |name: &str, bytes: &[u8]| {
            let found = self.fs.read(&path.join(name), bytes.len() as u64);
            found.is_ok_and(|found| found == bytes)
        };
        same(MANIFEST, &files.manifest) && files.files.iter().all(|(name, bytes)| same(name, bytes))
    }

    /// Writes the name of a checkpoint to a file, whole or not at all.
    fn point(&self, pointer: &str, name: &str) -> Result<(), Error> {
        let temporary = self.temporary(pointer);
        self.write(&temporary, format!("{name}\n").as_bytes())
            .and_then(|()| self.rename(&temporary, &self.folder.join(pointer)))
            .and_then(|()| self.sync_dir(&self.folder))
            .inspect_err(|_| {
                let _ = self.fs.remove_file(&temporary);
            })
    }

    /// Removes what is neither among the newest nor the best nor just saved.
    fn prune(&self, saved: &str) -> Result<(), Error> {
        let best = match pointed(&*self.fs, &self.folder.join(BEST)) {
            // Nobody knows which is the best: better too many than too few.
            Err(Error::Corrupt { .. }) => return Ok(()),
            other => other?,
        };
        let mut names = self.names()?;
        names.truncate(names.len().saturating_sub(self.keep));
        for name in names {
            if name != saved && Some(&name) != best.as_ref() {
                // What is half removed must not have the name of a checkpoint.
                let doomed = self.temporary(&name);
                self.rename(&self.folder.join(&name), &doomed)?;
                self.remove_tree(&doomed)?;
            }
        }
        Ok(())
    }

    /// Removes what a killed process left behind.
    fn sweep(&self) -> Result<(), Error> {
        let names = self.read_dir(&self.folder)?;
        for name in &names {
            let path = self.folder.join(name);
            if name.starts_with(TEMPORARY) {
                self.remove_tree(&path)?;
            } else if let Some(original) = name.strip_prefix(REPLACED) {
                if names.iter().any(|name| name == original) {
                    self.remove_tree(&path)?;
                } else {
                    self.rename(&path, &self.folder.join(original))?;
                    self.sync_dir(&self.folder)?;
                }
            }
        }
        Ok(())
    }

    /// Does what a process had still to do that was killed after its newest checkpoint had its name. The run that goes on from there
    /// may have no step left to make, and so nothing to save.
    fn finish(&self) -> Result<(), Error> {
        let Ok(Some(newest)) = self.latest() else {
            return Ok(()); // There is none, or none of ours: whoever asks for it is told why.
        };
        let name = name_of(newest.checkpoint.position.step);
        let names_it = |pointer: &str| {
            let named = pointed(&*self.fs, &self.folder.join(pointer));
            named.is_ok_and(|named| named.as_ref() == Some(&name))
        };
        let (latest, best) = (names_it(LATEST), !newest.checkpoint.best || names_it(BEST));
        if !latest || !best {
            // The name itself may not have reached the disk.
            self.sync_dir(&self.folder)?;
        }
        if !latest {
            self.point(LATEST, &name)?;
        }
        if !best {
            self.point(BEST, &name)?;
        }
        self.prune(&name)
    }

    fn temporary(&self, name: &str) -> PathBuf {
        let pid = std::process::id();
        self.folder.join(format!("{TEMPORARY}{pid}-{name}"))
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> Result<(), Error> {
        if let Err(error) = self.fs.write(path, bytes) {
            if error.kind() != std::io::ErrorKind::AlreadyExists {
                let doing = format!("write {} bytes to", bytes.len());
                return Err(Error::io(doing, path)(error));
            }
            // Left by a save that failed before, and could not be removed then.
            self.fs
                .remove_file(path)
                .map_err(Error::io("remove", path))?;
            let doing = format!("write {} bytes to", bytes.len());
            self.fs.write(path, bytes).map_err(Error::io(doing, path))?;
        }
        self.fs.sync_file(path).map_err(Error::io("sync", path))
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), Error> {
        let doing = format!("rename {} to", from.display());
        self.fs.rename(from, to).map_err(Error::io(doing, to))
    }

    fn sync_dir(&self, path: &Path) -> Result<(), Error> {
        self.fs.sync_dir(path).map_err(Error::io("sync", path))
    }

    fn read_dir(&self, path: &Path) -> Result<Vec<String>, Error> {
        self.fs.read_dir(path).map_err(Error::io("read", path))
    }

    /// Removes a file, or a folder of files.
    fn remove_tree(&self, path: &Path) -> Result<(), Error> {
        let remove = |path: &Path| self.fs.remove_file(path).map_err(Error::io("remove", path));
        match self.fs.read_dir(path) {
            Ok(names) => {
                for name in names {
                    remove(&path.join(name))?;
                }
                self.fs.remove_dir(path).map_err(Error::io("remove", path))
            }
            Err(_) if self.fs.remove_file(path).is_ok() => Ok(()), // It was a file.
            Err(error) => Err(Error::io("read", path)(error)),
        }
    }
}

/// The newest checkpoint in a folder that can be used; none when there is no checkpoint at all.
///
/// This only reads, so that it may be done while a run trains there. Where `run` is given, a checkpoint of another configuration is
/// refused.
///
/// # Errors
/// [`Error::OtherRun`] when it is of another configuration, and [`Error::NoneUsable`] when all are damaged.
pub fn latest(fs: &dyn Fs, folder: &Path, run: Option<&str>) -> Result<Option<Loaded>, Error> {
    let mut skipped = Vec::new();
    for name in names(fs, folder)?.iter().rev() {
        match load_of(fs, folder.join(name), run) {
            Ok(loaded) => return Ok(Some(Loaded { skipped, ..loaded })),
            Err(error @ Error::OtherRun { .. }) => return Err(error),
            Err(error) => skipped.push(error),
        }
    }
    if skipped.is_empty() {
        return Ok(None);
    }
    Err(Error::NoneUsable {
        path: folder.to_path_buf(),
        reasons: skipped.iter().map(|error| chain(error)).collect(),
    })
}

/// The best checkpoint in a folder; none when none was marked. This only reads, as [`latest`].
///
/// # Errors
/// When it is damaged or of another configuration.
pub fn best(fs: &dyn Fs, folder: &Path, run: Option<&str>) -> Result<Option<Loaded>, Error> {
    match pointed(fs, &folder.join(BEST))? {
        Some(name) => load_of(fs, folder.join(name), run).map(Some),
        None => Ok(None),
    }
}

fn load_of(fs: &dyn Fs, path: PathBuf, run: Option<&str>) -> Result<Loaded, Error> {
    let (manifest, checkpoint) = format::load(fs, &path)?;
    if let Some(wanted) = run
        && manifest.run != wanted
    {
        return Err(Error::OtherRun {
            path,
            found: manifest.run,
            wanted: wanted.into(),
        });
    }
    Ok(Loaded {
        checkpoint,
        manifest,
        path,
        skipped: Vec::new(),
    })
}

fn names(fs: &dyn Fs, folder: &Path) -> Result<Vec<String>, Error> {
    let mut names = fs.read_dir(folder).map_err(Error::io("read", folder))?;
    names.retain(|name| step_of(name).is_some());
    names.sort_by_key(|name| step_of(name));
    Ok(names)
}

/// The name that a pointer holds, if it is there and holds a checkpoint's.
fn pointed(fs: &dyn Fs, path: &Path) -> Result<Option<String>, Error> {
    let bytes = match fs.read(path, 64) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        other => other.map_err(Error::io("read", path))?,
    };
    let name = String::from_utf8_lossy(&bytes).trim_end().to_string();
    if step_of(&name).is_none() {
        let reason = format!("it should hold the name of a checkpoint, and holds `{name}`");
        let path = path.to_path_buf();
        return Err(Error::Corrupt { path, reason });
    }
    Ok(Some(name))
}

fn name_of(step: u64) -> String {
    format!("ckpt-{step:08}")
}

/// The step of a checkpoint's name; none of another name.
fn step_of(name: &str) -> Option<u64> {
    let digits = name.strip_prefix("ckpt-")?;
    let step = digits.parse().ok()?;
    (name_of(step) == name).then_some(step)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written() {
        for step in [0, 7, 99_999_999, 100_000_000, u64::MAX] {
            assert_eq!(step_of(&name_of(step)), Some(step));
        }
        for name in [
            "ckpt-7",
            "ckpt-+0000007",
            "ckpt-00000007x",
            "ckpt-",
            ".tmp-1-ckpt-00000007",
            "best",
        ] {
            assert_eq!(step_of(name), None, "{name}");
        }
    }
}
