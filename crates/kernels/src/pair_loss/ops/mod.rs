//! What row functionals are made of: operations on the values of a row, with the instruction set of this processor.

mod bins;
mod ranks;

use pulp::{Simd, WithSimd};

pub use self::bins::Nodes;
pub use self::ranks::{rank_slopes, ranks};
use super::RowSum;
use crate::slices::{dispatch, exp, lease, multiply_add};

/// Positives above which sorting costs less than comparing every positive with every negative.
const MANY: usize = 400;

/// Replaces every value by `exp(scale · value + shift)` and gives their sum. Arguments are held between −87 and 88, so what is
/// far below is 1e-38 and not 0.
///
/// ```
/// let mut values = [0.0, 1.0, 2.0];
/// let sum = nearfar_kernels::rows::exp_sum(&mut values, 2.0, -4.0);
/// assert!((sum - ((-4f32).exp() + (-2f32).exp() + 1.0)).abs() < 1e-6);
/// assert!((values[2] - 1.0).abs() < 1e-6);
/// ```
pub fn exp_sum(values: &mut [f32], scale: f32, shift: f32) -> f32 {
    dispatch(ExpSum(values, scale, shift))
}

struct ExpSum<'a>(&'a mut [f32], f32, f32);

impl WithSimd for ExpSum<'_> {
    type Output = f32;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> f32 {
        let Self(values, scale, shift) = self;
        let (by, plus) = (simd.splat_f32s(scale), simd.splat_f32s(shift));
        let (vectors, rest) = S::as_mut_simd_f32s(values);
        let mut sums = [simd.splat_f32s(0.0); 2];
        let mut pairs = vectors.chunks_exact_mut(2);
        for pair in &mut pairs {
            for (x, sum) in pair.iter_mut().zip(&mut sums) {
                *x = exp(simd, multiply_add(simd, by, *x, plus));
                *sum = simd.add_f32s(*sum, *x);
            }
        }
        for x in pairs.into_remainder() {
            *x = exp(simd, multiply_add(simd, by, *x, plus));
            sums[0] = simd.add_f32s(sums[0], *x);
        }
        let mut sum = simd.reduce_sum_f32s(simd.add_f32s(sums[0], sums[1]));
        // The rest as one vector.
        let mut last = [0f32; 16];
        last[..rest.len()].copy_from_slice(rest);
        for x in S::as_mut_simd_f32s(&mut last).0.iter_mut().take(1) {
            *x = exp(simd, multiply_add(simd, by, *x, plus));
        }
        for (x, last) in rest.iter_mut().zip(last) {
            *x = last;
            sum += last;
        }
        sum
    }
}

/// The largest value; −∞ of none.
pub fn maximum(values: &[f32]) -> f32 {
    dispatch(Extreme::<true>(values))
}

/// The smallest value; ∞ of none.
pub fn minimum(values: &[f32]) -> f32 {
    dispatch(Extreme::<false>(values))
}

struct Extreme<'a, const MAX: bool>(&'a [f32]);

impl<const MAX: bool> WithSimd for Extreme<'_, MAX> {
    type Output = f32;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> f32 {
        let worst = if MAX {
            f32::NEG_INFINITY
        } else {
            f32::INFINITY
        };
        let better = |x: f32, y: f32| {
            if MAX { x.max(y) } else { x.min(y) }
        };
        let mut lanes = [worst; 16];
        let chunks = self.0.chunks_exact(16);
        let rest = chunks.remainder();
        for chunk in chunks {
            for (lane, &x) in lanes.iter_mut().zip(chunk) {
                *lane = better(*lane, x);
            }
        }
        let lanes = lanes.into_iter().chain(rest.iter().copied());
        lanes.fold(worst, better)
    }
}

/// Multiplies every value.
pub fn multiply(values: &mut [f32], by: f32) {
    dispatch(Multiply(values, by));
}

struct Multiply<'a>(&'a mut [f32], f32);

impl WithSimd for Multiply<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        self.0.iter_mut().for_each(|x| *x *= self.1);
    }
}

/// `Σ x y`.
pub fn product(x: &[f32], y: &[f32]) -> f32 {
    dispatch(Product(x, y))
}

struct Product<'a>(&'a [f32], &'a [f32]);

impl WithSimd for Product<'_> {
    type Output = f32;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> f32 {
        let mut sums = [0f32; 32];
        for (x, y) in self.0.chunks(32).zip(self.1.chunks(32)) {
            for ((sum, x), y) in sums.iter_mut().zip(x).zip(y) {
                *sum += x * y;
            }
        }
        sums.iter().sum()
    }
}

/// Adds `by · x` to every sum.
pub fn add_times(sums: &mut [f32], by: f32, x: &[f32]) {
    dispatch(AddTimes(sums, by, x));
}

