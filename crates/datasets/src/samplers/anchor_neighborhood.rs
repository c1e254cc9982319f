//! Classes with their neighbors.

use nearfar_core::{Rng, Span};
use serde::{Deserialize, Serialize};

use super::cycle::Cycle;
use super::per_class::{Draws, PerClass};
use super::shown::{Known, Layout, List, NOBODY, Rule, Seen, Shown, nearest_places};
use super::{Counts, Sampler, Small, positive};
use crate::{Dataset, Error};

/// Batches of some classes, each with the classes nearest to it.
///
/// A batch has `anchors` classes in turn, and to each of them its `classes − 1` nearest that are not in the batch yet, with
/// `samples` samples of each: `anchors · classes · samples` rows. What is near is asked of the embedded training set,
/// by the mean squared distance of two classes' rows of length 1:
///
/// ```text
/// D(p, q) = ‖μ_p − μ_q‖² + v_p + v_q,   μ: mean of a class, v: mean squared distance to it
/// ```
///
/// So a batch is full of classes that are hard to tell apart, of several regions. Before it was shown anything, neighbors are
/// drawn evenly.
///
/// Source: Ge, Huang, Dong, Scott, "Deep metric learning with hierarchical triplet loss", ECCV 2018,
/// <https://arxiv.org/abs/1810.06951>, section 4.1.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AnchorNeighborhood {
    /// Regions a batch.
    pub anchors: usize,
    /// Classes of each region, its anchor among them.
    pub classes: usize,
    /// Samples of each class.
    pub samples: usize,
    /// What to do with classes that have fewer samples.
    pub small: Small,
    /// Batches an epoch, instead of as many as the samples fill.
    pub batches: Option<usize>,
    /// How often neighbors are looked for anew.
    pub every: Span,
}

impl Default for AnchorNeighborhood {
    /// 8 regions of 4 classes with 4 samples each: a batch of 128. The paper has batches of 650.
    fn default() -> Self {
        Self {
            anchors: 8,
            classes: 4,
            samples: 4,
            small: Small::Refuse,
            batches: None,
            every: Span::Epochs(1),
        }
    }
}

impl AnchorNeighborhood {
    fn per_class(&self) -> PerClass {
        PerClass {
            name: Self::NAME,
            classes: self.anchors * self.classes,
            called: "anchors",
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
        positive("sampler.anchor_neighborhood.classes", self.classes)?;
        Shown::of_classes(self, &self.per_class(), data, counts)
    }

    /// Neighbors that each class needs, so that there are enough beside those in the batch already.
    fn neighbors(&self, known: &Known) -> usize {
        (self.anchors * self.classes)
            .min(known.classes.len())
            .saturating_sub(1)
    }
}

impl Rule for AnchorNeighborhood {
    const NAME: &'static str = "anchor_neighborhood";

    fn every(&self) -> Span {
        self.every
    }

    fn layout(&self, known: &Known) -> Vec<Layout> {
        let classes = known.classes.len();
        let size = (classes, self.neighbors(known));
        vec![Layout::places("neighbors", size, classes)]
    }

    fn derive(&self, known: &Known, seen: &Seen, _: &mut Rng) -> Vec<List> {
        vec![List::Places(class_neighbors(
            known,
            seen,
            self.neighbors(known),
        ))]
    }

    fn epoch(&self, known: &Known, lists: Option<&[List]>, rng: &mut Rng) -> Vec<Vec<u32>> {
        let width = self.neighbors(known);
        let mut anchors = Cycle::new((0..known.classes.len() as u32).collect());
        let mut draws = Draws::of(&known.classes);
        (0..self.per_class().batches(&known.classes))
            .map(|_| {
                let chosen = anchors.take(self.anchors, rng);
                let mut taken = vec![false; known.classes.len()];
                chosen.iter().for_each(|&it| taken[it as usize] = true);
                let mut batch = Vec::new();
                for &anchor in &chosen {
                    let near = match lists {
                        Some(lists) => {
                            lists[0].places()[anchor as usize * width..][..width].to_vec()
                        }
                        None => rng.permutation(known.classes.len()),
                    };
                    let mut region = vec![anchor];
                    for class in near {
                        if region.len() < self.classes && class != NOBODY && !taken[class as usize]
                        {
                            taken[class as usize] = true;
                            region.push(class);
                        }
                    }
                    batch.extend(draws.take(&region, self.samples, rng));
                }
                batch
            })
            .collect()
    }
}

/// The classes nearest to each, by the mean squared distance of their rows of length 1.
fn class_neighbors(known: &Known, seen: &Seen, wanted: usize) -> Vec<u32> {
    let seen = seen.unit();
    let means: Vec<Vec<f32>> = known.classes.iter().map(|it| seen.mean(it)).collect();
    let spread = |(members, mean): (&Vec<u32>, &Vec<f32>)| {
        let squares = members
            .iter()
            .map(|&it| f64::from(super::shown::squared_distance(seen.row(it), mean)));
        (squares.sum::<f64>() / members.len().max(1) as f64) as f32
    };
    let spreads: Vec<f32> = known.classes.iter().zip(&means).map(spread).collect();
    nearest_places(known.classes.len(), wanted, |p, q| {
        let between = super::shown::squared_distance(&means[p], &means[q]);
        (p != q).then_some(between + spreads[p] + spreads[q])
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::samplers::SamplerConfig;
    use crate::samplers::tests::{data, far, places, refreshed, shrunk, stream, table};

    #[test]
    fn neighbors_of_classes_are_those_of_all_their_pairs() {
        let data = data();
        let shown = table(&data, 5, 1);
        let config = shrunk(SamplerConfig::AnchorNeighborhood(
            AnchorNeighborhood::default(),
        ));
        let sampler = refreshed(&config, &data, &shown);
        let neighbors = places(&*sampler, "neighbors");
        let labels = &data.labels;
        let members = |class: u32| -> Vec<usize> {
            (0..labels.len())
                .filter(|&it| labels[it] == class)
                .collect()
        };
        for class in 0..8 {
            let between = |other: u32| {
                let (own, others) = (members(class), members(other));
                let pairs = own
                    .iter()
                    .flat_map(|a| others.iter().map(move |b| (*a, *b)));
                let pairs: Vec<(usize, usize)> = pairs.collect();
                let sum: f64 = pairs.iter().map(|&(a, b)| far(&shown, a, b)).sum();
                sum / pairs.len() as f64
            };
            let mut others: Vec<(f64, u32)> = (0..8)
                .filter(|&it| it != class)
                .map(|it| (between(it), it))
                .collect();
            others.sort_by(|a, b| a.0.total_cmp(&b.0));
            let wanted: Vec<u32> = others.iter().take(5).map(|it| it.1).collect();
            assert_eq!(neighbors[class as usize], wanted);
        }
        // Each region is the anchor and its nearest that are not there yet.
        for batch in sampler.epoch(&data.labels, &mut stream(2)) {
            let classes: Vec<u32> = batch
                .chunks(2)
                .map(|it| data.labels[it[0] as usize])
                .collect();
            let first: BTreeSet<u32> = neighbors[classes[0] as usize]
                .iter()
                .copied()
                .filter(|&it| it != classes[3])
                .take(2)
                .collect();
            assert_eq!(first, classes[1..3].iter().copied().collect());
        }
    }
}
