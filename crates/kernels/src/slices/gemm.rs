//! What all matrix products are made of.
//!
//! The right-hand side is packed into [`Panels`] of 64 columns, once, and can then be multiplied many
//! times. Two micro-kernels go over them: [`rows_times_panel`] multiplies rows from the left, and
//! [`columns_times_rows`] adds up a product with a transposed left-hand side, as the gradients of weights
//! are. Both say where their rows lie, so a convolution or a recurrent layer is a matrix product without
//! the matrix.
//!
//! Rates on one Zen 4 core, whose limit is 117 GFLOP/s: both reach 117 with AVX-512 on a 3 × 3
//! convolution of 64 to 64 channels and a 14 × 14 image, and 106 and 87 with AVX2.

use pulp::{Simd, WithSimd};

use super::{Lease, lease, multiply_add, run};

/// Columns of a panel. It is the same for every instruction set, so packed data does not depend on the machine.
pub(crate) const PANEL: usize = 64;

/// Columns of the last panel are a multiple of this, padded with zeros: whole vectors of every instruction set.
pub(crate) const LANES: usize = 16;

/// What packing a number costs, in multiplications of a product.
const PACKING: usize = 64;

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

/// A matrix packed to stand on the right of a product: panels of 64 columns, each with its rows one after the other,
/// the last filled up with zeros.
#[derive(Debug)]
pub(crate) struct Panels {
    data: Lease,
    rows: usize,
}

impl Panels {
    /// Panels of a matrix of `rows × columns` whose elements `fill` writes, a panel at a time and on all threads: it gets the
    /// number of the panel and the panel's rows, which are zero.
    pub(crate) fn pack_with(
        rows: usize,
        columns: usize,
        fill: impl Fn(usize, &mut [[f32; PANEL]]) + Send + Sync,
    ) -> Self {
        Self::filled(rows, columns, |p, panel| {
            panel.as_flattened_mut().fill(0.0);
            fill(p, panel);
        })
    }

    /// The same where `fill` writes all rows of all `columns`: what is beyond the last column alone is zero before.
    pub(crate) fn pack_all(
        rows: usize,
        columns: usize,
        fill: impl Fn(usize, &mut [[f32; PANEL]]) + Send + Sync,
    ) -> Self {
        Self::filled(rows, columns, |p, panel| {
            if columns < (p + 1) * PANEL {
                panel.as_flattened_mut().fill(0.0);
            }
            fill(p, panel);
        })
    }

    fn filled(
        rows: usize,
        columns: usize,
        fill: impl Fn(usize, &mut [[f32; PANEL]]) + Send + Sync,
    ) -> Self {
        let mut data = lease(columns.div_ceil(PANEL) * rows * PANEL);
        if rows > 0 {
            let work = data.len() * PACKING;
            let panels = data.chunks_exact_mut(rows * PANEL).enumerate().collect();
            run(work, panels, |(p, panel): (usize, &mut [f32])| {
                fill(p, panel.as_chunks_mut().0);
            });
        }
        Self { data, rows }
    }