struct AddTimes<'a>(&'a mut [f32], f32, &'a [f32]);

impl WithSimd for AddTimes<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        for (sum, x) in self.0.iter_mut().zip(self.2) {
            *sum += self.1 * x;
        }
    }
}

/// `log(1 + Σ exp(by (value − base)))` of the values of several slices, which become its slopes; 0 of no value.
///
/// ```
/// let mut values = [0.5, 0.5];
/// let sum = nearfar_kernels::rows::softplus_sum(&mut [&mut values], -2.0, 0.5);
/// assert!((sum - 3f32.ln()).abs() < 1e-6);
/// assert!((values[1] + 2.0 / 3.0).abs() < 1e-6);
/// ```
pub fn softplus_sum(slices: &mut [&mut [f32]], by: f32, base: f32) -> f32 {
    let sum = log_sum_exp(slices, by);
    if sum == f32::NEG_INFINITY {
        return 0.0;
    }
    let all = softplus(sum - by * base);
    for slice in slices {
        multiply(slice, by * all.slope);
    }
    all.value
}

/// `log Σ exp(scale · value)` of the values of several slices, which become `exp(scale · value − that)`: the shares of the
/// softmax. −∞ of no value.
///
/// ```
/// let (mut some, mut others) = ([1.0, 2.0], [3.0]);
/// let sum = nearfar_kernels::rows::log_sum_exp(&mut [&mut some, &mut others], 1.0);
/// let exact = (1f32.exp() + 2f32.exp() + 3f32.exp()).ln();
/// assert!((sum - exact).abs() < 1e-6);
/// assert!((others[0] - (3.0 - exact).exp()).abs() < 1e-6);
/// ```
pub fn log_sum_exp(slices: &mut [&mut [f32]], scale: f32) -> f32 {
    let extremes = slices.iter().map(|slice| {
        if scale >= 0.0 {
            scale * maximum(slice)
        } else {
            scale * minimum(slice)
        }
    });
    let largest = extremes.fold(f32::NEG_INFINITY, f32::max);
    if largest == f32::NEG_INFINITY {
        return largest;
    }
    let sum: f32 = slices
        .iter_mut()
        .map(|slice| exp_sum(slice, scale, -largest))
        .sum();
    for slice in slices {
        multiply(slice, 1.0 / sum);
    }
    largest + sum.ln()
}

/// The terms `max(0, p − n + margin)` of every positive `p` with every negative `n`, and their gradient: each value becomes the
/// number of terms that it is active in, negatives with a minus.
///
/// No term is listed: for few positives each negative is compared with all of them at once, for many both are sorted.
///
/// ```
/// let (mut positives, mut before, mut after) = ([1.0, 2.0], [1.75], [9.0]);
/// let sum = nearfar_kernels::rows::hinge_counts(&mut positives, [&mut before, &mut after], 0.25);
/// assert_eq!((sum.value, sum.terms, sum.active), (0.5, 4, 1)); // 2 − 1.75 + 0.25
/// assert_eq!((positives, before, after), ([0.0, 1.0], [-1.0], [0.0]));
/// ```
pub fn hinge_counts(positives: &mut [f32], negatives: [&mut [f32]; 2], margin: f32) -> RowSum {
    let [before, after] = negatives;
    let count = before.len() + after.len();
    let mut sum = RowSum {
        terms: positives.len() * count,
        ..RowSum::default()
    };
    if sum.terms == 0 {
        positives.fill(0.0);
        before.fill(0.0);
        after.fill(0.0);
        return sum;
    }
    let mut thresholds = lease(positives.len());
    for (threshold, positive) in thresholds.iter_mut().zip(&mut *positives) {
        *threshold = std::mem::take(positive) + margin;
    }
    let mut values = lease(count);
    let (values_before, values_after) = values.split_at_mut(before.len());
    for (values, negatives) in [
        (&mut *values_before, &mut *before),
        (&mut *values_after, &mut *after),
    ] {
        values.copy_from_slice(negatives);
        negatives.fill(0.0);
    }
    if positives.len() > MANY {
        sum.value = sorted(&thresholds, positives, &values, |place, weight| match place
            .checked_sub(before.len())
        {
            None => before[place] = weight,
            Some(place) => after[place] = weight,
        });
    } else {
        for (values, weights) in [(values_before, before), (values_after, after)] {
            sum.value += dispatch(Compare {
                thresholds: &thresholds,
                counts: positives,
                values,
                weights,
            });
        }
    }
    let active: f64 = positives.iter().map(|&count| f64::from(count)).sum();
    sum.active = active as usize;
    sum
}

