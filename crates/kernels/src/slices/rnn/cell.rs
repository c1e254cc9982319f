//! One event: its nonlinearities, there and back.

use pulp::Simd;

use crate::slices::{multiply_add, sigmoid, tanh};

/// One event: sums to gates, old cell to new cell and output.
#[inline(always)]
pub(super) fn cell<S: Simd>(
    simd: S,
    gates: &mut [f32],
    bias: &[f32],
    old_cell: &[f32],
    tanhs: &mut [f32],
    new_cell: &mut [f32],
    new_output: &mut [f32],
) {
    let [i, f, g, o] = four::<S>(gates);
    let vectors = i.len();
    let bias = S::as_simd_f32s(bias).0;
    let old = &S::as_simd_f32s(old_cell).0[..vectors];
    let tanhs = &mut S::as_mut_simd_f32s(tanhs).0[..vectors];
    let new = &mut S::as_mut_simd_f32s(new_cell).0[..vectors];
    let out = &mut S::as_mut_simd_f32s(new_output).0[..vectors];
    let (bi, bf) = (&bias[..vectors], &bias[vectors..][..vectors]);
    let (bg, bo) = (
        &bias[2 * vectors..][..vectors],
        &bias[3 * vectors..][..vectors],
    );
    for v in 0..vectors {
        i[v] = sigmoid(simd, simd.add_f32s(i[v], bi[v]));
        f[v] = sigmoid(simd, simd.add_f32s(f[v], bf[v]));
        g[v] = tanh(simd, simd.add_f32s(g[v], bg[v]));
        o[v] = sigmoid(simd, simd.add_f32s(o[v], bo[v]));
        new[v] = multiply_add(simd, f[v], old[v], simd.mul_f32s(i[v], g[v]));
        tanhs[v] = tanh(simd, new[v]);
        out[v] = simd.mul_f32s(o[v], tanhs[v]);
    }
}

/// One event backward: gates become the gradients of their sums, and the gradient of the new cell, as later events see it,
/// becomes that of the old one.
#[inline(always)]
pub(super) fn uncell<S: Simd>(
    simd: S,
    gates: &mut [f32],
    old_cell: &[f32],
    tanhs: &[f32],
    to_output: &[f32],
    to_cell: &mut [f32],
) {
    let one = simd.splat_f32s(1.0);
    let [i, f, g, o] = four::<S>(gates);
    let vectors = i.len();
    let old = &S::as_simd_f32s(old_cell).0[..vectors];
    let tanhs = &S::as_simd_f32s(tanhs).0[..vectors];
    let to_output = &S::as_simd_f32s(to_output).0[..vectors];
    let to_cell = &mut S::as_mut_simd_f32s(to_cell).0[..vectors];
    let mul = |x, y| simd.mul_f32s(x, y);
    // The slopes of the logistic function and of tanh at their values.
    let logistic = |y| simd.mul_f32s(y, simd.sub_f32s(one, y));
    let hyperbolic = |y| simd.sub_f32s(one, simd.mul_f32s(y, y));
    for v in 0..vectors {
        let (iv, fv, gv, ov, out) = (i[v], f[v], g[v], o[v], to_output[v]);
        let cell = multiply_add(simd, mul(out, ov), hyperbolic(tanhs[v]), to_cell[v]);
        o[v] = mul(mul(out, tanhs[v]), logistic(ov));
        i[v] = mul(mul(cell, gv), logistic(iv));
        g[v] = mul(mul(cell, iv), hyperbolic(gv));
        f[v] = mul(mul(cell, old[v]), logistic(fv));
        to_cell[v] = mul(cell, fv);
    }
}

/// The four gates as vectors.
#[inline(always)]
fn four<S: Simd>(gates: &mut [f32]) -> [&mut [S::f32s]; 4] {
    let vectors = S::as_mut_simd_f32s(gates).0;
    let gate = vectors.len() / 4;
    let (i, rest) = vectors.split_at_mut(gate);
    let (f, rest) = rest.split_at_mut(gate);
    let (g, o) = rest.split_at_mut(gate);
    [i, f, g, &mut o[..gate]]
}

#[cfg(test)]
mod tests {
    use pulp::WithSimd;

    use super::*;
    use crate::slices::dispatch;

    struct Nonlinear<'a>(&'a mut [f32], bool);

    impl WithSimd for Nonlinear<'_> {
        type Output = ();

        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) {
            let (vectors, _) = S::as_mut_simd_f32s(self.0);
            for x in vectors {
                *x = if self.1 {
                    tanh(simd, *x)
                } else {
                    sigmoid(simd, *x)
                };
            }
        }
    }

    #[test]
    fn nonlinearities_are_right_to_two_units_in_the_last_place_of_one() {
        let x: Vec<f32> = (0..4096).map(|i| (i as f32 - 2048.0) / 20.0).collect();
        for (is_tanh, exact) in [
            (true, f64::tanh as fn(f64) -> f64),
            (false, |x| 1.0 / (1.0 + (-x).exp())),
        ] {
            let mut y = x.clone();
            dispatch(Nonlinear(&mut y, is_tanh));
            for (&x, &y) in x.iter().zip(&y) {
                assert!(
                    (f64::from(y) - exact(f64::from(x))).abs() < 2.4e-7,
                    "at {x}: {y}"
                );
            }
        }
    }
}
