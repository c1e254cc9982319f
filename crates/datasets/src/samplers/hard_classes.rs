//! Classes that are hard to tell apart.

use nearfar_core::{Finite, Rng, Span};
use serde::{Deserialize, Serialize};

use super::per_class::{Draws, PerClass};
use super::shown::{Known, Layout, List, Rule, Seen, Shown, dot, normalize};
use super::{Counts, Sampler, Small, positive};
use crate::{Dataset, Error};

/// Batches of classes that violate the margin most, chosen one after another.
///
/// Of the embedded training set each class has a representative: the mean of two of its rows of length 1, and how similar the
/// two are. A batch begins with any class of a random pool, and adds the class of the highest score until it is full:
///
/// ```text
/// violation  score(c) = Σ over chosen j of [s(c, j) − s_own(j) + margin]₊
/// max        score(c) = max over chosen j of s(c, j)
/// s: cosine of two representatives, s_own(j): cosine of the two rows of class j, 1 where it has one
/// ```
///
/// Of equal scores the first class is added; where all are 0, the class most similar to any chosen one. It is made for a
/// loss of N pairs, whose other pairs are the negatives: two `samples` of each class. Before it was shown anything, classes
/// are drawn evenly.
///
/// Source: Sohn, "Improved deep metric learning with multi-class N-pair loss objective", NIPS 2016, section 3.2.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HardClasses {
    /// Classes a batch.
    pub classes: usize,
    /// Samples of each class.
    pub samples: usize,
    /// Classes that a batch is chosen from; ten times as many as it has, where nothing is said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pool: Option<usize>,
    /// What makes a class hard.
    pub form: HardForm,
    /// How much more similar a class's own rows must be, in the violation form.
    pub margin: Finite,
    /// What to do with classes that have fewer samples.
    pub small: Small,
    /// Batches an epoch, instead of as many as the samples fill.
    pub batches: Option<usize>,
    /// How often representatives are made anew.
    pub every: Span,
}

/// What makes a class hard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HardForm {
    /// That it violates the margins of all chosen classes together.
    #[default]
    Violation,
    /// That it is similar to one of the chosen classes.
    Max,
}

impl Default for HardClasses {
    /// 32 classes of two samples, as for N pairs; the paper does not tell its margin.
    fn default() -> Self {
        Self {
            classes: 32,
            samples: 2,
            pool: None,
            form: HardForm::Violation,
            margin: Finite::literal(0.1),
            small: Small::Refuse,
            batches: None,
            every: Span::Epochs(1),
        }
    }
}

impl HardClasses {
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
            positive("sampler.hard_classes.pool", pool)?;
            if pool < self.classes {
                return Err(Error::Settings(format!(
                    "`sampler.hard_classes` chooses {} classes of a `pool` of {pool}; use a larger one",
                    self.classes
                )));
            }
        }
        Shown::of_classes(self, &self.per_class(), data, counts)
    }

    /// The classes of a batch, out of a pool in random order.
    fn choose(&self, pool: &[u32], rows: &[f32], own: &[f32]) -> Vec<u32> {
        let dim = rows.len() / own.len().max(1);
        let row = |class: u32| &rows[class as usize * dim..][..dim];
        let Some((&begin, rest)) = pool.split_first() else {
            return Vec::new();
        };
        let mut left: Vec<u32> = rest.to_vec();
        left.sort_unstable(); // Of equals the first class.
        let mut scores = vec![0.0f32; left.len()];
        let mut largest = vec![f32::NEG_INFINITY; left.len()];
        let mut chosen = vec![begin];
        let mut last = begin;
        while chosen.len() < self.classes && !left.is_empty() {
            for ((&class, score), largest) in left.iter().zip(&mut scores).zip(&mut largest) {
                let similarity = dot(row(class), row(last));
                *largest = largest.max(similarity);
                let violation = similarity - own[last as usize] + self.margin.get() as f32;
                *score += violation.max(0.0);
            }
            let by = match self.form {
                HardForm::Violation if scores.iter().any(|&it| it > 0.0) => &scores,
                _ => &largest,
            };
            let mut best = 0;
            for place in 1..left.len() {
                if by[place] > by[best] {
                    best = place;
                }
            }
            last = left.remove(best);
            scores.remove(best);
            largest.remove(best);
            chosen.push(last);
        }
        chosen
    }
}

