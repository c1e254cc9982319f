//! Names to objects: the one place that knows all of them.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use candle_core::{DType, Device, Tensor};
use nearfar_core::{Distance, Encoder, Fraction, Loss, Seed, Similarity, Span};
use nearfar_datasets::{Annotation, Data, Dataset, Loader, Preparation, Shape, Transform};
use nearfar_losses::{
    Compares, CrossBatchMemory, Join, Matryoshka, Reads, Regularized, SelfSupervised, Sum,
};
use nearfar_metrics::{DistanceConfig, SimilarityConfig};
use nearfar_models::{InputShape, Params};
use nearfar_trainer::{Checkpoint, Options, Trainer};

use crate::exit::Error;
use crate::run_file::{LossEntry, RunFile};

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

/// The towers of a run file, as they are before training.
pub(crate) fn towers(
    run: &RunFile,
    shape: Shape,
    inputs: usize,
    device: &Device,
) -> Result<Vec<Box<dyn Encoder>>, Error> {
    let shape = input_shape(shape);
    let params = Params::new(run.seed, DType::F32, device)?;
    match &run.model {
        Some(model) => Ok(vec![model.build(&shape, &params)?]),
        None => {
            if run.towers.len() != inputs {
                return Err(Error::Usage(format!(
                    "there are {} `[[towers]]`, but a sample of `data.{}` has {inputs} input{}; write one tower for each, or `model` for all",
                    run.towers.len(),
                    run.data.name(),
                    if inputs == 1 { "" } else { "s" }
                )));
            }
            let places = params.at("towers");
            let towers: Vec<Box<dyn Encoder>> = run
                .towers
                .iter()
                .enumerate()
                .map(|(index, tower)| Ok(tower.model.build(&shape, &places.at(index))?))
                .collect::<Result<_, Error>>()?;
            let width = towers[0].width();
            if let Some((index, other)) = towers
                .iter()
                .enumerate()
                .find(|(_, tower)| tower.width() != width)
            {
                return Err(Error::Usage(format!(
                    "tower 0 has embeddings of {width} numbers, tower {index} of {}; they cannot be compared",
                    other.width()
                )));
            }
            Ok(towers)
        }
    }
}

fn input_shape(shape: Shape) -> InputShape {
    match shape {
        Shape::Image {
            channels,
            height,
            width,
        } => InputShape::Image {
            channels,
            height,
            width,
        },
        Shape::Features { count } => InputShape::Features(count),
        Shape::Tokens { vocabulary, .. } => InputShape::Tokens { vocabulary },
    }
}

/// The loss of a run file, joined to its distances, miners and reducers.
pub(crate) fn loss(
    run: &RunFile,
    data: &Data,
    width: usize,
    device: &Device,
) -> Result<Box<dyn Loss>, Error> {
    let context = Context {
        data,
        width,
        seed: run.seed,
        device,
    };
    let entries = run.entries();
    if run.loss.is_some() {
        return context.joined(&entries[0], String::new());
    }
    let mut sum = Sum::default();
    for (index, entry) in entries.iter().enumerate() {
        sum.push(entry.weight, context.joined(entry, Sum::place(index))?);
    }
    Ok(Box::new(sum))
}

/// What losses need to know of the rest.
struct Context<'a> {
    data: &'a Data,
    width: usize,
    seed: Seed,
    device: &'a Device,
}

