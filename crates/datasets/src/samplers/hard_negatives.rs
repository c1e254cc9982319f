//! Anchors with negatives from all of the training set.

use nearfar_core::{Fraction, NonNegative, Rng, Span};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::cycle::Cycle;
use super::shown::{Known, Layout, List, NOBODY, Rule, Seen, Shown, dot, first};
use super::{Counts, Sampler, positive, span};
use crate::{Dataset, Error};

/// Batches of anchors, each with a positive and with hard negatives from the whole training set: offline mining.
///
/// When the training set is embedded, each sample's most similar samples of other classes are listed, by cosine, exactly.
/// A list has the ranks from `range_min` to below `range_max`; the most similar of all has rank 0. A negative that is too
/// similar is more likely an unlabeled positive than hard, so a list leaves out those that come near to the similarity of the
/// anchor's own nearest positive `p`:
///
/// ```text
/// relative_margin  keeps n if s(a, n) ≤ s(a, p) − relative_margin · |s(a, p)|      0.05: what is above 95 % of it
/// absolute_margin  keeps n if s(a, n) ≤ s(a, p) − absolute_margin
/// ```
///
/// A batch has `anchors` times `2 + negatives` rows: an anchor, another sample of its class, and `negatives` of its list, the
/// first or any. With one negative, and the miner `packaged`, its rows are the triplets; other miners and losses see all rows,
/// by class. Where a list is too short, any samples of other classes fill the place; before it was shown anything, always.
///
/// It costs as many similarities as there are samples times the `subset` that negatives are looked for among (all, where
/// nothing is said), and keeps `range_max − range_min` numbers of 4 bytes for each sample.
///
/// As `mine_hard_negatives` of sentence-transformers 6.2, which takes the similarity of the listed positive.
///
/// ```
/// use nearfar_core::Span;
/// use nearfar_datasets::{HardNegatives, SamplerConfig};
///
/// // Lists anew every second epoch, without the two most similar and without what comes near to a positive.
/// let text = "hard_negatives = { skip_top = 2, relative_margin = 0.05, sampling = \"random\", every = { epochs = 2 } }";
/// let SamplerConfig::HardNegatives(sampler) = toml::from_str(text)? else { panic!("it is named") };
/// assert_eq!((sampler.range_min, sampler.range_max, sampler.every), (2, 50, Span::Epochs(2)));
/// # Ok::<(), toml::de::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HardNegatives {
    /// Anchors a batch.
    pub anchors: usize,
    /// Negatives of each anchor.
    pub negatives: usize,
    /// Ranks that are skipped at the top.
    #[serde(alias = "skip_top")]
    pub range_min: usize,
    /// The rank that a list ends before.
    pub range_max: usize,
    /// How much less similar than the nearest positive, as a share of its similarity.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub relative_margin: Option<Fraction>,
    /// How much less similar than the nearest positive.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub absolute_margin: Option<NonNegative>,
    /// Which of a list are taken.
    pub sampling: Sampling,
    /// How many samples negatives are looked for among, drawn anew each time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subset: Option<usize>,
    /// Batches an epoch, instead of one for each time the samples fill the anchors.
    pub batches: Option<usize>,
    /// How often lists are made anew.
    pub every: Span,
}

/// Which negatives of a list are taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sampling {
    /// The most similar.
    #[default]
    Top,
    /// Any, evenly.
    Random,
}

impl Default for HardNegatives {
    /// One negative of the 50 most similar, without a guard, anew for each epoch.
    fn default() -> Self {
        Self {
            anchors: 16,
            negatives: 1,
            range_min: 0,
            range_max: 50,
            relative_margin: None,
            absolute_margin: None,
            sampling: Sampling::Top,
            subset: None,
            batches: None,
            every: Span::Epochs(1),
        }
    }
}

