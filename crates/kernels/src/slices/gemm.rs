//! Matrix products.
//!
//! The right-hand side is packed into [`Panels`] of 64 columns, once, and can then be multiplied from the left many
//! times: [`gemm`] with a matrix, [`gemm_transposed`] with the transpose of one. The two micro-kernels below them,
//! [`rows_times_panel`] and [`columns_times_rows`], also make the convolutions.
//!
//! Rates on one Zen 4 core with AVX-512: 97 GFLOP/s for 2048³, 114 for 512 × 512 × 128, 115 for a 3 × 3 convolution of
//! 64 to 64 channels; its limit is 117.

use pulp::{Simd, WithSimd};

use super::{Lease, dispatch, lease, multiply_add, run};

/// Columns of a panel. It is the same for every instruction set, so packed data does not depend on the machine.
pub(crate) const PANEL: usize = 64;

/// Columns of the last panel are a multiple of this, padded with zeros: whole vectors of every instruction set.
pub(crate) const LANES: usize = 16;

/// Rows of the tile that a micro-kernel keeps in registers: 6 × 64 with AVX-512, 6 × 16 with AVX2 and NEON.
pub(crate) const TILE: usize = 6;

/// What happens to the matrix that a product is written to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Update {
    /// It becomes the product.
    Set,
    /// The product is added to it.
    Add,
}

/// A matrix whose rows are contiguous, `stride` apart.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Matrix<'a> {
    pub(crate) data: &'a [f32],
    pub(crate) rows: usize,
    pub(crate) columns: usize,
    pub(crate) stride: usize,
}

impl<'a> Matrix<'a> {
    /// A matrix without gaps between its rows.
    pub(crate) fn new(data: &'a [f32], rows: usize, columns: usize) -> Self {
        Self {
            data,
            rows,
            columns,
            stride: columns,
        }
    }

    fn row(&self, i: usize) -> &'a [f32] {
        &self.data[i * self.stride..][..self.columns]
    }
}

/// A matrix packed to stand on the right of a product: panels of 64 columns, each with its rows one after the other,
/// the last filled up with zeros.
#[derive(Debug)]
pub(crate) struct Panels {
    data: Lease,
    rows: usize,
    columns: usize,
}

impl Panels {
    /// Panels of a matrix of `rows × columns` whose elements `fill` writes, a panel at a time: it gets the number of the
    /// panel and the panel's rows, which are zero.
    pub(crate) fn pack_with(
        rows: usize,
        columns: usize,
        mut fill: impl FnMut(usize, &mut [[f32; PANEL]]),
    ) -> Self {
        let mut data = lease(columns.div_ceil(PANEL) * rows * PANEL);
        data.fill(0.0);
        if rows > 0 {
            for (p, panel) in data.chunks_exact_mut(rows * PANEL).enumerate() {
                fill(p, panel.as_chunks_mut().0);
            }
        }
        Self {
            data,
            rows,
            columns,
        }
    }

    /// Packs `matrix`.
    pub(crate) fn pack(matrix: Matrix) -> Self {
        Self::pack_with(matrix.rows, matrix.columns, |p, panel| {
            let first = p * PANEL;
            let width = PANEL.min(matrix.columns - first);
            for (i, row) in panel.iter_mut().enumerate() {
                row[..width].copy_from_slice(&matrix.row(i)[first..][..width]);
            }
        })
    }

    /// Packs the transpose of `matrix`.
    pub(crate) fn pack_transposed(matrix: Matrix) -> Self {
        Self::pack_with(matrix.columns, matrix.rows, |p, panel| {
            let first = p * PANEL;
            // Blocks of 16 rows of the panel stay in the cache while its columns are written.
            for block in (0..matrix.columns).step_by(16) {
                let height = 16.min(matrix.columns - block);
                for j in 0..PANEL.min(matrix.rows - first) {
                    let source = &matrix.row(first + j)[block..][..height];
                    for (row, &value) in panel[block..].iter_mut().zip(source) {
                        row[j] = value;
                    }
                }
            }
        })
    }

    /// Rows of the matrix.
    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    /// Columns of the matrix.
    pub(crate) fn columns(&self) -> usize {
        self.columns
    }

