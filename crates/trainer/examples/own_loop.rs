//! A run on a model, loss and data of one's own: killed in the middle, continued, and none the worse for it.
#![allow(clippy::print_stdout)] // It shows what it did.

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::{Device, Result, Tensor, Var};
use nearfar_core::{
    Batch, Batches, BoxError, Comparison, Encoded, Encoder, Evaluated, Input, Loss, Mode,
    Parameter, Part, Purpose, Rng, Seed, Span, Stateful, Supervision, Terms,
};
use nearfar_trainer::checkpoint::sha256;
use nearfar_trainer::{
    Answer, Best, Better, Checkpoints, Ended, Event, OptimizerConfig, Options, Run, RunLock,
    SaveEvery, ScheduleConfig, Trainer, Watch, fit, on_large_stack, optim::AdamW, schedule::Cosine,
};

/// A matrix.
struct Linear(Var);

impl Encoder for Linear {
    fn encode(&self, input: &Input, _: Mode<'_>) -> Result<Encoded> {
        Ok(input.dense("linear")?.matmul(self.0.as_tensor())?.into())
    }
    fn width(&self) -> usize {
        2
    }
    fn parameters(&self) -> Vec<Parameter> {
        vec![Parameter {
            name: "weight".into(),
            var: self.0.clone(),
            trained: true,
        }]
    }
}

/// How far rows are from a corner for their class.
#[derive(Debug)]
struct Corners;

impl Stateful for Corners {}

impl Loss for Corners {
    fn evaluate(&self, comparison: &Comparison<'_>, _: &mut Rng) -> Result<Evaluated> {
        let rows = comparison.anchors;
        let corners = Tensor::new(&[[1f32, 0.], [0., 1.], [-1., -1.]], rows.vectors.device())?;
        let labels = Tensor::new(&rows.labels[..], rows.vectors.device())?;
        let value = (&rows.vectors - corners.index_select(&labels, 0)?)?
            .sqr()?
            .mean_all()?;
        let part = Part {
            name: "corner",
            value: Some(value),
            terms: rows.len(),
            active: rows.len(),
        };
        Ok(Evaluated { parts: vec![part] })
    }
    fn terms(&self, _: &Comparison<'_>, _: &mut Rng) -> Result<Vec<Terms>> {
        Ok(Vec::new())
    }
}

/// Points around three places, drawn anew for each epoch.
struct Clouds(Seed);

impl Clouds {
    fn batch(&self, epoch: u64, number: u64) -> Result<Batch> {
        let place = epoch << 8 | number;
        let mut rng = self.0.rng(Purpose::Generation, place);
        let places = [
            [2.0, 0.5, 0.0, 1.0],
            [0.0, 2.0, 0.5, -1.0],
            [0.5, 0.0, 2.0, 0.0],
        ];
        let (mut values, mut labels) = (Vec::new(), Vec::new());
        for row in 0..16 {
            let class = row % places.len();
            values.extend(places[class].map(|x| (x + 0.3 * rng.normal()) as f32));
            labels.push(class as u32);
        }
        Ok(Batch {
            inputs: vec![Input::Dense(Tensor::from_vec(
                values,
                (16, 4),
                &Device::Cpu,
            )?)],
            supervision: Supervision::Classes(vec![labels]),
            ids: vec![(0..16).map(|row| place << 4 | row).collect()],
        })
    }
}

impl Stateful for Clouds {}

impl Batches for Clouds {
    fn epoch(
        &self,
        epoch: u64,
        skip: u64,
    ) -> Box<dyn Iterator<Item = std::result::Result<Batch, BoxError>> + '_> {
        Box::new((skip..10).map(move |number| Ok(self.batch(epoch, number)?)))
    }
    fn sweep(&self) -> Box<dyn Iterator<Item = std::result::Result<Batch, BoxError>> + '_> {
        self.epoch(0, 0)
    }
}

fn new_run() -> std::result::Result<Run, BoxError> {
    let weight = Var::zeros((4, 2), candle_core::DType::F32, &Device::Cpu)?;
    let adamw = OptimizerConfig::from(AdamW::default());
    let cosine = ScheduleConfig::Cosine(Cosine {
        warmup: 5,
        ..Cosine::default()
    });
    let schedule = cosine.build(0.1, Some(60))?;
    let trainer = Trainer::new(
        vec![Box::new(Linear(weight))],
        Box::new(Corners),
        adamw.build()?,
        schedule,
        Options::default(),
    )?;
    let spread = |trainer: &Trainer| -> std::result::Result<_, BoxError> {
        let table = trainer.table(Clouds(Seed(1)).epoch(0, 0))?;
        let right = (0..table.len()).filter(|&index| {
            let row = table.row(index);
            let class = match (row[0] > 0.5, row[1] > 0.5) {
                (true, false) => 0,
                (false, true) => 1,
                _ => 2,
            };
            class == table.labels[index]
        });
        let accuracy = right.count() as f64 / table.len() as f64;
        Ok(BTreeMap::from([("accuracy".to_string(), accuracy)]))
    };
    let words = Watch::new(|trainer: &Trainer, event: &Event<'_>| {
        match event {
            Event::Evaluation { scores, .. } => {
                println!("step {}: {scores:?}", trainer.position().step);
            }
            Event::Saved { best } => {
                println!("saved{}", if *best { ", the best so far" } else { "" })
            }
            _ => {}
        }
        Ok(Answer::GoOn)
    });
    Ok(Run::new(trainer, Box::new(Clouds(Seed(0))))
        .evaluated("clouds", Span::Epochs(1), spread)
        .watched_by("save", SaveEvery(Span::Steps(15)))
        .watched_by("best", Best::new("accuracy", Better::Higher))
        .watched_by("words", words))
}

/// Trains in a folder, from where it was left.
fn train(folder: &Path, until: Span) -> std::result::Result<(Ended, String), BoxError> {
    let _lock = RunLock::acquire(folder)?;
    let configuration = sha256(b"what the run file says, with all its defaults");
    let store = Checkpoints::open(folder.join("checkpoints"), &configuration, 2)?;
    let mut run = new_run()?;
    if let Some(loaded) = store.latest()? {
        println!("{loaded}");
        run.restore(&loaded.checkpoint)?;
    }
    let ended = fit(&mut run, until, &mut |checkpoint| {
        store.save(checkpoint)?;
        Ok(())
    })?;
    let weight = run.trainer.model()?["weight"]
        .flatten_all()?
        .to_vec1::<f32>()?;
    Ok((ended, format!("{weight:?}")))
}

fn main() -> std::result::Result<(), BoxError> {
    let folder = std::env::temp_dir().join(format!("nearfar-own-loop-{}", std::process::id()));
    let (broken, straight) = (folder.join("broken"), folder.join("straight"));
    std::fs::create_dir_all(&broken)?;
    std::fs::create_dir_all(&straight)?;
    on_large_stack(|| -> std::result::Result<(), BoxError> {
        train(&broken, Span::Steps(23))?; // In the middle of the third epoch.
        let (_, one) = train(&broken, Span::Epochs(6))?;
        let (_, other) = train(&straight, Span::Epochs(6))?;
        println!("the same weights: {}", one == other);
        assert_eq!(one, other);
        Ok(())
    })??;
    std::fs::remove_dir_all(&folder)?;
    Ok(())
}
