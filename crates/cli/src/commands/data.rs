//! `nearfar data`: every problem of some data, and what can be fetched.

use std::path::Path;

use nearfar_catalogue::{Catalogue, Status};
use nearfar_core::Seed;
use nearfar_datasets::{DataConfig, is_sound};
use serde_json::json;

use crate::args::{self, Global};
use crate::exit::Error;
use crate::out::{Out, table};
use crate::run_file::RunFile;

/// Problems that are listed in full.
const LIMIT: usize = 200;

pub(crate) fn run(args: &args::Data, global: &Global, out: &Out) -> Result<(), Error> {
    match args {
        args::Data::Check { what } => check(what, global, out),
        args::Data::List => {
            list(global, out);
            Ok(())
        }
    }
}

fn check(what: &Path, global: &Global, out: &Out) -> Result<(), Error> {
    let (config, seed) = if what.extension().is_some_and(|it| it == "toml") {
        let (run, _) = RunFile::read(what, &[])?;
        (run.data, run.seed)
    } else if what.exists() {
        (guess(what)?, Seed(0))
    } else {
        return Err(Error::Data(format!("{} is not there", what.display())));
    };
    let checked = nearfar_datasets::check(&config, &global.data, seed, LIMIT);
    let mut lines: Vec<String> = checked
        .problems
        .errors()
        .map(|error| {
            let mark = if error.is_warning() {
                "warning"
            } else {
                "error"
            };
            format!("{mark}: {error}")
        })
        .collect();
    if checked.problems.more() > 0 {
        lines.push(format!("… and {} more", checked.problems.more()));
    }
    for part in &checked.parts {
        lines.push(match part.what {
            "" => format!("{}: {} samples", part.name, part.samples),
            what => format!(
                "{}: {} samples, {} {what}",
                part.name, part.samples, part.classes
            ),
        });
    }
    if checked.problems.is_empty() {
        lines.push("no problem found".into());
    }
    let problems: Vec<_> = checked.problems.errors().map(|error| json!({
        "message": error.to_string(), "warning": error.is_warning(), "path": error.path(), "row": error.row(),
    })).collect();
    let parts: Vec<_> = checked
        .parts
        .iter()
        .map(|part| match part.what {
            "" => json!({"part": part.name, "samples": part.samples}),
            what => json!({"part": part.name, "samples": part.samples, what: part.classes}),
        })
        .collect();
    out.result(
        &lines.join("\n"),
        json!({"type": "report", "problems": problems, "more": checked.problems.more(), "parts": parts}),
    );
    if checked.problems.can_be_trained_on() {
        Ok(())
    } else {
        Err(Error::Data(format!(
            "{} has problems that training would stop at; they are listed above",
            what.display()
        )))
    }
}

/// Folders below a folder that are looked into for what it holds: parts, classes, and one more.
const DEPTH: usize = 3;

/// Whether the first file of a known kind in a folder, by name, is a sound; none where there is no such file.
fn holds_sounds(folder: &Path, depth: usize) -> Option<bool> {
    let mut paths: Vec<_> = std::fs::read_dir(folder)
        .ok()?
        .flatten()
        .map(|it| it.path())
        .collect();
    paths.sort();
    paths.iter().find_map(|path| match path.is_dir() {
        true if depth > 0 => holds_sounds(path, depth - 1),
        true => None,
        false => is_sound(path),
    })
}

