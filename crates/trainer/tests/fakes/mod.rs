//! A few lines each: an encoder, a loss and batches that have everything a run can remember.
#![allow(dead_code, unreachable_pub)] // Each test file uses some of it.

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::{DType, Device, Result, Tensor, Var};
use nearfar_core::{
    Batch, Batches, BoxError, Comparison, EmbeddingTable, Encoded, Encoder, Evaluated, Input, Loss,
    Mode, Parameter, Part, Purpose, Rng, Seed, Span, Stateful, Supervision, Terms,
};
use nearfar_trainer::checkpoint::{Checkpoints, Fs, MemoryFs};
use nearfar_trainer::{
    OptimizerConfig, Options, Outcome, Run, Schedule, ScheduleConfig, Trainer, schedule,
};

/// `(x − running mean) W`, with dropout.
pub struct Line {
    pub weight: Var,
    pub bias: Var,
    pub mean: Var,
}

impl Line {
    pub fn new() -> Self {
        let weight = [[0.5f32, -0.25, 1.0], [0.75, 0.5, -1.0]];
        Self {
            weight: Var::new(&weight, &Device::Cpu).expect("small"),
            bias: Var::new(&[0.1f32, 0.0, -0.1], &Device::Cpu).expect("small"),
            mean: Var::zeros(2, DType::F32, &Device::Cpu).expect("small"),
        }
    }
}

impl Encoder for Line {
    fn encode(&self, input: &Input, mode: Mode<'_>) -> Result<Encoded> {
        let mut x = input.dense("line")?.clone();
        if let Mode::Train(rng) = mode {
            let mean = ((self.mean.as_tensor() * 0.75)? + (x.mean(0)? * 0.25)?)?;
            self.mean.set(&mean.detach())?;
            let kept: Vec<f32> = (0..x.elem_count())
                .map(|_| if rng.chance(0.8) { 1.25 } else { 0.0 })
                .collect();
            x = (x.broadcast_sub(&mean)? * Tensor::from_vec(kept, x.dims(), x.device())?)?;
        } else {
            x = x.broadcast_sub(self.mean.as_tensor())?;
        }
        Ok(x.matmul(self.weight.as_tensor())?
            .broadcast_add(self.bias.as_tensor())?
            .into())
    }

    fn width(&self) -> usize {
        3
    }

    fn parameters(&self) -> Vec<Parameter> {
        let parameter = |name: &str, var: &Var, trained| Parameter {
            name: name.into(),
            var: var.clone(),
            trained,
        };
        vec![
            parameter("bias", &self.bias, true),
            parameter("running_mean", &self.mean, false),
            parameter("weight", &self.weight, true),
        ]
    }
}

/// Pulls rows to the centers of their classes, and their mean to where it was at the last batch.
#[derive(Debug)]
pub struct Pull {
    pub centers: Var,
    pub memory: Option<Tensor>,
    pub rebuilt: Option<Tensor>,
    pub every: Option<Span>,
}

impl Pull {
    pub fn new(every: Option<Span>) -> Self {
        let centers = [[1f32, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]];
        Self {
            centers: Var::new(&centers, &Device::Cpu).expect("small"),
            memory: None,
            rebuilt: None,
            every,
        }
    }
}

impl Stateful for Pull {
    fn state(&self) -> BTreeMap<String, Tensor> {
        let named = |name: &str, it: &Option<Tensor>| Some((name.to_string(), it.clone()?));
        named("memory", &self.memory)
            .into_iter()
            .chain(named("rebuilt", &self.rebuilt))
            .collect()
    }

    fn restore(&mut self, state: &BTreeMap<String, Tensor>) -> Result<()> {
        self.memory = state.get("memory").cloned();
        self.rebuilt = state.get("rebuilt").cloned();
        Ok(())
    }

    fn interval(&self) -> Option<Span> {
        self.every
    }

    fn refresh(&mut self, table: &EmbeddingTable, rng: &mut Rng) -> Result<()> {
        let first = table.row(rng.below(table.len())).to_vec();
        self.rebuilt = Some(Tensor::new(first, &Device::Cpu)?);
        Ok(())
    }
}

