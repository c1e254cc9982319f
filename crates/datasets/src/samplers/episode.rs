//! Few-shot tasks.

use nearfar_core::{Rng, Stateful};
use serde::{Deserialize, Serialize};

use super::per_class::{Draws, PerClass};
use super::shown::Known;
use super::{Counts, Sampler, Small, positive};
use crate::{Dataset, Error};

/// Batches that are few-shot tasks: `ways` classes, with `support` samples to learn each from and `queries` to ask for.
///
/// The rows of a class come together, its support first; no sample is in both. An epoch has as many tasks as the samples fill,
/// at least one, and cycles through random orders of classes and samples.
///
/// Source: Vinyals, Blundell, Lillicrap, Kavukcuoglu, Wierstra, "Matching networks for one shot learning", NIPS 2016,
/// <https://arxiv.org/abs/1606.04080>.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Episode {
    /// Classes of a task.
    pub ways: usize,
    /// Samples of each class to learn from.
    pub support: usize,
    /// Samples of each class to ask for.
    pub queries: usize,
    /// Whether classes with fewer samples are left out; otherwise they are an error.
    pub skip_small: bool,
    /// Tasks an epoch, instead of as many as the samples fill.
    pub batches: Option<usize>,
}

impl Default for Episode {
    /// 20 ways, 5 shots and 15 queries; prototypical networks are trained with more ways than they are tested with.
    fn default() -> Self {
        Self {
            ways: 20,
            support: 5,
            queries: 15,
            skip_small: false,
            batches: None,
        }
    }
}

impl Episode {
    pub(super) fn build(
        &self,
        data: &dyn Dataset,
        counts: &Counts<'_>,
    ) -> Result<Box<dyn Sampler>, Error> {
        positive("sampler.episode.support", self.support)?;
        positive("sampler.episode.queries", self.queries)?;
        let per_class = self.per_class();
        let wanted = per_class.samples;
        let small = counts.counts.iter().find(|(_, count)| *count < wanted);
        if let (false, Some(&(label, count))) = (self.skip_small, small) {
            return Err(Error::Settings(format!(
                "`sampler.episode` wants {} + {} samples of a class, but class `{}` has {count}; use less `support` or fewer \
                 `queries`, or `skip_small = true`",
                self.support,
                self.queries,
                counts.name(label)
            )));
        }
        per_class.check(counts)?;
        Ok(Box::new(Tasks {
            settings: self.clone(),
            known: Known::of(data.labels(), wanted),
        }))
    }

    fn per_class(&self) -> PerClass {
        PerClass {
            name: "episode",
            classes: self.ways,
            called: "ways",
            samples: self.support + self.queries,
            small: Small::Skip,
            batches: self.batches,
        }
    }
}

/// The settings with the classes of some data.
struct Tasks {
    settings: Episode,
    known: Known,
}

impl Stateful for Tasks {}

impl Sampler for Tasks {
    fn epoch(&self, _: &[u32], rng: &mut Rng) -> Vec<Vec<u32>> {
        let per_class = self.settings.per_class();
        let count = self.known.classes.len() as u32;
        let mut classes = super::cycle::Cycle::new((0..count).collect());
        let mut draws = Draws::of(&self.known.classes);
        (0..per_class.batches(&self.known.classes))
            .map(|_| {
                let chosen = classes.take(per_class.classes, rng);
                draws.take(&chosen, per_class.samples, rng)
            })
            .collect()
    }
}
