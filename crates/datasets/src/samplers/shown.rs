//! Samplers that are shown the embedded training set.

use std::collections::BTreeMap;

use candle_core::{DType, Device, Result, Tensor};
use nearfar_core::{EmbeddingTable, Error, Rng, Span, Stateful};
use rayon::prelude::*;

use super::per_class::PerClass;
use super::{Counts, Sampler, by_class, span};
use crate::Dataset;

/// How a sampler makes batches of what it was shown.
pub(super) trait Rule: Send + Sync {
    /// What messages call it.
    const NAME: &'static str;
    /// How often it wants to be shown.
    fn every(&self) -> Span;
    /// The lists that it keeps, which are all that it keeps.
    fn layout(&self, known: &Known) -> Vec<Layout>;
    /// Those lists, in the order of the layout.
    fn derive(&self, known: &Known, seen: &Seen, rng: &mut Rng) -> Vec<List>;
    /// The batches of an epoch; without lists as long as it was shown nothing. As many with them as without.
    fn epoch(&self, known: &Known, lists: Option<&[List]>, rng: &mut Rng) -> Vec<Vec<u32>>;
}

/// What is known of the samples before any is embedded.
pub(super) struct Known {
    /// Number of samples.
    pub(super) samples: usize,
    /// The samples of each class that is used, by label.
    pub(super) classes: Vec<Vec<u32>>,
    /// Place of each sample's class in `classes`; [`NOBODY`] for those of no class that is used.
    pub(super) class_of: Vec<u32>,
}

/// The place of what is not there.
pub(super) const NOBODY: u32 = u32::MAX;

impl Known {
    /// Of all classes with at least this many samples.
    pub(super) fn of(labels: &[u32], least: usize) -> Self {
        let classes: Vec<Vec<u32>> = by_class(labels)
            .into_iter()
            .map(|(_, members)| members)
            .filter(|members| members.len() >= least)
            .collect();
        let mut class_of = vec![NOBODY; labels.len()];
        for (class, members) in (0..).zip(&classes) {
            for &index in members {
                class_of[index as usize] = class;
            }
        }
        Self {
            samples: labels.len(),
            classes,
            class_of,
        }
    }
}

/// Numbers by row.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum List {
    /// Places of samples, classes or clusters.
    Places(Vec<u32>),
    /// Real numbers.
    Numbers(Vec<f32>),
}

impl List {
    /// The places, of a list that has some.
    pub(super) fn places(&self) -> &[u32] {
        match self {
            Self::Places(places) => places,
            Self::Numbers(_) => &[],
        }
    }

    /// The numbers, of a list that has some.
    pub(super) fn numbers(&self) -> &[f32] {
        match self {
            Self::Places(_) => &[],
            Self::Numbers(numbers) => numbers,
        }
    }
}

/// What a list must be like.
pub(super) struct Layout {
    pub(super) name: &'static str,
    pub(super) rows: usize,
    /// Any width where none is said.
    pub(super) columns: Option<usize>,
    /// Places are below it, or [`NOBODY`]; without it the list is of numbers.
    pub(super) below: Option<usize>,
}

impl Layout {
    /// Places below a bound.
    pub(super) fn places(name: &'static str, size: (usize, usize), below: usize) -> Self {
        Self {
            name,
            rows: size.0,
            columns: Some(size.1),
            below: Some(below),
        }
    }

    /// A number each.
    pub(super) fn numbers(name: &'static str, rows: usize) -> Self {
        Self {
            name,
            rows,
            columns: Some(1),
            below: None,
        }
    }

    fn tensor(&self, list: &List) -> Result<Tensor> {
        let count = list.places().len() + list.numbers().len();
        let size = (self.rows, count / self.rows.max(1));
        match list {
            List::Places(it) => Tensor::from_slice(it, size, &Device::Cpu),
            List::Numbers(it) => Tensor::from_slice(it, size, &Device::Cpu),
        }
    }

    /// A list as it was kept, if it is what it must be.
    fn list(&self, place: &str, tensor: &Tensor) -> Result<List> {
        let dtype = if self.below.is_some() {
            DType::U32
        } else {
            DType::F32
        };
        let fits = match tensor.dims() {
            &[rows, columns] => {
                rows == self.rows && self.columns.is_none_or(|wanted| wanted == columns)
            }
            _ => false,
        };
        if !fits || tensor.dtype() != dtype {
            let columns = self.columns.map_or("any".to_owned(), |it| it.to_string());
            Err(Error::Input(format!(
                "sampler.{place}: `{}` is {:?} of shape {:?}; {dtype:?} of shape [{}, {columns}] is wanted",
                self.name,
                tensor.dtype(),
                tensor.dims(),
                self.rows
            )))?;
        }
        let flat = tensor.flatten_all()?;
        let Some(below) = self.below else {
            return Ok(List::Numbers(flat.to_vec1()?));
        };
        let places: Vec<u32> = flat.to_vec1()?;
        let outside = |&&it: &&u32| it != NOBODY && it as usize >= below;
        if let Some(place_outside) = places.iter().find(outside) {
            Err(Error::Input(format!(
                "sampler.{place}: `{}` names {place_outside}, but there are {below}",
                self.name
            )))?;
        }
        Ok(List::Places(places))
    }
}

