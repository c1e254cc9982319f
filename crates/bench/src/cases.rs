//! Our side of the cases, each a step that is repeated.

use std::io::{BufRead, Write};
use std::path::Path;
use std::time::Instant;

use candle_core::{DType, Device, Tensor, Var};
use nearfar_core::{
    Comparison, Embeddings, Encoder, Fraction, Input, Loss, Mode, Purpose, Rng, Seed,
};
use nearfar_losses::{
    Compares, CrossBatchMemory, Join, LossConfig, Memory, SelfSupervised, SelfSupervision,
};
use nearfar_metrics::{DistanceConfig, SimilarityConfig};
use nearfar_models::{Bert, Conv4, InputShape, Koch, Lstm, Mlp, ModelConfig, Params, Resnet};
use nearfar_trainer::Gradients;
use nearfar_trainer::OptimizerConfig;
use nearfar_trainer::optim::{Adam, Move, Optimizer};
use serde_json::json;

use crate::losses::{LOSSES, MORE, Pair, SIZES, Shown};
use crate::{Error, clock};

/// The cases of a training step: what is done, and how large the batch is.
const STEPS: [&str; 9] = [
    "conv4_128",
    "conv4_512",
    "lstm_128",
    "bilstm2_128",
    "mlp_512",
    "koch_32",
    "resnet18_32",
    "minilm_32",
    "minilm-encode_32",
];

/// Every case, by group.
pub(crate) fn all() -> Vec<(&'static str, String)> {
    let steps = STEPS.iter().map(|name| ("step", name.to_string()));
    let losses = LOSSES
        .iter()
        .flat_map(|loss| SIZES.map(|size| ("losses", format!("{}_{size}", loss.name))));
    let more = MORE
        .iter()
        .map(|(name, size)| ("losses", format!("{name}_{size}")));
    steps.chain(losses).chain(more).collect()
}

/// The loss of a case.
pub(crate) fn of_loss(name: &str) -> Result<Option<Pair>, Error> {
    let kind = parts(name)?.0;
    Ok(LOSSES.iter().find(|loss| loss.name == kind).copied())
}

/// The peer's loss of a case, as an expression; none for one that it has not the memory for.
pub(crate) fn peer_loss(name: &str) -> Result<Option<&'static str>, Error> {
    let size = parts(name)?.1;
    let loss = of_loss(name)?.filter(|loss| size <= loss.peer_up_to);
    Ok(loss.map(|loss| loss.peer))
}

/// Rows of losses have this dimension, and this many are of one class.
const DIM: usize = 128;
const PER_CLASS: usize = 8;

/// Centers of a class, at most.
const CENTERS: usize = 10;

/// The embeddings of a loss, in a file for both sides: classes around centers on the sphere. After them come as many rows as a
/// loss may want for the centers of its own, also on the sphere. None for a training case.
pub(crate) fn rows_file(name: &str) -> Result<Option<tempfile::NamedTempFile>, Error> {
    let (_, n) = parts(name)?;
    if of_loss(name)?.is_none() {
        return Ok(None);
    }
    let mut rng = Seed(n as u64).rng(Purpose::Generation, 0);
    let unit = |rng: &mut Rng, center: Option<&[f64]>| -> Vec<f64> {
        let mut row: Vec<f64> = (0..DIM)
            .map(|_| rng.normal() / (DIM as f64).sqrt())
            .collect();
        if let Some(center) = center {
            row.iter_mut().zip(center).for_each(|(x, c)| *x += 0.35 * c);
        }
        let length = row.iter().map(|x| x * x).sum::<f64>().sqrt();
        row.iter().map(|x| x / length).collect()
    };
    let file = tempfile::NamedTempFile::new()?;
    let mut out = std::io::BufWriter::new(&file);
    let mut write = |row: Vec<f64>| -> Result<(), Error> {
        let bytes: Vec<u8> = row.iter().flat_map(|x| (*x as f32).to_le_bytes()).collect();
        Ok(out.write_all(&bytes)?)
    };
    for _ in 0..n / PER_CLASS {
        let center = unit(&mut rng, None);
        for _ in 0..PER_CLASS {
            write(unit(&mut rng, Some(&center)))?;
        }
    }
    for _ in 0..n / PER_CLASS * CENTERS {
        write(unit(&mut rng, None))?;
    }
    out.flush()?;
    drop(out);
    Ok(Some(file))
}

