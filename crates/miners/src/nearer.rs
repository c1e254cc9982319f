//! The nearest and the farthest of some candidates.

use nearfar_core::Candidate;

/// The nearest; of several the first, as in torch. A distance that is not a number is farther than any.
pub(crate) fn nearest(candidates: impl Iterator<Item = Candidate>) -> Option<Candidate> {
    candidates.reduce(|nearest, other| {
        if nearer(other.distance, nearest.distance) {
            other
        } else {
            nearest
        }
    })
}

/// The farthest; of several the first.
pub(crate) fn farthest(candidates: impl Iterator<Item = Candidate>) -> Option<Candidate> {
    candidates.reduce(|farthest, other| {
        if nearer(farthest.distance, other.distance) {
            other
        } else {
            farthest
        }
    })
}

/// Whether one distance is nearer than another. Not `total_cmp`, which orders −0 before 0: a similarity of 0 is a distance of −0.
pub(crate) fn nearer(one: f64, other: f64) -> bool {
    one < other || (other.is_nan() && !one.is_nan())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_equals_is_taken_and_nan_is_far() {
        let of = |distances: &[f64]| {
            let candidates = (0..)
                .zip(distances)
                .map(|(index, &distance)| Candidate { index, distance });
            let index = |found: Option<Candidate>| found.map(|it| it.index);
            (
                index(nearest(candidates.clone())),
                index(farthest(candidates)),
            )
        };
        assert_eq!(of(&[2.0, 1.0, 1.0, 2.0]), (Some(1), Some(0)));
        assert_eq!(of(&[0.0, -0.0]), (Some(0), Some(0)));
        assert_eq!(of(&[f64::NAN, 3.0]), (Some(1), Some(0)));
        assert_eq!(of(&[]), (None, None));
    }
}
