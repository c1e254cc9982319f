//! Which samples are trained on, and which are kept for looking.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A way to divide a data set that others use too.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Split {
    /// Its name, as in `data.omniglot = { split = "alphabets" }`. The first split of a data set is its standard one.
    pub name: String,
    /// What it is for, and where it is from.
    pub about: String,
    /// Samples to train on.
    pub train: Selection,
    /// Samples to choose settings by, if the split has them.
    #[serde(default)]
    pub validation: Option<Selection>,
    /// Samples to report on.
    pub test: Selection,
}

/// Some samples of a data set: those that meet every condition given. Without a condition it is all of them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Selection {
    /// Of one of these parts.
    pub parts: Option<Vec<String>>,
    /// Of one of these classes, by name.
    pub classes: Option<Vec<String>>,
    /// Whose class lies at a place `p` with `from · c ≤ p < to · c` among the `c` classes in the order of their names.
    /// Numbers order by value, and before words.
    pub classes_between: Option<[f64; 2]>,
    /// Whose fields (see [`Template`](crate::Template)) have one of these values.
    pub fields: BTreeMap<String, Vec<String>>,
    /// Whose place `p` among the `n` of its class, after they were shuffled by the run's seed, has
    /// `from · n ≤ p < to · n`. The same seed gives the same order to both sides of a split.
    pub rows_between: Option<[f64; 2]>,
}

impl Selection {
    /// Whether a sample is in by its part and fields, which is all that can be said before the classes are known.
    pub fn admits(&self, part: &str, fields: &BTreeMap<String, String>) -> bool {
        self.parts
            .as_ref()
            .is_none_or(|parts| parts.iter().any(|it| it == part))
            && self
                .fields
                .iter()
                .all(|(field, values)| fields.get(field).is_some_and(|it| values.contains(it)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_selection_is_the_samples_that_meet_every_condition() {
        let fields = BTreeMap::from([("index".to_owned(), "3".to_owned())]);
        assert!(Selection::default().admits("train", &fields));
        let selection: Selection =
            toml::from_str("parts = [\"train\"]\nfields.index = [\"3\", \"4\"]").expect("valid");
        assert!(selection.admits("train", &fields));
        assert!(!selection.admits("test", &fields));
        assert!(!selection.admits("train", &BTreeMap::new()));
        assert!(!selection.admits(
            "train",
            &BTreeMap::from([("index".to_owned(), "5".to_owned())])
        ));
    }
}