fn parts(name: &str) -> Result<(&str, usize), Error> {
    let (kind, size) = name.rsplit_once('_').ok_or("a case is NAME_SIZE")?;
    Ok((kind, size.parse()?))
}

/// The size of the repetition before all others, of a loss and of a training step.
const SMALL: usize = 64;
const SMALL_STEP: usize = 4;

/// Answers each line on standard input, a number of repetitions, with the time they took.
pub(crate) fn serve(name: &str, rows: Option<&Path>) -> Result<(), Error> {
    // What a first repetition brings into memory for good, code above all, is no part of what a batch takes.
    let (kind, _) = parts(name)?;
    let small = if rows.is_some() { SMALL } else { SMALL_STEP };
    (make(&format!("{kind}_{small}"), rows)?.step)()?;
    let Work {
        mut step,
        parameters,
    } = make(name, rows)?;
    clock::forget_peak();
    let before = clock::peak_mb();
    step()?;
    let growth = clock::peak_mb()
        .zip(before)
        .map(|(after, before)| after - before);
    answer(&json!({"ready": name, "peak_mb": growth, "parameters": parameters}))?;
    for line in std::io::stdin().lock().lines() {
        let repetitions: usize = line?.trim().parse()?;
        let (wall, cpu) = (Instant::now(), clock::cpu_ms());
        let mut value = 0.0;
        for _ in 0..repetitions {
            value = step()?;
        }
        let wall = wall.elapsed().as_secs_f64() * 1e3 / repetitions as f64;
        answer(
            &json!({"wall_ms": wall, "cpu_ms": (clock::cpu_ms() - cpu) / repetitions as f64, "value": value}),
        )?;
    }
    Ok(())
}

fn answer(object: &serde_json::Value) -> Result<(), Error> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{object}")?;
    Ok(out.flush()?)
}

/// What is repeated.
struct Work {
    /// Gives the loss.
    step: Box<dyn FnMut() -> Result<f64, Error>>,
    /// Numbers that are trained, where a network is.
    parameters: Option<usize>,
}

fn make(name: &str, rows: Option<&Path>) -> Result<Work, Error> {
    let (kind, size) = parts(name)?;
    match kind {
        "conv4" => {
            let shape = InputShape::Image {
                channels: 1,
                height: 28,
                width: 28,
            };
            let model = ModelConfig::Conv4(Conv4 {
                normalize: false,
                ..Conv4::default()
            });
            training(&model, &shape, Input::Dense(normal((size, 1, 28, 28))?))
        }
        "mlp" => {
            let model = ModelConfig::Mlp(Mlp {
                width: 128,
                hidden: vec![512],
                normalize: false,
                ..Mlp::default()
            });
            let input = Input::Dense(normal((size, 784))?);
            training(&model, &InputShape::Features(784), input)
        }
        "koch" => {
            let shape = InputShape::Image {
                channels: 1,
                height: 105,
                width: 105,
            };
            let input = Input::Dense(normal((size, 1, 105, 105))?);
            training(&ModelConfig::Koch(Koch::default()), &shape, input)
        }
        "resnet18" => {
            let shape = InputShape::Image {
                channels: 3,
                height: 64,
                width: 64,
            };
            let model = ModelConfig::Resnet(Resnet {
                width: 128,
                depth: 18,
                normalize: false,
                ..Resnet::default()
            });
            let input = Input::Dense(normal((size, 3, 64, 64))?);
            training(&model, &shape, input)
        }
        "minilm" | "minilm-encode" => {
            let vocabulary = MINILM_TOKENS;
            let shape = InputShape::Tokens { vocabulary };
            // Any tokens will do; dropout is left out on both sides.
            let ids = (0..size * LENGTH).map(|at| (at * 7919 % vocabulary) as u32);
            let input = Input::Sequence {
                values: Tensor::from_vec(ids.collect(), (size, LENGTH), &Device::Cpu)?,
                lengths: vec![LENGTH as u32; size],
            };
            let model = ModelConfig::Bert(Bert {
                dropout: Fraction::literal(0.0),
                attention_dropout: Fraction::literal(0.0),
                normalize: false,
                ..Bert::default()
            });
            if kind == "minilm" {
                training(&model, &shape, input)
            } else {
                encoding(&model, &shape, input)
            }
        }
        "lstm" | "bilstm2" => {
            let shape = InputShape::Frames { features: 64 };
            let deep = kind == "bilstm2";
            let model = ModelConfig::Lstm(Lstm {
                width: if deep { 256 } else { 128 }, // 128 in each direction.
                layers: if deep { 2 } else { 1 },
                bidirectional: deep,
                normalize: false,
                ..Lstm::default()
            });
            training(
                &model,
                &shape,
                Input::Sequence {
                    values: normal((size, 32, 64))?,
                    lengths: vec![32; size],
                },
            )
        }
        _ => match of_loss(name)? {
            Some(pair) => loss(&pair, size, rows.ok_or("a loss needs its rows")?),
            None => Err(format!("there is no case `{name}`").into()),
        },
    }
}

