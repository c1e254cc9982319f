//! What rows, blocks and gradients are made by, with the instruction set of this processor.

use pulp::{Simd, WithSimd};

use crate::slices::gemm::{
    LANES, PANEL, Panels, Run, Segments, TILE, Tile, Update, columns_times_rows, rows_times_panel,
};

/// Rows of a panel that stay in the cache while all tiles of a block are multiplied with them.
const DEPTH: usize = 512;
/// Squared distances below this share of `‖x‖² + ‖y‖²` are computed from the differences.
pub(super) const NEAR: f32 = 1e-3;

/// `A · B` of rows of A, `stride` apart, and packed B.
pub(super) struct Products<'a> {
    pub(super) a: &'a [f32],
    pub(super) stride: usize,
    pub(super) count: usize,
    pub(super) panels: &'a Panels,
    pub(super) columns: usize,
    pub(super) result: &'a mut [f32],
}

impl WithSimd for Products<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self {
            a,
            stride,
            count,
            panels,
            columns,
            result,
        } = self;
        let depth = panels.rows();
        if depth == 0 {
            result.fill(0.0);
            return;
        }
        for first in (0..depth).step_by(DEPTH) {
            let len = DEPTH.min(depth - first);
            let update = if first == 0 { Update::Set } else { Update::Add };
            for panel in 0..columns.div_ceil(PANEL) {
                let width = PANEL.min(columns - panel * PANEL);
                let rows = &panels.panel(panel)[first..first + len];
                for top in (0..count).step_by(TILE) {
                    let mut tile = Tile {
                        count: TILE.min(count - top),
                        from: [0; TILE],
                        to: [0; TILE],
                    };
                    for row in 0..tile.count {
                        tile.from[row] = (top + row) * stride + first;
                        tile.to[row] = (top + row) * columns + panel * PANEL;
                    }
                    rows_times_panel(
                        simd,
                        a,
                        tile,
                        Segments::one(len),
                        rows,
                        width,
                        result,
                        update,
                    );
                }
            }
        }
    }
}

/// `Wᵀ · X`, added.
pub(super) struct Turned<'a> {
    pub(super) weights: &'a [f32],
    pub(super) stride: usize,
    pub(super) rows: &'a [f32],
    pub(super) padded: usize,
    pub(super) references: usize,
    pub(super) sums: &'a mut [f32],
}

impl WithSimd for Turned<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self {
            weights,
            stride,
            rows,
            padded,
            references,
            sums,
        } = self;
        for column in (0..padded).step_by(PANEL) {
            columns_times_rows(
                simd,
                Run::one(weights, stride),
                references,
                Run::one(&rows[column..], padded),
                PANEL.min(padded - column),
                [rows.len() / padded, 1, 1],
                &mut sums[column..],
                padded,
                Update::Add,
            );
        }
    }
}

/// An inner product, in a fixed order.
pub(super) struct Product<'a>(pub(super) &'a [f32], pub(super) &'a [f32]);

impl WithSimd for Product<'_> {
    type Output = f32;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> f32 {
        lanes_sum(self.0.iter().zip(self.1).map(|(x, y)| x * y))
    }
}

/// A squared distance from the differences.
pub(super) struct Difference<'a>(pub(super) &'a [f32], pub(super) &'a [f32]);

impl WithSimd for Difference<'_> {
    type Output = f32;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> f32 {
        lanes_sum(self.0.iter().zip(self.1).map(|(x, y)| (x - y) * (x - y)))
    }
}

/// Sixteen sums side by side, then one: the compiler may do them at once, and the order is the same for every processor.
#[inline(always)]
fn lanes_sum(values: impl ExactSizeIterator<Item = f32>) -> f32 {
    let mut sums = [0f32; LANES];
    for (index, value) in values.enumerate() {
        sums[index % LANES] += value;
    }
    sums.iter().sum()
}

/// Inner products to squared distances; whether any is near.
pub(super) struct Squares<'a>(
    pub(super) &'a mut [f32],
    pub(super) f32,
    pub(super) &'a [f32],
);

impl WithSimd for Squares<'_> {
    type Output = bool;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> bool {
        let Self(values, length, lengths) = self;
        let mut near = 0u32;
        for (value, other) in values.iter_mut().zip(lengths) {
            let both = length + other;
            let square = both - 2.0 * *value;
            near |= u32::from(square <= NEAR * both);
            *value = square;
        }
        near != 0
    }
}

/// Squared distances to distances, or as they are but for what rounding left below zero.
pub(super) struct Roots<'a>(pub(super) &'a mut [f32], pub(super) bool);

impl WithSimd for Roots<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        if self.1 {
            self.0.iter_mut().for_each(|x| *x = x.max(0.0).sqrt());
        } else {
            self.0.iter_mut().for_each(|x| *x = x.max(0.0));
        }
    }
}

/// Gradients by distances: rows that coincide pull on nothing.
pub(super) struct Slopes<'a>(
    pub(super) &'a mut [f32],
    pub(super) &'a [f32],
    pub(super) f32,
);

impl WithSimd for Slopes<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        for (gradient, &distance) in self.0.iter_mut().zip(self.1) {
            let slope = *gradient * self.2 / distance;
            *gradient = if distance > 0.0 { slope } else { 0.0 };
        }
    }
}

/// The sum of a row's weights, which are added to those of their columns.
pub(super) struct Total<'a>(pub(super) &'a [f32], pub(super) &'a mut [f32]);

impl WithSimd for Total<'_> {
    type Output = f32;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> f32 {
        for (sum, weight) in self.1.iter_mut().zip(self.0) {
            *sum += weight;
        }
        let mut sums = [0f32; LANES];
        for weights in self.0.chunks_exact(LANES) {
            for (sum, weight) in sums.iter_mut().zip(weights) {
                *sum += weight;
            }
        }
        sums.iter().sum()
    }
}

/// How many values are not 0.
pub(super) struct NonZero<'a>(pub(super) &'a [f32]);

impl WithSimd for NonZero<'_> {
    type Output = usize;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> usize {
        let runs = self.0.chunks(1 << 12);
        let counts = runs.map(|run| run.iter().map(|&x| u32::from(x != 0.0)).sum::<u32>());
        counts.map(|count| count as usize).sum()
    }
}

/// Some columns on their own: each pulls by its weight, which is then 0 for the rest. To the references goes `w x` for inner
/// products, and `w (x − y)`, with the sign of the anchor, for distances.
pub(super) struct Apart<'a> {
    pub(super) linear: bool,
    pub(super) x: &'a [f32],
    pub(super) y: &'a [f32],
    pub(super) weights: &'a mut [f32],
    pub(super) mine: &'a mut [f32],
    pub(super) theirs: &'a mut [f32],
}

impl WithSimd for Apart<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let width = self.x.len();
        if width == 0 {
            self.weights.fill(0.0);
            return;
        }
        let rows = self.y.chunks_exact(width);
        let theirs = self.theirs.chunks_exact_mut(width);
        for ((weight, y), theirs) in self.weights.iter_mut().zip(rows).zip(theirs) {
            let by = std::mem::take(weight);
            if by == 0.0 {
                continue;
            }
            let all = self.mine.iter_mut().zip(theirs).zip(self.x.iter().zip(y));
            if self.linear {
                for ((mine, theirs), (x, y)) in all {
                    *mine += by * y;
                    *theirs += by * x;
                }
            } else {
                for ((mine, theirs), (x, y)) in all {
                    let pull = by * (x - y);
                    *mine += pull;
                    *theirs += pull;
                }
            }
        }
    }
}
