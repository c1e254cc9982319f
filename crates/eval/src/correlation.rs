//! How well predicted scores follow given ones.
//!
//! A list that is constant, too short or not finite has no correlation with anything: that is an error that says so, and
//! not 0.

use crate::error::{Error, Result};

fn check(predicted: &[f64], given: &[f64], at_least: usize) -> Result<()> {
    if predicted.len() != given.len() {
        return Err(Error::Lengths {
            left: "the predicted scores",
            left_length: predicted.len(),
            right: "the given scores",
            right_length: given.len(),
        });
    }
    if predicted.len() < at_least {
        return Err(Error::Undefined(format!(
            "it needs at least {at_least} pairs of scores; there are {}",
            predicted.len()
        )));
    }
    for (name, values) in [("predicted", predicted), ("given", given)] {
        let bad = values.iter().filter(|value| !value.is_finite()).count();
        if bad > 0 {
            return Err(Error::Undefined(format!(
                "{bad} of {} {name} scores are not finite",
                values.len()
            )));
        }
    }
    Ok(())
}

fn not_constant(predicted: &[f64], given: &[f64]) -> Result<()> {
    for (name, values) in [("predicted", predicted), ("given", given)] {
        if values.iter().all(|value| *value == values[0]) {
            return Err(Error::Undefined(format!(
                "all {name} scores are {}, and a constant correlates with nothing",
                values[0]
            )));
        }
    }
    Ok(())
}

/// Pearson's correlation: of the scores themselves, `Σ (x − x̄)(y − ȳ) / √(Σ (x − x̄)² Σ (y − ȳ)²)`.
///
/// # Errors
/// When it is undefined: fewer than two pairs, a constant list, a value that is not finite.
pub fn pearson(predicted: &[f64], given: &[f64]) -> Result<f64> {
    check(predicted, given, 2)?;
    not_constant(predicted, given)?;
    let deviations = |values: &[f64]| {
        // Divided by the largest, so that squares neither overflow nor vanish.
        let mean = values
            .iter()
            .map(|value| value / values.len() as f64)
            .sum::<f64>();
        let mut deviations: Vec<f64> = values.iter().map(|value| value - mean).collect();
        let largest = deviations
            .iter()
            .fold(0.0, |largest: f64, d| largest.max(d.abs()));
        deviations.iter_mut().for_each(|d| *d /= largest);
        deviations
    };
    let (x, y) = (deviations(predicted), deviations(given));
    let sum = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    Ok((sum(&x, &y) / (sum(&x, &x) * sum(&y, &y)).sqrt()).clamp(-1.0, 1.0))
}

/// Spearman's correlation: Pearson's of the ranks, where equal scores share the mean of their ranks.
///
/// # Errors
/// As [`pearson`].
pub fn spearman(predicted: &[f64], given: &[f64]) -> Result<f64> {
    check(predicted, given, 2)?;
    not_constant(predicted, given)?;
    pearson(&mid_ranks(predicted), &mid_ranks(given))
}

/// The rank of each value from 1 on, ascending; equal values share the mean of their ranks.
pub fn mid_ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| values[a].total_cmp(&values[b]));
    let mut ranks = vec![0.0; values.len()];
    let mut start = 0;
    while start < order.len() {
        let value = values[order[start]];
        let equal = order[start..]
            .iter()
            .take_while(|&&i| values[i] == value)
            .count()
            .max(1);
        for &index in &order[start..start + equal] {
            ranks[index] = start as f64 + (equal + 1) as f64 / 2.0;
        }
        start += equal;
    }
    ranks
}

