//! Each class with its nearest.

use nearfar_core::{Rng, Span};
use serde::{Deserialize, Serialize};

use super::per_class::{Draws, PerClass};
use super::shown::{
    Known, Layout, List, NOBODY, Rule, Seen, Shown, nearest_places, squared_distance,
};
use super::{Counts, Sampler, Small};
use crate::{Dataset, Error};

/// Batches of a class and the classes nearest to it, each class once an epoch.
///
/// What is near is asked of the embedded training set, of which one sample of each class is drawn for it: a graph of all
/// classes for the cost of one row each. An epoch has as many batches as there are classes, in a random order. Before it was
/// shown anything, neighbors are drawn evenly.
///
/// Source: Liao, Shao, "Graph sampling based deep metric learning for generalizable person re-identification", CVPR 2022,
/// <https://arxiv.org/abs/2104.01546>.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GraphSampler {
    /// Classes a batch.
    pub classes: usize,
    /// Samples of each class.
    pub samples: usize,
    /// What to do with classes that have fewer samples.
    pub small: Small,
    /// Batches an epoch, instead of one for each class.
    pub batches: Option<usize>,
    /// How often neighbors are looked for anew.
    pub every: Span,
}

impl Default for GraphSampler {
    /// The paper's batch of 64, with 4 samples of a class, and a new graph for each epoch.
    fn default() -> Self {
        Self {
            classes: 16,
            samples: 4,
            small: Small::Refuse,
            batches: None,
            every: Span::Epochs(1),
        }
    }
}

impl GraphSampler {
    fn per_class(&self) -> PerClass {
        PerClass {
            name: Self::NAME,
            classes: self.classes,
            called: "classes",
            samples: self.samples,
            small: self.small,
            batches: self.batches,
        }
    }

    pub(super) fn build(
        &self,
        data: &dyn Dataset,
        counts: &Counts<'_>,
    ) -> Result<Box<dyn Sampler>, Error> {
        Shown::of_classes(self, &self.per_class(), data, counts)
    }
}

impl Rule for GraphSampler {
    const NAME: &'static str = "graph_sampler";

    fn every(&self) -> Span {
        self.every
    }

    fn layout(&self, known: &Known) -> Vec<Layout> {
        let classes = known.classes.len();
        let size = (classes, self.classes - 1);
        vec![Layout::places("neighbors", size, classes)]
    }

    fn derive(&self, known: &Known, seen: &Seen, rng: &mut Rng) -> Vec<List> {
        let drawn: Vec<u32> = known
            .classes
            .iter()
            .map(|members| members[rng.below(members.len())])
            .collect();
        let nearest = nearest_places(drawn.len(), self.classes - 1, |one, other| {
            let distance = || squared_distance(seen.row(drawn[one]), seen.row(drawn[other]));
            (one != other).then(distance)
        });
        vec![List::Places(nearest)]
    }

    fn epoch(&self, known: &Known, lists: Option<&[List]>, rng: &mut Rng) -> Vec<Vec<u32>> {
        let (count, width) = (known.classes.len(), self.classes - 1);
        let mut first = super::cycle::Cycle::new((0..count as u32).collect());
        let mut draws = Draws::of(&known.classes);
        (0..self.batches.unwrap_or(count).max(1))
            .map(|_| {
                let mut classes = first.take(1, rng);
                let near = match (lists, classes.first()) {
                    (Some(lists), Some(&class)) => {
                        lists[0].places()[class as usize * width..][..width].to_vec()
                    }
                    _ => rng.permutation(count),
                };
                let others = near
                    .into_iter()
                    .filter(|it| *it != NOBODY && Some(it) != classes.first());
                let others: Vec<u32> = others.take(width).collect();
                classes.extend(others);
                draws.take(&classes, self.samples, rng)
            })
            .collect()
    }
}
