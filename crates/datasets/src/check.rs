//! All that is wrong with data, with the fix.

use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hash, Hasher},
    path::Path,
    sync::Arc,
};

use nearfar_core::Seed;
use rayon::prelude::*;

use crate::{
    Annotation, Data, DataConfig, Dataset, Error, Preparation, Sample, Value,
    error::{Fault, Sink},
};

/// What is wrong with data, up to a limit; the rest is counted.
#[derive(Debug)]
pub struct Problems {
    errors: Vec<Error>,
    limit: usize,
    more: u64,
}

impl Problems {
    /// None yet.
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            errors: Vec::new(),
            limit,
            more: 0,
        }
    }

    /// Those that were kept, in the order they were found. Each says where, what, and what would be right.
    pub fn errors(&self) -> impl Iterator<Item = &Error> {
        self.errors.iter()
    }

    /// Those that were found beyond the limit.
    pub fn more(&self) -> u64 {
        self.more
    }

    /// Whether nothing was found.
    pub fn is_empty(&self) -> bool {
        self.errors.is_empty()
    }

    /// Whether nothing was found but warnings.
    pub fn can_be_trained_on(&self) -> bool {
        self.more == 0 && self.errors.iter().all(Error::is_warning)
    }

    fn push(&mut self, error: Error) {
        if self.errors.len() < self.limit {
            self.errors.push(error);
        } else {
            self.more += 1;
        }
    }
}

impl Sink for Problems {
    fn take(&mut self, error: Error) -> Result<(), Error> {
        self.push(error);
        Ok(())
    }
}

/// What was looked at, and what is wrong with it.
#[derive(Debug)]
pub struct Checked {
    /// What is wrong.
    pub problems: Problems,
    /// The parts that could be made of what is right.
    pub parts: Vec<PartSummary>,
}

/// A part in numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartSummary {
    /// `train`, `validation`, `test` or `unseen`.
    pub name: &'static str,
    /// Its samples.
    pub samples: usize,
    /// Its classes; of pairs those they are in, of sets the labels they are made of, and 0 where there are none.
    pub classes: usize,
    /// What those are: `classes`, `labels`, or nothing where there are none.
    pub what: &'static str,
}

/// Looks at everything and lists what is wrong: files that are missing or damaged, rows and cells that cannot be used,
/// images and sounds that cannot be decoded or are there twice, classes of one sample, classes in parts that should share none,
/// columns that say nothing. It never stops at the first, and keeps `limit` in full.
pub fn check(config: &DataConfig, root: &Path, seed: Seed, limit: usize) -> Checked {
    let mut problems = Problems::new(limit);
    if let Some(name) = config.catalogue_name() {
        let verified = nearfar_catalogue::Catalogue::builtin()
            .get(name)
            .and_then(|set| nearfar_catalogue::verify(root, set));
        // What is missing is told once, by who reads it.
        if let Err(error) = verified
            && !matches!(error, nearfar_catalogue::Error::MissingFile { .. })
        {
            problems.push(error.into());
        }
    }
    let data = match config.open(root, seed, None, &mut problems) {
        Ok(data) => data,
        Err(error) => {
            problems.push(error);
            return Checked {
                problems,
                parts: Vec::new(),
            };
        }
    };
    lone_classes(&data, &mut problems);
    match data.annotation() {
        Annotation::Sets => lone_labels(&data, &mut problems),
        Annotation::Targets => one_target(&data, &mut problems),
        Annotation::Domains => one_domain(&data, &mut problems),
        Annotation::Masks => masks(&data, &mut problems),
        Annotation::Classes | Annotation::LabeledPairs | Annotation::ScoredPairs => {}
    }
    match data.preparation {
        Preparation::Images { .. } | Preparation::Views { .. } => {
            decoded(&data, "pixels", &mut problems);
        }
        Preparation::Volumes { .. } => decoded(&data, "voxels", &mut problems),
        Preparation::Points { .. } => decoded(&data, "points", &mut problems),
        Preparation::Sounds { .. } => decoded(&data, "frames", &mut problems),
        Preparation::Kinds { .. } => decoded(&data, "content", &mut problems),
        Preparation::Features { ref names, .. } => constant_columns(&data, names, &mut problems),
        Preparation::Texts { .. } | Preparation::Tokenized { .. } | Preparation::Parsed { .. } => {}
    }
    Checked {
        problems,
        parts: parts(&data)
            .map(|(name, dataset)| PartSummary {
                name,
                samples: dataset.len(),
                classes: match dataset.annotation() {
                    Annotation::Sets => label_counts(&**dataset).len(),
                    Annotation::Targets | Annotation::Masks => 0,
                    _ => counts(&**dataset).len(),
                },
                what: match dataset.annotation() {
                    Annotation::Sets => "labels",
                    Annotation::Targets | Annotation::Masks => "",
                    _ => "classes",
                },
            })
            .collect(),
    }
}

