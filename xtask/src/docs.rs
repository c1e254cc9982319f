//! `cargo xtask docs`: the reference, collected from the code.
//!
//! `nearfar config reference --json` gives one object: for each kind of thing (`losses`, `miners`, …) a list of entries
//! with `name`, `summary`, `doc` (as in the source), `defaults_toml` and, for losses, `reads`. Each kind becomes `docs/reference/<kind>.md`.

use std::{collections::BTreeMap, fs, io, path::Path};

use serde_json::Value;

use crate::{Error, program};

/// The second line of every file written here, by which it is known again.
const MARK: &str = "<!-- Written by `cargo xtask docs` from the comments in the code. Change them, not this file. -->";

/// Kind → its entries.
pub(crate) type Reference = BTreeMap<String, Vec<Entry>>;

/// One loss, miner, …
#[derive(Debug, PartialEq)]
pub(crate) struct Entry {
    pub(crate) name: String,
    pub(crate) summary: String,
    pub(crate) doc: String,
    pub(crate) defaults_toml: String,
    /// What a batch must say, for a loss.
    pub(crate) reads: Option<String>,
}

/// The reference as the `nearfar` at that path gives it.
pub(crate) fn reference(root: &Path, nearfar: &str) -> Result<Reference, Error> {
    read(&json(root, nearfar)?)
}

fn json(root: &Path, nearfar: &str) -> Result<Vec<u8>, Error> {
    program::output(nearfar, ["config", "reference", "--json"], root)
}

/// Writes the reference, or with `check` compares it with what is there.
pub(crate) fn run(root: &Path, nearfar: &str, check: bool) -> Result<(), Error> {
    let pages = pages(&json(root, nearfar)?)?;
    let folder = root.join("docs/reference");
    let (written, stale) = compare(&folder, &pages)?;
    let named = |names: &[String]| {
        names
            .iter()
            .map(|name| format!("docs/reference/{name}"))
            .collect::<Vec<_>>()
    };
    if check {
        let files = named(&[written, stale].concat());
        return if files.is_empty() {
            Ok(())
        } else {
            Err(Error::OutOfDate { files })
        };
    }
    let failed = |action, path: &Path| {
        let path = path.display().to_string();
        move |source| Error::Io {
            action,
            path,
            source,
        }
    };
    fs::create_dir_all(&folder).map_err(failed("make", &folder))?;
    for name in &written {
        let path = folder.join(name);
        fs::write(&path, &pages[name]).map_err(failed("write", &path))?;
    }
    for name in &stale {
        let path = folder.join(name);
        fs::remove_file(&path).map_err(failed("remove", &path))?;
    }
    for name in named(&written) {
        println!("{name}: written");
    }
    for name in named(&stale) {
        println!("{name}: removed");
    }
    Ok(())
}

/// The pages that differ from what is in the folder, and the pages in the folder that are no longer made.
fn compare(
    folder: &Path,
    pages: &BTreeMap<String, String>,
) -> Result<(Vec<String>, Vec<String>), Error> {
    let failed = |path: &Path, source| Error::Io {
        action: "read",
        path: path.display().to_string(),
        source,
    };
    let mut differ = Vec::new();
    for (name, page) in pages {
        let path = folder.join(name);
        match fs::read_to_string(&path) {
            Ok(found) if found == *page => {}
            Ok(_) => differ.push(name.clone()),
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::InvalidData
                ) =>
            {
                differ.push(name.clone());
            }
            Err(error) => return Err(failed(&path, error)),
        }
    }
    let mut stale = Vec::new();
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((differ, stale)),
        Err(error) => return Err(failed(folder, error)),
    };
    for entry in entries {
        let path = entry.map_err(|error| failed(folder, error))?.path();
        let Some(name) = path.file_name().and_then(|it| it.to_str()) else {
            continue;
        };
        // Pages by hand may lie here too.
        let ours = name.ends_with(".md")
            && fs::read_to_string(&path).is_ok_and(|it| it.lines().nth(1) == Some(MARK));
        if ours && !pages.contains_key(name) {
            stale.push(name.to_owned());
        }
    }
    stale.sort();
    Ok((differ, stale))
}

