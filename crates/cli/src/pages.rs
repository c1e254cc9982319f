//! The report of a run, as plain data.

use std::collections::BTreeMap;

use candle_core::Device;
use nearfar_core::EmbeddingTable;
use nearfar_datasets::{Annotation, Data, Dataset};
use nearfar_eval::{
    Chart, Curve, DistanceHistogram, Interval, Item, Picture, RecallCurve, Report, Retrieved,
    RocCurve, Scatter, Score, ScoreRow, ScoreTable, draw, pair_distances, recall_at,
};
use nearfar_trainer::{Loaded, Towers};
use serde_json::Value;

use crate::assemble::{self, Start};
use crate::embedding::{self, Searched};
use crate::evaluation::{Comparing, PICTURES};
use crate::exit::Error;
use crate::results::{LEARNED, PartScored, Results, duration};
use crate::run_dir::RunDir;
use crate::run_file::RunFile;

/// Neighbors that a search keeps for the page.
pub(crate) const NEIGHBORS: usize = 32;
/// Points of a scatter, queries of a gallery, neighbors of a query, pairs of a histogram, steps of a curve.
const POINTS: usize = 2000;
const QUERIES: usize = 12;
const FOUND: usize = 10;
const PAIRS: usize = 100_000;
const STEPS: usize = 600;

/// Everything that the page of a run shows.
#[allow(clippy::too_many_arguments)]
pub(crate) fn report(
    dir: &RunDir,
    run: &RunFile,
    data: &Data,
    results: &Results,
    parts: &[PartScored],
    loaded: &Loaded,
    towers: &Towers,
    device: &Device,
) -> Result<Report, Error> {
    let name = title(dir.path());
    let losses: Vec<&str> = run
        .entries()
        .iter()
        .map(|entry| entry.loss.config.name())
        .collect();
    let mut page = Report {
        title: name,
        summary: summary(results),
        facts: vec![
            (
                "Data".into(),
                format!("{}, {} training samples", data.name, data.train.len()),
            ),
            ("Model".into(), model(run, towers)),
            ("Loss".into(), losses.join(" + ")),
            ("Trained".into(), trained(loaded, results)),
        ],
        configuration: crate::run_dir::resolved(run)?,
        environment: environment(loaded),
        curves: curves(dir)?,
        class_names: data
            .classes
            .iter()
            .enumerate()
            .map(|(label, name)| (label as u32, name.clone()))
            .collect(),
        ..Report::default()
    };
    page.scores = results
        .parts
        .iter()
        .map(|part| score_table(results, part))
        .collect();
    for part in results
        .parts
        .iter()
        .filter(|part| !part.undefined.is_empty())
    {
        page.notes.extend(
            part.undefined
                .iter()
                .map(|(score, why)| format!("{} on {}: {why}", score, part.name)),
        );
    }
    for part in parts {
        let evaluation = &part.learned.evaluation;
        if evaluation.lone > 0 {
            page.notes.push(format!(
                "{}: {} samples are the only ones of their class and are in no average.",
                part.name, evaluation.lone
            ));
        }
        if evaluation.not_finite != (0, 0) {
            page.notes.push(format!(
                "{}: {} embeddings are not finite.",
                part.name, evaluation.not_finite.0
            ));
        }
    }
    if data.annotation().has_classes() {
        for part in parts {
            recall(&mut page, part)?;
            distances(&mut page, run, part)?;
        }
        if let Some(part) = parts.first() {
            pictures(&mut page, run, data, part, device)?;
        }
    } else {
        for part in parts {
            let samples = part.learned.tables.first().map_or(0, EmbeddingTable::len);
            page.notes.push(match data.annotation() {
                Annotation::LabeledPairs | Annotation::ScoredPairs => {
                    format!("{}: {samples} pairs.", part.name)
                }
                annotation => format!(
                    "{}: {samples} samples with {}.",
                    part.name,
                    annotation.name()
                ),
            });
        }
    }
    Ok(page)
}

/// The folder's name; that of one seed of several has the name above it in front.
fn title(folder: &std::path::Path) -> String {
    let of = |path: &std::path::Path| {
        path.file_name()
            .map_or("run".to_string(), |it| it.to_string_lossy().into_owned())
    };
    match (of(folder), folder.parent()) {
        (name, Some(above)) if name.starts_with("seed-") => {
            format!("{}, {}", of(above), name.replace('-', " "))
        }
        (name, _) => name,
    }
}

