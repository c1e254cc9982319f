//! Samples by how often they are mined.

use std::sync::Arc;

use candle_core::{Device, Tensor};
use nearfar_core::{
    Candidates, Comparison, Embeddings, Miner, NonNegative, Rng, SignedPairs, Span,
};
use serde::{Deserialize, Serialize};

use super::shown::{Known, Layout, List, Rule, Seen, Shown, Wheel, squared_distance};
use super::{Counts, Sampler, positive, span};
use crate::{Dataset, Error};

/// Samples drawn in proportion to how many tuples worth learning from they are in.
///
/// Of the embedded training set a random subset is mined, and each sample weighs how often it is in a tuple; what is outside
/// of the subset weighs nothing until the next one. Draws are with replacement. By default the tuples are the triplets that
/// violate a margin, counted and not listed, by the distance of rows of length 1:
///
/// ```text
/// d(a, n) − d(a, p) ≤ margin
/// ```
///
/// [`with_miner`](Self::with_miner) takes another miner, which sees those distances. Where there is no tuple, all of the
/// subset are drawn alike; before it was shown anything, all samples are.
///
/// As `TuplesToWeightsSampler` of pytorch-metric-learning 2.9.
///
/// Single samples seldom meet another of their class in a batch: it is for losses of class centers, or few classes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TuplesToWeights {
    /// Samples a batch.
    pub size: usize,
    /// Samples that are mined.
    pub subset: usize,
    /// In units of the distance.
    pub margin: NonNegative,
    /// Batches an epoch, instead of as many as the samples fill.
    pub batches: Option<usize>,
    /// How often weights are found anew.
    pub every: Span,
}

impl Default for TuplesToWeights {
    /// The margin of FaceNet, over 2,048 samples.
    fn default() -> Self {
        Self {
            size: 64,
            subset: 2048,
            margin: NonNegative::literal(0.2),
            batches: None,
            every: Span::Epochs(1),
        }
    }
}

impl TuplesToWeights {
    pub(super) fn build(
        &self,
        data: &dyn Dataset,
        _: &Counts<'_>,
    ) -> Result<Box<dyn Sampler>, Error> {
        self.over(data, None)
    }

    /// The sampler with another miner, for these samples.
    ///
    /// # Errors
    /// [`Error::Settings`] when a count is 0.
    pub fn with_miner(
        &self,
        data: &dyn Dataset,
        miner: Box<dyn Miner>,
    ) -> Result<Box<dyn Sampler>, Error> {
        self.over(data, Some(miner.into()))
    }

    fn over(
        &self,
        data: &dyn Dataset,
        miner: Option<Arc<dyn Miner>>,
    ) -> Result<Box<dyn Sampler>, Error> {
        positive("sampler.tuples_to_weights.size", self.size)?;
        positive("sampler.tuples_to_weights.subset", self.subset)?;
        if let Some(batches) = self.batches {
            positive("sampler.tuples_to_weights.batches", batches)?;
        }
        span(Weighing::NAME, self.every)?;
        let rule = Weighing {
            settings: self.clone(),
            miner,
        };
        Ok(Box::new(Shown::new(rule, Known::of(data.labels(), 1))))
    }
}

/// The settings with the miner.
struct Weighing {
    settings: TuplesToWeights,
    miner: Option<Arc<dyn Miner>>,
}

impl Weighing {
    /// How often each sample of a subset is in a triplet that violates the margin, over the largest such count.
    fn violations(&self, known: &Known, seen: &Seen, subset: &[u32]) -> Vec<f64> {
        let margin = self.settings.margin.get() as f32;
        let mut counts = vec![0u64; subset.len()];
        let class = |place: usize| known.class_of[subset[place] as usize];
        for anchor in 0..subset.len() {
            let distance = |other: usize| {
                squared_distance(seen.row(subset[anchor]), seen.row(subset[other])).sqrt()
            };
            let others = || (0..subset.len()).filter(|&it| it != anchor);
            let mut negatives: Vec<(f32, usize)> = others()
                .filter(|&it| class(it) != class(anchor))
                .map(|it| (distance(it), it))
                .collect();
            negatives.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
            // How many positives each reach of negatives belongs to; a negative is in all that reach beyond it.
            let mut reached = vec![0u64; negatives.len() + 1];
            for positive in others().filter(|&it| class(it) == class(anchor)) {
                let bound = distance(positive) + margin;
                let reach = negatives.partition_point(|it| it.0 <= bound);
                counts[positive] += reach as u64;
                counts[anchor] += reach as u64;
                reached[reach] += 1;
            }
            let mut beyond = 0;
            for (place, &(_, negative)) in negatives.iter().enumerate().rev() {
                beyond += reached[place + 1];
                counts[negative] += beyond;
            }
        }
        match counts.iter().max() {
            None | Some(0) => vec![1.0; subset.len()],
            Some(&largest) => counts
                .iter()
                .map(|&it| it as f64 / largest as f64)
                .collect(),
        }
    }