    /// Columns with the padding of the last panel: a multiple of 16.
    pub(crate) fn padded_columns(&self) -> usize {
        self.columns.next_multiple_of(LANES)
    }

    /// The panels, each with its rows.
    pub(crate) fn panel(&self, p: usize) -> &[[f32; PANEL]] {
        self.data[p * self.rows * PANEL..][..self.rows * PANEL]
            .as_chunks()
            .0
    }
}

/// Rows of C that are one task: several tiles, and few enough that a small product has tasks for several threads.
const TASK_ROWS: usize = 96;
/// Part of the inner dimension that is gone through at once: 64 kB of a panel stay in the cache.
const DEPTH: usize = 256;

/// `C = A · B` or `C += A · B`, A of shape `(m, k)`, B of shape `(k, n)` packed, rows of C `stride` apart.
///
/// Columns of C beyond `n` in a row of `stride` are left alone.
pub(crate) fn gemm(a: Matrix, b: &Panels, c: &mut [f32], stride: usize, update: Update) {
    debug_assert_eq!(a.columns, b.rows);
    let work = a.rows * a.columns * b.columns;
    run(work, cut(a.rows, b, c, stride), |(first, rows, c)| {
        if a.columns == 0 {
            return clear(c, b.columns, stride, rows, update);
        }
        dispatch(Product {
            a,
            first,
            rows,
            b,
            c,
            stride,
            update,
        });
    });
}

/// `C = Aᵀ · B` or `C += Aᵀ · B`, A of shape `(k, m)`, B of shape `(k, n)` packed, rows of C `stride` apart.
pub(crate) fn gemm_transposed(a: Matrix, b: &Panels, c: &mut [f32], stride: usize, update: Update) {
    debug_assert_eq!(a.rows, b.rows);
    let work = a.rows * a.columns * b.columns;
    run(work, cut(a.columns, b, c, stride), |(first, rows, c)| {
        if update == Update::Set {
            clear(c, b.columns, stride, rows, update);
        }
        dispatch(TransposedProduct {
            a,
            first,
            rows,
            b,
            c,
            stride,
        });
    });
}

/// Blocks of rows of C: number of the first row, rows, and the rows themselves.
fn cut<'c>(
    rows: usize,
    b: &Panels,
    c: &'c mut [f32],
    stride: usize,
) -> Vec<(usize, usize, &'c mut [f32])> {
    if rows == 0 || b.columns == 0 {
        return Vec::new();
    }
    debug_assert!(stride >= b.columns);
    let blocks = c
        .chunks_mut(TASK_ROWS * stride)
        .take(rows.div_ceil(TASK_ROWS))
        .enumerate();
    blocks
        .map(|(i, c)| (i * TASK_ROWS, TASK_ROWS.min(rows - i * TASK_ROWS), c))
        .collect()
}

fn clear(c: &mut [f32], columns: usize, stride: usize, rows: usize, update: Update) {
    if update == Update::Set {
        c.chunks_mut(stride)
            .take(rows)
            .for_each(|row| row[..columns].fill(0.0));
    }
}

struct Product<'a> {
    a: Matrix<'a>,
    first: usize,
    rows: usize,
    b: &'a Panels,
    c: &'a mut [f32],
    stride: usize,
    update: Update,
}

impl WithSimd for Product<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self {
            a,
            first,
            rows,
            b,
            c,
            stride,
            update,
        } = self;
        for k in (0..a.columns).step_by(DEPTH) {
            let depth = DEPTH.min(a.columns - k);
            let update = if k == 0 { update } else { Update::Add };
            for p in 0..b.columns.div_ceil(PANEL) {
                let panel = &b.panel(p)[k..][..depth];
                let width = PANEL.min(b.columns - p * PANEL);
                for i in (0..rows).step_by(TILE) {
                    let count = TILE.min(rows - i);
                    let from =
                        std::array::from_fn(|r| (first + i + r.min(count - 1)) * a.stride + k);
                    let segments = Segments::one(depth);
                    if width.is_multiple_of(LANES) {
                        let to =
                            std::array::from_fn(|r| (i + r.min(count - 1)) * stride + p * PANEL);
                        let tile = Tile { count, from, to };
                        rows_times_panel(simd, a.data, tile, segments, panel, width, c, update);
                    } else {
                        // C has no room for the padding of the panel.
                        let mut scratch = [0.0; TILE * PANEL];
                        let tile = Tile {
                            count,
                            from,
                            to: std::array::from_fn(|r| r * PANEL),
                        };
                        let padded = width.next_multiple_of(LANES);
                        rows_times_panel(
                            simd,
                            a.data,
                            tile,
                            segments,
                            panel,
                            padded,
                            &mut scratch,
                            Update::Set,
                        );
                        for r in 0..count {
                            let row = &mut c[(i + r) * stride + p * PANEL..][..width];
                            for (c, &x) in row.iter_mut().zip(&scratch[r * PANEL..]) {
                                *c = if update == Update::Set { x } else { *c + x };
                            }
                        }
                    }
                }
            }
        }
    }
}

