//! Every recipe on a small stand-in for its data: stopped anywhere and continued equals never stopped, for any number of threads.

mod support;

use std::fmt::Write as _;
use std::path::Path;

use support::{TOKENIZER, nearfar, run, weights};

/// A recipe with small data of the same kind in place of its own, and a few steps.
fn stand_in(recipe: &str, folder: &Path) -> String {
    let mut document: toml::Table = toml::from_str(recipe).expect("a recipe");
    let data = document["data"].as_table().expect("data");
    let (name, settings) = data.iter().next().expect("one name");
    let toml = |text: &str| -> toml::Value {
        toml::from_str::<toml::Table>(text).expect("TOML")["it"].clone()
    };
    let replaced = match name.as_str() {
        "mnist" | "omniglot" | "orl" => {
            let classes = if settings.get("classes").is_some() {
                5
            } else {
                12
            };
            // Small where the model reads small images: baselines of large ones take long.
            let size = settings.get("size").and_then(toml::Value::as_integer);
            let size = size.filter(|_| document["model"].get("koch").is_some());
            toml(&format!(
                "it.glyphs = {{ classes = {classes}, test_classes = 4, samples = 14, size = {} }}",
                size.unwrap_or(28)
            ))
        }
        "sick" => {
            std::fs::write(folder.join("pairs.csv"), pairs()).expect("written");
            let mut pairs =
                "path = 'pairs.csv', score = 'score', range = [1.0, 5.0], validation = 0.2"
                    .to_string();
            if let Some(tokenizer) = settings.get("tokenizer") {
                published(folder);
                write!(pairs, ", tokenizer = {tokenizer}").expect("a string");
                document.insert("model".into(), toml(&format!("it = {{ {BERT} }}")));
            }
            toml(&format!("it.pairs = {{ {pairs} }}"))
        }
        "fsdd" => {
            support::sounds(folder);
            // Published weights are of a large network; what of it is frozen is so in a small one.
            if document["model"].get("speaker_lstm").is_some() {
                let small = "it.speaker_lstm = { width = 8, hidden = 8, window = 40, step = 20 }";
                document.insert("model".into(), toml(small));
                document.remove("weights");
            }
            toml("it.sounds = { path = 'sounds', log_mel = { rate = 8000 }, test = 0.25 }")
        }
        "solids" => {
            let seen = settings["seen"].as_str().expect("a word");
            toml(&format!(
                "it.solids = {{ seen = '{seen}', classes = 6, test_classes = 3, samples = 6, views = 3, points = 40 }}"
            ))
        }
        "scenes" => toml("it.scenes = { scenes = 12, test_scenes = 4, size = 24 }"),
        "uci" => {
            std::fs::write(folder.join("table.csv"), table()).expect("written");
            toml("it.table = { path = 'table.csv' }")
        }
        other => panic!("no stand-in for `data.{other}` yet"),
    };
    document.insert("data".into(), replaced);
    let sampler = document["sampler"].as_table_mut().expect("sampler");
    if let Some(sampler) = sampler.get_mut("classes_by_samples") {
        let classes = sampler["classes"].as_integer().expect("a number").min(5);
        sampler["classes"] = classes.into();
        let samples = sampler["samples"].as_integer().expect("a number").min(4);
        sampler["samples"] = samples.into();
    }
    if let Some(sampler) = sampler.get_mut("shuffled") {
        sampler["size"] = 8.into();
    }
    if let Some(cosine) = document
        .get_mut("schedule")
        .and_then(|it| it.get_mut("cosine"))
    {
        cosine["warmup"] = 2.into();
    }
    let train = document["train"].as_table_mut().expect("train");
    train.remove("epochs");
    train.insert("steps".into(), 7.into());
    document.insert(
        "checkpoints".into(),
        toml("it = { every.steps = 2, keep = 2 }"),
    );
    toml::to_string(&document).expect("TOML")
}

/// A transformer that is trained in no time.
const BERT: &str =
    "bert = { hidden = 8, layers = 1, heads = 2, intermediate = 8, positions = 128 }";

/// A folder of sentence-transformers, of a small run, where recipes look for that of a published encoder.
fn published(folder: &Path) {
    std::fs::write(folder.join("tokenizer.json"), TOKENIZER).expect("written");
    let text = format!(
        "data.pairs = {{ path = 'pairs.csv', score = 'score', tokenizer = 'tokenizer.json' }}\n\
         sampler.shuffled = {{ size = 8 }}\nmodel.{BERT}\nloss.cosent = {{}}\n\
         optimizer.adam = {{ learning_rate = 1e-3 }}\ntrain = {{ steps = 1 }}\n"
    );
    std::fs::write(folder.join("first.toml"), text).expect("written");
    run(nearfar(folder).args(["train", "first.toml"]), 0);
    let export = ["export", "runs/first", "-o", "all-MiniLM-L6-v2"];
    run(nearfar(folder).args(export), 0);
}

fn pairs() -> String {
    let words = [
        "a", "man", "woman", "dog", "is", "playing", "running", "not", "the", "guitar",
    ];
    let mut text = "left,right,score\n".to_string();
    for row in 0..60usize {
        let sentence = |shift: usize| {
            (0..3 + row % 4)
                .map(|at| words[(row * 7 + at * 3 + shift) % words.len()])
                .collect::<Vec<_>>()
                .join(" ")
        };
        writeln!(
            text,
            "{},{},{}",
            sentence(0),
            sentence(row % 3),
            1.0 + (row % 9) as f64 / 2.0
        )
        .expect("a string");
    }
    text
}

fn table() -> String {
    let mut text = "a,b,c,label\n".to_string();
    for row in 0..60 {
        let class = row % 3;
        writeln!(
            text,
            "{},{},{},c{class}",
            row * class,
            (row * 7) % 11,
            (row + class * 5) % 13
        )
        .expect("a string");
    }
    text
}

#[test]
fn stopped_anywhere_and_continued_equals_never_stopped_for_any_number_of_threads() {
    let recipes = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/recipes");
    let Ok(files) = std::fs::read_dir(&recipes) else {
        eprintln!("skipped: recipes (the package alone has none)");
        return;
    };
    let mut recipes: Vec<_> = files
        .map(|file| file.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|it| it == "toml"))
        .collect();
    recipes.sort();
    for path in recipes {
        let name = path
            .file_stem()
            .expect("a name")
            .to_string_lossy()
            .into_owned();
        let folder = tempfile::tempdir().expect("a folder");
        let text = stand_in(
            &std::fs::read_to_string(&path).expect("a recipe"),
            folder.path(),
        );
        std::fs::write(folder.path().join("run.toml"), text).expect("written");
        let train = |out: &str, threads: &str| {
            let mut command = nearfar(folder.path());
            command
                .args(["train", "run.toml", "--out", out])
                .env("RAYON_NUM_THREADS", threads);
            command
        };
        run(&mut train("whole", "1"), 0);
        let whole = weights(&folder.path().join("whole"));
        for threads in ["2", "4"] {
            run(&mut train(&format!("threads-{threads}"), threads), 0);
            assert_eq!(
                weights(&folder.path().join(format!("threads-{threads}"))),
                whole,
                "{name}, {threads} threads"
            );
        }
        for stop in [1, 4, 6] {
            let out = format!("stopped-{stop}");
            run(
                train(&out, "2").args(["--stop-after", &stop.to_string()]),
                75,
            );
            run(train(&out, "1").arg("--resume"), 0);
            assert_eq!(
                weights(&folder.path().join(&out)),
                whole,
                "{name}, stopped after {stop}"
            );
        }
    }
}
