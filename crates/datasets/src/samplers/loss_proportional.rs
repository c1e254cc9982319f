//! Samples by their loss.

use nearfar_core::{Fraction, NonNegative, Rng, Span};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::per_class::PerClass;
use super::shown::{Known, Layout, List, Rule, Seen, Shown, squared_distance, weighted_draw};
use super::{Counts, Sampler, Small, positive};
use crate::{Dataset, Error};

/// Batches of classes and samples in proportion to their loss.
///
/// The loss of a sample is that of its own hardest triplet when the training set was embedded, among the embedded samples of
/// a random subset, with rows of length 1:
///
/// ```text
/// l(a) = [d(a, p) − d(a, n) + margin]₊,   p: the farthest positive, n: the nearest negative
/// ```
///
/// A batch draws `classes` different classes in proportion to the mean loss of their samples, and of each of them `samples`
/// different samples in proportion to theirs; of a class with fewer all, and then some again. To each loss the share
/// `floor` of the mean loss is added, so that nothing is forgotten for ever. Before it was shown anything, all are drawn alike.
///
/// A definition of our own: the field draws in proportion to the loss in many ways. It costs as many distances as there are
/// samples times the subset.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LossProportional {
    /// Classes a batch.
    pub classes: usize,
    /// Samples of each class.
    pub samples: usize,
    /// Of the loss, in units of the distance.
    pub margin: NonNegative,
    /// What is added to each loss, as a share of the mean loss.
    pub floor: Fraction,
    /// How many samples positives and negatives are looked for among.
    pub subset: usize,
    /// What to do with classes that have fewer samples.
    pub small: Small,
    /// Batches an epoch, instead of as many as the samples fill.
    pub batches: Option<usize>,
    /// How often losses are found anew.
    pub every: Span,
}

impl Default for LossProportional {
    /// The margin of FaceNet, a tenth of the mean loss for all, and 4,096 samples to compare with.
    fn default() -> Self {
        Self {
            classes: 32,
            samples: 4,
            margin: NonNegative::literal(0.2),
            floor: Fraction::literal(0.1),
            subset: 4096,
            small: Small::Refuse,
            batches: None,
            every: Span::Epochs(1),
        }
    }
}

impl LossProportional {
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
        positive("sampler.loss_proportional.subset", self.subset)?;
        Shown::of_classes(self, &self.per_class(), data, counts)
    }
}

impl Rule for LossProportional {
    const NAME: &'static str = "loss_proportional";

    fn every(&self) -> Span {
        self.every
    }

    fn layout(&self, known: &Known) -> Vec<Layout> {
        vec![Layout::numbers("losses", known.samples)]
    }

    fn derive(&self, known: &Known, seen: &Seen, rng: &mut Rng) -> Vec<List> {
        let seen = seen.unit();
        let mut subset = rng.permutation(known.samples);
        subset.truncate(self.subset);
        subset.sort_unstable();
        let loss = |sample: u32| -> f32 {
            let class = known.class_of[sample as usize];
            let (mut far, mut near) = (f32::NEG_INFINITY, f32::INFINITY);
            for &other in subset.iter().filter(|&&it| it != sample) {
                let distance = squared_distance(seen.row(sample), seen.row(other));
                if known.class_of[other as usize] == class {
                    far = far.max(distance);
                } else {
                    near = near.min(distance);
                }
            }
            let gap = far.max(0.0).sqrt() - near.sqrt() + self.margin.get() as f32;
            match far.is_finite() && near.is_finite() {
                true => gap.max(0.0),
                false => 0.0, // It lacks one of the two, so there is no triplet.
            }
        };
        let losses = (0..known.samples as u32).into_par_iter().map(loss);
        vec![List::Numbers(losses.collect())]
    }

    fn epoch(&self, known: &Known, lists: Option<&[List]>, rng: &mut Rng) -> Vec<Vec<u32>> {
        let loss = |sample: u32| match lists {
            Some(lists) => f64::from(lists[0].numbers()[sample as usize]).max(0.0),
            None => 0.0,
        };
        let used: usize = known.classes.iter().map(Vec::len).sum();
        let total: f64 = known.classes.iter().flatten().map(|&it| loss(it)).sum();
        // Without any loss all are alike.
        let floor = match total > 0.0 {
            true => self.floor.get() * total / used.max(1) as f64,
            false => 1.0,
        };
        let weights: Vec<Vec<f64>> = known
            .classes
            .iter()
            .map(|members| members.iter().map(|&it| loss(it) + floor).collect())
            .collect();
        let mean = |it: &Vec<f64>| it.iter().sum::<f64>() / it.len().max(1) as f64;
        let of_class: Vec<f64> = weights.iter().map(mean).collect();
        (0..self.per_class().batches(&known.classes))
            .map(|_| {
                let mut batch = Vec::with_capacity(self.classes * self.samples);
                for class in weighted_draw(&of_class, self.classes, rng) {
                    let members = &known.classes[class as usize];
                    let begin = batch.len();
                    while batch.len() < begin + self.samples {
                        let missing = begin + self.samples - batch.len();
                        let drawn = weighted_draw(&weights[class as usize], missing, rng);
                        batch.extend(drawn.into_iter().map(|it| members[it as usize]));
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
    use crate::samplers::SamplerConfig;
    use crate::samplers::tests::{data, far, numbers, refreshed, stream, table};

    #[test]
    fn losses_are_those_of_each_sample_s_hardest_triplet_and_draws_follow_them() {
        let data = data();
        let shown = table(&data, 5, 1);
        let config = SamplerConfig::LossProportional(LossProportional {
            classes: 1,
            samples: 1,
            batches: Some(20_000),
            ..LossProportional::default()
        });
        let sampler = refreshed(&config, &data, &shown);
        let losses = numbers(&*sampler, "losses");
        let count = data.labels.len();
        for (a, &loss) in losses.iter().enumerate() {
            let (mut positive, mut negative) = (f64::MIN, f64::MAX);
            for b in (0..count).filter(|&b| b != a) {
                let distance = far(&shown, a, b).sqrt();
                if data.labels[a] == data.labels[b] {
                    positive = positive.max(distance);
                } else {
                    negative = negative.min(distance);
                }
            }
            let wanted = (positive - negative + 0.2).max(0.0);
            assert!((f64::from(loss) - wanted).abs() < 1e-3, "{loss} {wanted}");
        }
        // A class in proportion to its mean, and a sample in proportion to its own.
        let floor = 0.1 * losses.iter().map(|&it| f64::from(it)).sum::<f64>() / count as f64;
        let of_class = |class: u32| -> Vec<f64> {
            let members = (0..count).filter(|&it| data.labels[it] == class);
            members.map(|it| f64::from(losses[it]) + floor).collect()
        };
        let mean = |class: u32| of_class(class).iter().sum::<f64>() / of_class(class).len() as f64;
        let all: f64 = (0..8).map(mean).sum();
        let mut counts = vec![0.0; count];
        for row in sampler.epoch(&data.labels, &mut stream(0)).concat() {
            counts[row as usize] += 1.0;
        }
        for a in 0..count {
            let class = data.labels[a];
            let own = (f64::from(losses[a]) + floor) / of_class(class).iter().sum::<f64>();
            let wanted = 20_000.0 * mean(class) / all * own;
            assert!(
                (counts[a] - wanted).abs() <= 5.0 * wanted.sqrt(),
                "{} {wanted}",
                counts[a]
            );
        }
    }
}