/// A rule, and what it made of what it was shown.
pub(super) struct Shown<R> {
    rule: R,
    known: Known,
    lists: Option<Vec<List>>,
}

impl<R: Rule> Shown<R> {
    pub(super) fn new(rule: R, known: Known) -> Self {
        Self {
            rule,
            known,
            lists: None,
        }
    }

    /// A sampler by a rule of classes, those that have samples enough.
    pub(super) fn of_classes(
        rule: &R,
        per_class: &PerClass,
        data: &dyn Dataset,
        counts: &Counts<'_>,
    ) -> std::result::Result<Box<dyn Sampler>, crate::Error>
    where
        R: Clone + 'static,
    {
        span(R::NAME, rule.every())?;
        per_class.check(counts)?;
        let known = Known::of(data.labels(), per_class.least());
        Ok(Box::new(Self::new(rule.clone(), known)))
    }
}

impl<R: Rule> Stateful for Shown<R> {
    fn state(&self) -> BTreeMap<String, Tensor> {
        let Some(lists) = &self.lists else {
            return BTreeMap::new();
        };
        let layout = self.rule.layout(&self.known);
        let named = layout.iter().zip(lists).map(|(layout, list)| {
            let tensor = layout.tensor(list);
            (layout.name.to_owned(), tensor.expect("rows of one length"))
        });
        named.collect()
    }

    fn restore(&mut self, state: &BTreeMap<String, Tensor>) -> Result<()> {
        if state.is_empty() {
            self.lists = None;
            return Ok(());
        }
        let layout = self.rule.layout(&self.known);
        if let Some(name) = state
            .keys()
            .find(|&name| layout.iter().all(|it| it.name != name))
        {
            Err(Error::Input(format!(
                "sampler.{}: there is state `{name}`, which is not its own",
                R::NAME
            )))?;
        }
        let lists = layout.iter().map(|layout| match state.get(layout.name) {
            Some(tensor) => layout.list(R::NAME, tensor),
            None => Err(Error::Input(format!(
                "sampler.{}: `{}` is missing",
                R::NAME,
                layout.name
            )))?,
        });
        self.lists = Some(lists.collect::<Result<_>>()?);
        Ok(())
    }

    fn interval(&self) -> Option<Span> {
        Some(self.rule.every())
    }

    fn refresh(&mut self, table: &EmbeddingTable, rng: &mut Rng) -> Result<()> {
        let seen = Seen::of(R::NAME, table, self.known.samples)?;
        self.lists = Some(self.rule.derive(&self.known, &seen, rng));
        Ok(())
    }
}

impl<R: Rule> Sampler for Shown<R> {
    fn epoch(&self, _: &[u32], rng: &mut Rng) -> Vec<Vec<u32>> {
        self.rule.epoch(&self.known, self.lists.as_deref(), rng)
    }
}

/// The embedded samples by their index. One that could not be read is a row of zeros.
pub(super) struct Seen {
    pub(super) dim: usize,
    rows: Vec<f32>,
}

impl Seen {
    fn of(place: &str, table: &EmbeddingTable, samples: usize) -> Result<Self> {
        let dim = table.dim;
        let mut rows = vec![0.0; samples * dim];
        for (row, &id) in table.ids.iter().enumerate() {
            let index = usize::try_from(id).ok().filter(|&index| index < samples);
            let Some(index) = index else {
                return Err(Error::Input(format!(
                    "sampler.{place}: there is an embedding of sample {id}, but there are {samples} samples"
                )))?;
            };
            rows[index * dim..][..dim].copy_from_slice(table.row(row));
        }
        Ok(Self { dim, rows })
    }

    /// Of a table that fits.
    #[cfg(test)]
    pub(super) fn of_table(table: &EmbeddingTable, samples: usize) -> Self {
        Self::of("test", table, samples).expect("it fits")
    }

    /// The same with rows of length 1; a row of zeros stays.
    pub(super) fn unit(&self) -> Self {
        let mut rows = self.rows.clone();
        for row in rows.chunks_mut(self.dim.max(1)) {
            normalize(row);
        }
        Self {
            dim: self.dim,
            rows,
        }
    }

    pub(super) fn row(&self, index: u32) -> &[f32] {
        &self.rows[index as usize * self.dim..][..self.dim]
    }

