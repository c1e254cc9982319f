//! Towers of a run file: as they are before training, and as a checkpoint has them.

use candle_core::{DType, Device, Tensor};
use nearfar_core::{Batch, Batches, Encoded, Encoder, Input, Mode};
use nearfar_datasets::{Data, Shape};
use nearfar_models::{HeadConfig, InputShape, ModelConfig, Params, Pretrained, Under};
use nearfar_trainer::Checkpoint;

use crate::exit::{Error, unboxed};
use crate::run_file::RunFile;

/// What towers start with.
#[derive(Clone, Copy)]
pub(crate) enum Start<'a> {
    /// With what the run file says: weights that were trained elsewhere, which are told of, or random ones; and heads that start from
    /// samples with those of the first batch.
    AsSaid {
        told: &'a dyn Fn(&str),
        data: &'a Data,
    },
    /// With random weights, since a checkpoint takes their place. Files of weights are not looked for, and no sample is.
    Replaced,
}

/// The towers of a run file, as they are before training.
pub(crate) fn towers(
    run: &RunFile,
    shapes: &[Shape],
    inputs: usize,
    start: Start<'_>,
    device: &Device,
) -> Result<Vec<Box<dyn Encoder>>, Error> {
    let first = match start {
        Start::AsSaid { data, .. } if run.starts_from_samples() => first_batch(run, data, device)?,
        _ => None,
    };
    let params = Params::new(run.seed, DType::F32, device)?;
    let build = |input: usize, parts: Parts<'_>, params: &Params| {
        let shape = shapes.get(input).or(shapes.last()).copied();
        let shape = shape.ok_or_else(|| Error::Data("the data have no input".into()))?;
        let tower = parts.model.build(&input_shape(shape), params)?;
        if let (Some(weights), Start::AsSaid { told, .. }) = (parts.weights, start) {
            told(&loaded(weights, &weights.load(parts.model, params)?));
        }
        let Some(head) = parts.head else {
            return Ok(tower);
        };
        let samples = first.as_ref().and_then(|batch| batch.inputs.get(input));
        topped(tower, head, shape, samples, params)
    };
    match &run.model {
        Some(_) if shapes.len() > 1 => Err(Error::Usage(format!(
            "`data.{}` has two kinds of inputs, which no one model reads; write a `[[towers]]` for each in place of `model`",
            run.data.name()
        ))),
        Some(model) => {
            let parts = Parts {
                model,
                weights: run.weights.as_ref(),
                head: run.head.as_ref(),
            };
            Ok(vec![build(0, parts, &params)?])
        }
        None => {
            if run.towers.len() != inputs {
                return Err(Error::Usage(format!(
                    "there are {} `[[towers]]`, but a sample of `data.{}` has {inputs} input{}; write one tower for each, or `model` for all",
                    run.towers.len(),
                    run.data.name(),
                    if inputs == 1 { "" } else { "s" }
                )));
            }
            let places = params.at("towers");
            let towers: Vec<Box<dyn Encoder>> = run
                .towers
                .iter()
                .enumerate()
                .map(|(index, tower)| {
                    let parts = Parts {
                        model: &tower.model,
                        weights: tower.weights.as_ref(),
                        head: tower.head.as_ref(),
                    };
                    build(index, parts, &places.at(index))
                })
                .collect::<Result<_, Error>>()?;
            let width = towers[0].width();
            if let Some((index, other)) = towers
                .iter()
                .enumerate()
                .find(|(_, tower)| tower.width() != width)
            {
                return Err(Error::Usage(format!(
                    "tower 0 has embeddings of {width} numbers, tower {index} of {}; they cannot be compared",
                    other.width()
                )));
            }
            Ok(towers)
        }
    }
}

/// What a tower is made of.
struct Parts<'a> {
    model: &'a ModelConfig,
    weights: Option<&'a Pretrained>,
    head: Option<&'a HeadConfig>,
}

/// The first batch of training.
fn first_batch(run: &RunFile, data: &Data, device: &Device) -> Result<Option<Batch>, Error> {
    let batches = super::batches(run, data, device)?;
    let first = batches.epoch(0, 0).next();
    first.transpose().map_err(unboxed)
}

