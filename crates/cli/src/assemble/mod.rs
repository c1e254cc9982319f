//! Names to objects: the one place that knows all of them.

mod losses;
mod measures;
mod towers;

use std::path::Path;
use std::sync::Arc;

use candle_core::Device;
use nearfar_core::{Encoder, Loss, Span};
use nearfar_datasets::{
    Annotation, Data, Dataset, Loader, Preparation, Transform, TransformConfig,
};
use nearfar_trainer::{Options, Trainer};

pub(crate) use losses::{loss, scorer, shown};
pub(crate) use measures::{estimates, measure, pair_scores};
pub(crate) use towers::{Start, restored, towers};

use crate::exit::Error;
use crate::run_file::RunFile;

/// The data of a run file.
pub(crate) fn data(
    run: &RunFile,
    root: &Path,
    stored: Option<&Preparation>,
) -> Result<Data, Error> {
    Ok(match stored {
        None => run.data.load(root, run.seed)?,
        Some(stored) => run.data.load_prepared(root, run.seed, stored)?,
    })
}

/// Batches of a run file.
pub(crate) fn batches(run: &RunFile, data: &Data, device: &Device) -> Result<Loader, Error> {
    let annotation = data.annotation();
    if run.views > 1 && annotation.inputs() > 1 {
        return Err(Error::Usage(format!(
            "`views` is {}, but a batch of `data.{}` has two inputs already; leave `views` out",
            run.views, data.name
        )));
    }
    let keeps_places = |it: &&TransformConfig| {
        matches!(
            it,
            TransformConfig::Noise(_) | TransformConfig::ColorChange(_)
        )
    };
    if annotation == Annotation::Masks
        && let Some(moves) = run.augmentation.iter().find(|it| !keeps_places(it))
    {
        return Err(Error::Usage(format!(
            "`augmentation` has `{}`, which changes what is where in an image, and the masks of `data.{}` would not follow; of all, \
             `noise` and `color` can be used",
            moves.name(),
            data.name
        )));
    }
    let sampler = run.sampler.build(&*data.train)?;
    let augmentation = run
        .augmentation
        .iter()
        .map(|it| Box::new(it.clone()) as Box<dyn Transform>)
        .collect();
    Ok(
        Loader::new(data.train.clone(), sampler, run.seed, device.clone())
            .augmentation(augmentation)
            .views(run.views),
    )
}

/// The trainer of a run file. `steps` is how long the run is, for schedules that end with it.
pub(crate) fn trainer(
    run: &RunFile,
    towers: Vec<Box<dyn Encoder>>,
    loss: Box<dyn Loss>,
    steps: Option<u64>,
    allow_frozen: bool,
) -> Result<Trainer, Error> {
    let options = Options {
        seed: run.seed,
        accumulate: run.train.accumulate,
        clip_norm: run.train.clip_norm,
        groups: run.groups.clone(),
        allow_frozen: if allow_frozen {
            vec!["*".into()]
        } else {
            Vec::new()
        },
        ..Options::default()
    };
    let schedule = run.schedule.build(run.optimizer.learning_rate(), steps)?;
    Ok(Trainer::new(
        towers,
        loss,
        run.optimizer.build()?,
        schedule,
        options,
    )?)
}

/// How many steps a run has; an epoch is as long as its sampler makes it.
pub(crate) fn steps(run: &RunFile, data: &Data) -> Result<u64, Error> {
    match run.until() {
        Span::Steps(steps) => Ok(steps),
        Span::Epochs(epochs) => {
            let sampler = run.sampler.build(&*data.train)?;
            let mut rng = run.seed.rng(nearfar_core::Purpose::Sampling, 0);
            Ok(epochs * sampler.epoch(data.train.labels(), &mut rng).len() as u64)
        }
    }
}

/// A data set that several look at.
pub(crate) type Shared = Arc<dyn Dataset>;
