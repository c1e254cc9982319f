//! Losses that do not learn from classes alone, each shown to learn: one small run on data that fit, which must be better than a
//! named plain way by a margin.
//!
//! `cargo test -p nearfar-conformance learns -- --nocapture` prints the table. What a loss is given follows from what it
//! [`Reads`]; a loss that is added to the registry is in here from then on.

use std::time::Instant;

use candle_core::DType;
use nearfar_core::{Loss, Seed};
use nearfar_losses::{LossConfig, Reads, SelfSupervised, SelfSupervision};

use crate::joined::joined;

mod of_images;
mod of_rows;
mod plain;
mod training;

use of_images::{of_beside, of_masks};
use of_rows::{of_domains, of_pairs, of_scored_pairs, of_sets, of_targets, of_views};

const SEED: Seed = Seed(23);
/// Numbers in an embedding.
const WIDTH: usize = 8;
/// Numbers in a sample that say something, and numbers that say nothing but are larger.
const SIGNAL: usize = 8;
const NOISE: usize = 12;

/// What came of one run.
struct Learned {
    /// Who learned.
    loss: String,
    /// From what.
    data: &'static str,
    /// How it is scored; more is better.
    score: &'static str,
    /// The best of the plain ways, and its score.
    plain: (&'static str, f64),
    /// The score of what was learned, and by how much it must be better.
    learned: f64,
    margin: f64,
    seconds: f64,
}

impl Learned {
    fn has(&self) -> bool {
        self.learned >= self.plain.1 + self.margin
    }
}

/// What a loss is given, by what it reads; none for those of classes, which have runs of their own.
fn run_of(config: &LossConfig) -> Option<Learned> {
    let start = Instant::now();
    let mut learned = match (config.reads(), config.name()) {
        (Reads::Sets, _) => of_sets(config),
        (Reads::Targets, _) => of_targets(config),
        (Reads::ScoredPairs, _) => of_scored_pairs(config),
        (Reads::Views, _) => of_views(config.name().into(), || loss_of(config)),
        (Reads::Masks, _) => of_masks(config),
        (_, "correlated") => of_domains(config),
        (_, "contrastive_tension" | "neculoiu") => of_pairs(config),
        (Reads::Classes | Reads::ClassesOrPairs, _) => return None,
    };
    learned.seconds = start.elapsed().as_secs_f64();
    Some(learned)
}

fn loss_of(config: &LossConfig) -> Box<dyn Loss> {
    joined(config, None, (1, WIDTH), DType::F32)
}

#[test]
#[allow(clippy::print_stdout)] // The table is for whoever asks for it.
fn every_loss_that_reads_more_than_classes_learns() {
    let all = LossConfig::all();
    let named = |name: &str| {
        all.iter()
            .find(|it| it.name() == name)
            .expect("it is known")
    };
    let mut rows: Vec<Learned> = all.iter().filter_map(run_of).collect();
    let mut timed = |run: &dyn Fn() -> Learned| {
        let start = Instant::now();
        let learned = run();
        let seconds = start.elapsed().as_secs_f64();
        rows.push(Learned { seconds, ..learned });
    };
    let self_supervised = || -> Box<dyn Loss> {
        Box::new(SelfSupervised {
            loss: loss_of(named("nt_xent")),
            settings: SelfSupervision::default(),
        })
    };
    timed(&|| of_views("nt_xent, self_supervised".into(), self_supervised));
    timed(&|| of_beside(named("triplet_margin"), "part.0"));
    timed(&|| of_beside(named("triplet_margin"), "hidden.0"));

    println!("| loss | learns from | score | the best plain way | has | learned | seconds |");
    println!("|---|---|---|---|---|---|---|");
    for row in &rows {
        println!(
            "| {} | {} | {} | {} | {:.3} | {:.3} | {:.1} |",
            row.loss, row.data, row.score, row.plain.0, row.plain.1, row.learned, row.seconds
        );
    }
    let total: f64 = rows.iter().map(|row| row.seconds).sum();
    println!("{} runs in {total:.0} s", rows.len());
    let idle: Vec<String> = rows
        .iter()
        .filter(|row| !row.has())
        .map(|row| {
            format!(
                "{}: {:.3}, where {} has {:.3} and {:.2} more is wanted",
                row.loss, row.learned, row.plain.0, row.plain.1, row.margin
            )
        })
        .collect();
    assert!(idle.is_empty(), "{}", idle.join("\n"));
}