    /// The mean of some rows.
    pub(super) fn mean(&self, indices: &[u32]) -> Vec<f32> {
        let mut sum = vec![0.0f64; self.dim];
        for &index in indices {
            for (sum, &x) in sum.iter_mut().zip(self.row(index)) {
                *sum += f64::from(x);
            }
        }
        let count = indices.len().max(1) as f64;
        sum.into_iter().map(|sum| (sum / count) as f32).collect()
    }
}

/// Divides a row by its length.
pub(super) fn normalize(row: &mut [f32]) {
    let squares = row.iter().map(|&x| f64::from(x) * f64::from(x));
    let length = squares.sum::<f64>().sqrt();
    if length > 1e-12 {
        row.iter_mut()
            .for_each(|x| *x = (f64::from(*x) / length) as f32);
    }
}

/// Sums of products in eight lanes, in one order on every machine.
fn in_lanes(one: &[f32], other: &[f32], term: impl Fn(f32, f32) -> f32) -> f32 {
    let mut lanes = [0.0; 8];
    let (ones, others) = (one.chunks_exact(8), other.chunks_exact(8));
    let rest = ones.remainder().iter().zip(others.remainder());
    for (lane, (&x, &y)) in lanes.iter_mut().zip(rest) {
        *lane += term(x, y);
    }
    for (x, y) in ones.zip(others) {
        for lane in 0..8 {
            lanes[lane] += term(x[lane], y[lane]);
        }
    }
    lanes.iter().sum()
}

/// `x·y`; what is not a number counts as the least.
pub(super) fn dot(one: &[f32], other: &[f32]) -> f32 {
    let product = in_lanes(one, other, |x, y| x * y);
    if product.is_nan() {
        f32::NEG_INFINITY
    } else {
        product
    }
}

/// `‖x − y‖²`; what is not a number counts as infinite.
pub(super) fn squared_distance(one: &[f32], other: &[f32]) -> f32 {
    let sum = in_lanes(one, other, |x, y| (x - y) * (x - y));
    if sum.is_nan() { f32::INFINITY } else { sum }
}

/// Of each of `count` places its `wanted` nearest, nearest first, of equals the lower place; filled up with [`NOBODY`]. One
/// place gets as it wants: `distance` is none for those that are no neighbors.
pub(super) fn nearest_places(
    count: usize,
    wanted: usize,
    distance: impl Fn(usize, usize) -> Option<f32> + Sync,
) -> Vec<u32> {
    let rows = (0..count).into_par_iter().flat_map_iter(|one| {
        let all = (0..count).filter_map(|other| Some((distance(one, other)?, other as u32)));
        let mut nearest = first(all.collect(), wanted);
        nearest.resize(wanted, NOBODY);
        nearest
    });
    rows.collect()
}

/// The places of the least, the least first, of equals the lower place.
pub(super) fn first(mut all: Vec<(f32, u32)>, wanted: usize) -> Vec<u32> {
    let order = |a: &(f32, u32), b: &(f32, u32)| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1));
    if wanted == 0 {
        return Vec::new();
    }
    if all.len() > wanted {
        all.select_nth_unstable_by(wanted - 1, order);
        all.truncate(wanted);
    }
    all.sort_unstable_by(order);
    all.into_iter().map(|(_, place)| place).collect()
}

/// Draws with replacement in proportion to weights; evenly where no weight is above 0.
pub(super) struct Wheel {
    up_to: Vec<f64>,
}

impl Wheel {
    pub(super) fn new(weights: impl Iterator<Item = f64>) -> Self {
        let mut total = 0.0;
        let up_to = weights.map(|weight| {
            if weight.is_finite() && weight > 0.0 {
                total += weight;
            }
            total
        });
        let mut up_to: Vec<f64> = up_to.collect();
        if total == 0.0 || !total.is_finite() {
            up_to = (1..=up_to.len()).map(|it| it as f64).collect();
        }
        Self { up_to }
    }

    /// A place; none where there is nothing to draw from.
    pub(super) fn draw(&self, rng: &mut Rng) -> Option<usize> {
        let drawn = rng.uniform() * self.up_to.last()?;
        // The first whose sum is above the draw: one of weight 0 never is.
        let place = self.up_to.partition_point(|&sum| sum <= drawn);
        Some(place.min(self.up_to.len() - 1))
    }
}

/// So many different places in proportion to weights (Efraimidis and Spirakis 2006: the largest `ln u / w`).
pub(super) fn weighted_draw(weights: &[f64], count: usize, rng: &mut Rng) -> Vec<u32> {
    let keys = weights.iter().zip(0..).map(|(&weight, place)| {
        let ticket = -(1.0 - rng.uniform()).ln() / weight.max(1e-30);
        (ticket, place)
    });
    let mut keys: Vec<(f64, u32)> = keys.collect();
    keys.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    keys.truncate(count);
    keys.into_iter().map(|(_, place)| place).collect()
}
