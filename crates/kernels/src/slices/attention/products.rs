//! Products of small matrices whose rows are filled up to whole vectors.

use pulp::Simd;

use crate::slices::gemm::{
    LANES, PANEL, Run, Segments, TILE, Tile, Update, columns_times_rows, rows_times_panel,
};

/// The rows of one head, filled up with zeros and scaled.
#[inline(always)]
pub(super) fn gather(
    from: &[f32],
    (first, head, width): (usize, usize, usize),
    to: &mut [f32],
    scale: f32,
) {
    let step = head.next_multiple_of(LANES);
    for (from, to) in from.chunks_exact(width).zip(to.chunks_exact_mut(step)) {
        for (to, x) in to.iter_mut().zip(&from[first..first + head]) {
            *to = *x * scale;
        }
        to[head..].fill(0.0);
    }
}

/// The other way.
#[inline(always)]
pub(super) fn scatter(
    from: &[f32],
    (first, head, width): (usize, usize, usize),
    to: &mut [f32],
    scale: f32,
) {
    let step = head.next_multiple_of(LANES);
    for (to, from) in to.chunks_exact_mut(width).zip(from.chunks_exact(step)) {
        for (to, x) in to[first..first + head].iter_mut().zip(from) {
            *to = *x * scale;
        }
    }
}

/// `C = A B` with the rows of B packed, `columns` wide; rows of A lie `stride` apart, those of C are filled up to whole vectors.
#[inline(always)]
pub(super) fn product<S: Simd>(
    simd: S,
    a: &[f32],
    stride: usize,
    [rows, depth, columns]: [usize; 3],
    panels: &[f32],
    c: &mut [f32],
) {
    let width = columns.next_multiple_of(LANES);
    for (p, panel) in panels
        .chunks_exact(depth * PANEL)
        .take(width.div_ceil(PANEL))
        .enumerate()
    {
        let wide = PANEL.min(width - p * PANEL);
        for first in (0..rows).step_by(TILE) {
            let count = TILE.min(rows - first);
            let mut tile = Tile {
                count,
                from: [0; TILE],
                to: [0; TILE],
            };
            for r in 0..TILE {
                let row = first + r.min(count - 1);
                tile.from[r] = row * stride;
                tile.to[r] = row * width + p * PANEL;
            }
            let depth = Segments::one(depth);
            rows_times_panel(
                simd,
                a,
                tile,
                depth,
                panel.as_chunks().0,
                wide,
                c,
                Update::Set,
            );
        }
    }
}

/// `C = Aᵀ B`: `rows` of C are columns of A, whose rows lie `stride` apart; B and C are `width` wide, in whole vectors.
#[inline(always)]
pub(super) fn transposed_product<S: Simd>(
    simd: S,
    a: &[f32],
    stride: usize,
    [rows, depth, width]: [usize; 3],
    b: &[f32],
    c: &mut [f32],
) {
    for column in (0..width).step_by(PANEL) {
        let wide = PANEL.min(width - column);
        let (a, b) = (Run::one(a, stride), Run::one(&b[column..], width));
        columns_times_rows(
            simd,
            a,
            rows,
            b,
            wide,
            [depth, 1, 1],
            &mut c[column..],
            width,
            Update::Set,
        );
    }
}

/// Packs rows that are `step` apart, turned: their number at a place becomes a row of the panels.
#[inline(always)]
pub(super) fn pack_turned(rows: &[f32], step: usize, depth: usize, panels: &mut [f32]) {
    for (rows, panel) in rows
        .chunks(PANEL * step)
        .zip(panels.chunks_exact_mut(depth * PANEL))
    {
        let count = rows.len() / step;
        for (at, to) in panel.chunks_exact_mut(PANEL).enumerate() {
            for (to, row) in to.iter_mut().zip(rows.chunks_exact(step)) {
                *to = row[at];
            }
            to[count..].fill(0.0);
        }
    }
}

/// Packs rows that are `step` apart as they are.
#[inline(always)]
pub(super) fn pack(rows: &[f32], step: usize, panels: &mut [f32]) {
    let depth = rows.len() / step;
    for (p, panel) in panels
        .chunks_exact_mut(depth * PANEL)
        .take(step.div_ceil(PANEL))
        .enumerate()
    {
        let wide = PANEL.min(step - p * PANEL);
        for (to, row) in panel.chunks_exact_mut(PANEL).zip(rows.chunks_exact(step)) {
            to[..wide].copy_from_slice(&row[p * PANEL..][..wide]);
        }
    }
}