impl Context<'_> {
    fn joined(&self, entry: &LossEntry, place: String) -> Result<Box<dyn Loss>, Error> {
        let annotation = self.data.annotation();
        let reads = match entry.self_supervised {
            Some(_) => Reads::Views,
            None => entry.loss.config.reads(),
        };
        let fits = match reads {
            Reads::ClassesOrPairs => annotation != Annotation::ScoredPairs,
            Reads::Classes => annotation == Annotation::Classes,
            // Two inputs for each sample.
            Reads::Views => annotation != Annotation::Classes,
            Reads::ScoredPairs => annotation == Annotation::ScoredPairs,
            Reads::Sets | Reads::Targets | Reads::Masks => false, // No format gives them yet.
        };
        if !fits {
            return Err(Error::Usage(format!(
                "`{}` learns from {}, but `data.{}` has {}",
                entry.loss.config.name(),
                reads.name(),
                self.data.name,
                annotation.name()
            )));
        }
        // What compares rows of a batch can compare them with others.
        let compares_rows = entry.loss.config.reads() == Reads::ClassesOrPairs;
        let wrapper = match (entry.memory.is_some(), entry.self_supervised.is_some()) {
            (true, _) => Some("memory"),
            (_, true) => Some("self_supervised"),
            _ => None,
        };
        if let Some(wrapper) = wrapper.filter(|_| !compares_rows) {
            return Err(Error::Usage(format!(
                "`{wrapper}` stands beside `{}`, which does not compare rows with rows; leave it out",
                entry.loss.config.name()
            )));
        }
        entry.loss.config.check()?;
        let mut loss = match &entry.matryoshka {
            None => self.wrapped(entry, self.width, place)?,
            Some(nesting) => {
                let nested = Matryoshka::new(nesting, self.width, |width, nested| {
                    self.wrapped(entry, width, format!("{place}{nested}"))
                });
                Box::new(nested?)
            }
        };
        let (embeddings, weights) = (&entry.embedding_regularizer, &entry.weight_regularizer);
        if embeddings.is_some() || weights.is_some() {
            let regularized = Regularized::new(loss, embeddings.clone(), weights.clone())?;
            loss = Box::new(regularized);
        }
        Ok(loss)
    }

    /// The loss for embeddings of a width, in its memory or as a loss of views.
    fn wrapped(
        &self,
        entry: &LossEntry,
        width: usize,
        place: String,
    ) -> Result<Box<dyn Loss>, Error> {
        let annotation = self.data.annotation();
        let (distance, similarity) = comparison(entry)?;
        let mut loss = entry.loss.config.build(Join {
            distance,
            similarity,
            scorer: None,
            miner: entry.miner.as_ref().map(|miner| miner.build()),
            miner_distance: entry.miner_distance.as_ref().map(DistanceConfig::build),
            reducer: entry.reducer.clone(),
            classes: (annotation == Annotation::Classes).then_some(self.data.train_classes),
            class_sizes: self.class_sizes(),
            center_start: entry.center_start,
            label_smoothing: entry
                .label_smoothing
                .unwrap_or_else(|| Fraction::literal(0.0)),
            super_classes: self.super_classes(entry)?,
            width,
            place,
            seed: self.seed,
            dtype: DType::F32,
            device: self.device.clone(),
        })?;
        if let Some(memory) = entry.memory {
            let memory = CrossBatchMemory::new(loss, memory, width, DType::F32, self.device)?;
            loss = Box::new(memory);
        }
        if let Some(settings) = entry.self_supervised {
            loss = Box::new(SelfSupervised { loss, settings });
        }
        Ok(loss)
    }

    /// The super-class of each class by what stands in its name before the separator, where labels are smoothed within it.
    fn super_classes(&self, entry: &LossEntry) -> Result<Vec<u32>, Error> {
        let Some(separator) = &entry.smooth_within else {
            return Ok(Vec::new());
        };
        let mut numbers = BTreeMap::new();
        let names = self.data.train.classes().iter();
        let groups = names.take(self.data.train_classes).map(|name| {
            let Some((group, _)) = name
                .rsplit_once(separator.as_str())
                .filter(|_| !separator.is_empty())
            else {
                return Err(Error::Usage(format!(
                    "`smooth_within` reads the super-class of a class before the last `{separator}` of its name, but the class `{name}` has none"
                )));
            };
            let next = numbers.len() as u32;
            Ok(*numbers.entry(group.to_owned()).or_insert(next))
        });
        let groups: Vec<u32> = groups.collect::<Result<_, Error>>()?;
        if groups.is_empty() {
            return Err(Error::Usage(format!(
                "`smooth_within` reads names of classes, and those of `data.{}` have none",
                self.data.name
            )));
        }
        Ok(groups)
    }

    /// How many training samples each class has.
    fn class_sizes(&self) -> Vec<u64> {
        if self.data.annotation() != Annotation::Classes {
            return Vec::new();
        }
        let mut sizes = vec![0; self.data.train_classes];
        for &label in self.data.train.labels() {
            if let Some(size) = sizes.get_mut(label as usize) {
                *size += 1;
            }
        }
        sizes
    }
}

