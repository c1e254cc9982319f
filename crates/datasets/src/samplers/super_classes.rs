//! Classes of classes.

use std::collections::BTreeMap;

use super::Counts;
use crate::Error;

/// The classes of each super-class, by place, in the order of the super-classes' names.
///
/// By the lists of `groups`, or where there is none by what stands before the last `separator` in a class's name.
pub(super) fn super_classes(
    sampler: &str,
    groups: &BTreeMap<String, Vec<String>>,
    separator: &str,
    counts: &Counts<'_>,
    uses: impl Fn(usize) -> bool,
) -> Result<Vec<Vec<u32>>, Error> {
    let used = counts.counts.iter().filter(|(_, count)| uses(*count));
    let used: Vec<String> = used.map(|(label, _)| counts.name(*label)).collect();
    let mut found = BTreeMap::<&str, Vec<u32>>::new();
    if groups.is_empty() {
        for (class, name) in (0..).zip(&used) {
            let Some((group, _)) = name
                .rsplit_once(separator)
                .filter(|_| !separator.is_empty())
            else {
                return Err(Error::Settings(format!(
                    "`sampler.{sampler}` reads the super-class of a class before the last `{separator}` of its name, but the \
                     class `{name}` has none; list the classes of each super-class in `groups`"
                )));
            };
            found.entry(group).or_default().push(class);
        }
        return Ok(found.into_values().collect());
    }
    let mut of = BTreeMap::<&str, &str>::new();
    for (group, names) in groups {
        for name in names {
            if let Some(other) = of.insert(name, group) {
                return Err(Error::Settings(format!(
                    "`sampler.{sampler}.groups` has the class `{name}` in `{other}` and in `{group}`; leave it in one"
                )));
            }
        }
    }
    for (class, name) in (0..).zip(&used) {
        let Some(group) = of.get(name.as_str()) else {
            return Err(Error::Settings(format!(
                "`sampler.{sampler}.groups` has no super-class for the class `{name}`; add it to one"
            )));
        };
        found.entry(group).or_default().push(class);
    }
    Ok(found.into_values().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn super_classes_are_read_from_names_or_lists() {
        let names = ["b/x", "a/y", "b/z"].map(String::from);
        let counts = Counts::of(&[0, 1, 2, 2], &names);
        let none = BTreeMap::new();
        let of = |groups: &BTreeMap<_, _>, separator: &str| {
            super_classes("test", groups, separator, &counts, |_| true)
                .map_err(|error| error.to_string())
        };
        assert_eq!(of(&none, "/"), Ok(vec![vec![1], vec![0, 2]]));
        assert!(of(&none, ":").unwrap_err().contains("class `b/x` has none"));
        let list = |names: &[&str]| names.iter().map(|it| it.to_string()).collect::<Vec<_>>();
        let mut groups = BTreeMap::from([
            ("one".to_owned(), list(&["b/x", "a/y"])),
            ("two".to_owned(), list(&["b/z"])),
        ]);
        assert_eq!(of(&groups, "/"), Ok(vec![vec![0, 1], vec![2]]));
        groups.insert("three".into(), list(&["b/z"]));
        assert!(of(&groups, "/").unwrap_err().contains("leave it in one"));
        groups.remove("three");
        groups.remove("two");
        assert!(
            of(&groups, "/")
                .unwrap_err()
                .contains("no super-class for the class `b/z`")
        );
    }
}
