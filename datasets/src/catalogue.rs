//! The data sets that are known by name.

use std::path::PathBuf;

use crate::{DataSet, Error};

/// All data sets known by name.
///
/// ```
/// use nearfar_catalogue::Catalogue;
///
/// let catalogue = Catalogue::builtin();
/// assert_eq!(catalogue.get("mnist")?.samples, 70_000);
///
/// let error = catalogue.get("minst").unwrap_err();
/// assert_eq!(error.to_string(), "there is no data set `minst`; did you mean `mnist`?");
/// # Ok::<(), nearfar_catalogue::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Catalogue {
    sets: Vec<DataSet>,
}

/// The files of the catalogue by their names.
const BUILTIN: &[(&str, &str)] = &[
    ("clinc150", include_str!("../catalogue/clinc150.toml")),
    ("digits", include_str!("../catalogue/digits.toml")),
    (
        "fashion_mnist",
        include_str!("../catalogue/fashion_mnist.toml"),
    ),
    ("fsdd", include_str!("../catalogue/fsdd.toml")),
    ("isolet", include_str!("../catalogue/isolet.toml")),
    ("mnist", include_str!("../catalogue/mnist.toml")),
    ("omniglot", include_str!("../catalogue/omniglot.toml")),
    ("onet_titles", include_str!("../catalogue/onet_titles.toml")),
    ("orl", include_str!("../catalogue/orl.toml")),
    ("sick", include_str!("../catalogue/sick.toml")),
    (
        "stsbenchmark",
        include_str!("../catalogue/stsbenchmark.toml"),
    ),
    ("uci", include_str!("../catalogue/uci.toml")),
];

impl Catalogue {
    /// The catalogue that is compiled into this crate.
    pub fn builtin() -> Self {
        let read = |(name, text): &(&str, &str)| -> DataSet {
            toml::from_str(text).unwrap_or_else(|error| {
                panic!("catalogue/{name}.toml, tested to be valid: {error}")
            })
        };
        Self {
            sets: BUILTIN.iter().map(read).collect(),
        }
    }

    /// A catalogue of other data sets, ordered by name. Of two with one name the later stays.
    pub fn new(sets: impl IntoIterator<Item = DataSet>) -> Self {
        let by_name: std::collections::BTreeMap<_, _> =
            sets.into_iter().map(|it| (it.name.clone(), it)).collect();
        Self {
            sets: by_name.into_values().collect(),
        }
    }

    /// The data set of this name.
    ///
    /// # Errors
    /// [`Error::UnknownDataSet`], with the name that is most like it.
    pub fn get(&self, name: &str) -> Result<&DataSet, Error> {
        self.sets
            .iter()
            .find(|it| it.name == name)
            .ok_or_else(|| Error::UnknownDataSet {
                name: name.to_owned(),
                hint: nearest(name, self.names()).map(str::to_owned),
                known: self.names().map(str::to_owned).collect(),
            })
    }

    /// All data sets, by name.
    pub fn iter(&self) -> impl Iterator<Item = &DataSet> {
        self.sets.iter()
    }

    /// The names of all data sets, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.sets.iter().map(|it| it.name.as_str())
    }
}

/// The known name that is most like the given one, if one is like it at all.
fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let plain = |text: &str| text.to_lowercase().replace(['-', '_', ' '], "");
    let (distance, nearest) = known
        .map(|it| (strsim::osa_distance(&plain(name), &plain(it)), it))
        .min()?;
    (distance <= nearest.chars().count().div_ceil(3)).then_some(nearest)
}