/// The pages by file name.
fn pages(json: &[u8]) -> Result<BTreeMap<String, String>, Error> {
    let reference = read(json)?;
    let mut pages = BTreeMap::new();
    for (key, mut entries) in reference {
        if key.is_empty() || !key.chars().all(|it| it.is_ascii_lowercase() || it == '_') {
            return Err(Error::Key { key });
        }
        entries.sort_by(|one, other| one.name.cmp(&other.name));
        pages.insert(format!("{key}.md"), page(&key, &entries));
    }
    Ok(pages)
}

fn read(json: &[u8]) -> Result<Reference, Error> {
    let failed = |source| Error::Reference { source };
    let missing = |what: String| Error::Reference {
        source: serde_json::Error::io(io::Error::other(what)),
    };
    let value: BTreeMap<String, Vec<BTreeMap<String, Value>>> =
        serde_json::from_slice(json).map_err(failed)?;
    let mut reference = Reference::new();
    for (kind, entries) in value {
        let read = |(index, entry): (usize, BTreeMap<String, Value>)| {
            let text = |key: &str| {
                let text = entry.get(key).and_then(Value::as_str).map(str::to_owned);
                text.ok_or_else(|| {
                    missing(format!("entry {index} of `{kind}` has no text `{key}`"))
                })
            };
            let (name, summary) = (text("name")?, text("summary")?);
            Ok(Entry {
                name,
                summary,
                doc: text("doc")?,
                defaults_toml: text("defaults_toml")?,
                reads: text("reads").ok(),
            })
        };
        let entries = entries
            .into_iter()
            .enumerate()
            .map(read)
            .collect::<Result<_, Error>>()?;
        reference.insert(kind, entries);
    }
    Ok(reference)
}

/// One page: a list of what is on it, then each entry with its defaults.
fn page(kind: &str, entries: &[Entry]) -> String {
    let mut title = kind.replace('_', " ");
    if let Some(first) = title.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    let mut page = format!("# {title}\n{MARK}\n\n");
    for entry in entries {
        page.push_str(&format!(
            "- [`{0}`](#{0}): {1}\n",
            entry.name,
            entry.summary.trim().replace('\n', " ")
        ));
    }
    for entry in entries {
        let doc = if entry.doc.trim().is_empty() {
            &entry.summary
        } else {
            &entry.doc
        };
        page.push_str(&format!("\n## {}\n\n{}\n", entry.name, for_people(doc)));
        if let Some(reads) = &entry.reads {
            page.push_str(&format!("\nReads: {reads}.\n"));
        }
        let defaults = entry.defaults_toml.trim();
        if !defaults.is_empty() {
            page.push_str(&format!("\nDefaults:\n\n```toml\n{defaults}\n```\n"));
        }
    }
    page
}