/// What data of their own look like: a folder of images, of sounds, or of images and masks; or, by the names of its columns, a list of images or sounds, pairs of
/// texts, texts with labels, or else a table of numbers.
fn guess(path: &Path) -> Result<DataConfig, Error> {
    let path_text = toml::Value::String(path.to_string_lossy().into_owned());
    let config = |text: String| crate::run_file::read::<DataConfig>("data", &text);
    if path.is_dir() && path.join("images").is_dir() && path.join("masks").is_dir() {
        return config(format!("masks = {{ path = {path_text} }}"));
    }
    if path.is_dir() && holds_sounds(path, DEPTH) == Some(true) {
        return config(format!("sounds = {{ path = {path_text} }}"));
    }
    if path.is_dir() {
        return config(format!("folder = {{ path = {path_text} }}"));
    }
    let first = std::fs::File::open(path).and_then(|file| {
        let mut reader = std::io::BufReader::new(std::io::Read::take(file, 1 << 20));
        let mut lines = [Vec::new(), Vec::new()];
        for line in &mut lines {
            std::io::BufRead::read_until(&mut reader, b'\n', line)?;
        }
        // Whoever reads the file tells of bytes that are not UTF-8, with their line.
        Ok(lines.map(|line| String::from_utf8_lossy(&line).into_owned()))
    });
    let [first, second] = first.map_err(|source| Error::File {
        action: "read",
        path: path.to_path_buf(),
        source,
    })?;
    let names: Vec<String> = first
        .split(|c: char| [',', '\t', ';', '{', '}', ':'].contains(&c))
        .map(|cell| cell.trim().trim_matches('"').to_string())
        .collect();
    let has = |name: &str| names.iter().any(|it| it == name);
    let label = ["label", "class", "target", "species", "variety"]
        .into_iter()
        .find(|name| has(name));
    // Of a list of images or texts, what stands in place of a label, or beside it.
    let said = if has("label") {
        Some(if has("domain") {
            ", domain = \"domain\""
        } else {
            ""
        })
    } else if has("labels") {
        Some(", labels = \"labels\"")
    } else if has("target") {
        Some(", target = \"target\"")
    } else {
        None
    };
    if let (true, Some(said)) = (has("path"), said) {
        let cells = second.split(',').map(|it| it.trim().trim_matches('"'));
        let mut kinds = cells.filter_map(|it| is_sound(Path::new(it)));
        let list = match kinds.next() {
            Some(true) => "sounds_csv",
            _ => "images_csv",
        };
        config(format!("{list} = {{ path = {path_text}{said} }}"))
    } else if has("left") && has("right") {
        let scored = if has("score") { "score" } else { "label" };
        config(format!(
            "pairs = {{ path = {path_text}, {scored} = \"{scored}\" }}"
        ))
    } else if has("sentence1") && has("sentence2") {
        let scored = if has("score") { "score" } else { "label" };
        config(format!(
            "pairs = {{ path = {path_text}, left = \"sentence1\", right = \"sentence2\", {scored} = \"{scored}\" }}"
        ))
    } else if let (true, Some(said)) = (has("text"), said) {
        config(format!("texts = {{ path = {path_text}{said} }}"))
    } else if has("labels") {
        config(format!(
            "table = {{ path = {path_text}, labels = \"labels\" }}"
        ))
    } else if let Some(label) = label {
        config(format!(
            "table = {{ path = {path_text}, label = \"{label}\" }}"
        ))
    } else {
        Err(Error::Usage(format!(
            "{}: from its columns ({}) one cannot tell what it holds; write a run file (`nearfar config init`) and check that",
            path.display(),
            names.join(", ")
        )))
    }
}

fn list(global: &Global, out: &Out) {
    let catalogue = Catalogue::builtin();
    let state =
        |set: &nearfar_catalogue::DataSet| match nearfar_catalogue::status(&global.data, set) {
            Status::Present => "there",
            Status::Missing { .. } => "–",
            Status::Damaged { .. } => "damaged",
        };
    let rows: Vec<Vec<String>> = catalogue
        .iter()
        .map(|set| {
            let size = if set.bytes() == 0 {
                "in the program".into()
            } else {
                format!("{:.1} MB", set.bytes() as f64 / 1e6)
            };
            vec![
                set.name.clone(),
                size,
                state(set).into(),
                set.license.clone(),
            ]
        })
        .collect();
    let objects: Vec<_> = catalogue
        .iter()
        .map(|set| json!({"name": set.name, "title": set.title, "bytes": set.bytes(), "license": set.license, "state": state(set)}))
        .collect();
    out.result(
        &format!(
            "{}\n\n`cargo xtask fetch-data NAME` fetches one into {}.",
            table(&["name", "size", "state", "licence"], &rows),
            global.data.display()
        ),
        json!({"type": "report", "data_sets": objects}),
    );
}