fn summary(results: &Results) -> String {
    let parts: Vec<String> = results
        .parts
        .iter()
        .filter_map(|part| {
            let score = results.scores.first()?;
            let of = |method: &(String, BTreeMap<String, f64>)| {
                method.1.get(&score.to_string()).copied()
            };
            let learned = of(part.methods.last()?)?;
            let (plain, value) = part.methods[..part.methods.len() - 1]
                .iter()
                .filter(|it| it.0 != LEARNED) // Without its scorer.
                .filter_map(|it| Some((&it.0, of(it)?)))
                .reduce(|a, b| {
                    if (b.1 > a.1) == score.higher_is_better() {
                        b
                    } else {
                        a
                    }
                })?;
            Some(format!(
                "{} on {}: {learned:.3}; the best plain way, {plain}, has {value:.3}.",
                score.title(),
                part.name
            ))
        })
        .collect();
    parts.join(" ")
}

fn model(run: &RunFile, towers: &Towers) -> String {
    let parameters: usize = towers
        .parameters()
        .iter()
        .filter(|it| it.trained)
        .map(|it| it.var.elem_count())
        .sum();
    format!(
        "{}, {parameters} parameters, {} dimensions",
        run.names_of_models().join(" and "),
        towers.width()
    )
}

fn trained(loaded: &Loaded, results: &Results) -> String {
    let position = loaded.checkpoint.position;
    let time = results.seconds.map_or(String::new(), |seconds| {
        format!(" in {}", duration(seconds))
    });
    format!(
        "{} steps{time}, seed {}",
        position.step, loaded.checkpoint.seed.0
    )
}

fn environment(loaded: &Loaded) -> Vec<(String, String)> {
    let checkpoint = loaded
        .path
        .file_name()
        .map_or(String::new(), |name| name.to_string_lossy().into_owned());
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    vec![
        ("nearfar".into(), env!("CARGO_PKG_VERSION").into()),
        ("Checkpoint".into(), checkpoint),
        (
            "Machine".into(),
            format!(
                "{} {}, {threads} threads",
                std::env::consts::OS,
                std::env::consts::ARCH
            ),
        ),
    ]
}

fn score_table(results: &Results, part: &crate::results::PartResults) -> ScoreTable {
    let row = |score: &Score| ScoreRow {
        name: score.title(),
        higher_is_better: score.higher_is_better(),
        values: part
            .methods
            .iter()
            .map(|(_, scores)| {
                scores
                    .get(&score.to_string())
                    .map(|&value| Interval::single(value))
            })
            .collect(),
    };
    ScoreTable {
        title: part.title.clone(),
        columns: part.methods.iter().map(|(name, _)| name.clone()).collect(),
        rows: results.scores.iter().map(row).collect(),
    }
}

/// Loss, learning rate and scores over steps, from the run's own log.
fn curves(dir: &RunDir) -> Result<Vec<Chart>, Error> {
    let Ok(text) = std::fs::read_to_string(dir.metrics()) else {
        return Ok(Vec::new());
    };
    let mut loss = Curve {
        name: "loss".into(),
        ..Curve::default()
    };
    let mut rate = Curve {
        name: "learning rate".into(),
        ..Curve::default()
    };
    let mut scores: BTreeMap<String, BTreeMap<String, Curve>> = BTreeMap::new();
    for line in text.lines() {
        let Ok(line) = serde_json::from_str::<Value>(line) else {
            continue;
        };
        let Some(step) = line["step"].as_f64() else {
            continue;
        };
        match line["type"].as_str() {
            Some("step") => {
                push(&mut loss, step, &line["loss"]);
                push(&mut rate, step, &line["learning_rate"]);
            }
            Some("evaluation") => {
                let split = line["split"].as_str().unwrap_or("evaluation").to_string();
                for (name, value) in line["scores"].as_object().into_iter().flatten() {
                    let curves = scores.entry(split.clone()).or_default();
                    let curve = curves.entry(name.clone()).or_insert_with(|| Curve {
                        name: name.clone(),
                        ..Curve::default()
                    });
                    push(curve, step, value);
                }
            }
            _ => {}
        }
    }
    let mut charts = vec![
        Chart {
            title: "Training loss".into(),
            curves: vec![thinned(loss)],
        },
        Chart {
            title: "Learning rate".into(),
            curves: vec![thinned(rate)],
        },
    ];
    charts.extend(scores.into_iter().map(|(split, curves)| Chart {
        title: format!("Scores on {split}"),
        curves: curves.into_values().collect(),
    }));
    charts.retain(|chart| chart.curves.iter().any(|curve| curve.steps.len() > 1));
    Ok(charts)
}

fn push(curve: &mut Curve, step: f64, value: &Value) {
    curve.steps.push(step);
    curve.values.push(value.as_f64().unwrap_or(f64::NAN));
}

/// A curve of at most [`STEPS`] points: the means of stretches of equal length.
fn thinned(curve: Curve) -> Curve {
    let stretch = curve.steps.len().div_ceil(STEPS).max(1);
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    Curve {
        name: if stretch > 1 {
            format!("{} (means of {stretch} steps)", curve.name)
        } else {
            curve.name
        },
        steps: curve.steps.chunks(stretch).map(mean).collect(),
        values: curve.values.chunks(stretch).map(mean).collect(),
    }
}