/// A doc comment without what only rustdoc understands: code has its language, and no lines that rustdoc hides; headings
/// stand below that of the entry.
fn for_people(doc: &str) -> String {
    let mut lines = Vec::new();
    // Whether we are in a block of code, and in one of Rust.
    let (mut code, mut rust) = (false, false);
    for line in doc.trim().lines() {
        let line = line.trim_end();
        if let Some(info) = line.trim_start().strip_prefix("```") {
            if code {
                (code, rust) = (false, false);
                lines.push(line.to_owned());
                continue;
            }
            code = true;
            rust = info.split(',').all(|word| {
                let word = word.trim();
                matches!(
                    word,
                    "" | "rust" | "no_run" | "ignore" | "should_panic" | "compile_fail"
                ) || word.starts_with("edition")
                    || (word.starts_with('E') && word[1..].chars().all(|it| it.is_ascii_digit()))
            });
            let indent = &line[..line.len() - line.trim_start().len()];
            lines.push(if rust {
                format!("{indent}```rust")
            } else {
                line.to_owned()
            });
            continue;
        }
        if rust && (line.trim_start() == "#" || line.trim_start().starts_with("# ")) {
            continue;
        }
        lines.push(if !code && line.starts_with('#') {
            format!("##{line}")
        } else {
            line.to_owned()
        });
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    const JSON: &str = r##"{
        "miners": [{ "name": "all", "summary": "Every tuple.", "doc": "", "defaults_toml": "" }],
        "losses": [
            { "name": "triplet_margin", "summary": "Wants positives nearer.", "more": 3,
              "doc": "Wants positives nearer.\n\n# Errors\n\n```\n# use x::y;\nlet a = 1;\n#[derive(Debug)]\n```\n```text\n# kept\n```",
              "defaults_toml": "margin = 0.2\n" },
            { "name": "arcface", "summary": "Adds\nan angle.", "doc": "Adds an angle.", "defaults_toml": "margin = 0.5" }
        ]
    }"##;

    #[test]
    fn each_kind_is_a_page_of_sorted_entries() -> Result<(), Error> {
        let pages = pages(JSON.as_bytes())?;
        assert_eq!(pages.keys().collect::<Vec<_>>(), ["losses.md", "miners.md"]);
        let expected = format!(
            "# Losses\n{MARK}\n\n\
             - [`arcface`](#arcface): Adds an angle.\n\
             - [`triplet_margin`](#triplet_margin): Wants positives nearer.\n\
             \n## arcface\n\nAdds an angle.\n\nDefaults:\n\n```toml\nmargin = 0.5\n```\n\
             \n## triplet_margin\n\nWants positives nearer.\n\n### Errors\n\n\
             ```rust\nlet a = 1;\n#[derive(Debug)]\n```\n```text\n# kept\n```\n\
             \nDefaults:\n\n```toml\nmargin = 0.2\n```\n"
        );
        assert_eq!(pages["losses.md"], expected);
        assert_eq!(
            pages["miners.md"],
            format!(
                "# Miners\n{MARK}\n\n- [`all`](#all): Every tuple.\n\n## all\n\nEvery tuple.\n"
            )
        );
        Ok(())
    }

    #[test]
    fn what_is_not_a_reference_is_said_to_be_none() {
        for json in ["", "[]", "{\"a\": 3}", "{\"a\": [{\"name\": \"x\"}]}"] {
            assert!(
                matches!(pages(json.as_bytes()), Err(Error::Reference { .. })),
                "{json}"
            );
        }
        for key in ["", "../x", "A", "a b"] {
            assert!(
                matches!(
                    pages(format!("{{\"{key}\": []}}").as_bytes()),
                    Err(Error::Key { .. })
                ),
                "{key}"
            );
        }
    }

    #[test]
    fn a_page_that_differs_is_named_and_one_by_hand_is_left_alone()
    -> Result<(), Box<dyn std::error::Error>> {
        let folder = tempfile::tempdir()?;
        let pages = pages(JSON.as_bytes())?;
        let of = |names: &[&str]| names.iter().map(|it| (*it).to_owned()).collect::<Vec<_>>();
        let missing = folder.path().join("missing");
        assert_eq!(
            compare(&missing, &pages)?,
            (of(&["losses.md", "miners.md"]), of(&[]))
        );
        for (name, page) in &pages {
            fs::write(folder.path().join(name), page)?;
        }
        fs::write(folder.path().join("by_hand.md"), "# By hand\n")?;
        assert_eq!(compare(folder.path(), &pages)?, (of(&[]), of(&[])));
        fs::write(folder.path().join("losses.md"), "# Losses\n")?;
        fs::write(folder.path().join("gone.md"), format!("# Gone\n{MARK}\n"))?;
        assert_eq!(
            compare(folder.path(), &pages)?,
            (of(&["losses.md"]), of(&["gone.md"]))
        );
        Ok(())
    }
}