type Comparing = (Option<Box<dyn Distance>>, Option<Box<dyn Similarity>>);

/// What a loss compares by: what the run file says, else its own default.
fn comparison(entry: &LossEntry) -> Result<Comparing, Error> {
    if let Some(distance) = &entry.distance {
        return Ok((Some(distance.build()), None));
    }
    if let Some(similarity) = &entry.similarity {
        return Ok((None, Some(similarity.build())));
    }
    let unknown = |name: &str| {
        Error::Usage(format!(
            "`{}` compares by `{name}`, which is no distance or similarity of ours",
            entry.loss.config.name()
        ))
    };
    match entry.loss.config.defaults().compares {
        Compares::Distance(name) => Ok((
            Some(
                DistanceConfig::of_name(name)
                    .ok_or_else(|| unknown(name))?
                    .build(),
            ),
            None,
        )),
        Compares::Similarity(name) => Ok((
            None,
            Some(
                SimilarityConfig::of_name(name)
                    .ok_or_else(|| unknown(name))?
                    .build(),
            ),
        )),
        Compares::Centers | Compares::Own => Ok((None, None)),
    }
}

/// Batches of a run file.
pub(crate) fn batches(run: &RunFile, data: &Data, device: &Device) -> Result<Loader, Error> {
    let sampler = run.sampler.build(&*data.train)?;
    let augmentation = run
        .augmentation
        .iter()
        .map(|it| Box::new(it.clone()) as Box<dyn Transform>)
        .collect();
    Ok(
        Loader::new(data.train.clone(), sampler, run.seed, device.clone())
            .augmentation(augmentation),
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

/// A model as a checkpoint has it.
pub(crate) fn restored(
    run: &RunFile,
    shape: Shape,
    inputs: usize,
    checkpoint: &Checkpoint,
    device: &Device,
) -> Result<nearfar_trainer::Towers, Error> {
    let towers = nearfar_trainer::Towers::new(towers(run, shape, inputs, device)?)?;
    for parameter in towers.parameters() {
        let value = checkpoint.model.get(&parameter.name).ok_or_else(|| {
            Error::Data(format!(
                "the checkpoint has no tensor `{}`, which the run file's model needs",
                parameter.name
            ))
        })?;
        if value.dims() != parameter.var.dims() {
            return Err(Error::Data(format!(
                "the checkpoint's `{}` has shape {:?}, the run file's model needs {:?}",
                parameter.name,
                value.dims(),
                parameter.var.dims()
            )));
        }
        parameter
            .var
            .set(&value.to_device(device)?.to_dtype(parameter.var.dtype())?)?;
    }
    Ok(towers)
}

/// What embeddings are compared by after training: what the first loss is. None for a loss with class centers, which is of cosines.
pub(crate) fn measure(run: &RunFile) -> Result<Comparing, Error> {
    run.entries().first().map_or(Ok((None, None)), comparison)
}

/// The scores that the run's loss would give to pairs of rows `(n, d)`, larger for what is more alike.
pub(crate) fn pair_scores(run: &RunFile, left: &Tensor, right: &Tensor) -> Result<Tensor, Error> {
    let score = match measure(run)? {
        (Some(distance), _) => distance.paired(left, right)?.neg()?,
        (_, Some(similarity)) => similarity.paired(left, right)?,
        (None, None) => nearfar_metrics::Cosine {}.paired(left, right)?,
    };
    let entries = run.entries();
    match entries
        .first()
        .map(|entry| entry.loss.config.estimate(&score))
        .transpose()?
        .flatten()
    {
        Some(estimate) => Ok(estimate),
        None => Ok(score),
    }
}

/// A data set that several look at.
pub(crate) type Shared = Arc<dyn Dataset>;