    /// Rows of the matrix.
    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    /// The rows of panel `p`.
    pub(crate) fn panel(&self, p: usize) -> &[[f32; PANEL]] {
        self.data[p * self.rows * PANEL..][..self.rows * PANEL]
            .as_chunks()
            .0
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

/// Rows of a matrix that [`columns_times_rows`] goes through: runs of rows `step` apart. From the last row of a run to the
/// first of the next it is `step + jump`, and `leap` more where a group of runs ends; both may wrap around, to go back.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Run<'a> {
    pub(crate) data: &'a [f32],
    pub(crate) step: usize,
    pub(crate) jump: usize,
    pub(crate) leap: usize,
}

impl<'a> Run<'a> {
    /// One run.
    pub(crate) fn one(data: &'a [f32], step: usize) -> Self {
        Self {
            data,
            step,
            jump: 0,
            leap: 0,
        }
    }
}

/// `C[i][..width] = Σ_p A[p][i] · D[p][..width]`, or that added to it, for `i` below `rows`, where `p` goes through `count[2]` groups of
/// `count[1]` runs of `count[0]` rows. `width` is a multiple of 16 and at most 64.
#[inline(always)]
#[allow(clippy::too_many_arguments)]
pub(crate) fn columns_times_rows<S: Simd>(
    simd: S,
    a: Run,
    rows: usize,
    d: Run,
    width: usize,
    count: [usize; 3],
    c: &mut [f32],
    stride: usize,
    update: Update,
) {
    let call = ColumnsTimesRows {
        a,
        rows,
        d,
        width,
        count,
        c,
        stride,
        update,
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
    count: [usize; 3],
    c: &'a mut [f32],
    stride: usize,
    update: Update,
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
            update,
        } = self;
        for i in (0..rows).step_by(TILE) {
            match rows - i {
                1 => columns_strips::<S, 1>(simd, a, i, d, width, count, c, stride, update),
                2 => columns_strips::<S, 2>(simd, a, i, d, width, count, c, stride, update),
                3 => columns_strips::<S, 3>(simd, a, i, d, width, count, c, stride, update),
                4 => columns_strips::<S, 4>(simd, a, i, d, width, count, c, stride, update),
                5 => columns_strips::<S, 5>(simd, a, i, d, width, count, c, stride, update),
                _ => columns_strips::<S, 6>(simd, a, i, d, width, count, c, stride, update),
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
    count: [usize; 3],
    c: &mut [f32],
    stride: usize,
    update: Update,
) {
    let mut column = 0;
    while column < width {
        let vectors = (width - column) / S::F32_LANES;
        if const { S::REGISTER_COUNT >= 32 } && vectors >= 4 {
            columns_strip::<S, R, 4>(simd, a, i, d, column, count, c, stride, update);
            column += 4 * S::F32_LANES;
        } else if const { S::F32_LANES == 16 } && vectors == 3 {
            columns_strip::<S, R, 3>(simd, a, i, d, column, count, c, stride, update);
            column += 3 * S::F32_LANES;
        } else if vectors >= 2 {
            columns_strip::<S, R, 2>(simd, a, i, d, column, count, c, stride, update);
            column += 2 * S::F32_LANES;
        } else {
            columns_strip::<S, R, 1>(simd, a, i, d, column, count, c, stride, update);
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
    [length, runs, groups]: [usize; 3],
    c: &mut [f32],
    stride: usize,
    update: Update,
) {
    let width = V * S::F32_LANES;
    let mut sums = [[simd.splat_f32s(0.0); V]; R];
    let (mut at_a, mut at_d, mut left, mut runs_left) = (i, column, length, runs);
    // One loop over all runs: two nested ones would spill, as above, and short runs are common.
    for _ in 0..length * runs * groups {
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
            at_a = at_a.wrapping_add(a.jump);
            at_d = at_d.wrapping_add(d.jump);
            left = length;
            runs_left -= 1;
            if runs_left == 0 {
                at_a = at_a.wrapping_add(a.leap);
                at_d = at_d.wrapping_add(d.leap);
                runs_left = runs;
            }
        }
    }
    for r in 0..R {
        let out = &mut S::as_mut_simd_f32s(&mut c[(i + r) * stride + column..][..width]).0[..V];
        for v in 0..V {
            out[v] = if update == Update::Set {
                sums[r][v]
            } else {
                simd.add_f32s(out[v], sums[r][v])
            };
        }
    }
}

#[inline(always)]
#[allow(clippy::manual_memcpy)] // `copy_from_slice` goes through memory.
fn load<S: Simd, const V: usize>(simd: S, values: &[f32]) -> [S::f32s; V] {
    let vectors = &S::as_simd_f32s(values).0[..V];
    let mut loaded = [simd.splat_f32s(0.0); V];
    for v in 0..V {
        loaded[v] = vectors[v];
    }
    loaded
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::slices::dispatch;

    /// Numbers in (-1, 1) from a small congruential generator.
    fn noise(len: usize, seed: u32) -> Vec<f32> {
        let mut state = seed;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 23) as f32 - 1.0
        };
        (0..len).map(|_| next()).collect()
    }

    /// A tile of `count` rows, `segments` of A, and the panel's first `width` columns, both ways.
    struct Check {
        count: usize,
        segments: Segments,
        width: usize,
    }

    impl WithSimd for Check {
        type Output = ();

        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) {
            let Self {
                count,
                segments,
                width,
            } = self;
            let depth = segments.count * segments.len;
            let a = noise(400, 1);
            let before = noise(TILE * PANEL, 2);
            let b = noise(depth * width, 3);
            let panels = Panels::pack_with(depth, width, |_, panel| {
                for (row, values) in panel.iter_mut().zip(b.chunks_exact(width)) {
                    row[..width].copy_from_slice(values);
                }
            });
            // Rows of A that overlap, as those of a convolution do.
            let from = std::array::from_fn(|r| 3 * r + 1);
            let tile = Tile {
                count,
                from,
                to: std::array::from_fn(|r| r * PANEL),
            };
            let a_of = |r: usize, k: usize| {
                a[from[r] + k / segments.len * segments.stride + k % segments.len]
            };
            for update in [Update::Set, Update::Add] {
                let mut c = before.clone();
                let panel = panels.panel(0);
                rows_times_panel(simd, &a, tile, segments, panel, width, &mut c, update);
                for (i, (&found, &was)) in c.iter().zip(&before).enumerate() {
                    let (r, j) = (i / PANEL, i % PANEL);
                    if r >= count || j >= width {
                        assert_eq!(found, was, "outside of the tile");
                        continue;
                    }
                    let start = if update == Update::Add { was } else { 0.0 };
                    let products = (0..depth).map(|k| (a_of(r, k), b[k * width + j]));
                    assert_sum(found, products.chain([(start, 1.0)]));
                }
            }

            // A transposed: its columns are the tile's rows, and its rows come in runs with gaps.
            // In one group, and in as many as there are runs, each of which begins three numbers before the last one's end.
            let jump = segments.stride - segments.len;
            let back = 3usize.wrapping_neg();
            for (runs, leap) in [
                ([segments.len, segments.count, 1], 0),
                ([segments.len, 1, segments.count], back),
            ] {
                let values = Run {
                    data: &a,
                    step: 2,
                    jump,
                    leap,
                };
                let rows = Run::one(&b, width);
                let update = if leap == 0 { Update::Add } else { Update::Set };
                let start = |was| if update == Update::Add { was } else { 0.0 };
                let mut c = before.clone();
                columns_times_rows(
                    simd, values, count, rows, width, runs, &mut c, PANEL, update,
                );
                for (i, (&found, &was)) in c.iter().zip(&before).enumerate() {
                    let (r, j) = (i / PANEL, i % PANEL);
                    if r >= count || j >= width {
                        assert_eq!(found, was, "outside of the tile");
                        continue;
                    }
                    let run = |p: usize| p / segments.len;
                    let at = |p: usize| {
                        let forward = 2 * p + run(p) * jump + r;
                        forward - if leap == 0 { 0 } else { 3 * run(p) }
                    };
                    let products = (0..depth).map(|p| (a[at(p)], b[p * width + j]));
                    assert_sum(found, products.chain([(start(was), 1.0)]));
                }
            }
        }
    }

    /// Compares with an f64 sum: rounding is at most 1e-6 of the sum of absolute values here.
    fn assert_sum(found: f32, terms: impl Iterator<Item = (f32, f32)>) {
        let products = terms.map(|(a, b)| f64::from(a) * f64::from(b));
        let (sum, size) = products.fold((0.0, 0.0), |(sum, size), x| (sum + x, size + x.abs()));
        assert!(
            (f64::from(found) - sum).abs() <= 1e-6 * size + 1e-30,
            "{found} instead of {sum}"
        );
    }

    #[test]
    fn tiles_of_every_size_match_sums_in_f64() {
        let segments = [
            Segments::one(1),
            Segments::one(37),
            Segments {
                count: 3,
                len: 9,
                stride: 20,
            },
            Segments {
                count: 5,
                len: 1,
                stride: 7,
            },
        ];
        for segments in segments {
            for width in (LANES..=PANEL).step_by(LANES) {
                for count in 1..=TILE {
                    dispatch(Check {
                        count,
                        segments,
                        width,
                    });
                    Simd::vectorize(
                        pulp::Scalar128b,
                        Check {
                            count,
                            segments,
                            width,
                        },
                    );
                    Simd::vectorize(
                        pulp::Scalar,
                        Check {
                            count,
                            segments,
                            width,
                        },
                    );
                }
            }
        }
    }
}
