//! What samplers of so many classes with so many samples have in common.

use nearfar_core::Rng;

use super::{Counts, Small, cycle::Cycle, positive};
use crate::Error;

/// So many classes a batch, with so many samples each.
pub(super) struct PerClass {
    pub(super) name: &'static str,
    /// Classes a batch.
    pub(super) classes: usize,
    /// What the settings call them, for messages.
    pub(super) called: &'static str,
    /// Samples of each class.
    pub(super) samples: usize,
    pub(super) small: Small,
    pub(super) batches: Option<usize>,
}

impl PerClass {
    /// Whether it can be done with these samples.
    pub(super) fn check(&self, counts: &Counts<'_>) -> Result<(), Error> {
        let name = format!("sampler.{}", self.name);
        positive(&format!("{name}.{}", self.called), self.classes)?;
        positive(&format!("{name}.samples"), self.samples)?;
        if let Some(batches) = self.batches {
            positive(&format!("{name}.batches"), batches)?;
        }
        let small = counts
            .counts
            .iter()
            .filter(|(_, count)| *count < self.samples)
            .min_by_key(|(_, count)| *count);
        if let (Small::Refuse, Some(&(label, count))) = (self.small, small) {
            return Err(Error::Settings(format!(
                "`{name}` wants {} samples of a class, but class `{}` has {count}; use `samples = {count}`, or \
                 `small = \"repeat\"` or `\"skip\"`",
                self.samples,
                counts.name(label)
            )));
        }
        let usable = counts
            .counts
            .iter()
            .filter(|(_, count)| *count >= self.least())
            .count();
        if usable >= self.classes {
            return Ok(());
        }
        Err(Error::Settings(if usable == counts.counts.len() {
            format!(
                "`{name}` wants {} classes a batch, but there are {usable} to train on; use `{} = {usable}` or fewer",
                self.classes, self.called
            )
        } else {
            format!(
                "`{name}` wants {} classes a batch, but of {} classes {usable} have the {} samples; use fewer `{}` or \
                 `samples`, or `small = \"repeat\"`",
                self.classes,
                counts.counts.len(),
                self.samples,
                self.called
            )
        }))
    }

    /// Samples that a class must have to be used.
    pub(super) fn least(&self) -> usize {
        match self.small {
            Small::Skip => self.samples,
            Small::Refuse | Small::Repeat => 1,
        }
    }

    /// Batches an epoch.
    pub(super) fn batches(&self, classes: &[Vec<u32>]) -> usize {
        let usable: usize = classes.iter().map(Vec::len).sum();
        self.batches
            .unwrap_or(usable / (self.classes * self.samples).max(1))
            .max(1)
    }
}

/// The samples of each class, in random orders one after another.
pub(super) struct Draws(Vec<Cycle>);

impl Draws {
    pub(super) fn of(classes: &[Vec<u32>]) -> Self {
        Self(classes.iter().map(|it| Cycle::new(it.clone())).collect())
    }

    /// So many samples of each of some classes.
    pub(super) fn take(&mut self, classes: &[u32], samples: usize, rng: &mut Rng) -> Vec<u32> {
        let mut batch = Vec::with_capacity(classes.len() * samples);
        for &class in classes {
            batch.extend(self.0[class as usize].take(samples, rng));
        }
        batch
    }
}
