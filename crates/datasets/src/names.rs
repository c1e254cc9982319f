//! Names of classes and columns: their order, and the one that was meant.

use std::cmp::Ordering;

/// Numbers by value and before words, words by their bytes: the order of classes everywhere.
pub(crate) fn order(a: &str, b: &str) -> Ordering {
    match (number(a), number(b)) {
        (Some(x), Some(y)) => x.total_cmp(&y).then_with(|| a.cmp(b)),
        (Some(_), None) => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
        (None, None) => a.cmp(b),
    }
}

/// A name that is a plain number; `nan` and `inf` are words.
fn number(text: &str) -> Option<f64> {
    text.parse().ok().filter(|value: &f64| value.is_finite())
}

/// The known name that is most like the given one, if one is like it at all.
pub(crate) fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let plain = |text: &str| text.to_lowercase().replace(['-', '_', ' '], "");
    let wanted = plain(name);
    let (distance, nearest) = known
        .map(|it| (strsim::osa_distance(&wanted, &plain(it)), it))
        .min()?;
    (distance <= nearest.chars().count() / 3).then_some(nearest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_order_by_value_and_before_words() {
        let mut names = ["b", "10", "a", "9.", "-1", "nan"];
        names.sort_by(|a, b| order(a, b));
        assert_eq!(names, ["-1", "9.", "10", "a", "b", "nan"]);
    }

    #[test]
    fn the_nearest_name_is_found_or_none() {
        let known = ["label", "path", "split"];
        assert_eq!(nearest("lable", known.into_iter()), Some("label"));
        assert_eq!(nearest("Path", known.into_iter()), Some("path"));
        assert_eq!(nearest("category", known.into_iter()), None);
    }
}
