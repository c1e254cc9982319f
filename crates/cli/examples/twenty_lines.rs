//! Handwritten digits to an embedding, with the crates alone: the same as `nearfar demo`.
#![allow(clippy::print_stdout)] // It shows what came of it.

use std::path::Path;

use candle_core::{DType, Device};
use nearfar_core::{Batches, Seed, Span};
use nearfar_datasets::{ClassesBySamples, DataConfig, ImageSet, Loader};
use nearfar_eval::{Score, Settings, Subject, evaluate};
use nearfar_losses::{Mining, OverTriplets, TripletMargin};
use nearfar_metrics::Euclidean;
use nearfar_miners::SemiHard;
use nearfar_models::{Conv4, InputShape, Params};
use nearfar_trainer::{OptimizerConfig, Options, Run, ScheduleConfig, Trainer, fit, optim::Adam};

fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let (seed, cpu) = (Seed(7), Device::Cpu);
    let data = DataConfig::Digits(ImageSet::default()).load(Path::new("data"), seed)?;

    let params = Params::new(seed, DType::F32, &cpu)?;
    let shape = InputShape::Image {
        channels: 1,
        height: 8,
        width: 8,
    };
    let encoder = Conv4 {
        blocks: 3,
        channels: 32,
        width: 32,
        ..Conv4::default()
    }
    .build(&shape, &params)?;

    let mut loss = OverTriplets::new(
        "triplet_margin",
        TripletMargin::default(),
        Box::new(Euclidean {}),
    );
    loss.mining = Mining::by(SemiHard::default());
    let adam = OptimizerConfig::from(Adam::default()).build()?;
    let schedule = ScheduleConfig::default().build(1e-3, None)?;
    let trainer = Trainer::new(
        vec![Box::new(encoder)],
        Box::new(loss),
        adam,
        schedule,
        Options::default(),
    )?;

    let sampler = ClassesBySamples {
        classes: 8,
        samples: 8,
        ..ClassesBySamples::default()
    };
    let batches = Loader::new(data.train.clone(), Box::new(sampler), seed, cpu.clone());
    let mut run = Run::new(trainer, Box::new(batches));
    fit(&mut run, Span::Steps(400), &mut |_| Ok(()))?;

    let test = Loader::in_order(data.part("test")?.clone(), 256, cpu);
    let table = run.trainer.table(test.sweep())?;
    let scores = evaluate(
        Subject::Within(&table),
        &[Score::RecallAt(1), Score::MapAtR],
        &Settings::default(),
    )?
    .scores;
    println!("{scores:?}");
    Ok(())
}
