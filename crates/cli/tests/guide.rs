//! Every run file of the guide, and every part of one: read, put together, and trained for two steps.
//!
//! A block need not be whole: what it leaves out is filled in here, as a reader would from a file of their own. Data that the
//! guide names but a test does not have give way to small ones of the same kind.

mod support;

use std::fmt::Write as _;
use std::path::Path;

use support::{nearfar, run};

/// What a block is filled up with, where it says nothing.
const REST: &str = "
seed = 7
data.glyphs = {}
sampler.classes_by_samples = { classes = 8, samples = 4 }
model.conv4 = { width = 16, channels = 8, blocks = 2 }
loss.triplet_margin = {}
optimizer.adam = { learning_rate = 1e-3 }
train = { steps = 2 }
";

/// The same for sounds: a model that reads frames, and batches of what stands in for them.
const OF_SOUNDS: &str = "
data.sounds = { path = 'sounds' }
sampler.classes_by_samples = { classes = 5, samples = 4 }
model.lstm = { width = 16 }
";

/// Every `toml` block, with the line it begins at.
fn blocks(page: &str) -> Vec<(usize, String)> {
    let mut blocks = Vec::new();
    let mut open: Option<(usize, String)> = None;
    for (number, line) in (1..).zip(page.lines()) {
        match &mut open {
            None if line == "```toml" => open = Some((number, String::new())),
            None => {}
            Some(_) if line == "```" => blocks.extend(open.take()),
            Some((_, text)) => writeln!(text, "{line}").expect("a string"),
        }
    }
    assert!(open.is_none(), "a block is not closed");
    blocks
}

/// The block with what it leaves out.
fn whole(block: &str) -> toml::Table {
    let mut table: toml::Table = toml::from_str(block).unwrap_or_else(|error| panic!("{error}"));
    let mut rest: toml::Table = toml::from_str(REST).expect("TOML");
    let names = |key: &str, name: &str| table.get(key).is_some_and(|it| it.get(name).is_some());
    if names("data", "sounds") || names("model", "lstm") && !table.contains_key("data") {
        let of_frames: toml::Table = toml::from_str(OF_SOUNDS).expect("TOML");
        rest.extend(of_frames);
    }
    for (key, value) in rest {
        let said = table.contains_key(&key)
            || (key == "loss" && table.contains_key("losses"))
            || (key == "model" && table.contains_key("towers"));
        if !said {
            table.insert(key, value);
        }
    }
    table
}

/// The same with data that are here, and short.
fn small(mut table: toml::Table, folder: &Path) -> toml::Table {
    let value = |text: &str| -> toml::Value {
        toml::from_str::<toml::Table>(text).expect("TOML")["it"].clone()
    };
    // Maps that are compared must not be used up by poolings.
    let size = if table.contains_key("scorer") { 28 } else { 16 };
    let data = table["data"].as_table_mut().expect("data");
    let (name, settings) = data.iter_mut().next().expect("one name");
    let columns = ["labels", "target"];
    let column = columns.iter().find(|it| settings.get(**it).is_some());
    let glyphs =
        format!("it.glyphs = {{ classes = 40, test_classes = 4, samples = 8, size = {size}");
    let (file, data) = match name.as_str() {
        "pairs" => (Some(("pairs.csv", pairs())), None),
        "texts" => {
            let column = |key: &str| match settings.get(key) {
                Some(name) => name.as_str().expect("a name").to_owned(),
                None => key.to_owned(),
            };
            let text = texts(&column("text"), &column("label"));
            (Some(("texts.csv", text)), None)
        }
        "table" => {
            let name = column.map_or("label", |it| settings[*it].as_str().expect("a name"));
            (Some(("table.csv", rows(name, column.copied()))), None)
        }
        "glyphs" | "omniglot" | "folder" => (None, Some(value(&format!("{glyphs} }}")))),
        "images_csv" => {
            let domains = settings.get("domain").is_some();
            let glyphs = format!("{glyphs}, domains = {domains} }}");
            (None, Some(value(&glyphs)))
        }
        "masks" => {
            let scenes = "it.scenes = { scenes = 40, test_scenes = 8, size = 16 }";
            (None, Some(value(scenes)))
        }
        "sounds" => {
            support::sounds(folder);
            (None, None)
        }
        "two_kinds" => {
            support::sounds(folder);
            (Some(("list.csv", sounds_beside_images(folder))), None)
        }
        other => panic!("no stand-in for `data.{other}` yet"),
    };
    if let Some((file, text)) = file {
        std::fs::write(folder.join(file), text).expect("written");
        settings["path"] = file.into();
    }
    if let Some(data) = data {
        table.insert("data".into(), data);
    }
    let samplers = table["sampler"].as_table_mut().expect("sampler");
    for (_, sampler) in samplers.iter_mut() {
        for (key, most) in [("classes", 16), ("samples", 4)] {
            let most = if folder.join("sounds").is_dir() {
                most.min(5)
            } else {
                most
            };
            if let Some(number) = sampler.get_mut(key) {
                *number = number.as_integer().expect("a number").min(most).into();
            }
        }
    }
    if let Some(cosine) = table
        .get_mut("schedule")
        .and_then(|it| it.get_mut("cosine"))
    {
        cosine["warmup"] = 1.into();
    }
    let train = table["train"].as_table_mut().expect("train");
    train.remove("epochs");
    train.insert("steps".into(), 2.into());
    // Nobody has trained weights here.
    for key in ["evaluation", "checkpoints", "weights"] {
        table.remove(key);
    }
    table
}

