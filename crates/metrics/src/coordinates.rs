//! Sums over the coordinates of two rows.

use candle_core::{Result, Tensor};
use nearfar_core::shape;
use nearfar_kernels::{RowOf, RowPair, paired_rows, row_pairs};

/// How many sums run side by side, so that a processor can take several coordinates at once.
const LANES: usize = 8;

/// `Σ_k term(x_k, y_k)`, in one order whatever the processor.
#[inline(always)]
pub(crate) fn sum(x: &[f64], y: &[f64], term: impl Fn(f64, f64) -> f64) -> f64 {
    fold(x, y, |total, x, y| total + term(x, y), |a, b| a + b)
}

/// `max_k |x_k − y_k|`, and 0 of no coordinates.
#[inline(always)]
pub(crate) fn largest_difference(x: &[f64], y: &[f64]) -> f64 {
    let larger = |a: f64, b: f64| if b > a { b } else { a };
    fold(x, y, |largest, x, y| larger(largest, (x - y).abs()), larger)
}

#[inline(always)]
fn fold(
    x: &[f64],
    y: &[f64],
    add: impl Fn(f64, f64, f64) -> f64,
    join: impl Fn(f64, f64) -> f64,
) -> f64 {
    let mut lanes = [0.0; LANES];
    let (xs, ys) = (x.chunks_exact(LANES), y.chunks_exact(LANES));
    let (rest, other_rest) = (xs.remainder(), ys.remainder());
    for (x, y) in xs.zip(ys) {
        for k in 0..LANES {
            lanes[k] = add(lanes[k], x[k], y[k]);
        }
    }
    for (lane, (&x, &y)) in lanes.iter_mut().zip(rest.iter().zip(other_rest)) {
        *lane = add(*lane, x, y);
    }
    lanes.into_iter().reduce(join).unwrap_or(0.0)
}

/// The sign, and 0 of 0.
#[inline(always)]
pub(crate) fn sign(x: f64) -> f64 {
    if x > 0.0 {
        1.0
    } else if x < 0.0 {
        -1.0
    } else {
        0.0
    }
}

/// `(p − q) / (p + q)` of two numbers of 0 or more, and 0 of 0/0.
#[inline(always)]
pub(crate) fn share(p: f64, q: f64) -> f64 {
    let total = p + q;
    if total > 0.0 { (p - q) / total } else { 0.0 }
}

/// Adds `pull(x_k, y_k)` to every coordinate.
#[inline(always)]
pub(crate) fn add_to<K>(
    pulled: &mut [f64],
    x: RowOf<'_, K>,
    y: RowOf<'_, K>,
    pull: impl Fn(f64, f64) -> f64,
) {
    for ((pulled, &x), &y) in pulled.iter_mut().zip(x.numbers).zip(y.numbers) {
        *pulled += pull(x, y);
    }
}

/// The matrix of a function of two rows, with our messages.
pub(crate) fn matrix(function: &impl RowPair, x: &Tensor, y: &Tensor) -> Result<Tensor> {
    shape::rows_of_one_width(function.name(), ("x", x), ("y", y))?;
    row_pairs(x, y, function)
}

/// Its pairs.
pub(crate) fn paired(function: &impl RowPair, x: &Tensor, y: &Tensor) -> Result<Tensor> {
    shape::same(function.name(), ("x", x), ("y", y))?;
    shape::matrix(function.name(), ("x", x))?;
    paired_rows(x, y, function)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_coordinate_counts_once() {
        for d in [0, 1, 7, 8, 9, 30] {
            let x: Vec<f64> = (0..d).map(f64::from).collect();
            let zeros = vec![0.0; x.len()];
            assert_eq!(sum(&x, &zeros, |x, y| x - y), f64::from(d * (d - 1) / 2));
            assert_eq!(largest_difference(&zeros, &x), f64::from((d - 1).max(0)));
        }
    }
}
