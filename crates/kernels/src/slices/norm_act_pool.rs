//! Normalization, activation and max-pooling of one image with channels last, in one pass each way.
//!
//! Plain loops over sixteen channels: numbers and bytes mix here, which `Simd` cannot express, and the compiler
//! vectorizes them under the instruction set they are inlined into.

use pulp::{Simd, WithSimd};

use super::fma;
use super::gemm::{LANES, PANEL};

/// Where the largest value of a window was, for a window whose gradient ends here: not above 0 under `relu`.
pub(crate) const DEAD: u8 = u8::MAX;

/// The largest window whose places fit beside [`DEAD`].
pub(crate) const MAX_POOL: usize = 15;

/// The windows of an image.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Windows {
    /// Rows and columns of the image.
    pub(crate) size: (usize, usize),
    /// Rows and columns of windows.
    pub(crate) pooled: (usize, usize),
    /// Side of a window.
    pub(crate) pool: usize,
    /// Values of a pixel, a multiple of 16.
    pub(crate) width: usize,
}

/// What a channel's values are turned into: `(x − center) · factor + shift`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Affine {
    pub(crate) center: Vec<f32>,
    pub(crate) factor: Vec<f32>,
    pub(crate) shift: Vec<f32>,
}

/// What the way back needs of each window.
#[derive(Debug)]
pub(crate) struct Record<'a> {
    /// The place of the largest value in row-major order, or [`DEAD`].
    pub(crate) places: &'a mut [u8],
    /// The largest value before normalization; empty where it is not needed.
    pub(crate) values: &'a mut [f32],
}

/// From the output of the convolution to that of the block.
pub(crate) struct Forward<'a> {
    pub(crate) windows: Windows,
    pub(crate) affine: &'a Affine,
    pub(crate) relu: bool,
    pub(crate) convolved: &'a [f32],
    pub(crate) out: &'a mut [f32],
    pub(crate) record: Option<Record<'a>>,
}

impl WithSimd for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        match self.windows.pool {
            1 => self.pool::<S, 1>(),
            2 => self.pool::<S, 2>(),
            _ => self.pool::<S, 0>(),
        }
    }
}

impl Forward<'_> {
    /// `K` is the side of a window, or 0 where it is not known at compile time.
    #[inline(always)]
    fn pool<S: Simd, const K: usize>(self) {
        let Windows {
            size,
            pooled,
            pool,
            width,
        } = self.windows;
        let pool = if K == 0 { pool } else { K };
        let (mut places, mut values): (&mut [u8], &mut [f32]) = (&mut [], &mut []);
        if let Some(record) = self.record {
            (places, values) = (record.places, record.values);
        }
        for (window, out) in self
            .out
            .chunks_exact_mut(width)
            .take(pooled.0 * pooled.1)
            .enumerate()
        {
            let (i, j) = (window / pooled.1, window % pooled.1);
            let first = (i * pool * size.1 + j * pool) * width;
            for c in (0..width).step_by(LANES) {
                let (center, factor, shift) = (
                    lanes(&self.affine.center, c),
                    lanes(&self.affine.factor, c),
                    lanes(&self.affine.shift, c),
                );
                let (mut best, mut place, mut value) =
                    ([0f32; LANES], [0u32; LANES], [0f32; LANES]);
                for t in 0..pool * pool {
                    let at = first + ((t / pool) * size.1 + t % pool) * width;
                    let raw = lanes(self.convolved, at + c);
                    for l in 0..LANES {
                        let x = fma::<S>(raw[l] - center[l], factor[l], shift[l]);
                        // NaN is larger than everything, as in torch.
                        let larger = (t == 0) | (x > best[l]) | (x.is_nan());
                        best[l] = if larger { x } else { best[l] };
                        place[l] = if larger { t as u32 } else { place[l] };
                        value[l] = if larger { raw[l] } else { value[l] };
                    }
                }
                if self.relu {
                    for l in 0..LANES {
                        let dead = best[l] <= 0.0;
                        best[l] = if dead { 0.0 } else { best[l] };
                        place[l] = if dead { u32::from(DEAD) } else { place[l] };
                    }
                }
                out[c..c + LANES].copy_from_slice(&best);
                if !places.is_empty() {
                    let places: &mut [u8; LANES] = block_mut(places, window * width + c);
                    for l in 0..LANES {
                        places[l] = place[l] as u8;
                    }
                }
                if !values.is_empty() {
                    values[window * width + c..][..LANES].copy_from_slice(&value);
                }
            }
        }
    }
}

