//! A softmax whose targets are several rows, each with a weight.

use candle_core::{Result, Tensor};
use nearfar_core::Terms;
use nearfar_kernels::masked_log_sum_exp;

use crate::over::matrix::View;

/// What each anchor shall find among which rows, row-major.
pub(super) struct SoftTargets {
    /// How much of it each row is; 0 for most.
    weights: Vec<f64>,
    /// 1 for the rows that it is to be told from, itself among them.
    others: Vec<f64>,
    /// The anchors with something to find.
    anchors: Vec<u32>,
}

impl SoftTargets {
    /// Nothing yet, for so many anchors and references.
    pub(super) fn none((n, m): (usize, usize)) -> Self {
        Self {
            weights: vec![0.0; n * m],
            others: vec![0.0; n * m],
            anchors: Vec::new(),
        }
    }

    /// The places of the rows that an anchor is compared with, which are all but itself: `own` says which that is.
    pub(super) fn places(&mut self, row: usize, m: usize, own: &[bool]) -> Vec<usize> {
        let places: Vec<usize> = (row * m..(row + 1) * m).filter(|&it| !own[it]).collect();
        places.iter().for_each(|&place| self.others[place] = 1.0);
        places
    }

    /// Adds an anchor with the places and weights of its targets, if there are any.
    pub(super) fn push(&mut self, row: usize, targets: impl Iterator<Item = (usize, f64)>) {
        let mut found = false;
        for (place, weight) in targets {
            self.weights[place] = weight;
            found = true;
        }
        if found {
            self.anchors.push(row as u32);
        }
    }

    /// `−Σ_j w(i, j) (s(i, j) − log Σ_a exp(s(i, a)))` of each anchor with a target.
    pub(super) fn terms(self, view: &View<'_>, similarity: &Tensor) -> Result<Vec<Terms>> {
        if self.anchors.is_empty() {
            return Ok(vec![Terms::none("list", view.comparison)]);
        }
        let size = view.size();
        let (weights, others) = (
            view.tensor(self.weights, size)?,
            view.tensor(self.others, size)?,
        );
        let count = self.anchors.len();
        let index = Tensor::from_slice(&self.anchors, count, similarity.device())?;
        let of_anchors = |values: Tensor| values.index_select(&index, 0);
        let all = of_anchors(masked_log_sum_exp(similarity, &others)?)?;
        let pulled = of_anchors((similarity * &weights)?.sum(1)?)?;
        let shares = of_anchors(weights.sum(1)?)?;
        let values = ((all * shares)? - pulled)?;
        Ok(vec![Terms::of_anchors(
            "list",
            values,
            self.anchors,
            view.comparison,
        )?])
    }
}
