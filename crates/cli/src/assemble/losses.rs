//! The loss of a run file, joined to what it works with.

use std::collections::BTreeMap;

use candle_core::{DType, Device, Tensor, Var};
use nearfar_core::{Encoder, Fraction, Loss, NonNegative, PairScorer, Parameter, Seed};
use nearfar_datasets::{Annotation, Data, Shape};
use nearfar_losses::{
    Beside, CrossBatchMemory, HiddenSupervision, Join, Matryoshka, Other, PartSupervision, Reads,
    Regularized, Scoring, SelfSupervised, Sum,
};
use nearfar_metrics::DistanceConfig;
use nearfar_models::{MAPS, Params, ScorerConfig, Shown};

use super::measures::comparison;
use super::towers::blank;
use crate::embedding;
use crate::exit::Error;
use crate::run_file::{LossEntry, RunFile};

/// The loss of a run file, joined to its distances, miners and reducers. It is for these towers.
pub(crate) fn loss(
    run: &RunFile,
    data: &Data,
    towers: &[Box<dyn Encoder>],
    device: &Device,
) -> Result<Box<dyn Loss>, Error> {
    let beside = beside(&*towers[0], data.shape(), device)?; // Of several towers that of the first.
    let shown = shown(&*towers[0], data.shape(), device)?;
    if run.evaluation.parts
        && !beside
            .keys()
            .any(|it| it.starts_with(PartSupervision::NAME))
    {
        return Err(embedding::without_parts());
    }
    let parameters = towers.iter().flat_map(|tower| tower.parameters());
    let context = Context {
        data,
        maps_of_heads: maps_of_heads(run, parameters),
        views: run.views,
        width: towers[0].width(),
        beside,
        shown,
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

/// The linear maps of the heads: the matrix or the diagonal of a `mahalanobis`, and the matrices of a `projection`. Centers of clusters are none.
fn maps_of_heads(run: &RunFile, parameters: impl Iterator<Item = Parameter>) -> Vec<Var> {
    let places = run.places_of_heads();
    let maps = parameters.filter(|parameter| {
        let of_head = places.iter().find(|it| parameter.name.starts_with(*it));
        of_head.is_some_and(|place| {
            place.ends_with("mahalanobis.")
                || place.ends_with("projection.") && parameter.var.rank() == 2
        })
    });
    maps.map(|parameter| parameter.var).collect()
}

/// What an encoder gives beside the embeddings, and its width.
fn beside(
    tower: &dyn Encoder,
    shape: Shape,
    device: &Device,
) -> Result<BTreeMap<String, usize>, Error> {
    let width = |tensor: &Tensor| tensor.dims().get(1).copied().unwrap_or(0);
    let encoded = blank(tower, shape, device)?;
    let named = encoded.extra.iter();
    Ok(named
        .map(|(name, tensor)| (name.clone(), width(tensor)))
        .collect())
}

/// What a scorer of pairs is shown of the rows of an encoder.
pub(crate) fn shown(tower: &dyn Encoder, shape: Shape, device: &Device) -> Result<Shown, Error> {
    let encoded = blank(tower, shape, device)?;
    let maps = encoded.extra.get(MAPS).map(Tensor::dims4).transpose()?;
    Ok(Shown {
        width: tower.width(),
        maps: maps.map(|(_, channels, rows, columns)| [channels, rows, columns]),
    })
}

/// A scorer of pairs as it is before training; `place` is what stands before the names of its loss's parameters.
pub(crate) fn scorer(
    config: &ScorerConfig,
    shown: Shown,
    place: &str,
    seed: Seed,
    device: &Device,
) -> Result<Box<dyn PairScorer>, Error> {
    let params = Params::new(seed, DType::F32, device)?;
    let place = format!("{place}{}", Scoring::PARAMETERS);
    Ok(config.build(shown, &params.at(place.trim_end_matches('.')))?)
}

/// How data come to what a loss reads, to end a message.
fn remedy(reads: Reads) -> &'static str {
    match reads {
        Reads::Views => "; `views = 2` in the run file gives two views of each sample",
        Reads::Sets => "; `labels` in `data` names a column of several labels",
        Reads::Targets => "; `target` in `data` names a column of numbers",
        Reads::Masks => "; `data.masks` and `data.scenes` have some",
        Reads::ScoredPairs => "; `score` in `data.pairs` names a column of scores",
        Reads::Classes | Reads::ClassesOrPairs => "",
    }
}

/// What losses need to know of the rest.
struct Context<'a> {
    data: &'a Data,
    views: usize,
    width: usize,
    /// What a `head_regularizer` is of.
    maps_of_heads: Vec<Var>,
    /// Vectors beside the embeddings, and their width.
    beside: BTreeMap<String, usize>,
    /// What a scorer of pairs is shown.
    shown: Shown,
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
            Reads::ClassesOrPairs => {
                annotation.has_classes() || annotation == Annotation::LabeledPairs
            }
            Reads::Classes => annotation.has_classes(),
            Reads::Views => self.views >= 2 || annotation.has_pairs(),
            Reads::ScoredPairs => annotation == Annotation::ScoredPairs,
            Reads::Sets => annotation == Annotation::Sets,
            Reads::Targets => annotation == Annotation::Targets,
            Reads::Masks => annotation == Annotation::Masks,
        };
        if entry.scorer.is_some() && annotation == Annotation::Domains {
            return Err(Error::Usage(format!(
                "a `scorer` compares samples of one kind, and `data.{}` has two domains; leave it out",
                self.data.name
            )));
        }
        if reads == Reads::Views
            && self.views > 2
            && entry.self_supervised.is_none()
            && !entry.loss.config.reads_many_views()
        {
            return Err(Error::Usage(format!(
                "`{}` takes two views of each row, and a third for a wrong answer, but `views` is {}; write `views = 2`",
                entry.loss.config.name(),
                self.views
            )));
        }
        if !fits {
            return Err(Error::Usage(format!(
                "`{}` learns from {}, but `data.{}` has {}{}",
                entry.loss.config.name(),
                reads.name(),
                self.data.name,
                annotation.name(),
                remedy(reads)
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
        let others = self.others(entry)?;
        let mut loss = if others.is_empty() {
            self.one(entry, place, self.width)?
        } else {
            let main = self.one(entry, format!("{place}{}", Beside::MAIN), self.width)?;
            let others = others.into_iter().enumerate().map(|(index, other)| {
                let place = format!("{place}{}", Beside::place(index));
                let (name, weight, fades, width) = other;
                Ok(Other {
                    name,
                    weight,
                    fades,
                    loss: self.one(entry, place, width)?,
                })
            });
            Box::new(Beside::new(main, others.collect::<Result<_, Error>>()?))
        };
        let (embeddings, weights) = (&entry.embedding_regularizer, &entry.weight_regularizer);
        let heads = &entry.head_regularizer;
        if embeddings.is_some() || weights.is_some() || heads.is_some() {
            let mut regularized = Regularized::new(loss, embeddings.clone(), weights.clone())?;
            if let Some(penalty) = heads {
                regularized = regularized.with_maps(penalty.clone(), self.maps_of_heads.clone())?;
            }
            loss = Box::new(regularized);
        }
        Ok(loss)
    }

    /// The vectors beside the embeddings that an entry learns from too: name, weight, when that has faded, width.
    #[allow(clippy::type_complexity)]
    fn others(
        &self,
        entry: &LossEntry,
    ) -> Result<Vec<(String, NonNegative, Option<u64>, usize)>, Error> {
        let named = |begin: &'static str| {
            let found = self
                .beside
                .iter()
                .filter(move |(name, _)| name.starts_with(begin));
            let mut found: Vec<(String, usize)> =
                found.map(|(name, width)| (name.clone(), *width)).collect();
            // `part.10` is after `part.9`.
            found.sort_by_key(|(name, _)| (name.len(), name.clone()));
            found
        };
        let missing = |key: &str, begin: &str, settings: &str| {
            Error::Usage(format!(
                "`{key}` wants vectors `{begin}0`, `{begin}1`, …, which the model does not give; {settings}"
            ))
        };
        let mut others = Vec::new();
        if let Some(settings) = entry.parts {
            let found = named(PartSupervision::NAME);
            if found.is_empty() {
                let with = "`model.conv4 = { parts = 3, blocks = 2 }` gives some";
                return Err(missing("parts", PartSupervision::NAME, with));
            }
            let share = settings.weight.get() / found.len() as f64;
            let weight = NonNegative::new(share).unwrap_or(settings.weight);
            others.extend(
                found
                    .into_iter()
                    .map(|(name, width)| (name, weight, None, width)),
            );
        }
        if let Some(settings) = entry.deep_supervision {
            let found = named(HiddenSupervision::NAME);
            if found.is_empty() {
                let with = "`hidden_heads = true` of `model.conv4` and `model.mlp` gives them";
                return Err(missing("deep_supervision", HiddenSupervision::NAME, with));
            }
            others.extend(
                found
                    .into_iter()
                    .map(|(name, width)| (name, settings.weight, settings.fades, width)),
            );
        }
        Ok(others)
    }

    /// An entry's loss of vectors of some width: of all of them, or of their first numbers too.
    fn one(&self, entry: &LossEntry, place: String, width: usize) -> Result<Box<dyn Loss>, Error> {
        Ok(match &entry.matryoshka {
            None => self.wrapped(entry, width, place)?,
            Some(nesting) => {
                let nested = Matryoshka::new(nesting, width, |width, nested| {
                    self.wrapped(entry, width, format!("{place}{nested}"))
                });
                Box::new(nested?)
            }
        })
    }

    /// The loss for embeddings of a width, in its memory or as a loss of views.
    fn wrapped(
        &self,
        entry: &LossEntry,
        width: usize,
        place: String,
    ) -> Result<Box<dyn Loss>, Error> {
        let annotation = self.data.annotation();
        // What a scorer says takes the place of a distance.
        let (distance, similarity) = match entry.scorer {
            None => comparison(entry)?,
            Some(_) => (None, None),
        };
        let build = |config| scorer(config, self.shown, &place, self.seed, self.device);
        let scorer = entry.scorer.as_ref().map(build).transpose()?;
        let mut loss = entry.loss.config.build(Join {
            distance,
            similarity,
            scorer,
            miner: entry.miner.as_ref().map(|miner| miner.build()),
            miner_distance: entry.miner_distance.as_ref().map(DistanceConfig::build),
            reducer: entry.reducer.clone(),
            classes: annotation.has_classes().then_some(self.data.train_classes),
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
        if !self.data.annotation().has_classes() {
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