/// Kendall's τ-b: pairs in the same order less pairs in the other, over `√((n₀ − ties of x) (n₀ − ties of y))`, in
/// `O(n log n)` (Knight 1966).
///
/// # Errors
/// As [`pearson`].
pub fn kendall(predicted: &[f64], given: &[f64]) -> Result<f64> {
    check(predicted, given, 2)?;
    not_constant(predicted, given)?;
    let n = predicted.len();
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by(|&a, &b| {
        // −0 and 0 are equal here.
        (predicted[a] + 0.0)
            .total_cmp(&(predicted[b] + 0.0))
            .then((given[a] + 0.0).total_cmp(&(given[b] + 0.0)))
    });
    let pairs = |count: usize| count as f64 * (count as f64 - 1.0) / 2.0;
    let ties = |same: &dyn Fn(usize, usize) -> bool, order: &[usize]| {
        order
            .chunk_by(|&a, &b| same(a, b))
            .map(|group| pairs(group.len()))
            .sum::<f64>()
    };
    let ties_x = ties(&|a, b| predicted[a] == predicted[b], &order);
    let ties_both = ties(
        &|a, b| predicted[a] == predicted[b] && given[a] == given[b],
        &order,
    );
    let mut y: Vec<f64> = order.iter().map(|&index| given[index] + 0.0).collect();
    let swaps = sort_counting(&mut y);
    let ties_y: f64 = y
        .chunk_by(|a, b| a == b)
        .map(|group| pairs(group.len()))
        .sum();
    let all = pairs(n);
    let difference = all - ties_x - ties_y + ties_both - 2.0 * swaps as f64;
    Ok((difference / (all - ties_x).sqrt() / (all - ties_y).sqrt()).clamp(-1.0, 1.0))
}

/// Sorts by merging; gives the number of pairs that were in the wrong order.
fn sort_counting(values: &mut [f64]) -> u64 {
    if values.len() < 2 {
        return 0;
    }
    let half = values.len() / 2;
    let mut swaps = sort_counting(&mut values[..half]) + sort_counting(&mut values[half..]);
    let mut merged = Vec::with_capacity(values.len());
    let (mut left, mut right) = values.split_at(half);
    while let (Some(l), Some(r)) = (left.first(), right.first()) {
        if l <= r {
            merged.push(*l);
            left = &left[1..];
        } else {
            swaps += left.len() as u64;
            merged.push(*r);
            right = &right[1..];
        }
    }
    merged.extend_from_slice(left);
    merged.extend_from_slice(right);
    values.copy_from_slice(&merged);
    swaps
}

/// The mean of `(x − y)²`.
///
/// # Errors
/// When there are no pairs, or a value is not finite.
pub fn mean_squared_error(predicted: &[f64], given: &[f64]) -> Result<f64> {
    check(predicted, given, 1)?;
    let squares = predicted.iter().zip(given).map(|(x, y)| (x - y) * (x - y));
    Ok(squares.sum::<f64>() / predicted.len() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn on_paper() {
        let (x, y) = ([1.0, 2.0, 3.0, 4.0], [1.0, 3.0, 2.0, 4.0]);
        assert!((pearson(&x, &y).unwrap() - 0.8).abs() < 1e-12);
        assert!((spearman(&x, &y).unwrap() - 0.8).abs() < 1e-12);
        assert!((kendall(&x, &y).unwrap() - 4.0 / 6.0).abs() < 1e-12); // Five pairs agree, one does not.
        assert_eq!(mean_squared_error(&x, &y).unwrap(), 0.5);
        assert_eq!(mid_ranks(&[3.0, 1.0, 3.0]), [2.5, 1.0, 2.5]);
        // τ-b with ties: x = 1 1 2, y = 1 2 3 has two pairs of three, over √(2 · 3).
        assert!(
            (kendall(&[1.0, 1.0, 2.0], &[1.0, 2.0, 3.0]).unwrap() - 2.0 / 6f64.sqrt()).abs()
                < 1e-12
        );
    }

    #[test]
    fn scores_do_not_depend_on_scale() {
        let y = [1.0, 3.0, 2.0, 4.0];
        for scale in [1e-200, 1e200] {
            let x = [1.0, 2.0, 3.0, 4.0].map(|x| x * scale);
            assert!((pearson(&x, &y).unwrap() - 0.8).abs() < 1e-12);
        }
    }

    #[test]
    fn a_constant_has_no_correlation() {
        for score in [pearson, spearman, kendall] {
            let error = score(&[1.0, 1.0], &[1.0, 2.0]).unwrap_err().to_string();
            assert_eq!(
                error,
                "all predicted scores are 1, and a constant correlates with nothing"
            );
            assert!(score(&[1.0], &[1.0]).is_err());
            assert!(score(&[1.0, f64::NAN], &[1.0, 2.0]).is_err());
            assert!(score(&[1.0, 2.0], &[1.0]).is_err());
        }
    }
}
