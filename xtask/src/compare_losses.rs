//! `cargo xtask compare-losses`: one short run on Omniglot for each loss that learns from classes, all else being equal.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use clap::Args;
use serde_json::Value;

use crate::{
    Error, built,
    docs::{self, Entry},
    program,
};

/// What a loss reads, in the reference, if it is compared here.
const READS: [&str; 2] = ["classes", "classes or listed pairs"];

/// Compare losses on Omniglot, all else being equal
#[derive(Debug, Args)]
pub(crate) struct CompareLosses {
    /// Names of losses; where none is given, all that learn from classes
    names: Vec<String>,
    /// Steps of each run, in batches of 128; of smaller batches as many more
    #[arg(long, default_value_t = 300)]
    steps: u32,
    /// Where the runs are kept; what is there already is not run again
    #[arg(long, default_value = "runs/losses")]
    out: PathBuf,
}

/// Scores by name.
type Scores = BTreeMap<String, f64>;

impl CompareLosses {
    /// Trains with each, and prints a table.
    pub(crate) fn run(&self, root: &Path) -> Result<(), Error> {
        let nearfar = built::release(root)?;
        let mut reference = docs::reference(root, &nearfar)?;
        let losses = reference.remove("losses").unwrap_or_default();
        let names = self.names(&losses)?;
        let mut table = BTreeMap::new();
        let mut failed = Vec::new();
        for (index, name) in names.iter().enumerate() {
            eprintln!("{name}: {} of {}", index + 1, names.len());
            match self.train(root, &nearfar, name) {
                Ok(scores) => {
                    table.extend(scores);
                }
                Err(Error::Program { .. }) => failed.push(name.clone()),
                Err(error) => return Err(error),
            }
        }
        print!("{}", sorted(&table));
        if failed.is_empty() {
            Ok(())
        } else {
            Err(Error::Runs { names: failed })
        }
    }

    /// The losses to compare, in the order of the reference.
    fn names(&self, losses: &[Entry]) -> Result<Vec<String>, Error> {
        let serve = |it: &&Entry| READS.contains(&it.reads.as_deref().unwrap_or_default());
        let all: Vec<String> = losses
            .iter()
            .filter(serve)
            .map(|it| it.name.clone())
            .collect();
        if let Some(name) = self.names.iter().find(|it| !all.contains(it)) {
            return Err(Error::NoSuchLoss {
                name: name.clone(),
                known: all.join(", "),
            });
        }
        Ok(if self.names.is_empty() {
            all
        } else {
            self.names.clone()
        })
    }

    /// The scores of one run, plain ways included.
    fn train(
        &self,
        root: &Path,
        nearfar: &str,
        name: &str,
    ) -> Result<BTreeMap<String, Scores>, Error> {
        let folder = root.join(&self.out);
        let (file, out) = (folder.join(format!("{name}.toml")), folder.join(name));
        let results = out.join("results.json");
        let text = run_file(name, self.steps);
        let done = results.exists() && fs::read_to_string(&file).is_ok_and(|before| before == text);
        if !done {
            let failed = |action, path: &Path| {
                let path = path.display().to_string();
                move |source| Error::Io {
                    action,
                    path,
                    source,
                }
            };
            fs::create_dir_all(&folder).map_err(failed("make", &folder))?;
            fs::write(&file, text).map_err(failed("write", &file))?;
            let (file, out) = (file.display().to_string(), out.display().to_string());
            let arguments = ["train", &file, "--out", &out, "--quiet"];
            program::run(nearfar, arguments, root)?;
        }
        let read = fs::read(&results).map_err(|source| Error::Io {
            action: "read",
            path: results.display().to_string(),
            source,
        })?;
        scores(&read, name).map_err(|source| Error::Reading {
            path: results.display().to_string(),
            source,
        })
    }
}