impl Rule for HardClasses {
    const NAME: &'static str = "hard_classes";

    fn every(&self) -> Span {
        self.every
    }

    fn layout(&self, known: &Known) -> Vec<Layout> {
        let rows = known.classes.len();
        vec![
            Layout {
                name: "representatives",
                rows,
                columns: None,
                below: None,
            },
            Layout::numbers("own_similarities", rows),
        ]
    }

    fn derive(&self, known: &Known, seen: &Seen, rng: &mut Rng) -> Vec<List> {
        let seen = seen.unit();
        let mut representatives = Vec::with_capacity(known.classes.len() * seen.dim);
        let mut own = Vec::with_capacity(known.classes.len());
        for members in &known.classes {
            let first = rng.below(members.len());
            if members.len() == 1 {
                representatives.extend_from_slice(seen.row(members[0]));
                own.push(1.0);
                continue;
            }
            let second = rng.below(members.len() - 1);
            let second = second + usize::from(second >= first);
            let pair = [members[first], members[second]];
            let mut mean = seen.mean(&pair);
            normalize(&mut mean);
            representatives.extend(mean);
            own.push(dot(seen.row(pair[0]), seen.row(pair[1])));
        }
        vec![List::Numbers(representatives), List::Numbers(own)]
    }

    fn epoch(&self, known: &Known, lists: Option<&[List]>, rng: &mut Rng) -> Vec<Vec<u32>> {
        let mut draws = Draws::of(&known.classes);
        let pool = self.pool.unwrap_or(10 * self.classes);
        (0..self.per_class().batches(&known.classes))
            .map(|_| {
                let mut classes = rng.permutation(known.classes.len());
                match lists {
                    Some(lists) => {
                        classes.truncate(pool);
                        classes = self.choose(&classes, lists[0].numbers(), lists[1].numbers());
                    }
                    None => classes.truncate(self.classes),
                }
                draws.take(&classes, self.samples, rng)
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samplers::SamplerConfig;

    #[test]
    fn the_classes_that_violate_most_are_added_and_of_equals_the_first() {
        // Directions at 0°, 10°, 90°, 20° and 5°; each class's own two rows are at cosine 0.9.
        let at = |degrees: f32| [degrees.to_radians().cos(), degrees.to_radians().sin()];
        let rows = [at(0.0), at(10.0), at(90.0), at(20.0), at(5.0)].concat();
        let sampler = |form| HardClasses {
            classes: 3,
            form,
            margin: Finite::literal(0.1),
            ..HardClasses::default()
        };
        let own = [0.9; 5];
        // From 0°, 5° violates most; then 10°, which is near both, before 20°.
        let violating = sampler(HardForm::Violation).choose(&[0, 1, 2, 3, 4], &rows, &own);
        assert_eq!(violating, [0, 4, 1]);
        // From 90° nobody violates, so the most similar: 20°. It is violated by 10° the most.
        let far = sampler(HardForm::Violation).choose(&[2, 0, 1, 3, 4], &rows, &own);
        assert_eq!(far, [2, 3, 1]);
        let max = sampler(HardForm::Max).choose(&[2, 4, 3, 1, 0], &rows, &own);
        assert_eq!(max, [2, 3, 1]);
    }

    #[test]
    fn a_margin_is_any_finite_number() {
        let config: SamplerConfig =
            toml::from_str("hard_classes = { margin = -0.5 }").expect("finite");
        let SamplerConfig::HardClasses(it) = config else {
            panic!("it is named");
        };
        assert_eq!(it.margin, Finite::literal(-0.5));
    }
}