fn recall(page: &mut Report, part: &PartScored) -> Result<(), Error> {
    let Some(neighbors) = &part.learned.evaluation.neighbors else {
        return Ok(());
    };
    let k: Vec<usize> = [1, 2, 4, 5, 8, 10, 16, 20, 32]
        .into_iter()
        .filter(|&k| k <= neighbors.k)
        .collect();
    let recall = k
        .iter()
        .map(|&k| Ok(recall_at(neighbors, k)?.mean().unwrap_or(f64::NAN)))
        .collect::<Result<_, Error>>()?;
    page.recall.push(RecallCurve {
        name: part.name.into(),
        k,
        recall,
    });
    Ok(())
}

fn distances(page: &mut Report, run: &RunFile, part: &PartScored) -> Result<(), Error> {
    let comparing = Comparing::of(run)?;
    let pairs = match &part.learned.evaluation.pairs {
        Some(pairs) => pairs.clone(),
        None => pair_distances(
            &part.learned.tables[0],
            comparing.measure(),
            PAIRS,
            run.seed,
        )?,
    };
    if pairs.positive.is_empty() || pairs.negative.is_empty() {
        return Ok(());
    }
    page.distances
        .push(DistanceHistogram::new(part.name, &pairs, 60));
    let roc = nearfar_eval::Roc::of_distances(&pairs)?;
    page.roc.push(RocCurve::new(part.name, &roc, 200));
    Ok(())
}

/// The towers before training. None where they started with weights that are no longer where they were.
fn untrained(run: &RunFile, data: &Data, device: &Device) -> Result<Option<Towers>, Error> {
    let inputs = data.annotation().inputs();
    let start = Start::AsSaid {
        told: &|_| (),
        data,
    };
    match assemble::towers(run, &data.shapes(), inputs, start, device) {
        Ok(towers) => Ok(Some(Towers::new(towers)?)),
        Err(_) if run.is_pretrained() => Ok(None),
        Err(error) => Err(error),
    }
}

/// The scatter before and after training, and what was found for some queries, with pictures of the samples.
fn pictures(
    page: &mut Report,
    run: &RunFile,
    data: &Data,
    part: &PartScored,
    device: &Device,
) -> Result<(), Error> {
    let dataset = data.part(part.name)?;
    let mut items = Items::default();
    let before = match untrained(run, data, device)? {
        Some(towers) => embedding::tables(&towers, Searched::of(run), dataset, device)?,
        None => Vec::new(),
    };
    let after = &part.learned.tables[0];
    let drawn = draw(after.len(), POINTS, PICTURES);
    for &row in &drawn {
        items.of(page, &**dataset, row);
    }
    let before = before
        .iter()
        .take(1)
        .map(|table| ("Before training", table));
    for (name, table) in before.chain([(LEARNED, after)]) {
        let title = if name == LEARNED {
            "After training"
        } else {
            name
        };
        page.scatters
            .push(Scatter::new(title, table, POINTS, PICTURES, |row| {
                items.0.get(&row).copied()
            })?);
    }
    if let Some(neighbors) = &part.learned.evaluation.neighbors
        && data
            .evaluation
            .iter()
            .any(|it| it.name == part.name && it.roles.is_none())
    {
        let chosen = Retrieved::choose(
            neighbors,
            QUERIES,
            FOUND,
            PICTURES,
            |query| query as u32,
            |row| row as u32,
        );
        for mut it in chosen {
            it.query = items.of(page, &**dataset, it.query as usize);
            for hit in &mut it.found {
                hit.item = items.of(page, &**dataset, hit.item as usize);
            }
            page.retrieved.push(it);
        }
    }
    Ok(())
}

/// Which of the page's items a sample is.
#[derive(Default)]
struct Items(BTreeMap<usize, u32>);

impl Items {
    fn of(&mut self, page: &mut Report, dataset: &dyn Dataset, row: usize) -> u32 {
        if let Some(&item) = self.0.get(&row) {
            return item;
        }
        let item = page.items.len() as u32;
        let picture = dataset.thumbnail(row as u32).map(|it| Picture {
            width: it.width as u32,
            height: it.height as u32,
            channels: it.channels as u8,
            pixels: it.pixels,
        });
        page.items.push(Item {
            label: dataset.labels().get(row).copied(),
            text: dataset.describe(row as u32),
            picture,
        });
        self.0.insert(row, item);
        item
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_curves_are_averaged() {
        let curve = Curve {
            name: "loss".into(),
            steps: (0..1200).map(f64::from).collect(),
            values: (0..1200).map(f64::from).collect(),
        };
        let thin = thinned(curve);
        assert_eq!(
            (thin.steps.len(), thin.values[0], thin.name.as_str()),
            (600, 0.5, "loss (means of 2 steps)")
        );
    }
}
