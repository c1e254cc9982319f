//! Batches that cover the space.

use nearfar_core::{Rng, Span};
use serde::{Deserialize, Serialize};

use super::cycle::Cycle;
use super::per_class::PerClass;
use super::shown::{Known, Layout, List, NOBODY, Rule, Seen, Shown, squared_distance};
use super::{Counts, Sampler, Small, positive};
use crate::{Dataset, Error};

/// Batches of classes that cover the space of embeddings as well as so few can.
///
/// Of a random pool of embedded samples, one of each of `pool` classes, a batch takes the one that is farthest from all taken
/// before, again and again (the greedy 2-approximation of k centers). Each brings `samples − 1` others of its class along.
/// The batches of an epoch are chosen when the set is shown, and come in another order in each epoch until it is shown again.
/// Before that, samples are drawn evenly.
///
/// Source: Roth, Milbich, Sinha, Gupta, Ommer, Cohen, "Revisiting training strategies and generalization performance in deep
/// metric learning", ICML 2020, <https://arxiv.org/abs/2002.08473>; after Sinha et al., "Small-GAN", ICML 2020.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GreedyCoreset {
    /// Classes a batch.
    pub classes: usize,
    /// Samples of each class.
    pub samples: usize,
    /// Classes that a batch is chosen from; ten times as many as it has, where nothing is said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pool: Option<usize>,
    /// What to do with classes that have fewer samples.
    pub small: Small,
    /// Batches an epoch, instead of as many as the samples fill.
    pub batches: Option<usize>,
    /// How often batches are chosen anew.
    pub every: Span,
}

impl Default for GreedyCoreset {
    /// Batches of 32 classes with 2 samples each.
    fn default() -> Self {
        Self {
            classes: 32,
            samples: 2,
            pool: None,
            small: Small::Refuse,
            batches: None,
            every: Span::Epochs(1),
        }
    }
}

impl GreedyCoreset {
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
        if let Some(pool) = self.pool {
            positive("sampler.greedy_coreset.pool", pool)?;
        }
        Shown::of_classes(self, &self.per_class(), data, counts)
    }
}

/// Of some samples so many, each the farthest from those before it; of equals the first.
fn farthest_first(seen: &Seen, pool: &[u32], wanted: usize) -> Vec<u32> {
    let mut nearest = vec![f32::INFINITY; pool.len()];
    let mut taken = Vec::with_capacity(wanted);
    let mut next = 0;
    while taken.len() < wanted.min(pool.len()) {
        taken.push(pool[next]);
        nearest[next] = f32::NEG_INFINITY;
        for (nearest, &sample) in nearest.iter_mut().zip(pool) {
            *nearest = nearest.min(squared_distance(seen.row(sample), seen.row(pool[next])));
        }
        next = 0;
        for place in 1..pool.len() {
            if nearest[place] > nearest[next] {
                next = place;
            }
        }
    }
    taken
}

impl Rule for GreedyCoreset {
    const NAME: &'static str = "greedy_coreset";

    fn every(&self) -> Span {
        self.every
    }

    fn layout(&self, known: &Known) -> Vec<Layout> {
        let size = (self.per_class().batches(&known.classes), self.classes);
        vec![Layout::places("batches", size, known.samples)]
    }

    fn derive(&self, known: &Known, seen: &Seen, rng: &mut Rng) -> Vec<List> {
        let mut classes = Cycle::new((0..known.classes.len() as u32).collect());
        let pool = self.pool.unwrap_or(10 * self.classes).max(self.classes);
        let pool = pool.min(known.classes.len());
        let mut batches = Vec::new();
        for _ in 0..self.per_class().batches(&known.classes) {
            let drawn: Vec<u32> = classes
                .take(pool, rng)
                .into_iter()
                .map(|class| {
                    let members = &known.classes[class as usize];
                    members[rng.below(members.len())]
                })
                .collect();
            let mut batch = farthest_first(seen, &drawn, self.classes);
            batch.resize(self.classes, NOBODY);
            batches.extend(batch);
        }
        vec![List::Places(batches)]
    }

    fn epoch(&self, known: &Known, lists: Option<&[List]>, rng: &mut Rng) -> Vec<Vec<u32>> {
        let count = self.per_class().batches(&known.classes);
        let order = rng.permutation(count);
        let mut all = Cycle::new((0..known.classes.len() as u32).collect());
        let with_others = |first: u32, rng: &mut Rng| {
            let class = known.class_of[first as usize] as usize;
            let members = known.classes.get(class).into_iter().flatten().copied();
            let others: Vec<u32> = members.filter(|&it| it != first).collect();
            let mut taken = vec![first];
            while taken.len() < self.samples {
                let missing = self.samples - taken.len();
                let found = Cycle::new(others.clone()).take(missing, rng);
                if found.is_empty() {
                    taken.push(first); // It is alone in its class.
                }
                taken.extend(found);
            }
            taken
        };
        order
            .into_iter()
            .map(|batch| {
                let first: Vec<u32> = match lists {
                    Some(lists) => {
                        let row = &lists[0].places()[batch as usize * self.classes..];
                        let row = row[..self.classes].iter().copied();
                        row.filter(|&it| it != NOBODY).collect()
                    }
                    None => all
                        .take(self.classes, rng)
                        .into_iter()
                        .map(|class| {
                            let members = &known.classes[class as usize];
                            members[rng.below(members.len())]
                        })
                        .collect(),
                };
                first
                    .into_iter()
                    .flat_map(|it| with_others(it, rng))
                    .collect()
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nearfar_core::EmbeddingTable;

    #[test]
    fn the_farthest_from_all_before_is_next() {
        let table = EmbeddingTable {
            vectors: vec![0.0, 1.0, 10.0, 4.0, 6.0],
            dim: 1,
            labels: vec![0; 5],
            ids: (0..5).collect(),
        };
        let seen = Seen::of_table(&table, 5);
        // From 1 the farthest is 10; then 4 with 3 from 1, before 6 with 4 from 10 … 6 is 4 from 10 and 5 from 1.
        assert_eq!(farthest_first(&seen, &[1, 0, 2, 3, 4], 4), [1, 2, 4, 3]);
        assert_eq!(farthest_first(&seen, &[1], 4), [1]);
        assert!(farthest_first(&seen, &[], 4).is_empty());
    }
}
