//! Some samples of each of some classes.

use nearfar_core::{Rng, Stateful};
use serde::{Deserialize, Serialize};

use super::{Counts, Sampler, by_class, cycle::Cycle, per_class::PerClass};
use crate::{Dataset, Error};

/// Batches of `classes` distinct classes with `samples` samples each, known as P×K.
///
/// An epoch has as many batches as the usable samples fill, at least one. It cycles through random orders of the classes,
/// and within each class of its samples, so how often two classes (or two samples of one class) occur differs by one at
/// most.
///
/// `MPerClassSampler` of pytorch-metric-learning draws its classes anew for each batch, so that an epoch does not
/// cover all; with `m` its samples here, `batch_size / m` are the classes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ClassesBySamples {
    /// Classes a batch.
    pub classes: usize,
    /// Samples of each class.
    pub samples: usize,
    /// What to do with classes that have fewer samples.
    pub small: Small,
    /// Batches an epoch, instead of as many as the samples fill.
    pub batches: Option<usize>,
}

/// What to do with classes that have fewer samples than a batch wants of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Small {
    /// It is an error.
    #[default]
    Refuse,
    /// Their samples are repeated within the batch.
    Repeat,
    /// They are left out.
    Skip,
}

impl Default for ClassesBySamples {
    fn default() -> Self {
        Self {
            classes: 32,
            samples: 4,
            small: Small::Refuse,
            batches: None,
        }
    }
}

impl ClassesBySamples {
    pub(super) fn check(&self, counts: &Counts<'_>) -> Result<(), Error> {
        let per_class = PerClass {
            name: "classes_by_samples",
            classes: self.classes,
            called: "classes",
            samples: self.samples,
            small: self.small,
            batches: self.batches,
        };
        per_class.check(counts)
    }

    pub(super) fn build(
        &self,
        _: &dyn Dataset,
        counts: &Counts<'_>,
    ) -> Result<Box<dyn Sampler>, Error> {
        self.check(counts)?;
        Ok(Box::new(self.clone()))
    }

    /// Whether a class of this many samples is used.
    fn uses(&self, count: usize) -> bool {
        count >= self.samples || self.small != Small::Skip
    }
}

impl Stateful for ClassesBySamples {}

impl Sampler for ClassesBySamples {
    fn epoch(&self, labels: &[u32], rng: &mut Rng) -> Vec<Vec<u32>> {
        let mut members: Vec<Cycle> = Vec::new();
        let mut usable = 0;
        for (_, indices) in by_class(labels) {
            if self.uses(indices.len()) {
                usable += indices.len();
                members.push(Cycle::new(indices));
            }
        }
        let batches = self
            .batches
            .unwrap_or(usable / (self.classes * self.samples).max(1))
            .max(1);
        let mut classes = Cycle::new((0..members.len() as u32).collect());
        (0..batches)
            .map(|_| {
                let chosen = classes.take(self.classes, rng);
                chosen
                    .into_iter()
                    .flat_map(|class| members[class as usize].take(self.samples, rng))
                    .collect()
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nearfar_core::{Purpose, Seed};
    use proptest::prelude::*;

    fn check(sampler: &ClassesBySamples, labels: &[u32]) -> Result<(), String> {
        let names = ["a".to_owned(), "b".to_owned(), "c".to_owned()];
        sampler
            .check(&Counts::of(labels, &names))
            .map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_impossible_is_refused_with_both_numbers_and_the_fix() {
        let sampler = ClassesBySamples {
            classes: 3,
            samples: 2,
            ..ClassesBySamples::default()
        };
        assert_eq!(
            check(&sampler, &[0, 0, 1, 1]).unwrap_err(),
            "`sampler.classes_by_samples` wants 3 classes a batch, but there are 2 to train on; use `classes = 2` or fewer"
        );
        assert_eq!(
            check(&sampler, &[0, 0, 1, 2, 2]).unwrap_err(),
            "`sampler.classes_by_samples` wants 2 samples of a class, but class `b` has 1; use `samples = 1`, or \
             `small = \"repeat\"` or `\"skip\"`"
        );
        let skipping = ClassesBySamples {
            small: Small::Skip,
            ..sampler.clone()
        };
        assert!(
            check(&skipping, &[0, 0, 1, 2, 2])
                .unwrap_err()
                .contains("of 3 classes 2 have the 2 samples")
        );
        let repeating = ClassesBySamples {
            small: Small::Repeat,
            ..sampler.clone()
        };
        assert_eq!(check(&repeating, &[0, 0, 1, 2, 2]), Ok(()));
        assert!(
            check(
                &ClassesBySamples {
                    classes: 0,
                    ..sampler
                },
                &[0]
            )
            .unwrap_err()
            .contains("is 0")
        );
    }

    #[test]
    fn small_classes_are_repeated_or_left_out() {
        let mut sampler = ClassesBySamples {
            classes: 2,
            samples: 3,
            small: Small::Repeat,
            batches: Some(4),
        };
        let labels = [0, 0, 0, 1, 2, 2, 2];
        let mut rng = Seed(2).rng(Purpose::Sampling, 0);
        let all = sampler.epoch(&labels, &mut rng).concat();
        assert!(all.contains(&3));
        sampler.small = Small::Skip;
        let all = sampler.epoch(&labels, &mut rng).concat();
        assert_eq!(all.len(), 24);
        assert!(!all.contains(&3));
    }

    proptest! {
        #[test]
        fn batches_are_p_by_k_and_cover_evenly(
            sizes in prop::collection::vec(1usize..9, 2..9), classes in 1usize..5, samples in 1usize..5, seed: u64,
        ) {
            let labels: Vec<u32> = sizes.iter().enumerate().flat_map(|(class, &size)| vec![class as u32; size]).collect();
            let sampler = ClassesBySamples { classes, samples, small: Small::Skip, batches: Some(11) };
            let usable: Vec<u32> = (0..sizes.len() as u32).filter(|&class| sizes[class as usize] >= samples).collect();
            prop_assume!(usable.len() >= classes);
            let batches = sampler.epoch(&labels, &mut Seed(seed).rng(Purpose::Sampling, 3));
            prop_assert_eq!(&batches, &sampler.epoch(&labels, &mut Seed(seed).rng(Purpose::Sampling, 3)));
            let mut drawn = vec![0; labels.len()];
            let mut of_class = vec![0; sizes.len()];
            for batch in &batches {
                prop_assert_eq!(batch.len(), classes * samples);
                let mut distinct = batch.clone();
                distinct.sort_unstable();
                distinct.dedup();
                prop_assert_eq!(distinct.len(), batch.len());
                let mut counts = vec![0; sizes.len()];
                for &index in batch {
                    counts[labels[index as usize] as usize] += 1;
                    drawn[index as usize] += 1;
                }
                prop_assert!(counts.iter().all(|&count| count == 0 || count == samples));
                counts.iter().zip(&mut of_class).for_each(|(&count, total)| *total += count / samples);
            }
            let spread = |counts: Vec<usize>| counts.iter().max().unwrap() - counts.iter().min().unwrap();
            prop_assert!(spread(usable.iter().map(|&class| of_class[class as usize]).collect()) <= 1);
            for &class in &usable {
                let of: Vec<usize> = (0..labels.len()).filter(|&i| labels[i] == class).map(|i| drawn[i]).collect();
                prop_assert!(spread(of) <= 1);
            }
        }
    }
}
