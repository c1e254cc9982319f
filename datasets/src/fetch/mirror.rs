//! Copies of data sets in a folder or at an address.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use serde::Deserialize;

use super::{Error, Options, address, http};
use crate::{DataSet, archive};

/// Bytes an index may have.
const INDEX_LIMIT: u64 = 4 << 20;

/// A mirror: `<set>/<file>` for each file, and an optional `INDEX.toml` that says what is there.
///
/// The index is a list of `[[dataset]]` with a `name` and `[[dataset.files]]` of `path` and `bytes`; other keys are for
/// people. It says where a file lies and how large it is; whether it is right, the catalogue says.
pub(super) struct Mirror {
    root: Root,
    index: Option<Index>,
}

enum Root {
    Folder(PathBuf),
    Address(String),
}

/// Where a mirror has a file.
pub(super) enum Place {
    Path(PathBuf),
    Address(String),
}

/// Set → file name → what the index says.
type Index = BTreeMap<String, BTreeMap<String, Entry>>;

#[derive(Clone, Debug, Deserialize)]
struct Entry {
    path: String,
    bytes: Option<u64>,
}

#[derive(Deserialize)]
struct IndexFile {
    #[serde(default)]
    dataset: Vec<IndexSet>,
}

#[derive(Deserialize)]
struct IndexSet {
    name: String,
    #[serde(default)]
    files: Vec<Entry>,
}

impl Mirror {
    pub(super) fn folder(root: &Path) -> Result<Self, Error> {
        if !root.is_dir() {
            return Err(Error::NoMirror {
                folder: root.display().to_string(),
            });
        }
        let path = root.join("INDEX.toml");
        let label = path.display().to_string();
        let index = match fs::read_to_string(&path) {
            Ok(text) => Some(parse(&text, label)?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(source) => {
                return Err(Error::Io {
                    action: "read",
                    path: label,
                    source,
                });
            }
        };
        Ok(Self {
            root: Root::Folder(root.to_owned()),
            index,
        })
    }

    pub(super) fn address(root: &str, options: &Options) -> Result<Self, Error> {
        let root = root.trim_end_matches('/').to_owned();
        let label = format!("{root}/INDEX.toml");
        let index = match http::text(&label, INDEX_LIMIT, options)? {
            Some(text) => Some(parse(&text, label)?),
            None => None,
        };
        Ok(Self {
            root: Root::Address(root),
            index,
        })
    }

    /// Where a file is, and its size if the index says it; `None` if the mirror does not have it.
    pub(super) fn find(&self, set: &DataSet, file: &str) -> Option<(Place, Option<u64>)> {
        let (path, bytes) = match &self.index {
            Some(index) => {
                let entry = index.get(&set.name)?.get(file)?;
                (entry.path.clone(), entry.bytes)
            }
            None => (format!("{}/{file}", set.name), None),
        };
        match &self.root {
            Root::Folder(root) => {
                let path = root.join(path);
                path.is_file().then_some((Place::Path(path), bytes))
            }
            Root::Address(root) => Some((
                Place::Address(format!("{root}/{}", address::encode(&path))),
                bytes,
            )),
        }
    }
}

impl std::fmt::Display for Mirror {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.root {
            Root::Folder(path) => path.display().fmt(f),
            Root::Address(address) => address.fmt(f),
        }
    }
}

fn parse(text: &str, label: String) -> Result<Index, Error> {
    let file: IndexFile = toml::from_str(text).map_err(|source| Error::Index {
        index: label,
        source: Box::new(source),
    })?;
    let mut index = Index::new();
    for set in file.dataset {
        let files = index.entry(set.name).or_default();
        for mut entry in set.files {
            // A path that climbs out of the mirror is as good as none.
            let Ok(path) = archive::normalize(&entry.path) else {
                continue;
            };
            let name = path.rsplit('/').next().unwrap_or(&path).to_owned();
            entry.path = path;
            files.insert(name, entry);
        }
    }
    Ok(index)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_gives_paths_by_name_and_none_that_climb() -> Result<(), Error> {
        let text = r#"
            note = "other keys are for people"
            [[dataset]]
            name = "a"
            title = "A"
            [[dataset.files]]
            path = "a/x.zip"
            bytes = 3
            sha256 = "?"
            [[dataset.files]]
            path = "../../secret"
            [[dataset]]
            name = "b"
        "#;
        let index = parse(text, "INDEX.toml".to_owned())?;
        assert_eq!(index["a"].keys().collect::<Vec<_>>(), ["x.zip"]);
        assert_eq!(
            (index["a"]["x.zip"].path.as_str(), index["a"]["x.zip"].bytes),
            ("a/x.zip", Some(3))
        );
        assert!(index["b"].is_empty());
        assert!(matches!(
            parse("dataset = 3", "i".to_owned()),
            Err(Error::Index { .. })
        ));
        Ok(())
    }
}