    /// What a miner makes of a subset.
    fn mined(
        &self,
        miner: &dyn Miner,
        known: &Known,
        seen: &Seen,
        subset: &[u32],
        rng: &mut Rng,
    ) -> Vec<f64> {
        let count = subset.len();
        let mut rows = Vec::with_capacity(count * seen.dim);
        let mut distances = Vec::with_capacity(count * count);
        for &one in subset {
            rows.extend_from_slice(seen.row(one));
            distances.extend(
                subset
                    .iter()
                    .map(|&other| squared_distance(seen.row(one), seen.row(other)).sqrt()),
            );
        }
        let labels = subset
            .iter()
            .map(|&it| known.class_of[it as usize])
            .collect();
        let candidates =
            Tensor::from_vec(rows, (count, seen.dim), &Device::Cpu).and_then(|vectors| {
                let rows = Embeddings::labeled(vectors, labels)?;
                let distances = Tensor::from_vec(distances, (count, count), &Device::Cpu)?;
                Candidates::new(&distances, &Comparison::within(&rows), Self::NAME)
            });
        match candidates {
            Ok(candidates) => miner.mine(&candidates, rng).weights(count, true),
            // Rows, labels and distances are of one length, so it is not reached; all alike are no wrong answer.
            Err(_) => nearfar_core::Tuples::Pairs(SignedPairs::default()).weights(count, true),
        }
    }
}

impl Rule for Weighing {
    const NAME: &'static str = "tuples_to_weights";

    fn every(&self) -> Span {
        self.settings.every
    }

    fn layout(&self, known: &Known) -> Vec<Layout> {
        vec![Layout::numbers("weights", known.samples)]
    }

    fn derive(&self, known: &Known, seen: &Seen, rng: &mut Rng) -> Vec<List> {
        let seen = seen.unit();
        let mut subset = rng.permutation(known.samples);
        subset.truncate(self.settings.subset);
        subset.sort_unstable();
        let found = match &self.miner {
            Some(miner) => self.mined(&**miner, known, &seen, &subset, rng),
            None => self.violations(known, &seen, &subset),
        };
        let mut weights = vec![0.0; known.samples];
        for (&sample, weight) in subset.iter().zip(found) {
            weights[sample as usize] = weight as f32;
        }
        vec![List::Numbers(weights)]
    }

    fn epoch(&self, known: &Known, lists: Option<&[List]>, rng: &mut Rng) -> Vec<Vec<u32>> {
        let weights: Vec<f64> = match lists {
            Some(lists) => lists[0].numbers().iter().map(|&it| f64::from(it)).collect(),
            None => vec![1.0; known.samples],
        };
        let wheel = Wheel::new(weights.into_iter());
        let size = self.settings.size;
        let batches = self.settings.batches.unwrap_or(known.samples / size).max(1);
        (0..batches)
            .map(|_| {
                let drawn = (0..size).filter_map(|_| wheel.draw(rng));
                drawn.map(|place| place as u32).collect()
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use nearfar_core::{Purpose, Seed, Stateful, Triplets, Tuples};

    use super::*;
    use crate::samplers::SamplerConfig;
    use crate::samplers::tests::{awkward_tables, data, numbers, refreshed, stream, table};

    /// All triplets that violate a margin of 0.2, of a batch.
    #[derive(Debug)]
    struct Violating;

    impl Stateful for Violating {}

    impl Miner for Violating {
        fn mine(&self, seen: &Candidates, _: &mut Rng) -> Tuples {
            let mut triplets = Triplets::default();
            for a in seen.anchors() {
                for p in seen.positives(a) {
                    for n in seen.negatives(a) {
                        if n.distance <= p.distance + 0.2 {
                            triplets.push(a, p.index, n.index);
                        }
                    }
                }
            }
            Tuples::Triplets(triplets)
        }
    }

    #[test]
    fn counted_violations_weigh_as_those_of_a_miner_that_lists_them() {
        let data = data();
        let settings = TuplesToWeights {
            size: 9,
            subset: 50,
            ..TuplesToWeights::default()
        };
        for (name, table) in awkward_tables(&data) {
            let counted = refreshed(
                &SamplerConfig::TuplesToWeights(settings.clone()),
                &data,
                &table,
            );
            let mut mined = settings
                .with_miner(&data, Box::new(Violating))
                .expect("it fits");
            mined
                .refresh(&table, &mut Seed(4).rng(Purpose::Refresh, 1))
                .expect("its data");
            let (one, other) = (numbers(&*counted, "weights"), numbers(&*mined, "weights"));
            assert!(one.iter().filter(|it| **it > 0.0).count() <= 50);
            if name != "one dimension" {
                // There all distances are 0 or 2, and 2 + 0.2 rounds in its own way.
                let close = |(x, y): (&f32, &f32)| (x - y).abs() < 1e-3;
                assert!(one.iter().zip(&other).all(close), "{name}");
            }
        }
        // Draws follow the weights.
        let sampler = refreshed(
            &SamplerConfig::TuplesToWeights(TuplesToWeights {
                size: 1000,
                batches: Some(20),
                ..settings
            }),
            &data,
            &table(&data, 5, 1),
        );
        let weights = numbers(&*sampler, "weights");
        let total: f32 = weights.iter().sum();
        let mut counts = vec![0.0; weights.len()];
        for row in sampler.epoch(&data.labels, &mut stream(0)).concat() {
            counts[row as usize] += 1.0;
        }
        for (count, weight) in counts.iter().zip(&weights) {
            let wanted = 20_000.0 * weight / total;
            assert!(
                (count - wanted).abs() <= 5.0 * wanted.sqrt(),
                "{count} {wanted}"
            );
        }
    }
}
