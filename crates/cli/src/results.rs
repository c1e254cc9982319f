//! What came of a run: scores beside those of the plain ways, and the report.

use std::collections::BTreeMap;

use candle_core::Device;
use nearfar_datasets::Data;
use nearfar_eval::{Interval, Score};
use nearfar_trainer::checkpoint::{self, DiskFs};
use nearfar_trainer::{Loaded, Towers};
use serde_json::{Value, json};

use crate::evaluation::{self, Baseline, Scored};
use crate::exit::Error;
use crate::out::{Out, table};
use crate::run_dir::RunDir;
use crate::run_file::RunFile;
use crate::scoring::Scorer;
use crate::{assemble, pages};

/// The scores of all parts.
#[derive(Clone, Debug)]
pub(crate) struct Results {
    pub(crate) scores: Vec<Score>,
    pub(crate) parts: Vec<PartResults>,
    /// How long training took, where this process did it.
    pub(crate) seconds: Option<f64>,
}

/// The scores of one part: plain ways first, the model last.
#[derive(Clone, Debug)]
pub(crate) struct PartResults {
    pub(crate) name: String,
    /// What the part is, in words.
    pub(crate) title: String,
    pub(crate) samples: usize,
    pub(crate) methods: Vec<(String, BTreeMap<String, f64>)>,
    /// Scores that do not exist here, and why.
    pub(crate) undefined: BTreeMap<String, String>,
}

/// The last of the methods.
pub(crate) const LEARNED: &str = "learned embedding";
/// The last of the methods where a scorer of pairs was learned; the embedding without it is the one before.
pub(crate) const SCORER: &str = "learned scorer";

impl Results {
    /// A table for each part.
    pub(crate) fn text(&self, out: &Out) -> String {
        let mut blocks = Vec::new();
        for part in &self.parts {
            let mut header = vec![String::new()];
            header.extend(self.scores.iter().map(|score| score.title()));
            let header: Vec<&str> = header.iter().map(String::as_str).collect();
            let rows: Vec<Vec<String>> = part
                .methods
                .iter()
                .map(|(name, scores)| {
                    let mut row = vec![format!("  {name}")];
                    row.extend(self.scores.iter().map(|score| {
                        scores
                            .get(&score.to_string())
                            .map_or("–".into(), |value| format!("{value:.4}"))
                    }));
                    row
                })
                .collect();
            blocks.push(format!(
                "{}\n{}",
                out.bold(&part.title),
                table(&header, &rows)
            ));
            blocks.extend(
                part.undefined
                    .iter()
                    .map(|(score, why)| format!("  {score}: {why}")),
            );
        }
        if let Some(seconds) = self.seconds {
            blocks.push(format!("trained in {}", duration(seconds)));
        }
        blocks.join("\n\n")
    }

    pub(crate) fn json(&self) -> Value {
        let parts: Vec<Value> = self
            .parts
            .iter()
            .map(|part| {
                let methods: Vec<Value> = part.methods.iter().map(|(name, scores)| json!({"method": name, "scores": scores})).collect();
                json!({"part": part.name, "samples": part.samples, "methods": methods, "undefined": part.undefined})
            })
            .collect();
        json!({"parts": parts, "seconds": self.seconds})
    }
}

/// `83 s`, `4 min 12 s`.
pub(crate) fn duration(seconds: f64) -> String {
    let whole = seconds.round() as u64;
    if seconds < 10.0 {
        format!("{seconds:.1} s")
    } else if whole < 120 {
        format!("{whole} s")
    } else {
        format!("{} min {} s", whole / 60, whole % 60)
    }
}

/// A checkpoint of a run by name: `best` (the last, where no score says which is best), `last`, or its own name.
pub(crate) fn chosen(dir: &RunDir, hash: &str, name: &str) -> Result<Loaded, Error> {
    let none = || {
        Error::Data(format!(
            "{} has no checkpoint yet; train first",
            dir.path().display()
        ))
    };
    if !dir.checkpoints().is_dir() {
        return Err(none());
    }
    let folder = dir.checkpoints();
    let found = match name {
        "best" => match checkpoint::best(&DiskFs, &folder, Some(hash))? {
            Some(best) => Some(best),
            None => checkpoint::latest(&DiskFs, &folder, Some(hash))?,
        },
        "last" => checkpoint::latest(&DiskFs, &folder, Some(hash))?,
        other => {
            let path = folder.join(other);
            if other.contains(['/', '\\']) || !path.is_dir() {
                return Err(Error::Usage(format!(
                    "{} has no checkpoint `{other}`; there are best, last, {}",
                    dir.path().display(),
                    names(&folder).join(", ")
                )));
            }
            let (manifest, loaded) = checkpoint::load(&DiskFs, &path)?;
            if manifest.run != hash {
                return Err(Error::Data(format!(
                    "{} is of another run than {}",
                    path.display(),
                    dir.path().display()
                )));
            }
            Some(Loaded {
                checkpoint: loaded,
                manifest,
                path,
                skipped: Vec::new(),
            })
        }
    };
    found.ok_or_else(none)
}

/// Names of the checkpoints in a folder.
fn names(folder: &std::path::Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten();
    let mut names: Vec<String> = entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.starts_with("ckpt-"))
        .collect();
    names.sort();
    names
}

/// A part with everything a report shows of it.
pub(crate) struct PartScored {
    pub(crate) name: &'static str,
    pub(crate) learned: Scored,
    /// By what it was scored.
    pub(crate) by: &'static str,
    pub(crate) baselines: Vec<Baseline>,
}

