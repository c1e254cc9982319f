//! The exponential function of vectors, and what is made of it.

use pulp::Simd;

use super::multiply_add;

/// e^x, NaN of NaN, after the Cephes library: x = n log 2 + r, a polynomial for e^r, and n added to the exponent's bits. Rounded by
/// adding 1.5 · 2²³, for want of conversions between vectors of numbers and of integers.
#[inline(always)]
pub(crate) fn exp<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    let number = |x: f32| simd.splat_f32s(x);
    let given = x;
    let x = simd.min_f32s(simd.max_f32s(x, number(-87.3)), number(88.3));
    let shifted = multiply_add(
        simd,
        x,
        number(std::f32::consts::LOG2_E),
        number(12_582_912.0),
    );
    let n = simd.sub_f32s(shifted, number(12_582_912.0));
    let r = multiply_add(simd, n, number(-0.693_359_4), x);
    let r = multiply_add(simd, n, number(2.121_944_4e-4), r);
    let mut p = number(1.987_569_1e-4);
    for c in [
        1.398_2e-3,
        8.333_452e-3,
        4.166_579_6e-2,
        1.666_666_5e-1,
        5.0e-1,
    ] {
        p = multiply_add(simd, p, r, number(c));
    }
    let y = simd.add_f32s(multiply_add(simd, p, simd.mul_f32s(r, r), r), number(1.0));
    let n = simd.wrapping_dyn_shl_u32s(simd.transmute_u32s_f32s(shifted), simd.splat_u32s(23));
    let y = simd.transmute_f32s_u32s(simd.add_u32s(simd.transmute_u32s_f32s(y), n));
    // The bounds have made a number of NaN.
    simd.select_f32s(simd.equal_f32s(given, given), y, given)
}

/// `1 / (1 + e^−x)`
#[inline(always)]
pub(crate) fn sigmoid<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    let one = simd.splat_f32s(1.0);
    simd.div_f32s(one, simd.add_f32s(one, exp(simd, simd.neg_f32s(x))))
}

/// The hyperbolic tangent.
#[inline(always)]
pub(crate) fn tanh<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    let one = simd.splat_f32s(1.0);
    let e = exp(simd, simd.add_f32s(x, x));
    simd.sub_f32s(
        one,
        simd.div_f32s(simd.splat_f32s(2.0), simd.add_f32s(one, e)),
    )
}