struct TransposedProduct<'a> {
    a: Matrix<'a>,
    first: usize,
    rows: usize,
    b: &'a Panels,
    c: &'a mut [f32],
    stride: usize,
}

impl WithSimd for TransposedProduct<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self {
            a,
            first,
            rows,
            b,
            c,
            stride,
        } = self;
        for k in (0..a.rows).step_by(DEPTH) {
            let depth = DEPTH.min(a.rows - k);
            let left = Run {
                data: &a.data[k * a.stride + first..],
                step: a.stride,
                jump: 0,
            };
            for p in 0..b.columns.div_ceil(PANEL) {
                let panel = b.panel(p)[k..][..depth].as_flattened();
                let right = Run {
                    data: panel,
                    step: PANEL,
                    jump: 0,
                };
                let width = PANEL.min(b.columns - p * PANEL);
                if width.is_multiple_of(LANES) {
                    let c = &mut c[p * PANEL..];
                    columns_times_rows(simd, left, rows, right, width, (depth, 1), c, stride);
                } else {
                    let padded = width.next_multiple_of(LANES);
                    for i in (0..rows).step_by(TILE) {
                        let count = TILE.min(rows - i);
                        let mut scratch = [0.0; TILE * PANEL];
                        let left = Run {
                            data: &left.data[i..],
                            ..left
                        };
                        columns_times_rows(
                            simd,
                            left,
                            count,
                            right,
                            padded,
                            (depth, 1),
                            &mut scratch,
                            PANEL,
                        );
                        for r in 0..count {
                            let row = &mut c[(i + r) * stride + p * PANEL..][..width];
                            row.iter_mut()
                                .zip(&scratch[r * PANEL..])
                                .for_each(|(c, &x)| *c += x);
                        }
                    }
                }
            }
        }
    }
}

/// The inner dimension of [`rows_times_panel`]: `count` runs of `len` values, `stride` apart in A. A plain product has
/// one; a 3 × 3 convolution has three, one for each row of the kernel.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Segments {
    pub(crate) count: usize,
    pub(crate) len: usize,
    pub(crate) stride: usize,
}

impl Segments {
    pub(crate) fn one(len: usize) -> Self {
        Self {
            count: 1,
            len,
            stride: len,
        }
    }
}

/// Where the first `count` rows of a tile begin, in A and in C.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tile {
    pub(crate) count: usize,
    pub(crate) from: [usize; TILE],
    pub(crate) to: [usize; TILE],
}

/// One to six rows of A times the first `width` columns of a panel, `width` a multiple of 16. The panel has a row for
/// each value of the segments.
#[inline(always)]
#[allow(clippy::too_many_arguments)] // A micro-kernel: its arguments are its registers.
pub(crate) fn rows_times_panel<S: Simd>(
    simd: S,
    a: &[f32],
    tile: Tile,
    segments: Segments,
    panel: &[[f32; PANEL]],
    width: usize,
    c: &mut [f32],
    update: Update,
) {
    let call = RowsTimesPanel {
        a,
        tile,
        segments,
        panel,
        width,
        c,
        update,
    };
    if cfg!(debug_assertions) {
        // In line at all its places it takes a minute to compile, which a development build need not.
        simd.vectorize(call);
    } else {
        call.with_simd(simd);
    }
}

struct RowsTimesPanel<'a> {
    a: &'a [f32],
    tile: Tile,
    segments: Segments,
    panel: &'a [[f32; PANEL]],
    width: usize,
    c: &'a mut [f32],
    update: Update,
}

