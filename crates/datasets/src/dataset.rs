//! Samples by index.

use std::sync::Arc;

use crate::{Error, FrontEnd, Mask, Sample, Sound, Thumbnail};

/// Samples by index, with what is known of them.
///
/// Labels are known without decoding a sample, so that a sampler can plan an epoch at once. `sample` is called from
/// several threads, and gives the same for the same index.
///
/// ```
/// use nearfar_datasets::{Dataset, Error, Sample, Value};
///
/// /// The numbers from 0 to 9, in two classes.
/// struct Parity {
///     labels: Vec<u32>,
/// }
///
/// impl Dataset for Parity {
///     fn labels(&self) -> &[u32] {
///         &self.labels
///     }
///     fn sample(&self, index: u32) -> Result<Sample, Error> {
///         Ok(Sample::of(Value::Features(vec![index as f32])))
///     }
/// }
///
/// let parity = Parity { labels: (0..10).map(|number| number % 2).collect() };
/// assert_eq!(parity.len(), 10);
/// assert_eq!(parity.describe(3), "sample 3");
/// ```
pub trait Dataset: Send + Sync {
    /// Class of every sample, known without decoding any. Of labeled pairs 1 for those that belong together and 0 for
    /// the others; of scored pairs 0, or a class of the pair where it has one; 0 where there are no classes.
    fn labels(&self) -> &[u32];

    /// The sample of an index.
    ///
    /// # Errors
    /// When it cannot be read; the message names the file and row.
    fn sample(&self, index: u32) -> Result<Sample, Error>;

    /// What is known of its samples. By default classes.
    fn annotation(&self) -> Annotation {
        Annotation::Classes
    }

    /// The score of every pair, or the real target of every sample; empty where the annotation is neither.
    fn targets(&self) -> &[f32] {
        &[]
    }

    /// The labels of every sample, ascending, as numbers of [`classes`](Self::classes); empty where the annotation is not sets.
    fn sets(&self) -> &[Vec<u32>] {
        &[]
    }

    /// The domain of every sample, 0 or 1; empty where the annotation is not domains.
    fn domains(&self) -> &[u32] {
        &[]
    }

    /// The instances of a sample's pixels, where the annotation is masks.
    ///
    /// # Errors
    /// When it cannot be read; the message names the file.
    fn mask(&self, _index: u32) -> Result<Option<Mask>, Error> {
        Ok(None)
    }

    /// The sound that the frames of a sample are made of, and what makes them, where it is so. What is done to sounds that are trained
    /// on is done to this, and frames are made of it then; [`sample`](Self::sample) gives the frames at once.
    ///
    /// # Errors
    /// When it cannot be read; the message names the file.
    fn sound(&self, _index: u32) -> Result<Option<(Sound, &FrontEnd)>, Error> {
        Ok(None)
    }

    /// Names of the classes, by label, or of the labels that sets are made of; may be empty.
    fn classes(&self) -> &[String] {
        &[]
    }

    /// Where a sample is from: its file, its row, its text.
    fn describe(&self, index: u32) -> String {
        format!("sample {index}")
    }

    /// A small picture of a sample, where there is something to see.
    fn thumbnail(&self, _index: u32) -> Option<Thumbnail> {
        None
    }

    /// Number of samples.
    fn len(&self) -> usize {
        self.labels().len()
    }

    /// Whether there are no samples.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// What is known of the samples of a data set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Annotation {
    /// The class of each sample, which has one input.
    Classes,
    /// Whether the two inputs of a sample belong together.
    LabeledPairs,
    /// How alike the two inputs of a sample are.
    ScoredPairs,
    /// The labels of each sample, of which it may have several.
    Sets,
    /// A real number for each sample.
    Targets,
    /// The class of each sample, and which of two domains it is of: a batch has two inputs, one for each.
    Domains,
    /// The instance of each pixel of a sample.
    Masks,
}

impl Annotation {
    /// Inputs of a batch.
    pub fn inputs(self) -> usize {
        match self {
            Self::Classes | Self::Sets | Self::Targets | Self::Masks => 1,
            Self::LabeledPairs | Self::ScoredPairs | Self::Domains => 2,
        }
    }

    /// Whether each sample has one class.
    pub fn has_classes(self) -> bool {
        matches!(self, Self::Classes | Self::Domains)
    }

    /// Whether a sample is a pair of inputs.
    pub fn has_pairs(self) -> bool {
        matches!(self, Self::LabeledPairs | Self::ScoredPairs)
    }

    /// What it is called in messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Classes => "classes",
            Self::LabeledPairs => "labeled pairs",
            Self::ScoredPairs => "scored pairs",
            Self::Sets => "sets of labels",
            Self::Targets => "real targets",
            Self::Domains => "classes in two domains",
            Self::Masks => "masks",
        }
    }
}

/// Some samples of a data set, with the labels they have in a split.
pub struct Subset {
    base: Arc<dyn Dataset>,
    indices: Vec<u32>,
    labels: Vec<u32>,
    targets: Vec<f32>,
    sets: Vec<Vec<u32>>,
    domains: Vec<u32>,
    classes: Arc<[String]>,
}

/// Those of these indices, where there are any.
fn picked<T: Clone>(all: &[T], indices: &[u32]) -> Vec<T> {
    match all {
        [] => Vec::new(),
        all => indices.iter().map(|&it| all[it as usize].clone()).collect(),
    }
}

impl Subset {
    /// The samples of these indices, in this order, with the labels and classes of the base.
    ///
    /// # Panics
    /// If an index is not one of the base.
    pub fn new(base: Arc<dyn Dataset>, indices: Vec<u32>) -> Self {
        let classes = base.classes().into();
        let labels = indices
            .iter()
            .map(|&index| base.labels()[index as usize])
            .collect();
        Self::relabeled(base, indices, labels, classes)
    }

    /// The same with other labels, one for each index.
    pub(crate) fn relabeled(
        base: Arc<dyn Dataset>,
        indices: Vec<u32>,
        labels: Vec<u32>,
        classes: Arc<[String]>,
    ) -> Self {
        Self {
            targets: picked(base.targets(), &indices),
            sets: picked(base.sets(), &indices),
            domains: picked(base.domains(), &indices),
            base,
            indices,
            labels,
            classes,
        }
    }

    /// The index in the base of each sample.
    pub fn indices(&self) -> &[u32] {
        &self.indices
    }
}

impl Dataset for Subset {
    fn labels(&self) -> &[u32] {
        &self.labels
    }

    fn sample(&self, index: u32) -> Result<Sample, Error> {
        self.base.sample(self.indices[index as usize])
    }

    fn annotation(&self) -> Annotation {
        self.base.annotation()
    }

    fn targets(&self) -> &[f32] {
        &self.targets
    }

    fn sets(&self) -> &[Vec<u32>] {
        &self.sets
    }

    fn domains(&self) -> &[u32] {
        &self.domains
    }

    fn mask(&self, index: u32) -> Result<Option<Mask>, Error> {
        self.base.mask(self.indices[index as usize])
    }

    fn sound(&self, index: u32) -> Result<Option<(Sound, &FrontEnd)>, Error> {
        self.base.sound(self.indices[index as usize])
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }

    fn describe(&self, index: u32) -> String {
        self.base.describe(self.indices[index as usize])
    }

    fn thumbnail(&self, index: u32) -> Option<Thumbnail> {
        self.base.thumbnail(self.indices[index as usize])
    }
}
