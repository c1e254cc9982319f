//! The products of a layer, as calls: in line, the many places they are used at would take the compiler minutes.

use pulp::{Simd, WithSimd};

use crate::slices::gemm::{PANEL, Run, Segments, TILE, Tile, Update};
use crate::slices::gemm::{columns_times_rows, rows_times_panel};

/// `rows` rows of A, `len` long, times a panel. (A call: in line, the many places it is used at would take the compiler
/// minutes.)
pub(super) struct Rows<'a> {
    pub(super) a: &'a [f32],
    pub(super) rows: usize,
    pub(super) len: usize,
    /// From row to row in A and in C.
    pub(super) strides: (usize, usize),
    pub(super) panel: &'a [[f32; PANEL]],
    pub(super) width: usize,
    pub(super) c: &'a mut [f32],
    pub(super) update: Update,
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

/// [`columns_times_rows`] over whole panels as a call.
pub(super) struct Columns<'a> {
    pub(super) a: Run<'a>,
    pub(super) rows: usize,
    pub(super) d: Run<'a>,
    pub(super) count: usize,
    pub(super) c: &'a mut [f32],
    pub(super) stride: usize,
}

impl WithSimd for Columns<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self {
            a,
            rows,
            d,
            count,
            c,
            stride,
        } = self;
        columns_times_rows(
            simd,
            a,
            rows,
            d,
            PANEL,
            [count, 1, 1],
            c,
            stride,
            Update::Add,
        );
    }
}