impl WithSimd for RowsTimesPanel<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self {
            a,
            tile,
            segments,
            panel,
            width,
            c,
            update,
        } = self;
        match tile.count {
            1 => rows_strips::<S, 1>(simd, a, &tile, segments, panel, width, c, update),
            2 => rows_strips::<S, 2>(simd, a, &tile, segments, panel, width, c, update),
            3 => rows_strips::<S, 3>(simd, a, &tile, segments, panel, width, c, update),
            4 => rows_strips::<S, 4>(simd, a, &tile, segments, panel, width, c, update),
            5 => rows_strips::<S, 5>(simd, a, &tile, segments, panel, width, c, update),
            6 => rows_strips::<S, 6>(simd, a, &tile, segments, panel, width, c, update),
            _ => {}
        }
    }
}

#[inline(always)]
#[allow(clippy::too_many_arguments)]
fn rows_strips<S: Simd, const R: usize>(
    simd: S,
    a: &[f32],
    tile: &Tile,
    segments: Segments,
    panel: &[[f32; PANEL]],
    width: usize,
    c: &mut [f32],
    update: Update,
) {
    let mut column = 0;
    while column < width {
        let vectors = (width - column) / S::F32_LANES;
        if const { S::REGISTER_COUNT >= 32 } && vectors >= 4 {
            rows_strip::<S, R, 4>(simd, a, tile, segments, panel, column, c, update);
            column += 4 * S::F32_LANES;
        } else if const { S::F32_LANES == 16 } && vectors == 3 {
            rows_strip::<S, R, 3>(simd, a, tile, segments, panel, column, c, update);
            column += 3 * S::F32_LANES;
        } else if vectors >= 2 {
            rows_strip::<S, R, 2>(simd, a, tile, segments, panel, column, c, update);
            column += 2 * S::F32_LANES;
        } else {
            rows_strip::<S, R, 1>(simd, a, tile, segments, panel, column, c, update);
            column += S::F32_LANES;
        }
    }
}

#[inline(always)]
#[allow(clippy::too_many_arguments)]
fn rows_strip<S: Simd, const R: usize, const V: usize>(
    simd: S,
    a: &[f32],
    tile: &Tile,
    segments: Segments,
    panel: &[[f32; PANEL]],
    column: usize,
    c: &mut [f32],
    update: Update,
) {
    let width = V * S::F32_LANES;
    let mut sums = [[simd.splat_f32s(0.0); V]; R];
    // One bounds check for each row here, and one for all of them in the loop.
    let span = (segments.count - 1) * segments.stride + segments.len;
    let mut rows: [&[f32]; R] = [&[]; R];
    for r in 0..R {
        rows[r] = &a[tile.from[r]..][..span];
    }
    // One loop over all segments: of two nested ones the compiler keeps too much for both and spills, at half the speed.
    let (mut at, mut left) = (0, segments.len);
    for b in panel {
        let b = load::<S, V>(simd, &b[column..column + width]);
        for r in 0..R {
            let x = simd.splat_f32s(rows[r][at]);
            for v in 0..V {
                sums[r][v] = multiply_add(simd, x, b[v], sums[r][v]);
            }
        }
        at += 1;
        left -= 1;
        if left == 0 {
            at += segments.stride - segments.len;
            left = segments.len;
        }
    }
    for r in 0..R {
        let out = &mut S::as_mut_simd_f32s(&mut c[tile.to[r] + column..][..width]).0[..V];
        for v in 0..V {
            out[v] = if update == Update::Set {
                sums[r][v]
            } else {
                simd.add_f32s(out[v], sums[r][v])
            };
        }
    }
}

/// Rows of a matrix that [`columns_times_rows`] goes through: runs of rows `step` apart; from the last row of a run to
/// the first of the next it is `step + jump`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Run<'a> {
    pub(crate) data: &'a [f32],
    pub(crate) step: usize,
    pub(crate) jump: usize,
}

/// `C[i][..width] += Σ_p A[p][i] · D[p][..width]` for `i` below `rows`, where `p` goes through `count.1` runs of
/// `count.0` rows. `width` is a multiple of 16 and at most 64.
#[inline(always)]
#[allow(clippy::too_many_arguments)]
pub(crate) fn columns_times_rows<S: Simd>(
    simd: S,
    a: Run,
    rows: usize,
    d: Run,
    width: usize,
    count: (usize, usize),
    c: &mut [f32],
    stride: usize,
) {
    let call = ColumnsTimesRows {
        a,
        rows,
        d,
        width,
        count,
        c,
        stride,
    };
    if cfg!(debug_assertions) {
        simd.vectorize(call); // As above.
    } else {
        call.with_simd(simd);
    }
}

