//! A softmax whose targets are several rows, each with a weight.

use candle_core::{Result, Tensor};
use nearfar_core::Terms;
use nearfar_kernels::masked_log_sum_exp;

use crate::over::matrix::View;

/// What each anchor shall find among which rows, row-major.
pub(super) struct SoftTargets {
    /// Anchors.
    rows: usize,
    /// How much of it each row is; 0 for most.
    weights: Vec<f64>,
    /// 1 for the rows that it is compared with: all but itself.
    others: Vec<f64>,
    /// The anchors with something to find.
    anchors: Vec<u32>,
}

impl SoftTargets {
    /// Nothing yet, for so many anchors and references.
    pub(super) fn none((n, m): (usize, usize)) -> Self {
        Self {
            rows: n,
            weights: vec![0.0; n * m],
            others: vec![0.0; n * m],
            anchors: Vec::new(),
        }
    }

    /// Adds an anchor, which is compared with all references but itself: `own` says which that is, and `share` how much of
    /// what it shall find is at a place; an anchor that shall find nothing has no term. Shares come in any unit, and are divided
    /// by `total` of those that there are.
    pub(super) fn push(
        &mut self,
        row: usize,
        own: &[bool],
        share: impl Fn(usize) -> Option<f64>,
        total: impl FnOnce(&[f64]) -> f64,
    ) {
        let m = own.len() / self.rows;
        let (mut places, mut shares) = (Vec::new(), Vec::new());
        for place in (row * m..(row + 1) * m).filter(|&place| !own[place]) {
            self.others[place] = 1.0;
            if let Some(share) = share(place) {
                places.push(place);
                shares.push(share);
            }
        }
        if places.is_empty() {
            return;
        }
        let total = total(&shares);
        for (place, share) in places.into_iter().zip(shares) {
            self.weights[place] = share / total;
        }
        self.anchors.push(row as u32);
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