fn normal(shape: impl Into<candle_core::Shape>) -> Result<Tensor, Error> {
    let shape = shape.into();
    let mut rng = Seed(0).rng(Purpose::Generation, 1);
    let values: Vec<f32> = (0..shape.elem_count())
        .map(|_| rng.normal() as f32)
        .collect();
    Ok(Tensor::from_vec(values, shape, &Device::Cpu)?)
}

/// Tells both sides where training steps run.
pub(crate) const DEVICE: &str = "NEARFAR_BENCH_DEVICE";

/// Where training steps run.
fn device() -> Result<Device, Error> {
    match std::env::var(DEVICE).as_deref() {
        Ok("cuda") => Device::new_cuda(0).map_err(|error| {
            // candle adds a backtrace below.
            let first = error.to_string();
            let first = first.lines().next().unwrap_or_default();
            format!("no CUDA device: {first}").into()
        }),
        _ => Ok(Device::Cpu),
    }
}

/// A batch and a tower on the device.
fn placed(
    model: &ModelConfig,
    shape: &InputShape,
    input: Input,
) -> Result<(Box<dyn Encoder>, Input), Error> {
    let device = device()?;
    let input = input.map(|values| values.to_device(&device))?;
    let params = Params::new(Seed(0), DType::F32, &device)?;
    Ok((model.build(shape, &params)?, input))
}

/// Tokens that MiniLM has a vector for, and tokens of a row of the cases.
const MINILM_TOKENS: usize = 30_522;
const LENGTH: usize = 64;

/// Forward alone, and the mean square of the embedding.
fn encoding(model: &ModelConfig, shape: &InputShape, input: Input) -> Result<Work, Error> {
    let (encoder, input) = placed(model, shape, input)?;
    let parameters = encoder.parameters();
    let trained = parameters.iter().filter(|it| it.trained);
    let count = trained.map(|it| it.var.elem_count()).sum();
    let step = Box::new(move || {
        let embedding = encoder.encode(&input, Mode::Eval)?.embedding;
        Ok(f64::from(embedding.sqr()?.mean_all()?.to_scalar::<f32>()?))
    });
    Ok(Work {
        step,
        parameters: Some(count),
    })
}

/// Forward, mean square of the embedding, backward, Adam.
fn training(model: &ModelConfig, shape: &InputShape, input: Input) -> Result<Work, Error> {
    let (encoder, input) = placed(model, shape, input)?;
    let mut optimizer: Box<dyn Optimizer> = OptimizerConfig::from(Adam::default()).build()?;
    let parameters: Vec<(String, Var)> = encoder
        .parameters()
        .into_iter()
        .filter(|it| it.trained)
        .map(|it| (it.name, it.var))
        .collect();
    let count = parameters.iter().map(|(_, var)| var.elem_count()).sum();
    let mut number = 0;
    let step = Box::new(move || {
        let mut rng = Seed(0).rng(Purpose::Dropout, number);
        number += 1;
        let embedding = encoder.encode(&input, Mode::Train(&mut rng))?.embedding;
        let loss = embedding.sqr()?.mean_all()?;
        let mut store = loss.backward()?;
        let named = parameters
            .iter()
            .map(|(name, var)| (name.as_str(), var.as_tensor()));
        let gradients = Gradients::take(&mut store, named);
        let moves: Vec<Move<'_>> = parameters
            .iter()
            .filter_map(|(name, var)| Some(Move::new(name, var, gradients.get(name)?, 1e-3)))
            .collect();
        optimizer.update(&moves)?;
        Ok(f64::from(loss.to_scalar::<f32>()?))
    });
    Ok(Work {
        step,
        parameters: Some(count),
    })
}