impl Loss for Pull {
    fn evaluate(&self, comparison: &Comparison<'_>, rng: &mut Rng) -> Result<Evaluated> {
        let rows = comparison.anchors;
        let nothing = rows.labels.iter().all(|label| *label == rows.labels[0]);
        let labels = Tensor::new(&rows.labels[..], &Device::Cpu)?;
        let to_centers = (&rows.vectors - self.centers.as_tensor().index_select(&labels, 0)?)?;
        let pull = (to_centers.sqr()?.mean_all()? * rng.uniform_between(0.5, 1.5))?;
        let mut value = pull;
        for kept in [&self.memory, &self.rebuilt].into_iter().flatten() {
            value = (value + ((rows.vectors.mean(0)? - kept)?.sqr()?.sum_all()? * 0.1)?)?;
        }
        let part = |name, value| Part {
            name,
            value,
            terms: rows.len(),
            active: rows.len(),
        };
        Ok(Evaluated {
            parts: vec![
                part("pull", (!nothing).then_some(value)),
                part("absent", None),
            ],
        })
    }

    fn terms(&self, _: &Comparison<'_>, _: &mut Rng) -> Result<Vec<Terms>> {
        Ok(Vec::new())
    }

    fn absorb(&mut self, comparison: &Comparison<'_>) -> Result<()> {
        self.memory = Some(comparison.anchors.vectors.detach().mean(0)?);
        Ok(())
    }

    fn parameters(&self) -> Vec<Parameter> {
        vec![Parameter {
            name: "centers".into(),
            var: self.centers.clone(),
            trained: true,
        }]
    }
}

/// Seven rows of three classes in batches of two, three and two, in an order of each epoch. A refresh shifts the order.
pub struct Rows {
    pub seed: Seed,
    pub every: Option<Span>,
    pub shift: u32,
    /// The place in an epoch of a row that is not finite.
    pub poison: Option<(u64, u64)>,
}

pub const ROWS: [([f32; 2], u32); 7] = [
    ([0.5, 1.0], 0),
    ([1.5, -0.5], 0),
    ([-1.0, 0.25], 1),
    ([2.0, 1.0], 1),
    ([0.0, -2.0], 2),
    ([-0.75, 0.5], 2),
    ([1.0, 1.0], 0),
];

impl Rows {
    pub fn new(every: Option<Span>) -> Self {
        Self {
            seed: Seed(7),
            every,
            shift: 0,
            poison: None,
        }
    }
}

pub fn batch(rows: &[([f32; 2], u32)], first_id: u64) -> Batch {
    let values: Vec<f32> = rows.iter().flat_map(|row| row.0).collect();
    let values = Tensor::from_vec(values, (rows.len(), 2), &Device::Cpu).expect("small");
    Batch {
        inputs: vec![Input::Dense(values)],
        supervision: Supervision::Classes(vec![rows.iter().map(|row| row.1).collect()]),
        ids: vec![(first_id..first_id + rows.len() as u64).collect()],
    }
}

impl Stateful for Rows {
    fn state(&self) -> BTreeMap<String, Tensor> {
        BTreeMap::from([(
            "shift".into(),
            Tensor::new(&[self.shift], &Device::Cpu).expect("small"),
        )])
    }

    fn restore(&mut self, state: &BTreeMap<String, Tensor>) -> Result<()> {
        self.shift = state["shift"].to_vec1::<u32>()?[0];
        Ok(())
    }

    fn interval(&self) -> Option<Span> {
        self.every
    }

    fn refresh(&mut self, table: &EmbeddingTable, _: &mut Rng) -> Result<()> {
        // A function of the embeddings, as hard classes are.
        self.shift = table
            .vectors
            .iter()
            .fold(0u32, |hash, x| hash.rotate_left(5) ^ x.to_bits())
            % 7;
        Ok(())
    }
}

