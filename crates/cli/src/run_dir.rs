//! The folder of a run.

use std::fs;
use std::path::{Path, PathBuf};

use nearfar_trainer::checkpoint::sha256;

use crate::exit::Error;
use crate::run_file::RunFile;

/// Where everything of a run lies.
#[derive(Clone, Debug)]
pub(crate) struct RunDir(PathBuf);

impl RunDir {
    pub(crate) fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn checkpoints(&self) -> PathBuf {
        self.0.join("checkpoints")
    }

    pub(crate) fn metrics(&self) -> PathBuf {
        self.0.join("metrics.jsonl")
    }

    pub(crate) fn events(&self) -> PathBuf {
        self.0.join("events")
    }

    pub(crate) fn report(&self) -> PathBuf {
        self.0.join("report.html")
    }

    /// How raw data become inputs: what `embed` and `search` need of the data that were trained on.
    pub(crate) fn reader(&self) -> PathBuf {
        self.0.join("reader.json")
    }

    fn resolved(&self) -> PathBuf {
        self.0.join("resolved.toml")
    }

    /// Writes the run file as given (with changes made) and with every default written out; gives the hash that checkpoints carry.
    pub(crate) fn write_configuration(&self, given: &str, run: &RunFile) -> Result<String, Error> {
        fs::create_dir_all(&self.0).map_err(|source| Error::File {
            action: "make the folder",
            path: self.0.clone(),
            source,
        })?;
        let resolved = resolved(run)?;
        write(&self.0.join("run.toml"), given.as_bytes())?;
        write(&self.resolved(), resolved.as_bytes())?;
        Ok(sha256(resolved.as_bytes()))
    }

    /// The run file of a run that was made, and its hash.
    pub(crate) fn configuration(&self) -> Result<(RunFile, String), Error> {
        let path = self.resolved();
        if !path.is_file() {
            return Err(Error::Usage(format!(
                "{} is no folder of a run: there is no resolved.toml in it",
                self.0.display()
            )));
        }
        let text = read(&path)?;
        let (run, _) = RunFile::parse(&path.display().to_string(), &text, &[])?;
        Ok((run, sha256(text.as_bytes())))
    }

    /// The hash that a run with these settings has.
    pub(crate) fn hash(run: &RunFile) -> Result<String, Error> {
        Ok(sha256(resolved(run)?.as_bytes()))
    }
}

/// A run file with every default written out.
pub(crate) fn resolved(run: &RunFile) -> Result<String, Error> {
    toml::to_string(run)
        .map_err(|error| Error::Usage(format!("the run file cannot be written out: {error}")))
}

/// Writes a file whole: beside its place, then renamed.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let aside = path.with_extension(format!(
        "{}.tmp",
        path.extension().and_then(|it| it.to_str()).unwrap_or("")
    ));
    fs::write(&aside, bytes)
        .and_then(|()| fs::rename(&aside, path))
        .map_err(|source| Error::File {
            action: "write",
            path: path.to_path_buf(),
            source,
        })
}

pub(crate) fn read(path: &Path) -> Result<String, Error> {
    fs::read_to_string(path).map_err(|source| Error::File {
        action: "read",
        path: path.to_path_buf(),
        source,
    })
}
