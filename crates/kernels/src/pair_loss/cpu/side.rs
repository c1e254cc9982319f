//! Anchors or references, in the order of their groups.

use pulp::{Simd, WithSimd};

use super::vectors::Product;
use crate::l2_normalize::TINY_NORM;
use crate::pair_loss::Columns;
use crate::slices::gemm::{LANES, PANEL, Panels};
use crate::slices::{Lease, dispatch, lease};

/// Rows in the order of their groups, padded to whole vectors.
pub(super) struct Side {
    /// Where each row was.
    pub(super) order: Vec<u32>,
    pub(super) rows: Lease,
    pub(super) groups: Vec<u32>,
    /// Squared lengths.
    pub(super) lengths: Vec<f32>,
    /// What each row was multiplied by, 0 where that has no gradient; empty where rows are as they were given.
    scales: Vec<f32>,
    pub(super) width: usize,
    pub(super) padded: usize,
}

impl Side {
    pub(super) fn new(rows: &[f32], width: usize, groups: &[u32], unit: bool) -> Self {
        let n = groups.len();
        let padded = width.next_multiple_of(LANES);
        let mut order: Vec<u32> = (0..n as u32).collect();
        order.sort_by_key(|&row| groups[row as usize]);
        let mut sorted = lease(n * padded);
        let mut lengths = Vec::with_capacity(n);
        let mut scales = Vec::with_capacity(if unit { n } else { 0 });
        for (place, &row) in order.iter().enumerate() {
            let row = &rows[row as usize * width..][..width];
            let sorted = &mut sorted[place * padded..][..padded];
            let (sorted, rest) = sorted.split_at_mut(width);
            rest.fill(0.0);
            if unit {
                scales.push(dispatch(Normalized(row, sorted)));
            } else {
                sorted.copy_from_slice(row);
            }
            lengths.push(dispatch(Product(sorted, sorted)));
        }
        Self {
            groups: order.iter().map(|&row| groups[row as usize]).collect(),
            order,
            rows: sorted,
            lengths,
            scales,
            width,
            padded,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.order.len()
    }

    pub(super) fn row(&self, place: usize) -> &[f32] {
        &self.rows[place * self.padded..][..self.padded]
    }

    pub(super) fn columns(&self) -> Columns<'_> {
        Columns {
            groups: &self.groups,
            places: &self.order,
        }
    }

    /// Gradients of sorted, padded rows, times a number, as those of the rows that were given.
    pub(super) fn unsort(&self, gradients: &[f32], scale: f32) -> Vec<f32> {
        let mut given = vec![0.0; self.len() * self.width];
        for (place, &row) in self.order.iter().enumerate() {
            let given = &mut given[row as usize * self.width..][..self.width];
            let gradient = &gradients[place * self.padded..][..self.padded];
            let unit = self.row(place);
            // What points along a row changes its length, and the length is divided out.
            let (by, along) = match self.scales.get(place) {
                None => (scale, 0.0),
                Some(by) => (scale * by, dispatch(Product(gradient, unit))),
            };
            for ((given, gradient), unit) in given.iter_mut().zip(gradient).zip(unit) {
                *given = by * (gradient - along * unit);
            }
        }
        given
    }

    /// `rowsᵀ`, for the values.
    pub(super) fn packed_columns(&self) -> Panels {
        let m = self.len();
        Panels::pack_with(self.padded, m, |panel, rows| {
            for column in 0..PANEL.min(m - panel * PANEL) {
                for (row, &value) in rows.iter_mut().zip(self.row(panel * PANEL + column)) {
                    row[column] = value;
                }
            }
        })
    }

    /// The rows, for the way back.
    pub(super) fn packed_rows(&self) -> Panels {
        Panels::pack_with(self.len(), self.padded, |panel, rows| {
            let columns = panel * PANEL..self.padded.min((panel + 1) * PANEL);
            for (place, row) in rows.iter_mut().enumerate() {
                row[..columns.len()].copy_from_slice(&self.row(place)[columns.clone()]);
            }
        })
    }
}

/// A row divided by its length, as [`l2_normalize`](crate::l2_normalize) does; gives one over the length, or 0 where that has
/// no gradient.
struct Normalized<'a>(&'a [f32], &'a mut [f32]);

impl WithSimd for Normalized<'_> {
    type Output = f32;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> f32 {
        let Self(row, unit) = self;
        let mut squares = [0f64; LANES];
        for some in row.chunks(LANES) {
            for (sum, &x) in squares.iter_mut().zip(some) {
                *sum += f64::from(x) * f64::from(x);
            }
        }
        let length = squares.iter().sum::<f64>().sqrt();
        let by = 1.0 / length.max(TINY_NORM);
        for (unit, &x) in unit.iter_mut().zip(row) {
            *unit = (f64::from(x) * by) as f32;
        }
        if length < TINY_NORM { 0.0 } else { by as f32 }
    }
}