/// All parts, the training part first.
fn parts(data: &Data) -> impl Iterator<Item = (&'static str, &Arc<dyn Dataset>)> {
    let evaluation = data
        .evaluation
        .iter()
        .map(|part| (part.name, &part.dataset));
    std::iter::once((crate::split::TRAIN, &data.train)).chain(evaluation)
}

/// Samples of each label.
fn counts(dataset: &dyn Dataset) -> BTreeMap<u32, u64> {
    let mut counts = BTreeMap::new();
    for &label in dataset.labels() {
        *counts.entry(label).or_default() += 1;
    }
    counts
}

/// Samples that have each label, where they have several.
fn label_counts(dataset: &dyn Dataset) -> BTreeMap<u32, u64> {
    let mut counts = BTreeMap::new();
    for &label in dataset.sets().iter().flatten() {
        *counts.entry(label).or_default() += 1;
    }
    counts
}

fn in_training(data: &Data, fault: Fault) -> Error {
    Error::bad(format!("data.{}, part `train`", data.name), None, fault)
}

fn lone_labels(data: &Data, problems: &mut Problems) {
    for (label, _) in label_counts(&*data.train)
        .into_iter()
        .filter(|(_, count)| *count == 1)
    {
        let label = data.classes[label as usize].clone();
        problems.push(in_training(data, Fault::LoneLabel { label }));
    }
}

fn one_target(data: &Data, problems: &mut Problems) {
    let targets = data.train.targets();
    if targets.windows(2).all(|pair| pair[0] == pair[1]) {
        problems.push(in_training(data, Fault::OneTarget));
    }
}

fn one_domain(data: &Data, problems: &mut Problems) {
    let mut domains = BTreeMap::<u32, [bool; 2]>::new();
    for (&label, &domain) in data.train.labels().iter().zip(data.train.domains()) {
        domains.entry(label).or_default()[domain as usize % 2] = true;
    }
    for (label, _) in domains.into_iter().filter(|(_, has)| *has != [true; 2]) {
        let class = data.classes[label as usize].clone();
        problems.push(in_training(data, Fault::OneDomain { class }));
    }
}

/// Decodes all masks.
fn masks(data: &Data, problems: &mut Problems) {
    for (_, dataset) in parts(data) {
        let all: Vec<u32> = (0..dataset.len() as u32).collect();
        let found: Vec<_> = all.par_iter().map(|&index| dataset.mask(index)).collect();
        for (index, mask) in (0..).zip(found) {
            match mask {
                Err(error) => problems.push(error),
                Ok(Some(mask)) if mask.instances.iter().any(|&it| it != 0) => {}
                Ok(_) => {
                    let place = dataset.describe(index);
                    problems.push(Error::bad(place, None, Fault::EmptyMask));
                }
            }
        }
    }
}

fn lone_classes(data: &Data, problems: &mut Problems) {
    if !data.annotation().has_classes() {
        return;
    }
    for (name, dataset) in parts(data) {
        for (label, _) in counts(&**dataset)
            .into_iter()
            .filter(|(_, count)| *count == 1)
        {
            let class = data.classes[label as usize].clone();
            problems.push(Error::bad(
                format!("data.{}, part `{name}`", data.name),
                None,
                Fault::LoneClass { class },
            ));
        }
    }
}

