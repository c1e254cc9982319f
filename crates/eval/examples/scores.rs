//! Scores of three clouds of points, and of the same after a linear map that was fitted to other points.
#![allow(clippy::print_stdout)]

use nearfar_core::{EmbeddingTable, Purpose, Seed};
use nearfar_eval::{Score, Settings, Subject, evaluate, linear_baseline};

/// Points of `classes` clouds that differ in 3 of 20 dimensions.
fn clouds(seed: u64, classes: u32, points: u32) -> EmbeddingTable {
    let mut table = EmbeddingTable::new(20);
    let mut rng = Seed(seed).rng(Purpose::Generation, 0);
    for index in 0..classes * points {
        let label = index % classes;
        let mut center = Seed(0).rng(Purpose::Generation, u64::from(label));
        for dimension in 0..20 {
            let middle = if dimension < 3 {
                2.5 * center.normal()
            } else {
                0.0
            };
            let spread = if dimension < 3 { 1.0 } else { 3.0 };
            table.vectors.push((middle + spread * rng.normal()) as f32);
        }
        table.labels.push(label);
        table.ids.push(u64::from(index));
    }
    table
}

fn main() -> Result<(), nearfar_eval::Error> {
    let (train, test) = (clouds(1, 10, 40), clouds(2, 10, 20));
    let names = ["recall_at_1", "r_precision", "map_at_r", "eer", "nmi"];
    let scores = names
        .iter()
        .map(|name| name.parse())
        .collect::<Result<Vec<Score>, _>>()?;
    let map = linear_baseline(&train, 3)?;
    for (name, table) in [("as they are", test.clone()), (map.kind, map.apply(&test)?)] {
        let evaluation = evaluate(Subject::Within(&table), &scores, &Settings::default())?;
        let line: Vec<String> = evaluation
            .scores
            .iter()
            .map(|(name, value)| format!("{name} {value:.3}"))
            .collect();
        println!("{name:12} {}", line.join("  "));
    }
    Ok(())
}
