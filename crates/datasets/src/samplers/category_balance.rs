//! Categories, their classes, and their samples.

use std::collections::BTreeMap;

use nearfar_core::{Rng, Stateful};
use serde::{Deserialize, Serialize};

use super::cycle::Cycle;
use super::per_class::{Draws, PerClass};
use super::shown::{Known, weighted_draw};
use super::super_classes::super_classes;
use super::{Counts, Sampler, Small, positive};
use crate::{Dataset, Error};

/// Batches of some categories, with some classes of each, and some samples of each class.
///
/// Categories are classes of classes, as in [`Hierarchical`](super::Hierarchical). A batch has `categories` different
/// categories, `classes` classes of each (of a category with fewer, all, so that the batch is smaller), and `samples` samples
/// of each class. By default a category is drawn as often as it has classes; with `draw = "evenly"` all categories have their
/// turn, so how often two of them occur differs by one at most, and small ones are not drowned.
///
/// As `CategoryBalanceSampler` and, evenly, `DistinctCategoryBalanceSampler` of open-metric-learning 4.0.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CategoryBalance {
    /// Categories a batch.
    pub categories: usize,
    /// Classes of each category.
    pub classes: usize,
    /// Samples of each class.
    pub samples: usize,
    /// How often a category is drawn.
    pub draw: Drawn,
    /// What to do with classes that have fewer samples.
    pub small: Small,
    /// Batches an epoch, instead of as many as the samples fill.
    pub batches: Option<usize>,
    /// What separates the category from the rest of a class's name.
    pub separator: String,
    /// The classes of each category, instead of by name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub groups: BTreeMap<String, Vec<String>>,
}

/// How often a category is drawn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Drawn {
    /// In proportion to its classes.
    #[default]
    ByClasses,
    /// As often as every other.
    Evenly,
}

impl Default for CategoryBalance {
    /// Batches of 128: 4 categories of 8 classes with 4 samples each.
    fn default() -> Self {
        Self {
            categories: 4,
            classes: 8,
            samples: 4,
            draw: Drawn::ByClasses,
            small: Small::Refuse,
            batches: None,
            separator: "/".into(),
            groups: BTreeMap::new(),
        }
    }
}

impl CategoryBalance {
    const NAME: &str = "category_balance";

    fn per_class(&self) -> PerClass {
        PerClass {
            name: Self::NAME,
            classes: 1,
            called: "categories",
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
        positive("sampler.category_balance.categories", self.categories)?;
        positive("sampler.category_balance.classes", self.classes)?;
        self.per_class().check(counts)?;
        let least = self.per_class().least();
        let uses = |count| count >= least;
        let groups = super_classes(Self::NAME, &self.groups, &self.separator, counts, uses)?;
        if groups.len() < self.categories {
            return Err(Error::Settings(format!(
                "`sampler.category_balance` wants {} categories a batch, but there are {} to train on; use `categories = {}` or \
                 fewer",
                self.categories,
                groups.len(),
                groups.len()
            )));
        }
        Ok(Box::new(Balanced {
            settings: self.clone(),
            groups,
            known: Known::of(data.labels(), least),
        }))
    }
}

/// The settings with the categories of some data.
struct Balanced {
    settings: CategoryBalance,
    groups: Vec<Vec<u32>>,
    known: Known,
}

impl Stateful for Balanced {}

impl Sampler for Balanced {
    fn epoch(&self, _: &[u32], rng: &mut Rng) -> Vec<Vec<u32>> {
        let settings = &self.settings;
        let sizes: Vec<f64> = self.groups.iter().map(|it| it.len() as f64).collect();
        let mut categories = Cycle::new((0..self.groups.len() as u32).collect());
        let mut classes: Vec<Cycle> = self
            .groups
            .iter()
            .map(|it| Cycle::new(it.clone()))
            .collect();
        let mut draws = Draws::of(&self.known.classes);
        let used: usize = self.known.classes.iter().map(Vec::len).sum();
        let rows = settings.categories * settings.classes * settings.samples;
        let batches = settings.batches.unwrap_or(used / rows.max(1)).max(1);
        (0..batches)
            .map(|_| {
                let chosen = match settings.draw {
                    Drawn::Evenly => categories.take(settings.categories, rng),
                    Drawn::ByClasses => weighted_draw(&sizes, settings.categories, rng),
                };
                let mut batch = Vec::new();
                for category in chosen {
                    let category = category as usize;
                    let wanted = settings.classes.min(self.groups[category].len());
                    let chosen = classes[category].take(wanted, rng);
                    batch.extend(draws.take(&chosen, settings.samples, rng));
                }
                batch
            })
            .collect()
    }
}