/// Every negative with up to eight thresholds at a time.
struct Compare<'a> {
    thresholds: &'a [f32],
    counts: &'a mut [f32],
    values: &'a [f32],
    weights: &'a mut [f32],
}

impl WithSimd for Compare<'_> {
    type Output = f64;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> f64 {
        let mut total = 0.0;
        let (mut thresholds, mut counts) = (self.thresholds, self.counts);
        while !thresholds.is_empty() {
            let taken = thresholds.len().min(8);
            let (some, rest) = thresholds.split_at(taken);
            let (counted, others) = counts.split_at_mut(taken);
            let (values, weights) = (self.values, &mut *self.weights);
            total += match taken {
                1 => compare::<S, 1>(simd, some, counted, values, weights),
                2 => compare::<S, 2>(simd, some, counted, values, weights),
                3 | 4 => compare::<S, 4>(simd, some, counted, values, weights),
                _ => compare::<S, 8>(simd, some, counted, values, weights),
            };
            (thresholds, counts) = (rest, others);
        }
        total
    }
}

/// `P` thresholds at once, or fewer.
#[inline(always)]
fn compare<S: Simd, const P: usize>(
    simd: S,
    thresholds: &[f32],
    counts: &mut [f32],
    values: &[f32],
    weights: &mut [f32],
) -> f64 {
    let (zero, one) = (simd.splat_f32s(0.0), simd.splat_f32s(1.0));
    // Below a threshold of −∞ there is nothing.
    let mut wanted = [simd.splat_f32s(f32::NEG_INFINITY); P];
    for (wanted, &threshold) in wanted.iter_mut().zip(thresholds) {
        *wanted = simd.splat_f32s(threshold);
    }
    let mut counted = [zero; P];
    let mut total = [zero; P];
    let (vectors, rest) = S::as_simd_f32s(values);
    let (outs, out_rest) = S::as_mut_simd_f32s(weights);
    for (&value, out) in vectors.iter().zip(outs) {
        let mut weight = *out;
        for p in 0..P {
            let active = simd.less_than_f32s(value, wanted[p]);
            let by = simd.select_f32s(active, one, zero);
            counted[p] = simd.add_f32s(counted[p], by);
            weight = simd.sub_f32s(weight, by);
            let missed = simd.max_f32s(simd.sub_f32s(wanted[p], value), zero);
            total[p] = simd.add_f32s(total[p], missed);
        }
        *out = weight;
    }
    let mut sum = 0.0;
    for p in 0..thresholds.len() {
        counts[p] += simd.reduce_sum_f32s(counted[p]);
        sum += f64::from(simd.reduce_sum_f32s(total[p]));
        for (&value, out) in rest.iter().zip(&mut *out_rest) {
            if value < thresholds[p] {
                counts[p] += 1.0;
                *out -= 1.0;
                sum += f64::from(thresholds[p] - value);
            }
        }
    }
    sum
}

/// Both in order: a positive is active with all negatives before it.
fn sorted(
    thresholds: &[f32],
    counts: &mut [f32],
    values: &[f32],
    mut weigh: impl FnMut(usize, f32),
) -> f64 {
    let order = |values: &[f32]| -> Vec<u32> {
        let mut order: Vec<u32> = (0..values.len() as u32).collect();
        order.sort_unstable_by(|&a, &b| values[a as usize].total_cmp(&values[b as usize]));
        order
    };
    let (positives, negatives) = (order(thresholds), order(values));
    let (mut passed, mut below, mut total) = (0, 0.0, 0.0);
    for (rank, &positive) in positives.iter().enumerate() {
        let threshold = thresholds[positive as usize];
        while let Some(&negative) = negatives.get(passed) {
            let value = values[negative as usize];
            if value >= threshold {
                break;
            }
            // It is active with this positive and all after it.
            weigh(negative as usize, -((positives.len() - rank) as f32));
            below += f64::from(value);
            passed += 1;
        }
        counts[positive as usize] = passed as f32;
        total += passed as f64 * f64::from(threshold) - below;
    }
    total
}

/// A value with its slope.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sloped {
    /// The value.
    pub value: f32,
    /// Its derivative.
    pub slope: f32,
}

/// `log(1 + exp(z))`, also of ±∞.
///
/// ```
/// let half = nearfar_kernels::rows::softplus(0.0);
/// assert_eq!((half.value, half.slope), (2f32.ln(), 0.5));
/// assert_eq!(nearfar_kernels::rows::softplus(f32::NEG_INFINITY).slope, 0.0);
/// ```
pub fn softplus(z: f32) -> Sloped {
    Sloped {
        value: z.max(0.0) + (-z.abs()).exp().ln_1p(),
        slope: 1.0 / (1.0 + (-z).exp()),
    }
}

