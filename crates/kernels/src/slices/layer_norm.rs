//! Rows of mean 0 and variance 1, scaled and shifted by column.

use pulp::{Simd, WithSimd};

use super::{dispatch, multiply_add, set_vector, vector};

/// What rows go through: `y = w (x − mean) / √(variance + eps) + b`.
#[derive(Clone, Copy)]
pub(crate) struct Affine<'a> {
    /// A number for each column.
    pub(crate) weight: &'a [f32],
    /// The same, or none.
    pub(crate) bias: &'a [f32],
    pub(crate) eps: f64,
}

impl Affine<'_> {
    /// Whole rows of `x` to those of `y`.
    pub(crate) fn forward(self, x: &[f32], y: &mut [f32]) {
        dispatch(Forward { affine: self, x, y });
    }

    /// Writes the gradient of `x`, and adds up those of the weight and, where there is one, the bias.
    pub(crate) fn backward(
        self,
        x: &[f32],
        gradient: &[f32],
        pulled: &mut [f32],
        for_weight: &mut [f32],
        for_bias: &mut [f32],
    ) {
        dispatch(Backward {
            affine: self,
            x,
            gradient,
            pulled,
            for_weight,
            for_bias,
        });
    }
}

/// The mean of a row and `1 / √(variance + eps)`. The variance is that of what is left without the mean, so it keeps its digits
/// far from zero.
#[inline(always)]
fn moments<S: Simd>(simd: S, row: &[f32], eps: f64) -> (f32, f32) {
    let count = row.len() as f64;
    let (vectors, rest) = S::as_simd_f32s(row);
    let mut sum = simd.partial_load_f32s(rest);
    for x in vectors {
        sum = simd.add_f32s(sum, *x);
    }
    let mean = (f64::from(simd.reduce_sum_f32s(sum)) / count) as f32;
    let center = simd.splat_f32s(mean);
    let mut drift = simd.splat_f32s(0.0);
    let mut squares = drift;
    for x in vectors {
        let x = simd.sub_f32s(*x, center);
        drift = simd.add_f32s(drift, x);
        squares = multiply_add(simd, x, x, squares);
    }
    let (mut drift, mut squares) = (
        f64::from(simd.reduce_sum_f32s(drift)),
        f64::from(simd.reduce_sum_f32s(squares)),
    );
    for x in rest {
        let x = f64::from(*x - mean);
        drift += x;
        squares += x * x;
    }
    if !squares.is_finite() {
        return wide_moments(row, eps); // The squares may be too large for f32, and the row is not.
    }
    // What rounding left in the mean.
    let left = drift / count;
    let variance = (squares / count - left * left).max(0.0);
    (
        (f64::from(mean) + left) as f32,
        (1.0 / (variance + eps).sqrt()) as f32,
    )
}

/// The same in f64; NaN for a row that is not finite.
fn wide_moments(row: &[f32], eps: f64) -> (f32, f32) {
    let mean_of = |f: &dyn Fn(f64) -> f64| {
        row.iter().map(|x| f(f64::from(*x))).sum::<f64>() / row.len() as f64
    };
    let mean = mean_of(&|x| x);
    let variance = mean_of(&|x| (x - mean) * (x - mean));
    (mean as f32, (1.0 / (variance + eps).sqrt()) as f32)
}

struct Forward<'a> {
    affine: Affine<'a>,
    x: &'a [f32],
    y: &'a mut [f32],
}

impl WithSimd for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Affine { weight, bias, eps } = self.affine;
        let width = weight.len();
        let rows = self.x.chunks_exact(width);
        for (x, y) in rows.zip(self.y.chunks_exact_mut(width)) {
            let (mean, scale) = moments(simd, x, eps);
            let (center, factor) = (simd.splat_f32s(mean), simd.splat_f32s(scale));
            let whole = width / S::F32_LANES * S::F32_LANES;
            for at in (0..whole).step_by(S::F32_LANES) {
                let x = simd.sub_f32s(vector(simd, x, at), center);
                let x = simd.mul_f32s(x, factor);
                let w = vector(simd, weight, at);
                let value = if bias.is_empty() {
                    simd.mul_f32s(x, w)
                } else {
                    multiply_add(simd, x, w, vector(simd, bias, at))
                };
                set_vector(simd, y, at, value);
            }
            for at in whole..width {
                let b = bias.get(at).copied().unwrap_or(0.0);
                y[at] = (x[at] - mean) * scale * weight[at] + b;
            }
        }
    }
}

struct Backward<'a> {
    affine: Affine<'a>,
    x: &'a [f32],
    gradient: &'a [f32],
    pulled: &'a mut [f32],
    for_weight: &'a mut [f32],
    for_bias: &'a mut [f32],
}

impl WithSimd for Backward<'_> {
    type Output = ();

    /// With `u` the row at mean 0 and variance 1 and `h = w g`: `(h − mean of h − u · mean of h u) / √(variance + eps)`; what shifts
    /// the row and what scales it is divided out.
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self {
            affine: Affine { weight, bias, eps },
            x,
            gradient,
            pulled,
            for_weight,
            for_bias,
        } = self;
        let width = weight.len();
        let whole = width / S::F32_LANES * S::F32_LANES;
        let rows = x.chunks_exact(width).zip(gradient.chunks_exact(width));
        for ((x, g), pulled) in rows.zip(pulled.chunks_exact_mut(width)) {
            let (mean, scale) = moments(simd, x, eps);
            let (center, factor) = (simd.splat_f32s(mean), simd.splat_f32s(scale));
            let (mut level, mut along) = (simd.splat_f32s(0.0), simd.splat_f32s(0.0));
            for at in (0..whole).step_by(S::F32_LANES) {
                let u = simd.mul_f32s(simd.sub_f32s(vector(simd, x, at), center), factor);
                let g = vector(simd, g, at);
                let h = simd.mul_f32s(g, vector(simd, weight, at));
                level = simd.add_f32s(level, h);
                along = multiply_add(simd, h, u, along);
                let sum = multiply_add(simd, g, u, vector(simd, for_weight, at));
                set_vector(simd, for_weight, at, sum);
                if !bias.is_empty() {
                    let sum = simd.add_f32s(vector(simd, for_bias, at), g);
                    set_vector(simd, for_bias, at, sum);
                }
            }
            let (mut level, mut along) = (simd.reduce_sum_f32s(level), simd.reduce_sum_f32s(along));
            for at in whole..width {
                let u = (x[at] - mean) * scale;
                let h = g[at] * weight[at];
                level += h;
                along += h * u;
                for_weight[at] += g[at] * u;
                if !bias.is_empty() {
                    for_bias[at] += g[at];
                }
            }
            (level, along) = (level / width as f32, along / width as f32);
            let (shift, lean) = (simd.splat_f32s(level), simd.splat_f32s(along));
            for at in (0..whole).step_by(S::F32_LANES) {
                let u = simd.mul_f32s(simd.sub_f32s(vector(simd, x, at), center), factor);
                let h = simd.mul_f32s(vector(simd, g, at), vector(simd, weight, at));
                let left = simd.sub_f32s(simd.sub_f32s(h, shift), simd.mul_f32s(lean, u));
                set_vector(simd, pulled, at, simd.mul_f32s(left, factor));
            }
            for at in whole..width {
                let u = (x[at] - mean) * scale;
                pulled[at] = (g[at] * weight[at] - level - along * u) * scale;
            }
        }
    }
}
