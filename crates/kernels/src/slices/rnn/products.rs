//! The products of a layer, as calls: in line, the many places they are used at would take the compiler minutes.

use pulp::{Simd, WithSimd};

use crate::slices::gemm::{PANEL, Run, Segments, TILE, Tile, Update};
use crate::slices::gemm::{columns_times_rows, rows_times_panel};

/// `rows` rows of A, `len` long, times a panel. (A call: in line, the many places it is used at would take the compiler
/// minutes.)
pub(in crate::slices) struct Rows<'a> {
    pub(in crate::slices) a: &'a [f32],
    pub(in crate::slices) rows: usize,
    pub(in crate::slices) len: usize,
    /// From row to row in A and in C.
    pub(in crate::slices) strides: (usize, usize),
    pub(in crate::slices) panel: &'a [[f32; PANEL]],
    pub(in crate::slices) width: usize,
    pub(in crate::slices) c: &'a mut [f32],
    pub(in crate::slices) update: Update,
}

impl WithSimd for Rows<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self {
            a,
            rows,
            len,
            strides,
            panel,
            width,
            c,
            update,
        } = self;
        for first in (0..rows).step_by(TILE) {
            let count = TILE.min(rows - first);
            let at = |stride: usize| std::array::from_fn(|r| (first + r.min(count - 1)) * stride);
            let tile = Tile {
                count,
                from: at(strides.0),
                to: at(strides.1),
            };
            rows_times_panel(simd, a, tile, Segments::one(len), panel, width, c, update);
        }
    }
}

/// [`columns_times_rows`] as a call.
pub(in crate::slices) struct Columns<'a> {
    pub(in crate::slices) a: Run<'a>,
    pub(in crate::slices) rows: usize,
    pub(in crate::slices) d: Run<'a>,
    /// In whole vectors, a panel at most.
    pub(in crate::slices) width: usize,
    pub(in crate::slices) count: usize,
    pub(in crate::slices) c: &'a mut [f32],
    pub(in crate::slices) stride: usize,
}

impl WithSimd for Columns<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self {
            a,
            rows,
            d,
            width,
            count,
            c,
            stride,
        } = self;
        columns_times_rows(
            simd,
            a,
            rows,
            d,
            width,
            [count, 1, 1],
            c,
            stride,
            Update::Add,
        );
    }
}
