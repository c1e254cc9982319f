//! Some classes, from both of two domains.

use nearfar_core::{Rng, Stateful};
use serde::{Deserialize, Serialize};

use super::{Sampler, by_class, cycle::Cycle, positive};
use crate::{Annotation, Dataset, Error};

/// Batches of `classes` distinct classes with `samples` samples each from either of two domains: sketches and photographs, say.
///
/// Only classes that are in both domains are used. An epoch has as many batches as their samples fill, at least one; it cycles
/// through random orders of the classes, and within each class and domain of its samples. A class with fewer samples in a domain
/// repeats them. The data must say of which domain a sample is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TwoDomains {
    /// Classes a batch.
    pub classes: usize,
    /// Samples of each class in each domain.
    pub samples: usize,
    /// Batches an epoch, instead of as many as the samples fill.
    pub batches: Option<usize>,
}

impl Default for TwoDomains {
    fn default() -> Self {
        Self {
            classes: 16,
            samples: 2,
            batches: None,
        }
    }
}

impl TwoDomains {
    pub(super) fn build(&self, data: &dyn Dataset) -> Result<Box<dyn Sampler>, Error> {
        positive("sampler.two_domains.classes", self.classes)?;
        positive("sampler.two_domains.samples", self.samples)?;
        if let Some(batches) = self.batches {
            positive("sampler.two_domains.batches", batches)?;
        }
        if data.annotation() != Annotation::Domains {
            return Err(Error::Settings(format!(
                "`sampler.two_domains` takes samples from two domains, but the data are {}; name the column that says which \
                 with `domain` in `data`, or use another sampler",
                data.annotation().name()
            )));
        }
        let domains = data.domains();
        let classes: Vec<[Vec<u32>; 2]> = by_class(data.labels())
            .into_iter()
            .map(|(_, members)| {
                let of = |domain: u32| {
                    let members = members.iter().copied();
                    members
                        .filter(|&it| domains[it as usize] == domain)
                        .collect()
                };
                [of(0), of(1)]
            })
            .filter(|[first, second]: &[Vec<u32>; 2]| !first.is_empty() && !second.is_empty())
            .collect();
        if classes.len() < self.classes {
            return Err(Error::Settings(format!(
                "`sampler.two_domains` wants {} classes a batch, but {} have samples in both domains; use `classes = {}` or fewer",
                self.classes,
                classes.len(),
                classes.len()
            )));
        }
        Ok(Box::new(Both {
            settings: self.clone(),
            classes,
        }))
    }
}

/// The settings with the samples of each class in either domain.
struct Both {
    settings: TwoDomains,
    classes: Vec<[Vec<u32>; 2]>,
}

impl Stateful for Both {}

impl Sampler for Both {
    fn epoch(&self, _: &[u32], rng: &mut Rng) -> Vec<Vec<u32>> {
        let (p, k) = (self.settings.classes, self.settings.samples);
        let count = self.classes.iter().flatten().map(Vec::len).sum::<usize>();
        let batches = self.settings.batches.unwrap_or(count / (2 * p * k)).max(1);
        let mut members: Vec<[Cycle; 2]> = self
            .classes
            .iter()
            .map(|domains| domains.clone().map(Cycle::new))
            .collect();
        let mut classes = Cycle::new((0..self.classes.len() as u32).collect());
        (0..batches)
            .map(|_| {
                let chosen = classes.take(p, rng);
                let mut batch = Vec::with_capacity(2 * p * k);
                for domain in [0, 1] {
                    for &class in &chosen {
                        let of_class: &mut [Cycle; 2] = &mut members[class as usize];
                        batch.extend(of_class[domain].take(k, rng));
                    }
                }
                batch
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Glyphs,
        formats::said::{Annotated, Said},
    };
    use nearfar_core::{Purpose, Seed};
    use std::sync::Arc;

    fn data(domain: impl Fn(u32) -> u32) -> Result<Annotated, Error> {
        let glyphs = Glyphs::new(5, 6, 8, Seed(1))?;
        let domains = (0..30).map(domain).collect();
        Ok(Annotated::new(Arc::new(glyphs), Said::Domains(domains)))
    }

    #[test]
    fn a_batch_has_every_class_in_both_domains() -> Result<(), Error> {
        // Of the last class there is one sample in the second domain, which is repeated.
        let data = data(|index| u32::from(index % 2 == 1 && index < 25 || index == 29))?;
        let settings = TwoDomains {
            classes: 3,
            samples: 2,
            batches: None,
        };
        let sampler = settings.build(&data)?;
        let epoch = sampler.epoch(data.labels(), &mut Seed(2).rng(Purpose::Sampling, 0));
        assert_eq!(epoch.len(), 2);
        for batch in &epoch {
            let of = |domain: u32| {
                let rows = batch
                    .iter()
                    .filter(|&&it| data.domains()[it as usize] == domain);
                let mut labels: Vec<u32> = rows.map(|&it| data.labels()[it as usize]).collect();
                labels.sort_unstable();
                labels
            };
            assert_eq!(of(0), of(1));
            assert_eq!(of(0).len(), 6);
        }
        Ok(())
    }

    #[test]
    fn what_is_missing_is_told() -> Result<(), Error> {
        let settings = TwoDomains::default();
        let glyphs = Glyphs::new(5, 6, 8, Seed(1))?;
        let error = settings
            .build(&glyphs)
            .err()
            .expect("one domain")
            .to_string();
        assert!(error.contains("with `domain` in `data`"), "{error}");
        let data = data(|index| u32::from(index >= 15))?;
        let error = settings.build(&data).err().expect("too few").to_string();
        assert!(
            error.contains("wants 16 classes a batch, but 1 have"),
            "{error}"
        );
        Ok(())
    }
}
