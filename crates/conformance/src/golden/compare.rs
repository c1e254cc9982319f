//! When two arrays are equal.

use std::collections::BTreeMap;

use super::{Array, Numbers};

/// What may differ: `|got − want| ≤ absolute + relative · max |want|`, over all entries of a tensor.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tolerance {
    /// As a part of the largest entry.
    pub relative: f64,
    /// Besides.
    pub absolute: f64,
    /// Whether the inputs were rounded to f32.
    pub rounded: bool,
}

/// Sets the rows of an output that are 0 by our definition to 0 on both sides, and says the largest that ours was.
pub(super) fn ours_alone(
    got: &mut Array,
    want: &mut Array,
    rows: &BTreeMap<&'static str, Vec<bool>>,
    role: &str,
) -> Option<f64> {
    let rows = rows.get(role)?;
    let (Numbers::Real(got), Numbers::Real(want)) = (&mut got.numbers, &mut want.numbers) else {
        return None;
    };
    let width = got.len() / rows.len().max(1);
    let mut largest = 0f64;
    for (row, _) in rows.iter().enumerate().filter(|(_, zero)| **zero) {
        let places = row * width..(row + 1) * width;
        for ours in got.get_mut(places.clone()).into_iter().flatten() {
            largest = largest.max(ours.abs());
            *ours = 0.0;
        }
        for theirs in want.get_mut(places).into_iter().flatten() {
            *theirs = 0.0;
        }
    }
    Some(largest)
}

/// How the two differ beyond the tolerance, if they do.
pub(super) fn difference(got: &Array, want: &Array, tolerance: Tolerance) -> Option<String> {
    if got.len() != want.len() {
        return Some(format!("shape {:?}, want {:?}", got.shape, want.shape));
    }
    if let (Numbers::Whole(got), Numbers::Whole(want)) = (&got.numbers, &want.numbers) {
        let place = got.iter().zip(want).position(|(got, want)| got != want)?;
        return Some(format!("{} at {place}, want {}", got[place], want[place]));
    }
    let (got, want) = (got.to_real(), want.to_real());
    let largest = want
        .iter()
        .fold(0f64, |largest, value| largest.max(value.abs()));
    let allowed = tolerance.absolute + tolerance.relative * largest;
    let error = |place: usize| (got[place] - want[place]).abs();
    let worst = (0..got.len()).max_by(|&a, &b| error(a).total_cmp(&error(b)))?; // NaN is the largest.
    if error(worst) <= allowed {
        return None;
    }
    Some(format!(
        "{:e} at {worst}, want {:e}; they differ by {:.1e}, {allowed:.1e} is allowed",
        got[worst],
        want[worst],
        error(worst)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tolerance(relative: f64) -> Tolerance {
        Tolerance {
            relative,
            absolute: 0.0,
            rounded: false,
        }
    }

    #[test]
    fn arrays_are_compared_by_their_largest_entry_and_nan_is_never_equal() {
        let want = Array::real(&[2], vec![100.0, 1.0]);
        let near = Array::real(&[2], vec![100.0, 1.5]);
        assert_eq!(difference(&near, &want, tolerance(0.01)), None);
        assert!(difference(&near, &want, tolerance(0.001)).is_some());
        let nan = Array::real(&[2], vec![f64::NAN, 1.0]);
        assert!(difference(&nan, &want, tolerance(1.0)).is_some());
        assert!(difference(&Array::real(&[1], vec![100.0]), &want, tolerance(1.0)).is_some());
        let (one, two) = (Array::whole(&[1], vec![1]), Array::whole(&[1], vec![2]));
        assert!(
            difference(&one, &two, tolerance(1.0)).is_some(),
            "whole numbers are exact"
        );
    }

    #[test]
    fn rows_of_zeros_are_by_our_definition_and_do_not_hide_the_others() {
        let rows = BTreeMap::from([("grad", vec![false, true])]);
        let mut got = Array::real(&[2, 1], vec![1.0, 0.0]);
        let mut want = Array::real(&[2, 1], vec![1.1, 1e12]);
        assert_eq!(ours_alone(&mut got, &mut want, &rows, "grad"), Some(0.0));
        assert!(
            difference(&got, &want, tolerance(0.01)).is_some(),
            "1 is not 1.1"
        );
        assert_eq!(ours_alone(&mut got, &mut want, &rows, "loss"), None);
    }
}