/// Sums of one image's channels: about a point near their mean, so that the variance keeps its digits.
///
/// `out` gets, for each channel, the point, the sum of differences from it, and the sum of their squares: three rows of
/// `width`.
pub(crate) struct Moments<'a> {
    pub(crate) convolved: &'a [f32],
    pub(crate) width: usize,
    pub(crate) out: &'a mut [f32],
}

impl WithSimd for Moments<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let width = self.width;
        let mut c = 0;
        while c < width {
            if c + PANEL <= width {
                self.convolved_block::<S, PANEL>(c)
                    .write(self.out, width, c);
                c += PANEL;
            } else {
                self.convolved_block::<S, LANES>(c)
                    .write(self.out, width, c);
                c += LANES;
            }
        }
    }
}

struct BlockMoments<const N: usize>([[f32; N]; 3]);

impl<const N: usize> BlockMoments<N> {
    #[inline(always)]
    fn write(self, out: &mut [f32], width: usize, c: usize) {
        for (row, values) in out.chunks_exact_mut(width).zip(self.0) {
            row[c..c + N].copy_from_slice(&values);
        }
    }
}

impl Moments<'_> {
    #[inline(always)]
    fn convolved_block<S: Simd, const N: usize>(&self, c: usize) -> BlockMoments<N> {
        let pixels = self.convolved.chunks_exact(self.width);
        let share = 1.0 / pixels.len() as f32;
        let mut point = [0f32; N];
        for pixel in pixels.clone() {
            let x: &[f32; N] = block(pixel, c);
            for l in 0..N {
                point[l] += x[l];
            }
        }
        for x in &mut point {
            *x *= share;
        }
        let (mut sum, mut squares) = ([0f32; N], [0f32; N]);
        for pixel in pixels {
            let x: &[f32; N] = block(pixel, c);
            for l in 0..N {
                let difference = x[l] - point[l];
                sum[l] += difference;
                squares[l] = fma::<S>(difference, difference, squares[l]);
            }
        }
        BlockMoments([point, sum, squares])
    }
}

/// For each channel of one image, the sum of the gradient that arrives, and of its product with the values it arrives
/// at less the center: two rows of `width` in `out`. Without `values` the second stays 0.
pub(crate) struct Sums<'a> {
    pub(crate) width: usize,
    pub(crate) center: &'a [f32],
    /// Of the output, pixels of `width` values.
    pub(crate) gradient: &'a [f32],
    pub(crate) places: &'a [u8],
    pub(crate) values: &'a [f32],
    pub(crate) out: &'a mut [f32],
}

impl WithSimd for Sums<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let mut c = 0;
        while c < self.width {
            if c + PANEL <= self.width {
                let sums = self.block::<S, PANEL>(c);
                self.out[c..][..PANEL].copy_from_slice(&sums[0]);
                self.out[self.width + c..][..PANEL].copy_from_slice(&sums[1]);
                c += PANEL;
            } else {
                let sums = self.block::<S, LANES>(c);
                self.out[c..][..LANES].copy_from_slice(&sums[0]);
                self.out[self.width + c..][..LANES].copy_from_slice(&sums[1]);
                c += LANES;
            }
        }
    }
}

impl Sums<'_> {
    #[inline(always)]
    fn block<S: Simd, const N: usize>(&self, c: usize) -> [[f32; N]; 2] {
        let center: &[f32; N] = block(self.center, c);
        let (mut sum, mut product) = ([0f32; N], [0f32; N]);
        let windows = self
            .gradient
            .chunks_exact(self.width)
            .zip(self.places.chunks_exact(self.width));
        for (window, (gradient, places)) in windows.enumerate() {
            let (gradient, places): (&[f32; N], &[u8; N]) = (block(gradient, c), block(places, c));
            let mut live = [0f32; N];
            for l in 0..N {
                live[l] = if places[l] == DEAD { 0.0 } else { gradient[l] };
                sum[l] += live[l];
            }
            if !self.values.is_empty() {
                let values: &[f32; N] = block(self.values, window * self.width + c);
                for l in 0..N {
                    product[l] = fma::<S>(live[l], values[l] - center[l], product[l]);
                }
            }
        }
        [sum, product]
    }
}