/// What a loss is given that is not the same for all: mostly what its paper has, and for two losses a smaller batch, without which they
/// learn next to nothing here.
#[derive(Clone, Copy)]
struct Exception {
    loss: &'static str,
    /// Whether rows are left as the network gives them.
    raw_rows: bool,
    /// Settings of the loss.
    settings: &'static str,
    /// The loss that it is a regularizer of, and its weight there.
    beside: Option<(&'static str, &'static str)>,
    /// More lines of the run file.
    lines: &'static str,
    /// Classes and samples of each in a batch; a smaller batch gets as many more steps.
    batch: (u32, u32),
    /// What embeddings are compared by when they are scored.
    scored_by: &'static str,
    /// What the table says of all that.
    said: &'static str,
}

/// Alone, with its defaults.
const PLAIN: Exception = Exception {
    loss: "",
    raw_rows: false,
    settings: "",
    beside: None,
    lines: "",
    batch: (32, 4),
    scored_by: "",
    said: "",
};

const RAW_ROWS: Exception = Exception {
    raw_rows: true,
    said: "rows as they are",
    ..PLAIN
};

const EXCEPTIONS: &[Exception] = &[
    Exception {
        loss: "center",
        beside: Some(("normalized_softmax", "0.1")),
        ..PLAIN
    },
    Exception {
        loss: "intra_pair_variance",
        beside: Some(("tuplet_margin", "0.5")),
        ..PLAIN
    },
    Exception {
        loss: "lifted",
        ..RAW_ROWS
    },
    Exception {
        loss: "lifted_generalized",
        ..RAW_ROWS
    },
    Exception {
        loss: "margin",
        lines: "miner.distance_weighted = {}",
        said: "miner `distance_weighted`",
        ..PLAIN
    },
    // Of a batch of 128 it sees two pairs, which before training are noise.
    Exception {
        loss: "margin_sample_mining",
        batch: (4, 2),
        said: "batches of 4 × 2",
        ..PLAIN
    },
    Exception {
        loss: "n_pair",
        lines: "embedding_regularizer = { penalty.lp = { power = 2 }, weight = 0.002 }",
        scored_by: "similarity.cosine = {}",
        said: "rows as they are with a penalty on their lengths, scored by cosines",
        ..RAW_ROWS
    },
    Exception {
        loss: "nca",
        ..RAW_ROWS
    },
    // Of a thousand centers it wants right angles with nearly all, so that the few rows of each need many steps.
    Exception {
        loss: "p2sgrad",
        batch: (4, 2),
        said: "batches of 4 × 2",
        ..PLAIN
    },
    Exception {
        loss: "prototypical",
        ..RAW_ROWS
    },
    Exception {
        loss: "quadruplet_hard",
        settings: "power = 1",
        said: "`power = 1`",
        ..PLAIN
    },
    Exception {
        loss: "soft_triple",
        lines: "groups = [{ parameters = \"loss.*\", learning_rate = 100.0 }]",
        said: "100 times the rate for centers",
        ..PLAIN
    },
    Exception {
        loss: "triplet_center",
        beside: Some(("normalized_softmax", "0.1")),
        ..PLAIN
    },
    Exception {
        loss: "triplet_ratio",
        ..RAW_ROWS
    },
];

fn exception(name: &str) -> Exception {
    let found = EXCEPTIONS.iter().find(|it| it.loss == name);
    found.copied().unwrap_or(PLAIN)
}