/// The terms `by · max(0, sign · (value − margin))`, whose slopes take the place of the values.
///
/// ```
/// let mut values = [0.5, 2.0];
/// let sum = nearfar_kernels::rows::hinge(&mut values, 1.0, -1.0, 1.0); // What is within 1.
/// assert_eq!((sum.value, sum.terms, sum.active, values), (0.5, 2, 1, [-1.0, 0.0]));
/// ```
pub fn hinge(values: &mut [f32], by: f32, sign: f32, margin: f32) -> RowSum {
    dispatch(Hinge::<false> {
        values,
        by,
        sign,
        margin,
    })
}

/// The terms `by · max(0, sign · (value − margin))²`, whose slopes take the place of the values.
pub fn squared_hinge(values: &mut [f32], by: f32, sign: f32, margin: f32) -> RowSum {
    dispatch(Hinge::<true> {
        values,
        by,
        sign,
        margin,
    })
}

struct Hinge<'a, const SQUARED: bool> {
    values: &'a mut [f32],
    by: f32,
    sign: f32,
    margin: f32,
}

impl<const SQUARED: bool> WithSimd for Hinge<'_, SQUARED> {
    type Output = RowSum;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> RowSum {
        let Self {
            values,
            by,
            sign,
            margin,
        } = self;
        let mut sum = RowSum {
            terms: values.len(),
            ..RowSum::default()
        };
        // Runs of sixteen are added up side by side in f32, and then in f64.
        for run in values.chunks_mut(1024) {
            let (mut totals, mut counts) = ([0f32; 16], [0u32; 16]);
            for some in run.chunks_mut(16) {
                for ((value, total), count) in some.iter_mut().zip(&mut totals).zip(&mut counts) {
                    let missed = (sign * (*value - margin)).max(0.0);
                    *count += u32::from(missed > 0.0);
                    if SQUARED {
                        *total += missed * missed;
                        *value = 2.0 * by * sign * missed;
                    } else {
                        *total += missed;
                        *value = if missed > 0.0 { by * sign } else { 0.0 };
                    }
                }
            }
            sum.value += f64::from(by) * totals.iter().map(|&x| f64::from(x)).sum::<f64>();
            sum.active += counts.iter().sum::<u32>() as usize;
        }
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_util::noise;

    fn numbers(n: usize, seed: u64) -> Vec<f32> {
        let tensor = noise(n, seed).and_then(|it| it.to_dtype(candle_core::DType::F32));
        tensor.and_then(|it| it.to_vec1()).expect("numbers")
    }

    #[test]
    fn counts_are_those_of_the_list_however_they_are_found() {
        for (positives, before, after) in [
            (1, 0, 5),
            (2, 40, 3),
            (7, 33, 90),
            (12, 5, 0),
            (450, 300, 217),
            (3, 0, 0),
        ] {
            let (p, b, a) = (numbers(positives, 1), numbers(before, 2), numbers(after, 3));
            let (mut counts, mut first, mut second) = (p.clone(), b.clone(), a.clone());
            let sum = hinge_counts(&mut counts, [&mut first, &mut second], 0.25);
            let mut wanted = (0f64, 0usize);
            let mut found = vec![0f32; positives];
            let mut pulls = vec![0f32; before + after];
            for (i, p) in p.iter().enumerate() {
                for (j, n) in b.iter().chain(&a).enumerate() {
                    if *n < p + 0.25 {
                        wanted.0 += f64::from(p + 0.25 - n);
                        wanted.1 += 1;
                        found[i] += 1.0;
                        pulls[j] -= 1.0;
                    }
                }
            }
            assert_eq!(sum.terms, positives * (before + after));
            assert_eq!(sum.active, wanted.1);
            assert!((sum.value - wanted.0).abs() <= 1e-5 * wanted.0.max(1.0));
            assert_eq!(counts, found);
            assert_eq!([first, second].concat(), pulls);
        }
    }

    #[test]
    fn exponentials_and_extremes_are_those_of_single_numbers() {
        let x = numbers(77, 4);
        let mut shares = x.clone();
        let sum = log_sum_exp(&mut [&mut shares[..30], &mut []], -3.0);
        let exact: f64 = x[..30].iter().map(|&x| (-3.0 * f64::from(x)).exp()).sum();
        assert!((f64::from(sum) - exact.ln()).abs() < 1e-5);
        assert!((shares[..30].iter().sum::<f32>() - 1.0).abs() < 1e-5);
        assert_eq!(
            maximum(&x),
            x.iter().copied().fold(f32::NEG_INFINITY, f32::max)
        );
        assert_eq!(minimum(&x), x.iter().copied().fold(f32::INFINITY, f32::min));
        assert_eq!(log_sum_exp(&mut [], 1.0), f32::NEG_INFINITY);
    }
}
