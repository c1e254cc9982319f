//! Classes of a few super-classes.

use std::collections::{BTreeMap, BTreeSet};

use nearfar_core::{Rng, Stateful};
use serde::{Deserialize, Serialize};

use super::cycle::Cycle;
use super::per_class::{Draws, PerClass};
use super::shown::Known;
use super::super_classes::super_classes;
use super::{Counts, Sampler, Small, positive};
use crate::{Dataset, Error};

/// Batches of the classes of a few super-classes, so that most negatives are of a class that is alike.
///
/// A batch has `classes` classes of each of `super_classes` super-classes (all of one that has fewer), with `samples` samples
/// each. An epoch has `batches_per_tuple` batches for each choice of so many super-classes, in a random order. Where there are
/// many choices, `tuples` says how many of them an epoch draws.
///
/// The super-class of a class is what stands before the last `separator` in its name (`Korean/character07` is of `Korean`),
/// or `groups` lists the classes of each: `groups = { pets = ["cat", "dog"], farm = ["cow", "hen"] }`.
///
/// As `HierarchicalSampler` of pytorch-metric-learning 2.9, which fills a batch size with classes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Hierarchical {
    /// Super-classes a batch.
    pub super_classes: usize,
    /// Classes of each super-class.
    pub classes: usize,
    /// Samples of each class.
    pub samples: usize,
    /// Batches of each choice of super-classes.
    pub batches_per_tuple: usize,
    /// Choices of super-classes an epoch; all of them, where nothing is said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tuples: Option<usize>,
    /// What to do with classes that have fewer samples.
    pub small: Small,
    /// What separates the super-class from the rest of a class's name.
    pub separator: String,
    /// The classes of each super-class, instead of by name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub groups: BTreeMap<String, Vec<String>>,
}

impl Default for Hierarchical {
    /// The peer's two super-classes and four batches, of 8 classes with 4 samples each.
    fn default() -> Self {
        Self {
            super_classes: 2,
            classes: 8,
            samples: 4,
            batches_per_tuple: 4,
            tuples: None,
            small: Small::Refuse,
            separator: "/".into(),
            groups: BTreeMap::new(),
        }
    }
}

/// So many choices of super-classes are made all at once.
const MOST_CHOICES: usize = 100_000;

impl Hierarchical {
    const NAME: &str = "hierarchical";

    pub(super) fn build(
        &self,
        data: &dyn Dataset,
        counts: &Counts<'_>,
    ) -> Result<Box<dyn Sampler>, Error> {
        let settings = [
            ("super_classes", self.super_classes),
            ("classes", self.classes),
            ("batches_per_tuple", self.batches_per_tuple),
            ("tuples", self.tuples.unwrap_or(1)),
        ];
        for (setting, value) in settings {
            positive(&format!("sampler.hierarchical.{setting}"), value)?;
        }
        let per_class = PerClass {
            name: Self::NAME,
            classes: 1,
            called: "super_classes",
            samples: self.samples,
            small: self.small,
            batches: None,
        };
        per_class.check(counts)?;
        let least = per_class.least();
        let uses = |count| count >= least;
        let groups = super_classes(Self::NAME, &self.groups, &self.separator, counts, uses)?;
        if groups.len() < self.super_classes {
            return Err(Error::Settings(format!(
                "`sampler.hierarchical` wants {} super-classes a batch, but there are {} to train on; use `super_classes = {}` \
                 or fewer",
                self.super_classes,
                groups.len(),
                groups.len()
            )));
        }
        let choices = choices(groups.len(), self.super_classes);
        if self.tuples.is_none() && choices > MOST_CHOICES {
            return Err(Error::Settings(format!(
                "`sampler.hierarchical` has {choices} choices of {} of {} super-classes an epoch; say how many with `tuples`",
                self.super_classes,
                groups.len()
            )));
        }
        Ok(Box::new(Grouped {
            settings: self.clone(),
            groups,
            known: Known::of(data.labels(), least),
        }))
    }
}

/// How many choices of `wanted` of `count` there are, up to a limit.
fn choices(count: usize, wanted: usize) -> usize {
    let mut choices = 1u128;
    for taken in 0..wanted as u128 {
        choices = choices * (count as u128 - taken) / (taken + 1);
        if choices > usize::MAX as u128 / 2 {
            return usize::MAX / 2;
        }
    }
    choices as usize
}

/// The choice after one, in their order; false after the last.
fn next_choice(choice: &mut [u32], count: u32) -> bool {
    let wanted = choice.len() as u32;
    for place in (0..choice.len()).rev() {
        if choice[place] < count - (wanted - place as u32) {
            choice[place] += 1;
            for later in place + 1..choice.len() {
                choice[later] = choice[later - 1] + 1;
            }
            return true;
        }
    }
    false
}

/// The settings with the super-classes of some data.
struct Grouped {
    settings: Hierarchical,
    groups: Vec<Vec<u32>>,
    known: Known,
}

impl Grouped {
    /// The choices of super-classes of an epoch.
    fn tuples(&self, rng: &mut Rng) -> Vec<Vec<u32>> {
        let (count, wanted) = (self.groups.len(), self.settings.super_classes);
        let all = choices(count, wanted);
        let taken = self.settings.tuples.unwrap_or(all).min(all);
        if all > MOST_CHOICES && taken < all / 2 {
            let mut drawn = BTreeSet::new();
            while drawn.len() < taken {
                let mut choice = rng.permutation(count);
                choice.truncate(wanted);
                choice.sort_unstable();
                drawn.insert(choice);
            }
            return drawn.into_iter().collect();
        }
        let mut choice: Vec<u32> = (0..wanted as u32).collect();
        let mut tuples = vec![choice.clone()];
        while next_choice(&mut choice, count as u32) {
            tuples.push(choice.clone());
        }
        rng.shuffle(&mut tuples);
        tuples.truncate(taken);
        tuples
    }
}

impl Stateful for Grouped {}

impl Sampler for Grouped {
    fn epoch(&self, _: &[u32], rng: &mut Rng) -> Vec<Vec<u32>> {
        let settings = &self.settings;
        let mut classes: Vec<Cycle> = self
            .groups
            .iter()
            .map(|it| Cycle::new(it.clone()))
            .collect();
        let mut draws = Draws::of(&self.known.classes);
        let mut order: Vec<Vec<u32>> = Vec::new();
        for tuple in self.tuples(rng) {
            order.extend(std::iter::repeat_n(tuple, settings.batches_per_tuple));
        }
        rng.shuffle(&mut order);
        order
            .into_iter()
            .map(|tuple| {
                let mut batch = Vec::new();
                for group in tuple {
                    let group = group as usize;
                    let wanted = settings.classes.min(self.groups[group].len());
                    let chosen = classes[group].take(wanted, rng);
                    batch.extend(draws.take(&chosen, settings.samples, rng));
                }
                batch
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_choice_is_made_once() {
        assert_eq!((choices(5, 2), choices(4, 4), choices(3, 1)), (10, 1, 3));
        assert!(choices(1000, 500) > MOST_CHOICES);
        let mut choice = vec![0, 1];
        let mut all = vec![choice.clone()];
        while next_choice(&mut choice, 4) {
            all.push(choice.clone());
        }
        assert_eq!(all, [[0, 1], [0, 2], [0, 3], [1, 2], [1, 3], [2, 3]]);
    }
}
