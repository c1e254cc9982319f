//! A run that was trained, for those who use it.

use std::path::Path;

use candle_core::Device;
use nearfar_datasets::{Data, Preparation};
use nearfar_trainer::Towers;

use crate::args::Global;
use crate::assemble;
use crate::exit::Error;
use crate::results;
use crate::run_dir::{RunDir, read};
use crate::run_file::RunFile;
use crate::scoring::Scorer;

/// A model with what raw data go through before it sees them.
pub(crate) struct Trained {
    pub(crate) run: RunFile,
    pub(crate) preparation: Preparation,
    pub(crate) towers: Towers,
    /// What scores pairs, where the run learned that.
    pub(crate) scorer: Option<Scorer>,
    /// SHA-256 of the weights.
    pub(crate) model: String,
    /// Which of several towers this is, where it is one of them alone.
    pub(crate) tower: Option<usize>,
}

impl Trained {
    pub(crate) fn load(folder: &Path, checkpoint: &str, device: &Device) -> Result<Self, Error> {
        let dir = RunDir::new(folder);
        let (run, hash) = dir.configuration()?;
        let preparation = preparation(&dir)?;
        let loaded = results::chosen(&dir, &hash, checkpoint)?;
        let towers = assemble::restored(
            &run,
            &preparation.shapes(),
            run.towers.len().max(1),
            &loaded.checkpoint,
            device,
        )?;
        let shape = preparation.shape();
        let scorer = Scorer::of_checkpoint(&run, &towers, shape, &loaded.checkpoint, device)?;
        let weights = loaded.manifest.files.get("model.safetensors");
        let model = weights.map_or_else(String::new, |file| file.sha256.clone());
        Ok(Self {
            run,
            preparation,
            towers,
            scorer,
            model,
            tower: None,
        })
    }

    /// One of several towers with what its inputs go through; all as they are where none is asked for.
    pub(crate) fn of_tower(self, tower: Option<usize>) -> Result<Self, Error> {
        let Some(tower) = tower else { return Ok(self) };
        let count = self.towers.len();
        let Some(towers) = self.towers.only(tower) else {
            return Err(Error::Usage(format!(
                "`--tower {tower}` is not one of the run's, which has {count}; the first is 0"
            )));
        };
        Ok(Self {
            preparation: self.preparation.of_input(tower).clone(),
            towers,
            tower: Some(tower),
            ..self
        })
    }
}

/// What the raw data of a run go through.
pub(crate) fn preparation(dir: &RunDir) -> Result<Preparation, Error> {
    let path = dir.reader();
    serde_json::from_str(&read(&path)?).map_err(|error| {
        Error::Data(format!(
            "{}: {error}; it is not what training wrote",
            path.display()
        ))
    })
}

/// The data of a run, prepared as they were in training.
pub(crate) fn data(dir: &RunDir, run: &RunFile, global: &Global) -> Result<Data, Error> {
    assemble::data(run, &global.data, Some(&preparation(dir)?))
}