/// The folder of data sets: what `NEARFAR_DATASETS` names, or else `data`. Not every set need be in it.
pub fn data_folder() -> PathBuf {
    match std::env::var_os("NEARFAR_DATASETS") {
        Some(folder) if !folder.is_empty() => folder.into(),
        _ => "data".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Layout, Split};

    #[test]
    fn every_set_is_valid_and_named_as_its_file() {
        for (name, text) in BUILTIN {
            let set: DataSet =
                toml::from_str(text).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!(set.name, *name);
        }
        let names: Vec<_> = BUILTIN.iter().map(|(name, _)| *name).collect();
        assert!(names.is_sorted());
    }

    #[test]
    fn layouts_name_files_and_splits_name_parts_that_exist() {
        for set in Catalogue::builtin().iter() {
            for file in set.layout.files() {
                let file = set
                    .file(file)
                    .unwrap_or_else(|| panic!("{}: no file {file}", set.name));
                assert!(
                    !file.optional,
                    "{}: {} is read, so it is not optional",
                    set.name, file.name
                );
            }
            let parts = set.layout.parts();
            assert!(!set.splits.is_empty(), "{}", set.name);
            for Split {
                name,
                train,
                validation,
                test,
                ..
            } in &set.splits
            {
                for selection in [Some(train), validation.as_ref(), Some(test)]
                    .into_iter()
                    .flatten()
                {
                    for part in selection.parts.iter().flatten() {
                        assert!(
                            parts.contains(&part.as_str()),
                            "{}, {name}: no part {part} in {parts:?}",
                            set.name
                        );
                    }
                    for [from, to] in [selection.rows_between, selection.classes_between]
                        .into_iter()
                        .flatten()
                    {
                        assert!(
                            0.0 <= from && from < to && to <= 1.0,
                            "{}, {name}",
                            set.name
                        );
                    }
                    if let Layout::Images { parts, .. } | Layout::Wav { parts, .. } = &set.layout {
                        for field in selection.fields.keys() {
                            let known = |it: &crate::ArchivePart| {
                                it.members.field_names().any(|it| it == field)
                            };
                            assert!(
                                parts.iter().all(known),
                                "{}, {name}: no field {field}",
                                set.name
                            );
                        }
                    }
                }
            }
            if let Layout::Images { parts, class, .. } | Layout::Wav { parts, class, .. } =
                &set.layout
            {
                for (part, field) in parts
                    .iter()
                    .flat_map(|part| class.iter().map(move |field| (part, field)))
                {
                    assert!(
                        part.members.field_names().any(|it| it == field),
                        "{}: no field {field}",
                        set.name
                    );
                }
            }
        }
    }

    #[test]
    fn files_have_plain_names_and_secure_addresses() {
        for set in Catalogue::builtin().iter() {
            for file in &set.files {
                assert_eq!(
                    crate::archive::normalize(&file.name).as_deref(),
                    Ok(file.name.as_str())
                );
                assert!(
                    !file.name.contains('/') && !file.name.ends_with(".part"),
                    "{}",
                    file.name
                );
                assert!(file.bytes > 0);
                for url in file.urls.iter().chain(file.pack.iter().map(|it| &it.url)) {
                    assert!(url.starts_with("https://"), "{}: {url}", set.name);
                }
                for piece in &file.pack {
                    assert_eq!(
                        crate::archive::normalize(&piece.member).as_deref(),
                        Ok(piece.member.as_str())
                    );
                }
                // Bytes packed on another machine are known by their content only.
                assert!(
                    file.pack.is_empty() || file.content.is_some(),
                    "{}: {}",
                    set.name,
                    file.name
                );
            }
        }
    }

    #[test]
    fn a_mistyped_name_is_answered_with_the_nearest() {
        let catalogue = Catalogue::builtin();
        for (wrong, right) in [
            ("minst", "mnist"),
            ("Fashion-MNIST", "fashion_mnist"),
            ("omnigolt", "omniglot"),
            ("sts_benchmark", "stsbenchmark"),
        ] {
            match catalogue.get(wrong) {
                Err(Error::UnknownDataSet {
                    hint: Some(hint), ..
                }) => assert_eq!(hint, right),
                other => panic!("{wrong}: {other:?}"),
            }
        }
        let error = catalogue.get("imagenet").expect_err("not here").to_string();
        assert!(
            error.starts_with("there is no data set `imagenet`; known are `clinc150`, "),
            "{error}"
        );
    }
}
