//! Samples, batches and an encoder for the runs.

use candle_core::{DType, Device, Tensor};
use nearfar_core::{Batch, EmbeddingTable, Encoder, Input, Loss, Mode, Purpose, Rng, Supervision};
use nearfar_models::{InputShape, Mlp, Params};
use nearfar_trainer::{OptimizerConfig, Options, ScheduleConfig, Trainer};

use super::{NOISE, SEED, WIDTH};

/// Rows of numbers.
pub(super) type Rows = Vec<Vec<f32>>;

/// A stream for data, or for batches.
pub(super) fn stream(position: u64) -> Rng {
    SEED.rng(Purpose::Generation, position)
}

/// A row that says something, with some noise, and behind it numbers that say nothing.
pub(super) fn sample(signal: &[f64], rng: &mut Rng) -> Vec<f32> {
    let told = signal.iter().map(|x| x + 0.2 * rng.normal());
    let mut row: Vec<f32> = told.map(|x| x as f32).collect();
    row.extend((0..NOISE).map(|_| 1.5 * rng.normal() as f32));
    row
}

/// So many directions of length 1.
pub(super) fn directions(count: usize, width: usize, rng: &mut Rng) -> Vec<Vec<f64>> {
    let direction = |_| {
        let numbers: Vec<f64> = (0..width).map(|_| rng.normal()).collect();
        let length = numbers.iter().map(|x| x * x).sum::<f64>().sqrt();
        numbers.into_iter().map(|x| x / length).collect()
    };
    (0..count).map(direction).collect()
}

pub(super) fn tensor(rows: &[Vec<f32>]) -> Tensor {
    let width = rows.first().map_or(0, Vec::len);
    Tensor::from_vec(rows.concat(), (rows.len(), width), &Device::Cpu).expect("rows of one length")
}

pub(super) fn table(rows: &[Vec<f32>], labels: &[u32]) -> EmbeddingTable {
    EmbeddingTable {
        vectors: rows.concat(),
        dim: rows.first().map_or(0, Vec::len),
        labels: labels.to_vec(),
        ids: (0..rows.len() as u64).collect(),
    }
}

/// So many different rows of `count`.
pub(super) fn drawn(size: usize, count: usize, rng: &mut Rng) -> Vec<usize> {
    let order = rng.permutation(count);
    order[..size].iter().map(|&it| it as usize).collect()
}

pub(super) fn at<T: Clone>(all: &[T], places: &[usize]) -> Vec<T> {
    places.iter().map(|&place| all[place].clone()).collect()
}

/// A batch of one or two inputs.
pub(super) fn batch(inputs: Vec<Tensor>, supervision: Supervision) -> Batch {
    let ids = inputs.iter().zip(0u64..).map(|(input, side)| {
        let rows = input.dim(0).expect("rows") as u64;
        (0..rows).map(|row| side << 40 | row).collect()
    });
    Batch {
        ids: ids.collect(),
        inputs: inputs.into_iter().map(Input::Dense).collect(),
        supervision,
    }
}

/// Full layers, whose embeddings have the length that they have.
pub(super) fn mlp(features: usize, tower: usize) -> Box<dyn Encoder> {
    let params = Params::new(SEED, DType::F32, &Device::Cpu).expect("f32 is possible");
    let settings = Mlp {
        width: WIDTH,
        hidden: vec![48],
        normalize: false,
        ..Mlp::default()
    };
    let input = InputShape::Features(features);
    let tower = settings.build(&input, &params.at(tower)).expect("it fits");
    Box::new(tower)
}

pub(super) fn train(
    towers: Vec<Box<dyn Encoder>>,
    loss: Box<dyn Loss>,
    steps: u64,
    mut batch: impl FnMut(&mut Rng) -> Batch,
) -> Trainer {
    let adam: OptimizerConfig =
        toml::from_str("adam = { learning_rate = 3e-3 }").expect("settings");
    let schedule = ScheduleConfig::default().build(adam.learning_rate(), Some(steps));
    let options = Options {
        seed: SEED,
        ..Options::default()
    };
    let (schedule, adam) = (schedule.expect("it fits"), adam.build().expect("it fits"));
    let mut trainer = Trainer::new(towers, loss, adam, schedule, options).expect("it fits");
    for step in 0..steps {
        let batch = batch(&mut SEED.rng(Purpose::Sampling, step));
        trainer
            .step(&batch)
            .unwrap_or_else(|error| panic!("{error}"));
    }
    assert!(
        trainer.counters().learned > steps / 2,
        "most batches have something to learn"
    );
    trainer
}

/// Embeddings of one tower.
pub(super) fn embedded(tower: &dyn Encoder, rows: &[Vec<f32>], labels: &[u32]) -> EmbeddingTable {
    let input = Input::Dense(tensor(rows));
    let encoded = tower.encode(&input, Mode::Eval).expect("it reads them");
    let vectors = encoded.embedding.to_vec2::<f32>().expect("a matrix");
    table(&vectors, labels)
}
