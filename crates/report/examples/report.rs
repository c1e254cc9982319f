//! Writes a report of generated data to `report.html`, or to the path that is given: clouds of points of ten classes in 16
//! dimensions, before and after the linear map that tells the classes apart.
#![allow(clippy::print_stdout)]

use std::error::Error;
use std::path::PathBuf;

use nearfar_core::{EmbeddingTable, Purpose, Seed};
use nearfar_eval::{
    Chart, Curve, DistanceHistogram, Interval, Item, Picture, RecallCurve, Report, Retrieved,
    RocCurve, Scatter, Score, ScoreRow, ScoreTable, Settings, Subject, evaluate, linear_baseline,
    recall_at,
};

const CLASSES: u32 = 10;
const DIM: usize = 16;

fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args_os()
        .nth(1)
        .map_or("report.html".into(), PathBuf::from);
    let (train, test) = (clouds(1, 60), clouds(2, 80));
    let map = linear_baseline(&train, 8)?;
    let tables = [("raw", test.clone()), ("linear map", map.apply(&test)?)];

    let scores: Vec<Score> = [
        "recall_at_1",
        "r_precision",
        "map_at_r",
        "nmi",
        "eer",
        "auc",
    ]
    .iter()
    .map(|name| name.parse())
    .collect::<Result<_, _>>()?;
    let settings = Settings {
        keep: 32,
        pairs: 50_000,
        ..Settings::default()
    };
    let evaluations: Vec<_> = tables
        .iter()
        .map(|(_, table)| evaluate(Subject::Within(table), &scores, &settings))
        .collect::<Result<_, _>>()?;

    let mut report = Report {
        title: "Ten clouds".into(),
        summary: "Generated points of ten classes, as they are and under a linear map that was fitted to other points.".into(),
        facts: [("Data", "800 points, 16 dimensions"), ("Map", "linear discriminant analysis to 8 dimensions"), ("Seed", "2")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .to_vec(),
        configuration: "seed = 2\nclasses = 10\n\n[map]\nkind = \"lda\"\ndim = 8\n".into(),
        environment: vec![("nearfar".into(), env!("CARGO_PKG_VERSION").into())],
        notes: vec!["The curves are made up.".into()],
        curves: made_up_curves(),
        ..Report::default()
    };
    report.class_names = (0..CLASSES)
        .map(|label| (label, format!("cloud {label}")))
        .collect();
    report.items = (0..test.len())
        .map(|row| Item {
            label: Some(test.labels[row]),
            text: format!("point {row}"),
            picture: Picture::from_planes(&picture(test.labels[row], row as u64), 1, 16, 16),
        })
        .collect();
    report.scores.push(ScoreTable {
        title: "Points that the map was not fitted to".into(),
        columns: tables.iter().map(|(name, _)| (*name).to_owned()).collect(),
        rows: scores
            .iter()
            .map(|score| ScoreRow {
                name: score.title(),
                higher_is_better: score.higher_is_better(),
                values: evaluations
                    .iter()
                    .map(|evaluation| {
                        evaluation
                            .scores
                            .get(&score.to_string())
                            .copied()
                            .map(Interval::single)
                    })
                    .collect(),
            })
            .collect(),
    });
    for ((name, table), evaluation) in tables.iter().zip(&evaluations) {
        report
            .scatters
            .push(Scatter::new(name, table, 2000, Seed(1), |row| {
                Some(row as u32)
            })?);
        if let Some(pairs) = &evaluation.pairs {
            report
                .distances
                .push(DistanceHistogram::new(name, pairs, 60));
        }
    }
    for ((name, _), evaluation) in tables.iter().zip(&evaluations).rev() {
        if let Some(roc) = &evaluation.roc {
            report.roc.push(RocCurve::new(name, roc, 300));
        }
        if let Some(neighbors) = &evaluation.neighbors {
            let k = vec![1, 2, 4, 8, 16, 32];
            let recall = k
                .iter()
                .map(|&k| Ok(recall_at(neighbors, k)?.mean().unwrap_or(f64::NAN)))
                .collect::<Result<_, nearfar_eval::Error>>()?;
            report.recall.push(RecallCurve {
                name: (*name).into(),
                k,
                recall,
            });
        }
    }
    if let Some(neighbors) = evaluations
        .last()
        .and_then(|evaluation| evaluation.neighbors.as_ref())
    {
        report.retrieved = Retrieved::choose(
            neighbors,
            10,
            8,
            Seed(3),
            |query| query as u32,
            |row| row as u32,
        );
    }
    nearfar_report::write_html(&path, &report)?;
    println!("{}", path.display());
    Ok(())
}

/// Points around the middles of classes, which differ in 5 of 16 dimensions.
fn clouds(seed: u64, points: u32) -> EmbeddingTable {
    let mut table = EmbeddingTable::new(DIM);
    let mut rng = Seed(seed).rng(Purpose::Generation, 1000);
    for index in 0..CLASSES * points {
        let label = index % CLASSES;
        let mut middle = Seed(7).rng(Purpose::Generation, u64::from(label));
        for dimension in 0..DIM {
            let (offset, spread) = if dimension < 5 {
                (3.2 * middle.normal(), 1.0)
            } else {
                (0.0, 2.0)
            };
            table.vectors.push((offset + spread * rng.normal()) as f32);
        }
        table.labels.push(label);
        table.ids.push(u64::from(index));
    }
    table
}

/// A ring with as many dents as the class says, a little turned.
fn picture(label: u32, seed: u64) -> Vec<f32> {
    let mut rng = Seed(seed).rng(Purpose::Generation, 2000);
    let (turn, noise) = (rng.uniform(), 0.15);
    (0..256)
        .map(|pixel| {
            let (x, y) = (f64::from(pixel % 16) - 7.5, f64::from(pixel / 16) - 7.5);
            let wave = (y.atan2(x) * f64::from(label) + turn).cos();
            let off = (x.hypot(y) - 4.5 - 1.6 * wave).abs();
            ((1.3 - 0.6 * off).clamp(0.0, 1.0) * (1.0 - noise) + noise * rng.uniform()) as f32
        })
        .collect()
}

fn made_up_curves() -> Vec<Chart> {
    let mut rng = Seed(5).rng(Purpose::Generation, 3000);
    let steps: Vec<f64> = (1..=600).map(f64::from).collect();
    let loss = steps
        .iter()
        .map(|step| (-step / 150.0).exp() * 0.8 + 0.08 + 0.05 * rng.normal().abs())
        .collect();
    let epochs: Vec<f64> = (1..=12).map(|epoch| f64::from(epoch) * 50.0).collect();
    let curve = |top: f64, rate: f64| {
        epochs
            .iter()
            .map(|step| top * (1.0 - (-step / rate).exp()))
            .collect()
    };
    vec![
        Chart {
            title: "Loss".into(),
            curves: vec![Curve {
                name: "triplet margin".into(),
                steps,
                values: loss,
            }],
        },
        Chart {
            title: "Scores during training".into(),
            curves: vec![
                Curve {
                    name: "Recall@1".into(),
                    steps: epochs.clone(),
                    values: curve(0.93, 120.0),
                },
                Curve {
                    name: "MAP@R".into(),
                    steps: epochs.clone(),
                    values: curve(0.71, 180.0),
                },
            ],
        },
    ]
}
