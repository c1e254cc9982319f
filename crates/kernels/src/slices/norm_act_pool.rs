//! Normalization, activation and max-pooling of one image with channels last, in one pass each way.
//!
//! Where the sums are plain loops over a block of channels, the compiler vectorizes them under the
//! instruction set that they are inlined into.

use pulp::{Simd, WithSimd};

use super::gemm::LANES;
use super::{fma, multiply_add, set_vector, vector};

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
    /// What is added to the normalized values where windows are single pixels.
    pub(crate) residual: Option<&'a [f32]>,
    pub(crate) relu: bool,
    pub(crate) convolved: &'a [f32],
    pub(crate) out: &'a mut [f32],
    pub(crate) record: Option<Record<'a>>,
}

impl WithSimd for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        match self.windows.pool {
            1 => self.pool::<S, 1>(simd),
            2 => self.pool::<S, 2>(simd),
            _ => self.pool::<S, 0>(simd),
        }
    }
}

impl Forward<'_> {
    /// `K` is the side of a window, or 0 where it is not known at compile time.
    #[inline(always)]
    fn pool<S: Simd, const K: usize>(self, simd: S) {
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
        let (zero, dead) = (simd.splat_f32s(0.0), simd.splat_u32s(u32::from(DEAD)));
        let outs = self.out.chunks_exact_mut(width);
        for (window, out) in outs.take(pooled.0 * pooled.1).enumerate() {
            let (i, j) = (window / pooled.1, window % pooled.1);
            let first = (i * pool * size.1 + j * pool) * width;
            for c in (0..width).step_by(S::F32_LANES) {
                let center = vector(simd, &self.affine.center, c);
                let factor = vector(simd, &self.affine.factor, c);
                let shift = vector(simd, &self.affine.shift, c);
                let affine = |raw| multiply_add(simd, simd.sub_f32s(raw, center), factor, shift);
                let mut value = vector(simd, self.convolved, first + c);
                let mut best = affine(value);
                let mut place = simd.splat_u32s(0);
                for t in 1..pool * pool {
                    let at = first + ((t / pool) * size.1 + t % pool) * width;
                    let raw = vector(simd, self.convolved, at + c);
                    let x = affine(raw);
                    // NaN is larger than everything, as in torch.
                    let nan = simd.not_m32s(simd.equal_f32s(x, x));
                    let larger = simd.or_m32s(simd.greater_than_f32s(x, best), nan);
                    best = simd.select_f32s(larger, x, best);
                    value = simd.select_f32s(larger, raw, value);
                    place = simd.select_u32s(larger, simd.splat_u32s(t as u32), place);
                }
                if let Some(residual) = self.residual {
                    best = simd.add_f32s(best, vector(simd, residual, window * width + c));
                }
                if self.relu {
                    let down = simd.less_than_or_equal_f32s(best, zero);
                    best = simd.select_f32s(down, zero, best);
                    place = simd.select_u32s(down, dead, place);
                }
                set_vector(simd, out, c, best);
                if !places.is_empty() {
                    set_bytes(simd, places, window * width + c, place);
                }
                if !values.is_empty() {
                    set_vector(simd, values, window * width + c, value);
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
        let mut c = 0;
        while c < self.width {
            // Wide blocks have enough sums that an addition need not wait for the one before.
            c += match self.width - c {
                64.. => write_rows(self.block::<S, 64>(c), self.out, self.width, c),
                32.. => write_rows(self.block::<S, 32>(c), self.out, self.width, c),
                _ => write_rows(self.block::<S, LANES>(c), self.out, self.width, c),
            }
        }
    }
}

impl Moments<'_> {
    #[inline(always)]
    fn block<S: Simd, const N: usize>(&self, c: usize) -> [[f32; N]; 3] {
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
        [point, sum, squares]
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
            c += match self.width - c {
                64.. => write_rows(self.block::<S, 64>(c), self.out, self.width, c),
                32.. => write_rows(self.block::<S, 32>(c), self.out, self.width, c),
                _ => write_rows(self.block::<S, LANES>(c), self.out, self.width, c),
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
    fn with_simd<S: Simd>(self, simd: S) {
        match (self.windows.pool, self.convolved.is_empty()) {
            (1, true) => self.unpool::<S, 1, false>(simd),
            (1, false) => self.unpool::<S, 1, true>(simd),
            (2, true) => self.unpool::<S, 2, false>(simd),
            (2, false) => self.unpool::<S, 2, true>(simd),
            (_, true) => self.unpool::<S, 0, false>(simd),
            (_, false) => self.unpool::<S, 0, true>(simd),
        }
    }
}

impl Backward<'_> {
    /// `K` is the side of a window, or 0 where it is not known at compile time.
    #[inline(always)]
    fn unpool<S: Simd, const K: usize, const BATCH: bool>(self, simd: S) {
        let Windows {
            size,
            pooled,
            pool,
            width,
        } = self.windows;
        let pool = if K == 0 { pool } else { K };
        let line = size.1 + 2 * self.border;
        let place = |i: usize, j: usize| ((i + self.border) * line + j + self.border) * width;
        let zero = simd.splat_f32s(0.0);
        for window in 0..pooled.0 * pooled.1 {
            let (i, j) = (window / pooled.1 * pool, window % pooled.1 * pool);
            for c in (0..width).step_by(S::F32_LANES) {
                let base = Base::<S>::new(simd, self.spread, c);
                let gradient = vector(simd, self.gradient, window * width + c);
                let scaled = simd.mul_f32s(gradient, vector(simd, &self.spread.factor, c));
                let places = bytes(simd, self.places, window * width + c);
                for t in 0..pool * pool {
                    let (i, j) = (i + t / pool, j + t % pool);
                    let here = simd.equal_u32s(places, simd.splat_u32s(t as u32));
                    let mut x = simd.select_f32s(here, scaled, zero);
                    if BATCH {
                        let raw = vector(simd, self.convolved, (i * size.1 + j) * width + c);
                        x = simd.add_f32s(base.at(simd, raw), x);
                    }
                    set_vector(simd, self.out, place(i, j) + c, x);
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
                for c in (0..width).step_by(S::F32_LANES) {
                    let x = if BATCH {
                        let raw = vector(simd, self.convolved, (i * size.1 + j) * width + c);
                        Base::<S>::new(simd, self.spread, c).at(simd, raw)
                    } else {
                        zero
                    };
                    set_vector(simd, self.out, place(i, j) + c, x);
                }
            }
        }
    }
}

/// The part of the gradient that comes through the statistics.
struct Base<S: Simd> {
    center: S::f32s,
    slope: S::f32s,
    offset: S::f32s,
}

impl<S: Simd> Base<S> {
    #[inline(always)]
    fn new(simd: S, spread: &Spread, c: usize) -> Self {
        Self {
            center: vector(simd, &spread.center, c),
            slope: vector(simd, &spread.slope, c),
            offset: vector(simd, &spread.offset, c),
        }
    }

    #[inline(always)]
    fn at(&self, simd: S, raw: S::f32s) -> S::f32s {
        multiply_add(
            simd,
            simd.sub_f32s(raw, self.center),
            self.slope,
            self.offset,
        )
    }
}

/// Writes a block of channels into rows of `width`, from channel `c` on, and says how many there were.
#[inline(always)]
fn write_rows<const N: usize, const R: usize>(
    block: [[f32; N]; R],
    out: &mut [f32],
    width: usize,
    c: usize,
) -> usize {
    for (row, values) in out.chunks_exact_mut(width).zip(block) {
        row[c..c + N].copy_from_slice(&values);
    }
    N
}

/// Bytes as numbers of 32 bits.
#[inline(always)]
fn bytes<S: Simd>(_: S, bytes: &[u8], at: usize) -> S::u32s {
    let mut wide = [0u32; LANES];
    let wide = &mut wide[..S::U32_LANES];
    let bytes = &bytes[at..][..S::U32_LANES];
    wide.iter_mut()
        .zip(bytes)
        .for_each(|(wide, &byte)| *wide = u32::from(byte));
    S::as_simd_u32s(wide).0[0]
}

#[inline(always)]
fn set_bytes<S: Simd>(_: S, bytes: &mut [u8], at: usize, vector: S::u32s) {
    let mut wide = [0u32; LANES];
    let wide = &mut wide[..S::U32_LANES];
    S::as_mut_simd_u32s(wide).0[0] = vector;
    let bytes = &mut bytes[at..][..S::U32_LANES];
    bytes
        .iter_mut()
        .zip(wide)
        .for_each(|(byte, wide)| *byte = *wide as u8);
}

#[inline(always)]
fn block<T, const N: usize>(values: &[T], at: usize) -> &[T; N] {
    values[at..]
        .first_chunk()
        .expect("rows are whole blocks of channels")
}
