//! Samples by index.

use std::sync::Arc;

use crate::{Error, Sample, Thumbnail};

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
    /// the others; of scored pairs 0, or a class of the pair where it has one.
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

    /// The score of every pair; empty where the annotation is not scored pairs.
    fn targets(&self) -> &[f32] {
        &[]
    }

    /// Names of the classes, by label; may be empty.
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
}

impl Annotation {
    /// Inputs of a sample.
    pub fn inputs(self) -> usize {
        match self {
            Self::Classes => 1,
            Self::LabeledPairs | Self::ScoredPairs => 2,
        }
    }

    /// What it is called in messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Classes => "classes",
            Self::LabeledPairs => "labeled pairs",
            Self::ScoredPairs => "scored pairs",
        }
    }
}

/// Some samples of a data set, with the labels they have in a split.
pub struct Subset {
    base: Arc<dyn Dataset>,
    indices: Vec<u32>,
    labels: Vec<u32>,
    targets: Vec<f32>,
    classes: Arc<[String]>,
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
        let targets = match base.targets() {
            [] => Vec::new(),
            targets => indices
                .iter()
                .map(|&index| targets[index as usize])
                .collect(),
        };
        Self {
            base,
            indices,
            labels,
            targets,
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