/// What a run file says after `distance.` or `similarity.`.
fn named<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, Error> {
    Ok(toml::from_str(text)?)
}

/// Value and gradient of a loss over everything in the batch, and what it remembers of it.
fn loss(pair: &Pair, n: usize, rows: &Path) -> Result<Work, Error> {
    #[derive(serde::Deserialize)]
    struct Only {
        loss: LossConfig,
    }
    let config = toml::from_str::<Only>(&pair.config())?.loss;
    let bytes = std::fs::read(rows)?;
    let numbers = |from: usize, count: usize| -> Result<Tensor, Error> {
        let bytes = &bytes[from * DIM * 4..(from + count) * DIM * 4];
        let values: Vec<f32> = bytes
            .chunks_exact(4)
            .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
            .collect();
        Ok(Tensor::from_vec(values, (count, DIM), &Device::Cpu)?)
    };
    let vectors = Var::from_tensor(&numbers(0, n)?)?;
    let labels: Vec<u32> = (0..n).map(|row| (row / PER_CLASS) as u32).collect();
    // The peer normalizes by default, so this does too.
    let (mut distance, mut similarity) = (None, None);
    match config.defaults().compares {
        Compares::Distance(name) => {
            let config: DistanceConfig = named(&format!("{name} = {{ normalize = true }}"))
                .or_else(|_| named(&format!("{name} = {{}}")))?;
            distance = Some(config.build());
        }
        Compares::Similarity(name) => {
            let name = if name == "dot" { "cosine" } else { name };
            let config: SimilarityConfig = named(&format!("{name} = {{}}"))?;
            similarity = Some(config.build());
        }
        Compares::Centers | Compares::DistantCenters | Compares::Own => {}
    }
    let mut loss: Box<dyn Loss> = config.build(Join {
        distance,
        similarity,
        classes: Some(n.div_ceil(PER_CLASS)),
        width: DIM,
        ..Join::default()
    })?;
    for parameter in loss.parameters() {
        if let [centers, DIM] = parameter.var.dims() {
            parameter.var.set(&numbers(n, *centers)?)?;
        }
    }
    drop(bytes);
    loss = match pair.shown {
        Shown::Classes | Shown::Views => loss,
        Shown::SelfSupervised => Box::new(SelfSupervised {
            loss,
            settings: SelfSupervision::default(),
        }),
        Shown::Memory => {
            let settings = Memory {
                size: n.try_into()?,
                ..Memory::default()
            };
            let (dtype, device) = (DType::F32, &Device::Cpu);
            let mut memory = CrossBatchMemory::new(loss, settings, DIM, dtype, device)?;
            let rows = Embeddings::labeled(vectors.as_tensor().clone(), labels.clone())?;
            memory.absorb(&Comparison::within(&rows))?;
            Box::new(memory)
        }
    };
    let shown = pair.shown;
    let step = Box::new(move || {
        let x = vectors.as_tensor();
        let sides = match shown {
            Shown::Classes | Shown::Memory => vec![Embeddings::labeled(x.clone(), labels.clone())?],
            Shown::Views | Shown::SelfSupervised => [0, n / 2]
                .into_iter()
                .map(|from| {
                    Embeddings::labeled(x.narrow(0, from, n / 2)?, labels[..n / 2].to_vec())
                })
                .collect::<candle_core::Result<_>>()?,
        };
        let comparison = match &sides[..] {
            [first, second] => Comparison::between(first, second),
            _ => Comparison::within(&sides[0]),
        };
        let mut rng = Seed(0).rng(Purpose::Mining, 0);
        let total = loss
            .evaluate(&comparison, &mut rng)?
            .total()?
            .ok_or("there is something to learn")?;
        let gradients = total.backward()?;
        gradients.get(&vectors).ok_or("the rows have a gradient")?;
        loss.absorb(&comparison)?;
        Ok(f64::from(total.to_scalar::<f32>()?))
    });
    Ok(Work {
        step,
        parameters: None,
    })
}