/// A tower with a head over it, which starts from what the tower makes of some samples if it can.
fn topped(
    tower: Box<dyn Encoder>,
    head: &HeadConfig,
    shape: Shape,
    samples: Option<&Input>,
    params: &Params,
) -> Result<Box<dyn Encoder>, Error> {
    let blank = blank(&*tower, shape, params.device())?;
    let size = |tensor: &Tensor| tensor.dims().iter().skip(1).copied().collect();
    let beside = blank.extra.iter();
    let samples = samples.map(|input| tower.encode(input, Mode::Eval));
    let under = Under {
        width: tower.width(),
        beside: beside
            .map(|(name, tensor)| (name.clone(), size(tensor)))
            .collect(),
        samples: samples.transpose()?,
    };
    Ok(head.build(tower, &under, params)?)
}

/// Which weights were read, and what is not among them.
fn loaded(weights: &Pretrained, anew: &[String]) -> String {
    let place = weights.file.iter().chain(&weights.folder).next();
    let place = place.map(|it| it.display().to_string()).unwrap_or_default();
    match anew {
        [] => format!("starts with the weights of {place}"),
        [first] => format!("starts with the weights of {place}, but for `{first}`"),
        [first, others @ ..] => format!(
            "starts with the weights of {place}, but for `{first}` and {} more",
            others.len()
        ),
    }
}

fn input_shape(shape: Shape) -> InputShape {
    match shape {
        Shape::Image {
            channels,
            height,
            width,
        } => InputShape::Image {
            channels,
            height,
            width,
        },
        Shape::Volume {
            channels,
            depth,
            height,
            width,
        } => InputShape::Volume {
            channels,
            depth,
            height,
            width,
        },
        Shape::Views {
            views,
            channels,
            height,
            width,
        } => InputShape::Views {
            views,
            channels,
            height,
            width,
        },
        Shape::Features { count } => InputShape::Features(count),
        Shape::Frames { features } => InputShape::Frames { features },
        Shape::Tokens { vocabulary, .. } => InputShape::Tokens { vocabulary },
        Shape::Parsed { vocabulary, .. } => InputShape::Parsed { vocabulary },
    }
}

/// What an encoder makes of a blank sample.
pub(super) fn blank(tower: &dyn Encoder, shape: Shape, device: &Device) -> Result<Encoded, Error> {
    let zeros = |size: &[usize]| Tensor::zeros(size, DType::F32, device);
    let blank = match shape {
        Shape::Image {
            channels,
            height,
            width,
        } => Input::Dense(zeros(&[1, channels, height, width])?),
        Shape::Volume {
            channels,
            depth,
            height,
            width,
        } => Input::Dense(zeros(&[1, channels, depth, height, width])?),
        Shape::Views {
            views,
            channels,
            height,
            width,
        } => Input::Dense(zeros(&[1, views, channels, height, width])?),
        Shape::Features { count } => Input::Dense(zeros(&[1, count])?),
        Shape::Frames { features } => Input::Sequence {
            values: zeros(&[1, 1, features])?,
            lengths: vec![1],
        },
        Shape::Tokens { .. } => Input::Sequence {
            values: Tensor::zeros((1, 1), DType::U32, device)?,
            lengths: vec![1],
        },
        Shape::Parsed { .. } => Input::Parsed {
            values: Tensor::zeros((1, 1), DType::U32, device)?,
            lengths: vec![1],
            parses: vec![nearfar_core::Parse::chain(1)],
        },
    };
    Ok(tower.encode(&blank, Mode::Eval)?)
}

/// A model as a checkpoint has it.
pub(crate) fn restored(
    run: &RunFile,
    shapes: &[Shape],
    inputs: usize,
    checkpoint: &Checkpoint,
    device: &Device,
) -> Result<nearfar_trainer::Towers, Error> {
    let towers =
        nearfar_trainer::Towers::new(towers(run, shapes, inputs, Start::Replaced, device)?)?;
    for parameter in towers.parameters() {
        let value = checkpoint.model.get(&parameter.name).ok_or_else(|| {
            Error::Data(format!(
                "the checkpoint has no tensor `{}`, which the run file's model needs",
                parameter.name
            ))
        })?;
        if value.dims() != parameter.var.dims() {
            return Err(Error::Data(format!(
                "the checkpoint's `{}` has shape {:?}, the run file's model needs {:?}",
                parameter.name,
                value.dims(),
                parameter.var.dims()
            )));
        }
        parameter
            .var
            .set(&value.to_device(device)?.to_dtype(parameter.var.dtype())?)?;
    }
    Ok(towers)
}
