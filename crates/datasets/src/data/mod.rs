//! Data that are ready to be learned from.

mod assembly;
mod preparation;

use std::sync::Arc;

use crate::{Annotation, Dataset, Error};

pub(crate) use assembly::{Content, Disjoint, Source, Words, assemble};
pub use preparation::{Preparation, Shape};

/// A data set, divided: what is trained on and what is looked at.
///
/// One numbering of classes serves all parts: those that are trained on come first, in the order of their names, then
/// those that are only looked at.
pub struct Data {
    /// Its name in a run file.
    pub name: &'static str,
    /// What is trained on.
    pub train: Arc<dyn Dataset>,
    /// What is looked at: `validation`, `test`, `unseen`, as far as they are there.
    pub evaluation: Vec<Evaluation>,
    /// Names of all classes, by label.
    pub classes: Arc<[String]>,
    /// How many classes are trained on: labels of the training part are below it. Of sets of labels, all labels.
    pub train_classes: usize,
    /// Least and greatest score of a pair, where they are known.
    pub range: Option<[f64; 2]>,
    /// What inputs go through before a model sees them.
    pub preparation: Preparation,
}

/// A part that is looked at.
pub struct Evaluation {
    /// `validation`, `test` or `unseen`.
    pub name: &'static str,
    /// Its samples.
    pub dataset: Arc<dyn Dataset>,
    /// Who asks and who is searched, where the data say so; else all do and are.
    pub roles: Option<Vec<Roles>>,
}

/// What a sample is in retrieval.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Roles {
    /// Whether it asks.
    pub query: bool,
    /// Whether it is searched.
    pub gallery: bool,
    /// A sample is not found by those of its own sequence, where it has one.
    pub sequence: Option<String>,
}

impl Data {
    /// What is known of its samples.
    pub fn annotation(&self) -> Annotation {
        self.train.annotation()
    }

    /// The shape of an input; of two kinds of inputs that of the first.
    pub fn shape(&self) -> Shape {
        self.preparation.shape()
    }

    /// The shapes of the inputs: one for all, or of two kinds of inputs one for each.
    pub fn shapes(&self) -> Vec<Shape> {
        self.preparation.shapes()
    }

    /// The part of this name that is looked at, or `train`.
    ///
    /// # Errors
    /// [`Error::Settings`] with the names there are.
    pub fn part(&self, name: &str) -> Result<&Arc<dyn Dataset>, Error> {
        if name == crate::split::TRAIN {
            return Ok(&self.train);
        }
        let found = self.evaluation.iter().find(|part| part.name == name);
        found.map(|part| &part.dataset).ok_or_else(|| {
            let names: Vec<&str> = std::iter::once(crate::split::TRAIN)
                .chain(self.evaluation.iter().map(|part| part.name))
                .collect();
            Error::Settings(format!(
                "`data.{}` has no part `{name}`; there are `{}`",
                self.name,
                names.join("`, `")
            ))
        })
    }
}