impl Batches for Rows {
    fn epoch(
        &self,
        epoch: u64,
        skip: u64,
    ) -> Box<dyn Iterator<Item = std::result::Result<Batch, BoxError>> + '_> {
        let mut order = self
            .seed
            .rng(Purpose::Sampling, epoch)
            .permutation(ROWS.len());
        order.rotate_left(self.shift as usize);
        let rows: Vec<_> = order.iter().map(|&index| ROWS[index as usize]).collect();
        let cut = [(0, 2), (2, 5), (5, 7)].into_iter().enumerate();
        Box::new(cut.skip(skip as usize).map(move |(number, (start, end))| {
            let mut rows = rows[start..end].to_vec();
            if self.poison == Some((epoch, number as u64)) {
                rows[1].0[0] = f32::NAN;
            }
            Ok(batch(&rows, epoch << 44 | start as u64))
        }))
    }

    fn sweep(&self) -> Box<dyn Iterator<Item = std::result::Result<Batch, BoxError>> + '_> {
        Box::new(
            ROWS.chunks(4)
                .zip([0, 4])
                .map(|(rows, first)| Ok(batch(rows, first))),
        )
    }
}

pub fn constant(rate: f64) -> Box<dyn Schedule> {
    ScheduleConfig::default()
        .build(rate, None)
        .expect("a constant")
}

pub fn trainer(optimizer: &OptimizerConfig, every: Option<Span>, options: Options) -> Trainer {
    let cosine = schedule::Cosine {
        warmup: 2,
        ..Default::default()
    };
    let schedule = ScheduleConfig::Cosine(cosine)
        .build(optimizer.learning_rate(), Some(20))
        .expect("fits");
    let optimizer = optimizer.build().expect("fits");
    Trainer::new(
        vec![Box::new(Line::new())],
        Box::new(Pull::new(every)),
        optimizer,
        schedule,
        options,
    )
    .expect("fits")
}

/// A run that nobody watches.
pub fn run(every: Option<Span>) -> Run {
    let trainer = trainer(
        &OptimizerConfig::Adam(Default::default()),
        every,
        Options::default(),
    );
    Run::new(trainer, Box::new(Rows::new(every)))
}

/// Bits of all tensors, by name.
pub fn bits(tensors: &BTreeMap<String, Tensor>) -> BTreeMap<String, Vec<u64>> {
    let bits = |tensor: &Tensor| -> Vec<u64> {
        let flat = tensor.flatten_all().expect("contiguous");
        match tensor.dtype() {
            DType::F32 => flat
                .to_vec1::<f32>()
                .expect("f32")
                .iter()
                .map(|x| u64::from(x.to_bits()))
                .collect(),
            DType::F64 => flat
                .to_vec1::<f64>()
                .expect("f64")
                .iter()
                .map(|x| x.to_bits())
                .collect(),
            DType::U32 => flat
                .to_vec1::<u32>()
                .expect("u32")
                .iter()
                .map(|&x| u64::from(x))
                .collect(),
            DType::I64 => flat
                .to_vec1::<i64>()
                .expect("i64")
                .iter()
                .map(|&x| x as u64)
                .collect(),
            other => panic!("{other:?}"),
        }
    };
    tensors
        .iter()
        .map(|(name, tensor)| (name.clone(), bits(tensor)))
        .collect()
}

pub fn loss_of(outcome: &Outcome) -> f64 {
    match outcome {
        Outcome::Learned { loss, .. } => *loss,
        Outcome::NothingToLearn => panic!("there is something to learn"),
    }
}

pub const FOLDER: &str = "/runs/a/checkpoints";

pub fn store(fs: &MemoryFs, keep: usize) -> Checkpoints {
    Checkpoints::open_on(Box::new(fs.clone()), FOLDER, "run", keep).expect("a healthy file system")
}

/// All files of a checkpoint.
pub fn files(fs: &dyn Fs, name: &str) -> BTreeMap<String, Vec<u8>> {
    let path = Path::new(FOLDER).join(name);
    let names = fs.read_dir(&path).expect("a checkpoint");
    names
        .into_iter()
        .map(|name| {
            (
                name.clone(),
                fs.read(&path.join(&name), 1 << 30).expect("a file"),
            )
        })
        .collect()
}
