//! One query while it meets the gallery.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use super::Job;
use crate::exact::{self, Rows};
use crate::neighbors::Ranking;

/// What is known of a query while it meets the gallery.
pub(super) struct Row {
    pub(super) query: usize,
    pub(super) label: Option<u32>,
    /// The nearest so far; the farthest of them on top.
    pub(super) nearest: BinaryHeap<Found>,
    /// Rows of the query's class, nearest first, and their keys alone for the search among them.
    pub(super) relevant: Vec<Found>,
    pub(super) keys: Vec<f64>,
    /// How many other rows come before the relevant one at each place, and after the one before.
    pub(super) between: Vec<u32>,
    /// How many rows of the query's class are shown to it.
    pub(super) count: u32,
}

/// A row of the gallery and what it is sorted by. NaN is after everything, and equal keys are in the order of rows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Found {
    pub(super) key: f64,
    pub(super) index: u32,
}

impl Found {
    pub(super) fn new(key: f64, index: usize) -> Self {
        // One zero and one NaN, so that the order of all floats is the order of numbers.
        let key = if key.is_nan() { f64::NAN } else { key + 0.0 };
        Self {
            key,
            index: index as u32,
        }
    }
}

impl Ord for Found {
    fn cmp(&self, other: &Self) -> Ordering {
        self.key
            .total_cmp(&other.key)
            .then(self.index.cmp(&other.index))
    }
}

impl PartialOrd for Found {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Found {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Found {}

impl Row {
    /// Shows it the rows of the gallery from `start` on, of which `values` tell about where they are.
    pub(super) fn meet_all(
        &mut self,
        job: &Job<'_>,
        queries: &Rows<'_>,
        gallery: &Rows<'_>,
        start: usize,
        values: &[f64],
        bounds: &exact::Bounds,
    ) {
        // Most rows are too far to matter; a run of them is dismissed at once.
        const RUN: usize = 16;
        for (run, values) in values.chunks(RUN).enumerate() {
            let start = start + run * RUN;
            if !bounds.any_within(gallery, start, values, self.limit(job.k)) {
                continue;
            }
            let query = self.query;
            for (index, &value) in (start..).zip(values) {
                let (about, error) = bounds.about(gallery, index, value);
                self.meet(job, index, about, error, || {
                    exact::key(queries, query, gallery, index)
                });
            }
        }
    }

    /// A key above this is of no interest.
    fn limit(&self, k: usize) -> f64 {
        let nearest = match self.nearest.peek() {
            _ if self.nearest.len() < k => f64::INFINITY,
            Some(farthest) => farthest.key,
            None => f64::NEG_INFINITY,
        };
        match self.keys.last() {
            Some(last) if last.is_nan() || nearest.is_nan() => f64::NAN,
            Some(last) => nearest.max(*last),
            None => nearest,
        }
    }

    /// Shows it a row of the gallery, whose key is within `error` of `about`, and exactly `exact()`.
    #[inline]
    #[allow(clippy::neg_cmp_op_on_partial_ord)] // `!(a > b)` holds for NaN, as it must here.
    pub(super) fn meet(
        &mut self,
        job: &Job<'_>,
        index: usize,
        about: f64,
        error: f64,
        exact: impl Fn() -> f64,
    ) {
        // Both tests are written so that NaN goes on to the exact key.
        let lowest = about - error;
        let near = self.nearest.len() < job.k
            || self
                .nearest
                .peek()
                .is_some_and(|farthest| !(lowest > farthest.key));
        let counts = self.keys.last().is_some_and(|last| !(lowest > *last))
            && self
                .label
                .is_some_and(|label| job.gallery.labels[index] != label);
        if !(near || counts) || job.excludes(self.query, index) {
            return;
        }
        let mut key = None;
        let mut found = || *key.get_or_insert_with(|| Found::new(exact(), index));
        if near && job.k > 0 {
            let found = found();
            if self.nearest.len() < job.k {
                self.nearest.push(found);
            } else if let Some(mut farthest) = self.nearest.peek_mut()
                && found < *farthest
            {
                *farthest = found;
            }
        }
        if counts {
            let place = self.keys.partition_point(|key| *key < lowest);
            let sure = match self.keys.get(place) {
                Some(key) => *key > about + error,
                None => lowest.is_finite(),
            };
            let place = if sure {
                place
            } else {
                let found = found();
                self.relevant.partition_point(|relevant| *relevant < found)
            };
            if let Some(count) = self.between.get_mut(place) {
                *count += 1;
            }
        }
    }

    pub(super) fn rank(mut self, rank_all: bool) -> Ranked {
        let mut before = 0;
        let ranking = rank_all.then(|| {
            let ranks = (1..).zip(&self.between).map(|(place, between)| {
                before += between;
                place + before
            });
            Ranking::new(ranks, self.count, u32::MAX)
        });
        let mut nearest = std::mem::take(&mut self.nearest).into_vec();
        nearest.sort_unstable();
        Ranked {
            nearest,
            relevant: self.count,
            ranking,
        }
    }
}

/// A query that has met the gallery.
pub(super) struct Ranked {
    pub(super) nearest: Vec<Found>,
    pub(super) relevant: u32,
    pub(super) ranking: Option<Ranking>,
}
