//! Which samples make a batch.

use nearfar_core::{Fraction, Rng, Stateful};
use serde::{Deserialize, Serialize};

use crate::{Annotation, Dataset, Error};

mod classes_by_samples;
mod cycle;
mod pairs;
mod shuffled;

pub use classes_by_samples::{ClassesBySamples, Small};
pub use pairs::PairSampler;
pub use shuffled::Shuffled;

/// The order of samples in an epoch. A function of the labels, the generator, and what it was last shown.
pub trait Sampler: Stateful + Send + Sync {
    /// The batches of one epoch, as indices.
    fn epoch(&self, labels: &[u32], rng: &mut Rng) -> Vec<Vec<u32>>;

    /// Whether consecutive indices of a batch are a pair, so that the batch is known by its pairs and not by classes.
    fn pairs(&self) -> bool {
        false
    }
}

/// The samplers by name, as a run file writes them: `sampler.shuffled = { size = 64 }`.
///
/// ```
/// use nearfar_datasets::SamplerConfig;
///
/// #[derive(serde::Deserialize)]
/// struct Run {
///     sampler: SamplerConfig,
/// }
///
/// let run: Run = toml::from_str("sampler.classes_by_samples = { classes = 32, samples = 4 }")?;
/// assert_eq!(run.sampler.name(), "classes_by_samples");
/// assert!(toml::from_str::<Run>("sampler.shuffled = { sice = 64 }").is_err());
/// # Ok::<(), toml::de::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum SamplerConfig {
    /// Every sample once, in a random order.
    Shuffled(Shuffled),
    /// Some samples of each of some classes.
    ClassesBySamples(ClassesBySamples),
    /// Pairs of two samples, of one class or of two.
    Pairs(PairSampler),
}

impl SamplerConfig {
    /// Every sampler with its defaults.
    pub fn all() -> Vec<Self> {
        vec![
            Self::Shuffled(Shuffled::default()),
            Self::ClassesBySamples(ClassesBySamples::default()),
            Self::Pairs(PairSampler::default()),
        ]
    }

    /// Its name in a run file.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Shuffled(_) => "shuffled",
            Self::ClassesBySamples(_) => "classes_by_samples",
            Self::Pairs(_) => "pairs",
        }
    }

    /// What its source says of it.
    pub fn doc(&self) -> String {
        use nearfar_core::doc_of;
        match self {
            Self::Shuffled(_) => doc_of(include_str!("shuffled.rs"), "Shuffled"),
            Self::ClassesBySamples(_) => {
                doc_of(include_str!("classes_by_samples.rs"), "ClassesBySamples")
            }
            Self::Pairs(_) => doc_of(include_str!("pairs.rs"), "PairSampler"),
        }
    }

    /// The sampler, after a check that it can do what it promises for these samples.
    ///
    /// # Errors
    /// [`Error::Settings`] with what is wanted, what there is, and the fix.
    pub fn build(&self, dataset: &dyn Dataset) -> Result<Box<dyn Sampler>, Error> {
        if dataset.is_empty() {
            return Err(Error::Settings(
                "there are no samples to train on; look at `data`".into(),
            ));
        }
        let by_class = dataset.annotation() == Annotation::Classes;
        if !by_class && !matches!(self, Self::Shuffled(_)) {
            return Err(Error::Settings(format!(
                "`sampler.{}` chooses by class, but the data are {}; use `sampler.shuffled`",
                self.name(),
                dataset.annotation().name()
            )));
        }
        let counts = Counts::of(dataset.labels(), dataset.classes());
        match self {
            Self::Shuffled(sampler) => {
                sampler.check()?;
                Ok(Box::new(sampler.clone()))
            }
            Self::ClassesBySamples(sampler) => {
                sampler.check(&counts)?;
                Ok(Box::new(sampler.clone()))
            }
            Self::Pairs(sampler) => {
                sampler.check(&counts)?;
                Ok(Box::new(sampler.clone()))
            }
        }
    }
}

/// How many samples each class has.
struct Counts<'a> {
    names: &'a [String],
    /// Label and number of samples, by label; classes without samples are left out.
    counts: Vec<(u32, usize)>,
}

impl<'a> Counts<'a> {
    fn of(labels: &[u32], names: &'a [String]) -> Self {
        let counts = by_class(labels)
            .into_iter()
            .map(|(label, members)| (label, members.len()))
            .collect();
        Self { names, counts }
    }

    fn name(&self, label: u32) -> String {
        match self.names.get(label as usize) {
            Some(name) => name.clone(),
            None => label.to_string(),
        }
    }
}

/// The indices of each class, in their order, by label.
fn by_class(labels: &[u32]) -> Vec<(u32, Vec<u32>)> {
    let mut order: Vec<u32> = (0..labels.len() as u32).collect();
    order.sort_by_key(|&index| labels[index as usize]); // Stable, so indices stay in order.
    order
        .chunk_by(|&a, &b| labels[a as usize] == labels[b as usize])
        .map(|members| (labels[members[0] as usize], members.to_vec()))
        .collect()
}

fn positive(setting: &str, value: usize) -> Result<(), Error> {
    if value == 0 {
        return Err(Error::Settings(format!(
            "`{setting}` is 0; it must be 1 or more"
        )));
    }
    Ok(())
}

/// Half.
fn half() -> Fraction {
    Fraction::literal(0.5)
}