impl HardNegatives {
    pub(super) fn build(
        &self,
        data: &dyn Dataset,
        counts: &Counts<'_>,
    ) -> Result<Box<dyn Sampler>, Error> {
        positive("sampler.hard_negatives.anchors", self.anchors)?;
        positive("sampler.hard_negatives.negatives", self.negatives)?;
        for (name, count) in [("subset", self.subset), ("batches", self.batches)] {
            if let Some(count) = count {
                positive(&format!("sampler.hard_negatives.{name}"), count)?;
            }
        }
        span(Self::NAME, self.every)?;
        if self.range_max < self.range_min + self.negatives {
            return Err(Error::Settings(format!(
                "`sampler.hard_negatives` takes {} negatives of the ranks from {} to below {}; use a larger `range_max`",
                self.negatives, self.range_min, self.range_max
            )));
        }
        if counts.counts.len() < 2 || counts.counts.iter().all(|(_, count)| *count < 2) {
            return Err(Error::Settings(format!(
                "`sampler.hard_negatives` wants a class of two samples and another class, but there are {} samples of {} \
                 classes to train on; use other data",
                data.len(),
                counts.counts.len()
            )));
        }
        Ok(Box::new(Shown::new(
            self.clone(),
            Known::of(data.labels(), 1),
        )))
    }

    fn width(&self) -> usize {
        self.range_max - self.range_min
    }

    /// The list of one sample.
    fn list(&self, known: &Known, seen: &Seen, among: &[u32], anchor: u32) -> Vec<u32> {
        let class = known.class_of[anchor as usize];
        let row = seen.row(anchor);
        let foreign = among
            .iter()
            .filter(|&&it| known.class_of[it as usize] != class)
            .map(|&it| (-dot(row, seen.row(it)), it)); // The most similar first.
        let ranked = first(foreign.collect(), self.range_max);
        let own = known.classes[class as usize]
            .iter()
            .filter(|&&it| it != anchor)
            .map(|&it| dot(row, seen.row(it)))
            .fold(f32::NEG_INFINITY, f32::max);
        let mut bound = f32::INFINITY;
        if own.is_finite() {
            if let Some(margin) = self.relative_margin {
                bound = bound.min(own - margin.get() as f32 * own.abs());
            }
            if let Some(margin) = self.absolute_margin {
                bound = bound.min(own - margin.get() as f32);
            }
        }
        let ranked = ranked.into_iter().skip(self.range_min);
        let mut list: Vec<u32> = ranked
            .filter(|&it| dot(row, seen.row(it)) <= bound)
            .collect();
        list.resize(self.width(), NOBODY);
        list
    }
}

impl Rule for HardNegatives {
    const NAME: &'static str = "hard_negatives";

    fn every(&self) -> Span {
        self.every
    }

    fn layout(&self, known: &Known) -> Vec<Layout> {
        let size = (known.samples, self.width());
        vec![Layout::places("negatives", size, known.samples)]
    }

    fn derive(&self, known: &Known, seen: &Seen, rng: &mut Rng) -> Vec<List> {
        let seen = seen.unit();
        let mut among: Vec<u32> = (0..known.samples as u32).collect();
        if let Some(subset) = self.subset.filter(|&it| it < known.samples) {
            among = rng.permutation(known.samples);
            among.truncate(subset);
            among.sort_unstable();
        }
        let lists = (0..known.samples as u32)
            .into_par_iter()
            .flat_map_iter(|anchor| self.list(known, &seen, &among, anchor));
        vec![List::Places(lists.collect())]
    }