struct ColumnsTimesRows<'a> {
    a: Run<'a>,
    rows: usize,
    d: Run<'a>,
    width: usize,
    count: (usize, usize),
    c: &'a mut [f32],
    stride: usize,
}

impl WithSimd for ColumnsTimesRows<'_> {
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
        for i in (0..rows).step_by(TILE) {
            match rows - i {
                1 => columns_strips::<S, 1>(simd, a, i, d, width, count, c, stride),
                2 => columns_strips::<S, 2>(simd, a, i, d, width, count, c, stride),
                3 => columns_strips::<S, 3>(simd, a, i, d, width, count, c, stride),
                4 => columns_strips::<S, 4>(simd, a, i, d, width, count, c, stride),
                5 => columns_strips::<S, 5>(simd, a, i, d, width, count, c, stride),
                _ => columns_strips::<S, 6>(simd, a, i, d, width, count, c, stride),
            }
        }
    }
}

#[inline(always)]
#[allow(clippy::too_many_arguments)]
fn columns_strips<S: Simd, const R: usize>(
    simd: S,
    a: Run,
    i: usize,
    d: Run,
    width: usize,
    count: (usize, usize),
    c: &mut [f32],
    stride: usize,
) {
    let mut column = 0;
    while column < width {
        let vectors = (width - column) / S::F32_LANES;
        if const { S::REGISTER_COUNT >= 32 } && vectors >= 4 {
            columns_strip::<S, R, 4>(simd, a, i, d, column, count, c, stride);
            column += 4 * S::F32_LANES;
        } else if const { S::F32_LANES == 16 } && vectors == 3 {
            columns_strip::<S, R, 3>(simd, a, i, d, column, count, c, stride);
            column += 3 * S::F32_LANES;
        } else if vectors >= 2 {
            columns_strip::<S, R, 2>(simd, a, i, d, column, count, c, stride);
            column += 2 * S::F32_LANES;
        } else {
            columns_strip::<S, R, 1>(simd, a, i, d, column, count, c, stride);
            column += S::F32_LANES;
        }
    }
}

#[inline(always)]
#[allow(clippy::too_many_arguments)]
fn columns_strip<S: Simd, const R: usize, const V: usize>(
    simd: S,
    a: Run,
    i: usize,
    d: Run,
    column: usize,
    (length, runs): (usize, usize),
    c: &mut [f32],
    stride: usize,
) {
    let width = V * S::F32_LANES;
    let mut sums = [[simd.splat_f32s(0.0); V]; R];
    let (mut at_a, mut at_d, mut left) = (i, column, length);
    // One loop over all runs: two nested ones would spill, as above, and short runs are common.
    for _ in 0..length * runs {
        let b = load::<S, V>(simd, &d.data[at_d..][..width]);
        let x = &a.data[at_a..][..R];
        for r in 0..R {
            let x = simd.splat_f32s(x[r]);
            for v in 0..V {
                sums[r][v] = multiply_add(simd, x, b[v], sums[r][v]);
            }
        }
        at_a += a.step;
        at_d += d.step;
        left -= 1;
        if left == 0 {
            at_a += a.jump;
            at_d += d.jump;
            left = length;
        }
    }
    for r in 0..R {
        let out = &mut S::as_mut_simd_f32s(&mut c[(i + r) * stride + column..][..width]).0[..V];
        for v in 0..V {
            out[v] = simd.add_f32s(out[v], sums[r][v]);
        }
    }
}