/// Scores every part that is not trained on, and writes `results.json` and the report.
#[allow(clippy::too_many_arguments)] // Each is a thing of its own, and this is called from two places.
pub(crate) fn write(
    dir: &RunDir,
    run: &RunFile,
    data: &Data,
    checkpoint_name: &str,
    scores: &[Score],
    seconds: Option<f64>,
    device: &Device,
    out: &Out,
) -> Result<Results, Error> {
    let (results, parts, loaded, towers) = score(
        dir,
        run,
        data,
        checkpoint_name,
        scores,
        seconds,
        device,
        out,
    )?;
    let text = serde_json::to_string_pretty(&results.json())
        .map_err(|error| Error::Data(error.to_string()))?;
    crate::run_dir::write(&dir.path().join("results.json"), text.as_bytes())?;
    let report = pages::report(dir, run, data, &results, &parts, &loaded, &towers, device)?;
    nearfar_report::write_html(&dir.report(), &report)?;
    Ok(results)
}

type AllScored = (Results, Vec<PartScored>, Loaded, Towers);

#[allow(clippy::too_many_arguments)]
pub(crate) fn score(
    dir: &RunDir,
    run: &RunFile,
    data: &Data,
    checkpoint_name: &str,
    scores: &[Score],
    seconds: Option<f64>,
    device: &Device,
    out: &Out,
) -> Result<AllScored, Error> {
    let hash = RunDir::hash(run)?;
    let loaded = chosen(dir, &hash, checkpoint_name)?;
    let towers = assemble::restored(
        run,
        &data.shapes(),
        data.annotation().inputs(),
        &loaded.checkpoint,
        device,
    )?;
    let scorer = Scorer::of_checkpoint(run, &towers, data.shape(), &loaded.checkpoint, device)?;
    let mut parts = Vec::new();
    for part in &data.evaluation {
        if part.dataset.is_empty() {
            continue;
        }
        let learned = |scorer: Option<&Scorer>, keep: usize| {
            evaluation::of_part(&towers, scorer, run, data, part.name, scores, keep, device)
        };
        out.detail(&format!(
            "scoring {} samples of `{}`",
            part.dataset.len(),
            part.name
        ));
        let mut baselines = evaluation::baselines(run, data, part.name, scores, towers.width())?;
        if scorer.is_some() {
            baselines.push(Baseline {
                name: LEARNED.into(),
                evaluation: learned(None, 0)?.evaluation,
            });
        }
        parts.push(PartScored {
            name: part.name,
            learned: learned(scorer.as_ref(), pages::NEIGHBORS)?,
            by: if scorer.is_some() { SCORER } else { LEARNED },
            baselines,
        });
    }
    let results = Results {
        scores: scores.to_vec(),
        parts: parts.iter().map(|part| of_part(data, part)).collect(),
        seconds,
    };
    Ok((results, parts, loaded, towers))
}

fn of_part(data: &Data, part: &PartScored) -> PartResults {
    let mut methods: Vec<(String, BTreeMap<String, f64>)> = part
        .baselines
        .iter()
        .map(|it| (it.name.clone(), it.evaluation.scores.clone()))
        .collect();
    methods.push((part.by.into(), part.learned.evaluation.scores.clone()));
    let samples = part
        .learned
        .tables
        .first()
        .map_or(0, nearfar_core::EmbeddingTable::len);
    PartResults {
        name: part.name.into(),
        title: title(data, part.name, samples),
        samples,
        methods,
        undefined: part.learned.evaluation.undefined.clone(),
    }
}

/// What a part is, in words.
fn title(data: &Data, part: &str, samples: usize) -> String {
    let Ok(dataset) = data.part(part) else {
        return part.to_string();
    };
    use nearfar_datasets::Annotation;
    match data.annotation() {
        Annotation::LabeledPairs | Annotation::ScoredPairs => {
            return format!("{part}: {samples} pairs");
        }
        annotation @ (Annotation::Sets | Annotation::Targets | Annotation::Masks) => {
            return format!("{part}: {samples} samples with {}", annotation.name());
        }
        Annotation::Classes | Annotation::Domains => {}
    }
    let mut labels: Vec<u32> = dataset.labels().to_vec();
    labels.sort_unstable();
    labels.dedup();
    let new = labels
        .iter()
        .filter(|&&label| label as usize >= data.train_classes)
        .count();
    let what = if new == labels.len() {
        format!("{} classes never seen in training", labels.len())
    } else if new == 0 {
        "samples not seen in training".to_string()
    } else {
        format!(
            "{} classes, {new} of them never seen in training",
            labels.len()
        )
    };
    format!("{part}: {samples} samples, {what}")
}

/// Scores of several runs that differ in their seed: mean and 95 % interval.
pub(crate) fn over_seeds(all: &[Results]) -> Vec<(String, String, BTreeMap<String, Interval>)> {
    let Some(first) = all.first() else {
        return Vec::new();
    };
    let mut rows = Vec::new();
    for (part_index, part) in first.parts.iter().enumerate() {
        for (method_index, (method, _)) in part.methods.iter().enumerate() {
            let mut intervals = BTreeMap::new();
            for score in &first.scores {
                let name = score.to_string();
                let values: Vec<f64> = all
                    .iter()
                    .filter_map(|results| {
                        results
                            .parts
                            .get(part_index)?
                            .methods
                            .get(method_index)?
                            .1
                            .get(&name)
                            .copied()
                    })
                    .collect();
                if let Some(interval) = Interval::of(&values) {
                    intervals.insert(name, interval);
                }
            }
            rows.push((part.title.clone(), method.clone(), intervals));
        }
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_well() {
        assert_eq!(duration(3.21), "3.2 s");
        assert_eq!(duration(83.2), "83 s");
        assert_eq!(duration(252.0), "4 min 12 s");
    }
}