/// What is the same for all: the twin's network, batches and optimizer; and the loss with its defaults.
fn run_file(name: &str, steps: u32) -> String {
    let exception = exception(name);
    let raw = match exception.raw_rows {
        true => ", normalize = false",
        false => "",
    };
    let alone = match exception.settings {
        "" => format!("loss.{name} = {{}}"),
        settings => format!("loss.{name} = {{ {settings} }}"),
    };
    let loss = match exception.beside {
        None => alone,
        Some((other, weight)) => {
            format!("losses = [{{ loss.{other} = {{}} }}, {{ {alone}, weight = {weight} }}]")
        }
    };
    let scored_by = match exception.scored_by {
        "" => String::new(),
        measure => format!(", {measure}"),
    };
    let lines = exception.lines;
    let (classes, samples) = exception.batch;
    let (usual, own) = (PLAIN.batch.0 * PLAIN.batch.1, classes * samples);
    let steps = u64::from(steps) * u64::from(usual) / u64::from(own);
    format!(
        "seed = 1
data.omniglot = {{}}
sampler.classes_by_samples = {{ classes = {classes}, samples = {samples} }}
model.conv4 = {{ width = 64{raw} }}
{loss}
optimizer.adam = {{ learning_rate = 1e-3 }}
train = {{ steps = {steps} }}
evaluation = {{ split = \"test\", scores = [\"recall_at_1\", \"map_at_r\"]{scored_by} }}
{lines}
"
    )
}

/// The loss in the table, with what it was taken with.
fn title(name: &str) -> String {
    let exception = exception(name);
    match (exception.beside, exception.said) {
        (Some((other, weight)), _) => format!("`{other}` + {weight} `{name}`"),
        (None, "") => format!("`{name}`"),
        (None, said) => format!("`{name}`, {said}"),
    }
}

/// The scores in a `results.json` by method; the learned embedding goes by the name of the loss.
fn scores(json: &[u8], name: &str) -> Result<BTreeMap<String, Scores>, serde_json::Error> {
    let missing = || serde_json::Error::io(io::Error::other("no scores in it"));
    let value: Value = serde_json::from_slice(json)?;
    let methods = value["parts"][0]["methods"].as_array();
    let mut all = BTreeMap::new();
    for method in methods.ok_or_else(missing)? {
        let method_title = method["method"].as_str().ok_or_else(missing)?;
        let row = match method_title {
            "learned embedding" => title(name),
            plain => plain.to_owned(),
        };
        let scores: Scores = serde_json::from_value(method["scores"].clone())?;
        all.insert(row, scores);
    }
    Ok(all)
}

/// A Markdown table, the best Recall@1 first.
fn sorted(table: &BTreeMap<String, Scores>) -> String {
    let mut rows: Vec<(&String, f64, f64)> = table
        .iter()
        .map(|(name, scores)| {
            let score = |key: &str| scores.get(key).copied().unwrap_or(0.0);
            (name, score("recall_at_1"), score("map_at_r"))
        })
        .collect();
    rows.sort_by(|one, other| other.1.total_cmp(&one.1).then(other.2.total_cmp(&one.2)));
    let mut text = String::from("| loss | Recall@1 | MAP@R |\n|---|---:|---:|\n");
    for (name, recall, map) in rows {
        text.push_str(&format!("| {name} | {recall:.3} | {map:.3} |\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_sorted_by_recall() {
        let of = |recall: f64, map: f64| -> String {
            format!(
                r#"{{"parts": [{{"methods": [
                    {{"method": "raw pixels", "scores": {{"recall_at_1": 0.2, "map_at_r": 0.1}}}},
                    {{"method": "learned embedding", "scores": {{"recall_at_1": {recall}, "map_at_r": {map}}}}}
                ]}}]}}"#
            )
        };
        let mut table = scores(of(0.5, 0.3).as_bytes(), "b").expect("results");
        table.extend(scores(of(0.7, 0.1).as_bytes(), "a").expect("results"));
        assert_eq!(
            sorted(&table),
            "| loss | Recall@1 | MAP@R |\n|---|---:|---:|\n| `a` | 0.700 | 0.100 |\n| `b` | 0.500 | 0.300 |\n\
             | raw pixels | 0.200 | 0.100 |\n"
        );
        assert!(scores(b"{}", "a").is_err());
    }

    #[test]
    fn names_are_those_of_losses_of_classes() {
        let entry = |name: &str, reads: &str| Entry {
            name: name.into(),
            summary: String::new(),
            doc: String::new(),
            defaults_toml: String::new(),
            reads: Some(reads.into()),
        };
        let losses = [
            entry("contrastive", READS[1]),
            entry("vicreg", "two views of each row"),
        ];
        let task = |names: &[&str]| CompareLosses {
            names: names.iter().map(|&it| it.into()).collect(),
            steps: 1,
            out: PathBuf::new(),
        };
        assert_eq!(task(&[]).names(&losses).expect("names"), ["contrastive"]);
        let error = task(&["vicreg"])
            .names(&losses)
            .expect_err("vicreg reads views");
        assert_eq!(
            error.to_string(),
            "`vicreg` is not a loss that learns from classes; those are contrastive"
        );
    }
}