#[inline(always)]
fn load<S: Simd, const V: usize>(simd: S, values: &[f32]) -> [S::f32s; V] {
    let vectors = &S::as_simd_f32s(values).0[..V];
    let mut loaded = [simd.splat_f32s(0.0); V];
    // Not `copy_from_slice`: that goes through memory.
    for v in 0..V {
        loaded[v] = vectors[v];
    }
    loaded
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Numbers in (-1, 1) from a small congruential generator.
    pub(crate) fn noise(len: usize, seed: u32) -> Vec<f32> {
        let mut state = seed;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 23) as f32 - 1.0
        };
        (0..len).map(|_| next()).collect()
    }

    /// Compares with an f64 sum: rounding is at most 1e-6 of the sum of absolute values for these lengths.
    fn assert_sum(found: f32, terms: impl Iterator<Item = (f32, f32)>, what: &str) {
        let products = terms.map(|(a, b)| f64::from(a) * f64::from(b));
        let (sum, size) = products.fold((0.0, 0.0), |(sum, size), x| (sum + x, size + x.abs()));
        assert!(
            (f64::from(found) - sum).abs() <= 1e-6 * size + 1e-30,
            "{what}: {found} instead of {sum}"
        );
    }

    const SHAPES: [(usize, usize, usize); 9] = [
        (1, 1, 1),
        (6, 64, 256),
        (7, 65, 257),
        (13, 63, 5),
        (197, 130, 300),
        (5, 200, 513),
        (3, 48, 9),
        (9, 16, 4),
        (4, 33, 2),
    ];

    #[test]
    fn products_match_sums_in_f64() {
        for (m, n, k) in SHAPES {
            let (stride_a, stride_c) = (k + 3, n + 2);
            let (a, b) = (noise(m * stride_a, 1), noise(k * n, 2));
            let a = Matrix {
                data: &a,
                rows: m,
                columns: k,
                stride: stride_a,
            };
            let before = noise(m * stride_c, 3);
            let transposed: Vec<f32> = (0..n * k).map(|i| b[i % k * n + i / k]).collect();
            for panels in [
                Panels::pack(Matrix::new(&b, k, n)),
                Panels::pack_transposed(Matrix::new(&transposed, n, k)),
            ] {
                for update in [Update::Set, Update::Add] {
                    let mut c = before.clone();
                    gemm(a, &panels, &mut c, stride_c, update);
                    for i in 0..m {
                        for j in 0..stride_c {
                            let (found, was) = (c[i * stride_c + j], before[i * stride_c + j]);
                            if j >= n {
                                assert_eq!(found, was, "beyond the matrix");
                                continue;
                            }
                            let start = if update == Update::Add { was } else { 0.0 };
                            let terms = (0..k)
                                .map(|q| (a.row(i)[q], b[q * n + j]))
                                .chain([(start, 1.0)]);
                            assert_sum(found, terms, &format!("{m} × {k} × {n} at {i}, {j}"));
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn transposed_products_match_sums_in_f64() {
        for (m, n, k) in SHAPES {
            let (stride_a, stride_c) = (m + 1, n + 2);
            let (a, b) = (noise(k * stride_a, 1), noise(k * n, 2));
            let matrix = Matrix {
                data: &a,
                rows: k,
                columns: m,
                stride: stride_a,
            };
            let before = noise(m * stride_c, 3);
            let panels = Panels::pack(Matrix::new(&b, k, n));
            for update in [Update::Set, Update::Add] {
                let mut c = before.clone();
                gemm_transposed(matrix, &panels, &mut c, stride_c, update);
                for i in 0..m {
                    for j in 0..n {
                        let start = if update == Update::Add {
                            before[i * stride_c + j]
                        } else {
                            0.0
                        };
                        let terms = (0..k)
                            .map(|q| (a[q * stride_a + i], b[q * n + j]))
                            .chain([(start, 1.0)]);
                        assert_sum(
                            c[i * stride_c + j],
                            terms,
                            &format!("{k}ᵀ{m} × {n} at {i}, {j}"),
                        );
                    }
                    assert_eq!(c[i * stride_c + n..][..2], before[i * stride_c + n..][..2]);
                }
            }
        }
    }

    #[test]
    fn an_empty_inner_dimension_gives_zeros() {
        let mut c = [1.0, 2.0];
        let panels = Panels::pack(Matrix::new(&[], 0, 2));
        gemm(Matrix::new(&[], 1, 0), &panels, &mut c, 2, Update::Add);
        assert_eq!(c, [1.0, 2.0]);
        gemm(Matrix::new(&[], 1, 0), &panels, &mut c, 2, Update::Set);
        assert_eq!(c, [0.0, 0.0]);
    }
}
