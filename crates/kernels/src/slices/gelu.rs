//! The Gaussian error linear unit of vectors.

use std::f32::consts::FRAC_1_SQRT_2;

use pulp::{Simd, WithSimd};

use super::{dispatch, exp, multiply_add};

/// `y = x Φ(x)`
pub(crate) fn forward(x: &[f32], y: &mut [f32]) {
    dispatch(Forward { x, y });
}

/// `(Φ(x) + x φ(x)) g`
pub(crate) fn backward(x: &[f32], gradient: &[f32], pulled: &mut [f32]) {
    dispatch(Backward {
        x,
        gradient,
        pulled,
    });
}

/// `1 / √(2π)`
const HEIGHT: f32 = 0.398_942_3;

/// In the variable `t = 1 / (1 + 0.48 z)`, `e^(z²) erfc(z) / t` for `z ≥ 0`, the highest power first: a fit of least relative error,
/// a few units in the last place when it is computed in f32.
const SLOPE: f32 = 0.48;
const TAIL: [f32; 9] = [
    -0.051_555_056,
    0.276_863_04,
    -0.545_173_05,
    0.406_325_6,
    -0.090_180_14,
    0.231_189_47,
    0.229_994_97,
    0.271_764_34,
    0.270_770_85,
];

/// `Φ(x)`, the distribution of the standard normal, and `e^(−x²/2)`. The tails keep their digits: they are computed as such, and not as
/// what is missing to 1.
#[inline(always)]
fn normal<S: Simd>(simd: S, x: S::f32s) -> (S::f32s, S::f32s) {
    let number = |x: f32| simd.splat_f32s(x);
    let (zero, one) = (number(0.0), number(1.0));
    let z = simd.mul_f32s(simd.abs_f32s(x), number(FRAC_1_SQRT_2));
    let t = simd.div_f32s(one, multiply_add(simd, z, number(SLOPE), one));
    let mut fit = number(TAIL[0]);
    for coefficient in &TAIL[1..] {
        fit = multiply_add(simd, fit, t, number(*coefficient));
    }
    let half = simd.mul_f32s(simd.mul_f32s(x, x), number(-0.5));
    // Where the square overflows nothing is left; the exponential alone ends above zero.
    let is_there = simd.greater_than_f32s(half, number(-87.0));
    let density = simd.select_f32s(is_there, exp(simd, half), zero);
    let tail = simd.mul_f32s(simd.mul_f32s(fit, t), density);
    let tail = simd.mul_f32s(tail, number(0.5));
    let below = simd.less_than_f32s(x, zero);
    let distribution = simd.select_f32s(below, tail, simd.sub_f32s(one, tail));
    (distribution, density)
}

struct Forward<'a> {
    x: &'a [f32],
    y: &'a mut [f32],
}

impl WithSimd for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let (x, rest) = S::as_simd_f32s(self.x);
        let (y, last) = S::as_mut_simd_f32s(self.y);
        for (y, x) in y.iter_mut().zip(x) {
            *y = simd.mul_f32s(*x, normal(simd, *x).0);
        }
        let x = simd.partial_load_f32s(rest);
        simd.partial_store_f32s(last, simd.mul_f32s(x, normal(simd, x).0));
    }
}

struct Backward<'a> {
    x: &'a [f32],
    gradient: &'a [f32],
    pulled: &'a mut [f32],
}

impl WithSimd for Backward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let (x, rest) = S::as_simd_f32s(self.x);
        let (gradient, rest_of_gradient) = S::as_simd_f32s(self.gradient);
        let (pulled, last) = S::as_mut_simd_f32s(self.pulled);
        for ((pulled, x), gradient) in pulled.iter_mut().zip(x).zip(gradient) {
            *pulled = pull(simd, *x, *gradient);
        }
        let (x, gradient) = (
            simd.partial_load_f32s(rest),
            simd.partial_load_f32s(rest_of_gradient),
        );
        simd.partial_store_f32s(last, pull(simd, x, gradient));
    }
}

#[inline(always)]
fn pull<S: Simd>(simd: S, x: S::f32s, gradient: S::f32s) -> S::f32s {
    let (distribution, density) = normal(simd, x);
    let along = simd.mul_f32s(x, simd.splat_f32s(HEIGHT));
    let slope = multiply_add(simd, along, density, distribution);
    simd.mul_f32s(gradient, slope)
}