    fn epoch(&self, known: &Known, lists: Option<&[List]>, rng: &mut Rng) -> Vec<Vec<u32>> {
        let in_company = known.classes.iter().filter(|it| it.len() > 1);
        let in_company: Vec<u32> = in_company.flatten().copied().collect();
        let default = in_company.len() / self.anchors;
        let batches = self.batches.unwrap_or(default).max(1);
        let mut anchors = Cycle::new(in_company);
        let mut batch = || -> Vec<u32> {
            let mut rows = Vec::with_capacity(self.anchors * (2 + self.negatives));
            for anchor in anchors.take(self.anchors, rng) {
                let class = known.class_of[anchor as usize];
                let members = &known.classes[class as usize];
                // Any of its class but itself.
                let other = rng.below(members.len() - 1);
                let own = members.binary_search(&anchor).unwrap_or(members.len() - 1);
                rows.extend([anchor, members[other + usize::from(other >= own)]]);

                let mut list: Vec<u32> = match lists {
                    Some(lists) => {
                        let list = &lists[0].places()[anchor as usize * self.width()..];
                        let list = list[..self.width()].iter().copied();
                        list.filter(|&it| it != NOBODY).collect()
                    }
                    None => Vec::new(),
                };
                if self.sampling == Sampling::Random {
                    rng.shuffle(&mut list);
                }
                list.truncate(self.negatives);
                // Any other of another class, where that was not enough.
                let foreign = known.samples - members.len();
                while list.len() < self.negatives {
                    let mut drawn = rng.below(foreign) as u32;
                    for &member in members {
                        drawn += u32::from(member <= drawn); // Members ascend.
                    }
                    if !list.contains(&drawn) || list.len() >= foreign {
                        list.push(drawn);
                    }
                }
                rows.extend(list);
            }
            rows
        };
        (0..batches).map(|_| batch()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samplers::SamplerConfig;
    use crate::samplers::tests::{data, far, places, refreshed, stream, table};

    #[test]
    fn hard_negatives_are_the_most_similar_but_for_those_that_are_guarded_against() {
        let data = data();
        let shown = table(&data, 5, 1);
        for (relative, absolute, skip) in [
            (None, None, 0),
            (Some(0.05), None, 2),
            (None, Some(0.1), 0),
            (Some(0.2), Some(0.3), 1),
        ] {
            let config = SamplerConfig::HardNegatives(HardNegatives {
                anchors: 6,
                negatives: 2,
                range_min: skip,
                range_max: 8,
                relative_margin: relative.map(Fraction::literal),
                absolute_margin: absolute.map(NonNegative::literal),
                ..HardNegatives::default()
            });
            let sampler = refreshed(&config, &data, &shown);
            let lists = places(&*sampler, "negatives");
            let similar = |a: usize, b: usize| 1.0 - far(&shown, a, b) / 2.0;
            let count = data.labels.len();
            let labels = &data.labels;
            let of_class = |a: usize, same: bool| {
                (0..count).filter(move |&it| it != a && (labels[it] == labels[a]) == same)
            };
            for (anchor, list) in lists.iter().enumerate() {
                let mut foreign: Vec<usize> = of_class(anchor, false).collect();
                foreign.sort_by(|&x, &y| similar(anchor, y).total_cmp(&similar(anchor, x)));
                let own = of_class(anchor, true)
                    .map(|it| similar(anchor, it))
                    .fold(f64::MIN, f64::max);
                let kept = foreign[skip..8].iter().copied().filter(|&it| {
                    let s = similar(anchor, it);
                    relative.is_none_or(|r| s <= own - r * own.abs())
                        && absolute.is_none_or(|m| s <= own - m)
                });
                let wanted: Vec<u32> = kept.map(|it| it as u32).collect();
                let found: Vec<u32> = list.iter().copied().filter(|&it| it != u32::MAX).collect();
                assert_eq!(found, wanted, "of {anchor}");
            }
            for batch in sampler.epoch(&data.labels, &mut stream(2)) {
                assert_eq!(batch.len(), 24);
                for rows in batch.chunks(4) {
                    let label = |it: u32| data.labels[it as usize];
                    assert!(rows[0] != rows[1] && label(rows[0]) == label(rows[1]));
                    assert!(label(rows[2]) != label(rows[0]) && label(rows[3]) != label(rows[0]));
                    assert_ne!(rows[2], rows[3]);
                    let list: Vec<u32> = lists[rows[0] as usize]
                        .iter()
                        .copied()
                        .filter(|&it| it != u32::MAX)
                        .collect();
                    for (&row, &listed) in rows[2..].iter().zip(&list) {
                        assert_eq!(row, listed, "the first of the list");
                    }
                }
            }
        }
    }
}