/// Decodes all images or sounds, a block at a time on all cores, and looks for equal ones.
fn decoded(data: &Data, what: &'static str, problems: &mut Problems) {
    /// Samples that are decoded at once.
    const BLOCK: usize = 256;
    let mut seen: BTreeMap<u64, Vec<Place<'_>>> = BTreeMap::new();
    for (name, dataset) in parts(data) {
        let all: Vec<u32> = (0..dataset.len() as u32).collect();
        for block in all.chunks(BLOCK) {
            let decoded: Vec<Result<Sample, Error>> = block
                .par_iter()
                .map(|&index| dataset.sample(index))
                .collect();
            for (&index, sample) in block.iter().zip(decoded) {
                let sample = match sample {
                    Ok(sample) => sample,
                    Err(error) => {
                        problems.push(error);
                        continue;
                    }
                };
                let equal = seen.entry(hash(&sample)).or_default();
                // Equal hashes are looked at again, since they are no proof.
                let first = equal
                    .iter()
                    .find(|(_, other, at)| other.sample(*at).is_ok_and(|other| other == sample));
                match first {
                    None => equal.push((name, dataset, index)),
                    Some((part, other, at)) => {
                        let fault = Fault::Duplicate {
                            what,
                            of: other.describe(*at),
                            conflict: conflict(data, (part, other, *at), (name, dataset, index)),
                        };
                        problems.push(Error::bad(dataset.describe(index), None, fault));
                    }
                }
            }
        }
    }
}

type Place<'a> = (&'static str, &'a Arc<dyn Dataset>, u32);

/// What is worse about two equal samples than that they are two.
fn conflict(data: &Data, first: Place<'_>, second: Place<'_>) -> Option<String> {
    let known = |(_, dataset, index): Place<'_>| {
        let index = index as usize;
        match dataset.annotation() {
            Annotation::Sets => {
                let labels = dataset.sets()[index].iter();
                let names: Vec<&str> = labels
                    .map(|&label| data.classes[label as usize].as_str())
                    .collect();
                names.join(", ")
            }
            Annotation::Targets => dataset.targets()[index].to_string(),
            Annotation::Masks => String::new(),
            _ => data.classes[dataset.labels()[index] as usize].clone(),
        }
    };
    let what = match data.annotation() {
        Annotation::Sets => "labels",
        Annotation::Targets => "targets",
        _ => "classes",
    };
    let (one, other) = (known(first), known(second));
    if one != other {
        Some(format!("but the {what} are `{one}` and `{other}`"))
    } else if first.0 != second.0 {
        Some(format!(
            "but one is in `{}`, one in `{}`",
            first.0, second.0
        ))
    } else {
        None
    }
}

fn hash(sample: &Sample) -> u64 {
    let mut hasher = DefaultHasher::new();
    for value in &sample.inputs {
        let values = match value {
            Value::Image(image) => &image.values,
            Value::Frames(frames) => &frames.values,
            Value::Array(array) => &array.values,
            Value::Tokens(words) => {
                words.hash(&mut hasher);
                continue;
            }
            Value::Parsed { words, parse } => {
                (words, parse).hash(&mut hasher);
                continue;
            }
            Value::Features(_) | Value::Sound(_) => continue,
        };
        values.iter().for_each(|x| x.to_bits().hash(&mut hasher));
    }
    hasher.finish()
}

fn constant_columns(data: &Data, names: &[String], problems: &mut Problems) {
    let mut first: Option<Vec<f32>> = None;
    let mut constant = vec![data.train.len() > 1; names.len()];
    for index in 0..data.train.len() as u32 {
        let Ok(sample) = data.train.sample(index) else {
            continue; // Features are in memory.
        };
        for value in sample.inputs {
            if let Value::Features(row) = value {
                let first = first.get_or_insert_with(|| row.clone());
                for ((constant, x), y) in constant.iter_mut().zip(&row).zip(&*first) {
                    *constant &= x == y;
                }
            }
        }
    }
    for (name, _) in names.iter().zip(constant).filter(|(_, constant)| *constant) {
        problems.push(Error::bad(
            format!("data.{}, part `train`", data.name),
            None,
            Fault::Constant {
                column: name.clone(),
            },
        ));
    }
}
