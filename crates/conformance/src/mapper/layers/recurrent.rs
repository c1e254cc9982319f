//! Sequences: recurrent networks and vectors of words.

use candle_core::{DType, Device, Tensor};
use nearfar_core::{Finite, Fraction, NonNegative};
use nearfar_models::Features;
use nearfar_models::layers::{Embedding, Gru, GruSettings, Lstm, LstmSettings, LstmState};

use super::fixture::{Fixture, agree, gradient, parameters, size, training};
use crate::golden::{Given, Mapped, Outputs, Settings, Trouble};

/// What both networks are told.
struct Shape {
    inputs: usize,
    hidden: usize,
    layers: usize,
    bidirectional: bool,
}

impl Shape {
    fn read(params: &mut Settings) -> Mapped<Self> {
        params.flag_or("batch_first", true)?;
        params.flag_or("packed", true)?; // Where it is not, all are of one length.
        Ok(Self {
            inputs: size(params, "input_size")?,
            hidden: size(params, "hidden_size")?,
            layers: params.count("num_layers")?.unwrap_or(1),
            bidirectional: params.flag_or("bidirectional", false)?,
        })
    }
}

pub(super) fn lstm(
    _: &str,
    given: &Given<'_>,
    params: &mut Settings,
    outputs: &mut Outputs,
) -> Mapped<()> {
    let shape = Shape::read(params)?;
    let mut fixture = Fixture::new(given)?;
    // torch adds two biases where ours has one.
    fixture.peer = |name| match name.strip_prefix("bias_") {
        Some(of) => vec![format!("bias_ih_{of}"), format!("bias_hh_{of}")],
        None => vec![name.to_owned()],
    };
    let settings = LstmSettings {
        hidden: shape.hidden,
        layers: shape.layers,
        bidirectional: shape.bidirectional,
        dropout: Fraction::literal(0.0),
        forget_bias: Finite::literal(0.0),
    };
    let net = Lstm::new(&fixture.params, shape.inputs, &settings)?;
    let first = match given.find("h0") {
        None => None,
        Some(_) => Some(LstmState {
            hidden: given.tensor("h0", DType::F64)?,
            cell: given.tensor("c0", DType::F64)?,
        }),
    };
    fixture.set_all(given)?;
    let (x, lengths) = (&fixture.input, lengths(given, &fixture.input)?);
    let (all, last) = training(|mode| net.forward_from(x, &lengths, first.as_ref(), mode))?;
    if first.is_none() {
        let features = training(|mode| net.forward(x, &lengths, mode))?;
        same_states(&features, &all)?;
    }
    let last = [("h_n", &last.hidden), ("c_n", &last.cell)];
    backward(&fixture, given, &lengths, &all, &last, outputs)
}

pub(super) fn gru(
    _: &str,
    given: &Given<'_>,
    params: &mut Settings,
    outputs: &mut Outputs,
) -> Mapped<()> {
    let shape = Shape::read(params)?;
    let fixture = Fixture::new(given)?;
    let settings = GruSettings {
        hidden: shape.hidden,
        layers: shape.layers,
        bidirectional: shape.bidirectional,
        dropout: Fraction::literal(0.0),
    };
    let net = Gru::new(&fixture.params, shape.inputs, &settings)?;
    let first = match given.find("h0") {
        None => None,
        Some(_) => Some(given.tensor("h0", DType::F64)?),
    };
    fixture.set_all(given)?;
    let (x, lengths) = (&fixture.input, lengths(given, &fixture.input)?);
    let (all, last) = training(|mode| net.forward_from(x, &lengths, first.as_ref(), mode))?;
    if first.is_none() {
        let features = training(|mode| net.forward(x, &lengths, mode))?;
        same_states(&features, &all)?;
    }
    let last = [("h_n", &last)];
    backward(&fixture, given, &lengths, &all, &last, outputs)
}

/// The states by their roles, and all gradients.
fn backward(
    fixture: &Fixture,
    given: &Given<'_>,
    lengths: &[u32],
    all: &Tensor,
    last: &[(&str, &Tensor)],
    outputs: &mut Outputs,
) -> Mapped<()> {
    let all = within(all, lengths)?; // Ours holds the last state beyond the length.
    let parts = [&[("output", &all)], last].concat();
    let gradients = fixture.gradients(given, &parts, outputs)?;
    fixture.put_gradients(&gradients, outputs)
}

fn lengths(given: &Given<'_>, input: &Tensor) -> Mapped<Vec<u32>> {
    let (rows, steps, _) = input.dims3()?;
    match given.find("lengths") {
        Some(_) => given.indices("lengths"),
        None => Ok(vec![steps as u32; rows]),
    }
}

fn same_states(features: &Features, states: &Tensor) -> Mapped<()> {
    match features {
        Features::States { all, .. } => agree("both ways of a recurrent network", all, states),
        _ => Err(Trouble::unmapped("a recurrent network gives states")),
    }
}

/// Zeros beyond the true lengths.
fn within(states: &Tensor, lengths: &[u32]) -> Mapped<Tensor> {
    let (rows, steps, _) = states.dims3()?;
    let ones = lengths.iter().flat_map(|&length| {
        (0..steps).map(move |step| f64::from(u8::from(step < length as usize)))
    });
    let mask = Tensor::from_vec(ones.collect::<Vec<f64>>(), (rows, steps, 1), &Device::Cpu)?;
    Ok(states.broadcast_mul(&mask)?)
}

pub(super) fn embedding(
    _: &str,
    given: &Given<'_>,
    params: &mut Settings,
    outputs: &mut Outputs,
) -> Mapped<()> {
    let ids = given.input("input")?;
    let ids = Tensor::from_vec(given.indices("input")?, ids.shape.as_slice(), &Device::Cpu)?;
    let (count, dim) = (
        size(params, "num_embeddings")?,
        size(params, "embedding_dim")?,
    );
    let weights = parameters()?;
    let mut layer = Embedding::new(&weights, count, dim, NonNegative::literal(1.0))?;
    if let Some(padding) = params.count("padding_idx")? {
        layer = layer.with_padding(padding as u32)?;
    }
    weights.set("weight", &given.tensor("weight", DType::F64)?)?;
    let output = training(|mode| layer.forward(&ids, mode))?;
    outputs.put_tensor("output", &output)?;
    let cotangent = given.tensor("cotangent", DType::F64)?;
    let gradients = (output * cotangent)?.sum_all()?.backward()?;
    for parameter in weights.parameters() {
        outputs.put_tensor("grad_weight", &gradient(&gradients, &parameter.var)?)?;
    }
    Ok(())
}
