//! Smooth ranks of some values of a row among others.

use pulp::{Simd, WithSimd};

use crate::slices::{dispatch, exp};

/// Adds to the rank of each item how many of the values are before it: `Σ_j 1 / (1 + exp(by (item − value_j)))`, `by > 0`.
///
/// ```
/// let mut ranks = [0.0, 0.0];
/// nearfar_kernels::rows::ranks(&[1.0, 3.0], &[2.0, 9.0], 100.0, &mut ranks);
/// assert_eq!(ranks, [2.0, 1.0]);
/// ```
pub fn ranks(items: &[f32], values: &[f32], by: f32, ranks: &mut [f32]) {
    dispatch(Ranking {
        items,
        values,
        by,
        ranks,
    });
}

/// Adds the derivatives of `Σ_i weights_i · rank_i`, see [`ranks`](fn@ranks), by items and by values.
///
/// ```
/// let (mut to_items, mut to_values) = ([0.0], [0.0]);
/// nearfar_kernels::rows::rank_slopes(&[1.0], &[1.0], 2.0, &[3.0], &mut to_items, &mut to_values);
/// assert_eq!((to_items, to_values), ([-1.5], [1.5])); // 3 · 2 · ¼
/// ```
pub fn rank_slopes(
    items: &[f32],
    values: &[f32],
    by: f32,
    weights: &[f32],
    to_items: &mut [f32],
    to_values: &mut [f32],
) {
    dispatch(Sloping {
        items,
        values,
        by,
        weights,
        to_items,
        to_values,
    });
}

/// What is before nothing.
const LAST: f32 = -1e30;
/// Values that fill whole vectors of any processor.
const RUN: usize = 16;

/// How much of each value is before the item.
#[inline(always)]
fn before<S: Simd>(simd: S, value: S::f32s, item: S::f32s, by: S::f32s) -> S::f32s {
    let one = simd.splat_f32s(1.0);
    let ahead = simd.mul_f32s(by, simd.sub_f32s(item, value));
    simd.div_f32s(one, simd.add_f32s(one, exp(simd, ahead)))
}

/// The values that fill no vector, with others that are before nothing.
#[inline(always)]
fn filled(rest: &[f32]) -> [f32; RUN] {
    let mut last = [LAST; RUN];
    last[..rest.len()].copy_from_slice(rest);
    last
}

struct Ranking<'a> {
    items: &'a [f32],
    values: &'a [f32],
    by: f32,
    ranks: &'a mut [f32],
}

impl WithSimd for Ranking<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let (vectors, rest) = S::as_simd_f32s(self.values);
        let last = filled(rest);
        let last = S::as_simd_f32s(&last).0;
        let by = simd.splat_f32s(self.by);
        for (&item, rank) in self.items.iter().zip(self.ranks) {
            let item = simd.splat_f32s(item);
            let mut sum = simd.splat_f32s(0.0);
            for &value in vectors.iter().chain(last) {
                sum = simd.add_f32s(sum, before(simd, value, item, by));
            }
            *rank += simd.reduce_sum_f32s(sum);
        }
    }
}

struct Sloping<'a> {
    items: &'a [f32],
    values: &'a [f32],
    by: f32,
    weights: &'a [f32],
    to_items: &'a mut [f32],
    to_values: &'a mut [f32],
}

impl WithSimd for Sloping<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let (vectors, rest) = S::as_simd_f32s(self.values);
        let (outs, out_rest) = S::as_mut_simd_f32s(self.to_values);
        let last = filled(rest);
        let last = S::as_simd_f32s(&last).0;
        let mut last_out = [0f32; RUN];
        last_out[..out_rest.len()].copy_from_slice(out_rest);
        let last_outs = S::as_mut_simd_f32s(&mut last_out).0;
        let (by, one) = (simd.splat_f32s(self.by), simd.splat_f32s(1.0));
        let items = self.items.iter().zip(self.weights).zip(self.to_items);
        for ((&item, &weight), to_item) in items {
            let (item, weight) = (simd.splat_f32s(item), simd.splat_f32s(weight * self.by));
            let mut sum = simd.splat_f32s(0.0);
            let all = vectors.iter().chain(last);
            for (&value, out) in all.zip(outs.iter_mut().chain(&mut *last_outs)) {
                let before = before(simd, value, item, by);
                let slope = simd.mul_f32s(before, simd.sub_f32s(one, before));
                let slope = simd.mul_f32s(weight, slope);
                *out = simd.add_f32s(*out, slope);
                sum = simd.add_f32s(sum, slope);
            }
            *to_item -= simd.reduce_sum_f32s(sum);
        }
        out_rest.copy_from_slice(&last_out[..out_rest.len()]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_and_their_slopes_are_those_of_single_numbers() {
        let items = [0.3f32, -0.2, 0.9];
        let values: Vec<f32> = (0..37).map(|it| (it as f32 * 0.7).sin()).collect();
        let (by, weights) = (3.0f32, [1.0f32, -2.0, 0.5]);
        let mut found = [0f32; 3];
        ranks(&items, &values, by, &mut found);
        let (mut to_items, mut to_values) = ([0f32; 3], vec![0f32; values.len()]);
        rank_slopes(&items, &values, by, &weights, &mut to_items, &mut to_values);
        let share = |item: f32, value: f32| 1.0 / (1.0 + (by * (item - value)).exp());
        for (i, &item) in items.iter().enumerate() {
            let rank: f32 = values.iter().map(|&value| share(item, value)).sum();
            assert!((found[i] - rank).abs() < 1e-4);
            let slopes = values.iter().map(|&value| {
                let share = share(item, value);
                weights[i] * by * share * (1.0 - share)
            });
            assert!((to_items[i] + slopes.sum::<f32>()).abs() < 1e-4);
        }
        for (&value, &found) in values.iter().zip(&to_values) {
            let slopes = items.iter().zip(weights).map(|(&item, weight)| {
                let share = share(item, value);
                weight * by * share * (1.0 - share)
            });
            assert!((found - slopes.sum::<f32>()).abs() < 1e-5);
        }
    }
}