/// Each of the sounds beside an image of its class.
fn sounds_beside_images(folder: &Path) -> String {
    let mut text = "sound,image,digit,split\n".to_string();
    std::fs::create_dir_all(folder.join("images")).expect("made");
    for (class, number) in (0..5u8).flat_map(|class| (0..8u8).map(move |number| (class, number))) {
        let image = format!("images/{class}-{number}.pgm");
        let mut bytes = b"P5\n28 28\n255\n".to_vec();
        bytes.extend((0..784u32).map(|at| (at * u32::from(class + 1) + u32::from(number)) as u8));
        std::fs::write(folder.join(&image), bytes).expect("written");
        let split = if number < 6 { "train" } else { "test" };
        writeln!(text, "sounds/c{class}/{number}.wav,{image},{class},{split}").expect("a string");
    }
    text
}

fn sentence(row: usize, shift: usize) -> String {
    const WORDS: [&str; 10] = [
        "a", "man", "woman", "dog", "is", "playing", "running", "not", "the", "guitar",
    ];
    let words = 3 + row % 4;
    (0..words)
        .map(|at| WORDS[(row * 7 + at * 3 + shift) % WORDS.len()])
        .collect::<Vec<_>>()
        .join(" ")
}

fn pairs() -> String {
    let mut text = "left,right,score,label\n".to_string();
    for row in 0..200 {
        let (left, right) = (sentence(row, 0), sentence(row, 1 + row % 3));
        let (score, label) = (1.0 + (row % 9) as f64 / 2.0, row % 2);
        writeln!(text, "{left},{right},{score},{label}").expect("a string");
    }
    text
}

fn texts(column: &str, label: &str) -> String {
    let mut text = format!("{column},{label}\n");
    for row in 0..200 {
        writeln!(text, "{},c{}", sentence(row, row % 5), row % 20).expect("a string");
    }
    text
}

/// Features, and a column of what is known of them: a class, or what `kind` says.
fn rows(column: &str, kind: Option<&str>) -> String {
    let mut text = format!("a,b,c,{column}\n");
    for row in 0..200 {
        let (a, b, c) = (row * (row % 20), (row * 7) % 11, (row + row % 20) % 13);
        let known = match kind {
            Some("labels") => format!("t{};u{}", row % 4, row % 3),
            Some("target") => ((row * 7) % 60).to_string(),
            _ => format!("c{}", row % 20),
        };
        writeln!(text, "{a},{b},{c},{known}").expect("a string");
    }
    text
}

#[test]
fn every_run_file_of_the_guide_can_be_trained() {
    let guide = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/guide");
    let Ok(pages) = std::fs::read_dir(&guide) else {
        eprintln!("skipped: the guide (the package alone has none)");
        return;
    };
    let mut pages: Vec<_> = pages.map(|page| page.expect("an entry").path()).collect();
    pages.sort();
    let mut tried = 0;
    for page in pages {
        let name = page.file_name().expect("a name").to_string_lossy();
        let text = std::fs::read_to_string(&page).expect("a page");
        for (line, block) in blocks(&text) {
            eprintln!("{name}, line {line}"); // Shown where the test fails.
            let folder = tempfile::tempdir().expect("a folder");
            let write = |file: &str, table: &toml::Table| {
                let text = toml::to_string(table).expect("TOML");
                std::fs::write(folder.path().join(file), text).expect("written");
            };
            let whole = whole(&block);
            // Published weights are looked at by the check, and are not here.
            let mut checked = whole.clone();
            checked.remove("weights");
            write("whole.toml", &whole);
            run(
                nearfar(folder.path()).args(["config", "show", "whole.toml"]),
                0,
            );
            write("whole.toml", &checked);
            run(
                nearfar(folder.path()).args(["config", "check", "whole.toml"]),
                0,
            );
            write("small.toml", &small(whole, folder.path()));
            let mut train = nearfar(folder.path());
            run(train.args(["train", "small.toml", "--quiet"]), 0);
            tried += 1;
        }
    }
    assert!(tried > 10, "the guide has {tried} run files");
}