/// How the gradient of the convolution's output follows from its values: `(x − center) · slope + offset`, and at the
/// largest value of a window the window's gradient times `factor` besides.
#[derive(Clone, Debug, Default)]
pub(crate) struct Spread {
    pub(crate) center: Vec<f32>,
    pub(crate) slope: Vec<f32>,
    pub(crate) offset: Vec<f32>,
    pub(crate) factor: Vec<f32>,
}

/// From the gradient of the block's output to that of the convolution's.
pub(crate) struct Backward<'a> {
    pub(crate) windows: Windows,
    pub(crate) spread: &'a Spread,
    /// Of the output, pixels of `width` values.
    pub(crate) gradient: &'a [f32],
    pub(crate) places: &'a [u8],
    /// The output of the convolution; empty where the statistics are constants, and the gradient does not depend on it.
    pub(crate) convolved: &'a [f32],
    /// Pixels within `border` others, which are left alone.
    pub(crate) out: &'a mut [f32],
    pub(crate) border: usize,
}

impl WithSimd for Backward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        match (self.windows.pool, self.convolved.is_empty()) {
            (1, true) => self.unpool::<S, 1, false>(),
            (1, false) => self.unpool::<S, 1, true>(),
            (2, true) => self.unpool::<S, 2, false>(),
            (2, false) => self.unpool::<S, 2, true>(),
            (_, true) => self.unpool::<S, 0, false>(),
            (_, false) => self.unpool::<S, 0, true>(),
        }
    }
}

impl Backward<'_> {
    /// `K` is the side of a window, or 0 where it is not known at compile time.
    #[inline(always)]
    fn unpool<S: Simd, const K: usize, const BATCH: bool>(self) {
        let Windows {
            size,
            pooled,
            pool,
            width,
        } = self.windows;
        let pool = if K == 0 { pool } else { K };
        let line = size.1 + 2 * self.border;
        let place = |i: usize, j: usize| ((i + self.border) * line + j + self.border) * width;
        for window in 0..pooled.0 * pooled.1 {
            let (i, j) = (window / pooled.1 * pool, window % pooled.1 * pool);
            for c in (0..width).step_by(LANES) {
                let factor = lanes(&self.spread.factor, c);
                let gradient = lanes(self.gradient, window * width + c);
                let places: &[u8; LANES] = block(self.places, window * width + c);
                let mut scaled = [0f32; LANES];
                for l in 0..LANES {
                    scaled[l] = gradient[l] * factor[l];
                }
                for t in 0..pool * pool {
                    let (i, j) = (i + t / pool, j + t % pool);
                    let base = self.base::<S, BATCH>((i * size.1 + j) * width, c);
                    let out: &mut [f32; LANES] = block_mut(self.out, place(i, j) + c);
                    for l in 0..LANES {
                        let more = if places[l] == t as u8 { scaled[l] } else { 0.0 };
                        out[l] = base[l] + more;
                    }
                }
            }
        }
        // What no window covers.
        for i in 0..size.0 {
            let from = if i < pooled.0 * pool {
                pooled.1 * pool
            } else {
                0
            };
            for j in from..size.1 {
                for c in (0..width).step_by(LANES) {
                    let base = self.base::<S, BATCH>((i * size.1 + j) * width, c);
                    *block_mut(self.out, place(i, j) + c) = base;
                }
            }
        }
    }

    #[inline(always)]
    fn base<S: Simd, const BATCH: bool>(&self, at: usize, c: usize) -> [f32; LANES] {
        let mut base = [0f32; LANES];
        if BATCH {
            let Spread {
                center,
                slope,
                offset,
                ..
            } = self.spread;
            let (center, slope, offset) = (lanes(center, c), lanes(slope, c), lanes(offset, c));
            let x = lanes(self.convolved, at + c);
            for l in 0..LANES {
                base[l] = fma::<S>(x[l] - center[l], slope[l], offset[l]);
            }
        }
        base
    }
}

#[inline(always)]
fn lanes(values: &[f32], at: usize) -> &[f32; LANES] {
    block(values, at)
}

#[inline(always)]
fn block<T, const N: usize>(values: &[T], at: usize) -> &[T; N] {
    values[at..]
        .first_chunk()
        .expect("rows are whole blocks of channels")
}

#[inline(always)]
fn block_mut<T, const N: usize>(values: &mut [T], at: usize) -> &mut [T; N] {
    values[at..]
        .first_chunk_mut()
        .expect("rows are whole blocks of channels")
}
