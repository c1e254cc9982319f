//! `torch.nn`.

use std::collections::BTreeMap;

use candle_core::backprop::GradStore;
use candle_core::{D, DType, Device, Tensor, Var};
use nearfar_core::{Finite, Fraction, Mode, NonNegative, Purpose, Seed};
use nearfar_kernels::{
    ConvBlock, Slide, TINY_NORM, Windows, conv_block, euclidean, l2_normalize, log_softmax,
    log_sum_exp, max_pool, relu, sigmoid, softmax, softplus,
};
use nearfar_models::layers::{
    BatchNorm, Embedding, Linear, Lstm, LstmSettings, Normalization, Statistics, dropout,
};
use nearfar_models::{Features, Params};

use super::metric::rows_of_zeros;
use super::{Claim, Mapper, Pass};
use crate::golden::{Array, Case, Given, Mapped, Outputs, Settings, Trouble};

/// Layers and functions, with the gradients of everything that goes in.
pub(super) struct Layers;

impl Mapper for Layers {
    fn claims(&self, case: &Case) -> Claim {
        let function = &case.function;
        let mut params = function.params();
        let not = |what: &str| Claim::NotWith(what.into());
        match function.path() {
            "torch.nn.Linear"
            | "torch.nn.functional.relu"
            | "torch.nn.functional.sigmoid"
            | "torch.nn.functional.softplus"
            | "torch.nn.functional.softmax"
            | "torch.nn.functional.log_softmax"
            | "torch.logsumexp" => Claim::Ours,
            "torch.nn.Conv2d" => {
                let mut pair = |key: &str| params.numbers(key).ok().flatten().unwrap_or_default();
                let kernel = pair("kernel_size");
                let square = kernel.first() == kernel.last();
                let ones = |it: Vec<f64>| it.iter().all(|&it| it == 1.0);
                let plain = ones(pair("stride")) && ones(pair("dilation"));
                match params.number("groups") {
                    Ok(Some(groups)) if groups != 1.0 => not("groups"),
                    _ if !plain => not("a stride or dilation"),
                    _ if !square => not("a kernel that is not square"),
                    _ => Claim::Ours,
                }
            }
            "torch.nn.MaxPool2d" => {
                let padding = params.number("padding").ok().flatten().unwrap_or(0.0);
                match params.flag_or("ceil_mode", false) {
                    Ok(true) => not("ceil_mode"),
                    _ if padding != 0.0 => not("padding"),
                    _ => Claim::Ours,
                }
            }
            "torch.nn.BatchNorm1d" | "torch.nn.BatchNorm2d" => {
                match function.has_null("momentum") {
                    true => not("momentum = null"),
                    false => Claim::Ours,
                }
            }
            "torch.nn.Embedding" => match params.value("padding_idx") {
                Some(_) => not("padding_idx"),
                None => Claim::Ours,
            },
            "torch.nn.LSTM" => match case.has_input("h0") {
                true => not("a first state"),
                false => Claim::Ours,
            },
            "torch.nn.Dropout" => match params.flag_or("training", true) {
                Ok(false) => Claim::Ours,
                _ => not("training"),
            },
            "torch.nn.functional.normalize" | "torch.cdist" => match params.number_or("p", 2.0) {
                Ok(2.0) => Claim::Ours,
                Ok(p) => Claim::NotWith(format!("p = {p}")),
                Err(_) => Claim::Ours,
            },
            _ => Claim::No,
        }
    }

    fn run(&self, given: &Given<'_>, _: Pass) -> Mapped<Outputs> {
        let function = &given.case.function;
        function.call().finish()?;
        let mut params = function.params();
        let mut outputs = Outputs::default();
        match function.short() {
            "Linear" => linear(given, &mut params, &mut outputs)?,
            "Conv2d" => convolution(given, &mut params, &mut outputs)?,
            "BatchNorm1d" | "BatchNorm2d" => batch_norm(given, &mut params, &mut outputs)?,
            "Embedding" => embedding(given, &mut params, &mut outputs)?,
            "LSTM" => lstm(given, &mut params, &mut outputs)?,
            name => pointwise(name, given, &mut params, &mut outputs)?,
        }
        params.finish()?;
        given.finish()?;
        Ok(outputs)
    }
}

/// A layer's parameters under the peer's names, and what it reads.
struct Bench {
    params: Params,
    input: Var,
}

impl Bench {
    fn new(given: &Given<'_>) -> Mapped<Self> {
        Ok(Self {
            params: parameters()?,
            input: Var::from_tensor(&given.tensor("input", DType::F64)?)?,
        })
    }

    fn set(&self, given: &Given<'_>, name: &str) -> Mapped<()> {
        Ok(self.params.set(name, &given.tensor(name, DType::F64)?)?)
    }

    /// The gradients of `Σ output · cotangent`, of the input and of every parameter.
    fn backward(&self, given: &Given<'_>, output: &Tensor, outputs: &mut Outputs) -> Mapped<()> {
        outputs.put_tensor("output", output)?;
        let cotangent = given.tensor("cotangent", DType::F64)?;
        let gradients = (output * cotangent)?.sum_all()?.backward()?;
        if given.wants("grad_input") {
            outputs.put_tensor("grad_input", &gradient(&gradients, &self.input)?)?;
        }
        for parameter in self.params.parameters() {
            if parameter.trained {
                let gradient = gradient(&gradients, &parameter.var)?;
                outputs.put_tensor(format!("grad_{}", parameter.name), &gradient)?;
            }
        }
        Ok(())
    }
}

fn parameters() -> Mapped<Params> {
    Ok(Params::new(Seed(0), DType::F64, &Device::Cpu)?)
}

fn gradient(gradients: &GradStore, var: &Var) -> Mapped<Tensor> {
    match gradients.get(var) {
        Some(gradient) => Ok(gradient.clone()),
        None => Ok(var.zeros_like()?),
    }
}

/// Runs something in the mode of training.
fn training<T>(run: impl FnOnce(&mut Mode<'_>) -> candle_core::Result<T>) -> Mapped<T> {
    let mut rng = Seed(0).rng(Purpose::Dropout, 0);
    Ok(run(&mut Mode::Train(&mut rng))?)
}

fn linear(given: &Given<'_>, params: &mut Settings, outputs: &mut Outputs) -> Mapped<()> {
    let bench = Bench::new(given)?;
    let (inputs, width) = (size(params, "in_features")?, size(params, "out_features")?);
    let bias = params.flag_or("bias", true)?;
    let layer = Linear::new(&bench.params, inputs, width, bias)?;
    bench.set(given, "weight")?;
    if bias {
        bench.set(given, "bias")?;
    }
    let output = training(|mode| layer.forward(&bench.input, mode))?;
    bench.backward(given, &output, outputs)
}

fn convolution(given: &Given<'_>, params: &mut Settings, outputs: &mut Outputs) -> Mapped<()> {
    for claimed in ["stride", "dilation", "groups", "kernel_size"] {
        params.value(claimed);
    }
    let channels = size(params, "out_channels")?;
    size(params, "in_channels")?;
    let padding = params.numbers("padding")?.unwrap_or_default();
    let block = ConvBlock {
        padding: padding.first().copied().unwrap_or(0.0) as usize,
        norm: None,
        relu: false,
        pool: 1,
    };
    let input = Var::from_tensor(&given.tensor("input", DType::F64)?)?;
    let weight = Var::from_tensor(&given.tensor("weight", DType::F64)?)?;
    let bias = match params.flag_or("bias", true)? {
        true => given.tensor("bias", DType::F64)?,
        false => Tensor::zeros(channels, DType::F64, &Device::Cpu)?,
    };
    let bias = Var::from_tensor(&bias)?;
    let output = conv_block(&input, &weight, None, &bias, None, &block)?.output;
    outputs.put_tensor("output", &output)?;
    let cotangent = given.tensor("cotangent", DType::F64)?;
    let gradients = (output * cotangent)?.sum_all()?.backward()?;
    for (role, var) in [
        ("grad_input", &input),
        ("grad_weight", &weight),
        ("grad_bias", &bias),
    ] {
        outputs.put_tensor(role, &gradient(&gradients, var)?)?;
    }
    Ok(())
}

fn batch_norm(given: &Given<'_>, params: &mut Settings, outputs: &mut Outputs) -> Mapped<()> {
    let channels = size(params, "num_features")?;
    let settings = Normalization {
        eps: params.number_or("eps", 1e-5)?,
        momentum: params.number_or("momentum", 0.1)?,
        statistics: Statistics::Batch,
    };
    let trains = params.flag_or("training", true)?;
    if given.find("input.0").is_some() {
        return batch_norm_steps(given, channels, settings, outputs);
    }
    let bench = Bench::new(given)?;
    let layer = BatchNorm::new(&bench.params, channels, settings)?;
    for name in ["weight", "bias", "running_mean", "running_var"] {
        if given.find(name).is_some() {
            bench.set(given, name)?;
        }
    }
    given.find("num_batches_tracked"); // A count that only a cumulative average needs.
    outputs.leave_out("num_batches_tracked.after");
    let output = if trains {
        training(|mode| layer.forward(&bench.input, mode))?
    } else {
        // Gradients of parameters in evaluation are those of frozen statistics.
        let frozen = Normalization {
            statistics: Statistics::Frozen,
            ..settings
        };
        let evaluated = layer.forward(&bench.input, &mut Mode::Eval)?;
        let second = parameters()?;
        let layer = BatchNorm::new(&second, channels, frozen)?;
        for parameter in bench.params.parameters() {
            second.set(&parameter.name, &parameter.var)?;
        }
        let bench = Bench {
            params: second,
            input: bench.input.clone(),
        };
        let output = training(|mode| layer.forward(&bench.input, mode))?;
        let apart = Array::of(&(&output - &evaluated)?.abs()?.max_all()?)?;
        if apart.to_real()[0] != 0.0 {
            return Err(Trouble::Refused("frozen is not evaluated".into()));
        }
        bench.backward(given, &output, outputs)?;
        return statistics(&bench.params, ".after", outputs);
    };
    bench.backward(given, &output, outputs)?;
    statistics(&bench.params, ".after", outputs)
}

fn statistics(params: &Params, suffix: &str, outputs: &mut Outputs) -> Mapped<()> {
    for name in ["running_mean", "running_var"] {
        if let Some(weight) = params.find(name) {
            outputs.put_tensor(format!("{name}{suffix}"), &weight.value())?;
        }
    }
    Ok(())
}

/// Several batches in a row.
fn batch_norm_steps(
    given: &Given<'_>,
    channels: usize,
    settings: Normalization,
    outputs: &mut Outputs,
) -> Mapped<()> {
    let params = parameters()?;
    let layer = BatchNorm::new(&params, channels, settings)?;
    let mut step = 0;
    while given.find(&format!("input.{step}")).is_some() {
        let input = given.tensor(&format!("input.{step}"), DType::F64)?;
        let output = training(|mode| layer.forward(&input, mode))?;
        outputs.put_tensor(format!("output.{step}"), &output)?;
        statistics(&params, &format!(".{step}"), outputs)?;
        step += 1;
    }
    Ok(())
}

fn embedding(given: &Given<'_>, params: &mut Settings, outputs: &mut Outputs) -> Mapped<()> {
    let ids = given.input("input")?;
    let ids = Tensor::from_vec(given.indices("input")?, ids.shape.as_slice(), &Device::Cpu)?;
    let (count, dim) = (
        size(params, "num_embeddings")?,
        size(params, "embedding_dim")?,
    );
    let weights = parameters()?;
    let layer = Embedding::new(&weights, count, dim, NonNegative::literal(1.0))?;
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

/// An LSTM, beside the same with fewer layers: ours gives the states of its last layer, the peer the last states of all.
fn lstm(given: &Given<'_>, params: &mut Settings, outputs: &mut Outputs) -> Mapped<()> {
    let (inputs, hidden) = (size(params, "input_size")?, size(params, "hidden_size")?);
    let layers = params.count("num_layers")?.unwrap_or(1);
    let bidirectional = params.flag_or("bidirectional", false)?;
    params.flag_or("batch_first", true)?;
    params.flag_or("packed", true)?; // Where it is not, all are of one length.
    let input = Var::from_tensor(&given.tensor("input", DType::F64)?)?;
    let (rows, steps, _) = input.dims3()?;
    let lengths = match given.find("lengths") {
        Some(_) => given.indices("lengths")?,
        None => vec![steps as u32; rows],
    };
    let directions: &[&str] = if bidirectional {
        &["", "_reverse"]
    } else {
        &[""]
    };

    let mut total: Option<Tensor> = None;
    let mut add = |value: &Tensor, cotangent: &Tensor| -> Mapped<()> {
        let product = (value * cotangent)?.sum_all()?;
        total = Some(match total.take() {
            None => product,
            Some(sum) => (sum + product)?,
        });
        Ok(())
    };
    let (mut last_states, mut last_cells) = (Vec::new(), Vec::new());
    let mut stacks = Vec::new();
    let mut below = input.as_tensor().clone();
    for depth in 1..=layers {
        let weights = parameters()?;
        let settings = LstmSettings {
            hidden,
            layers: depth,
            bidirectional,
            dropout: Fraction::literal(0.0),
            forget_bias: Finite::literal(0.0),
        };
        let net = Lstm::new(&weights, inputs, &settings)?;
        for layer in 0..depth {
            for direction in directions {
                let of = |kind: &str| format!("{kind}_l{layer}{direction}");
                for kind in ["weight_ih", "weight_hh"] {
                    weights.set(&of(kind), &given.tensor(&of(kind), DType::F64)?)?;
                }
                // torch adds two biases where ours has one.
                let first = given.tensor(&of("bias_ih"), DType::F64)?;
                let second = given.tensor(&of("bias_hh"), DType::F64)?;
                weights.set(&of("bias"), &(first + second)?)?;
            }
        }
        let Features::States { all, last, .. } =
            training(|mode| net.forward(&input, &lengths, mode))?
        else {
            return Err(Trouble::unmapped("an LSTM gives states"));
        };
        for (index, direction) in directions.iter().enumerate() {
            let of = |tensor: &Tensor| tensor.narrow(D::Minus1, index * hidden, hidden);
            let state = of(&last)?;
            let of_layer = |kind: &str| format!("{kind}_l{}{direction}", depth - 1);
            let parameter = |name: String| {
                let found = weights.find(&name);
                found.ok_or_else(|| Trouble::unmapped(format!("there is no `{name}`")))
            };
            let gates = LastStep {
                input: parameter(of_layer("weight_ih"))?.var().as_tensor().clone(),
                hidden: parameter(of_layer("weight_hh"))?.var().as_tensor().clone(),
                bias: parameter(of_layer("bias"))?.var().as_tensor().clone(),
                backward: index == 1,
            };
            last_cells.push(gates.cell(&below, &of(&all)?, &state, &lengths)?);
            last_states.push(state);
        }
        below = all.clone();
        if depth == layers {
            let output = within(&all, &lengths)?; // Ours holds the last state beyond the length.
            outputs.put_tensor("output", &output)?;
            add(&output, &given.tensor("cotangent", DType::F64)?)?;
        }
        stacks.push(weights);
    }
    let (states, cells) = (
        Tensor::stack(&last_states, 0)?,
        Tensor::stack(&last_cells, 0)?,
    );
    outputs.put_tensor("h_n", &states)?;
    outputs.put_tensor("c_n", &cells)?;
    add(&states, &given.tensor("cotangent.h_n", DType::F64)?)?;
    add(&cells, &given.tensor("cotangent.c_n", DType::F64)?)?;

    let total = total.ok_or_else(|| Trouble::unmapped("an LSTM has a layer"))?;
    let gradients = total.backward()?;
    outputs.put_tensor("grad_input", &gradient(&gradients, &input)?)?;
    // Each stack has tensors of its own, so a gradient is the sum over all of them.
    let mut sums = BTreeMap::<String, Tensor>::new();
    for parameter in stacks.iter().flat_map(Params::parameters) {
        let gradient = gradient(&gradients, &parameter.var)?;
        let sum = match sums.remove(&parameter.name) {
            None => gradient,
            Some(sum) => (sum + gradient)?,
        };
        sums.insert(parameter.name, sum);
    }
    for (name, sum) in sums {
        match name.strip_prefix("bias_") {
            None => outputs.put_tensor(format!("grad_{name}"), &sum)?,
            Some(rest) => {
                outputs.put_tensor(format!("grad_bias_ih_{rest}"), &sum)?;
                outputs.put_tensor(format!("grad_bias_hh_{rest}"), &sum)?;
            }
        }
    }
    Ok(())
}

/// What the last step of a direction reads.
struct LastStep {
    input: Tensor,
    hidden: Tensor,
    bias: Tensor,
    backward: bool,
}

impl LastStep {
    /// The cell after the last step, which ours keeps to itself: the state is `o · tanh(cell)`, and `o` is a function of what
    /// the step read.
    fn cell(
        &self,
        below: &Tensor,
        states: &Tensor,
        last: &Tensor,
        lengths: &[u32],
    ) -> Mapped<Tensor> {
        let size = self.hidden.dim(1)?;
        let mut cells = Vec::new();
        for (row, &length) in lengths.iter().enumerate() {
            let length = length as usize;
            let (step, before) = match self.backward {
                true => (0, (length > 1).then_some(1)),
                false => (length - 1, (length > 1).then(|| length - 2)),
            };
            let x = below.get(row)?.narrow(0, step, 1)?; // (1, inputs)
            let mut sums = x.matmul(&self.input.t()?)?.broadcast_add(&self.bias)?;
            if let Some(before) = before {
                let before = states.get(row)?.narrow(0, before, 1)?;
                sums = (sums + before.matmul(&self.hidden.t()?)?)?;
            }
            let open = sigmoid(&sums.narrow(1, 3 * size, size)?)?;
            let bent = (last.narrow(0, row, 1)? / open)?;
            // The inverse of tanh: ½ log((1 + x) / (1 − x)).
            let cell = (bent.affine(1.0, 1.0)? / bent.affine(-1.0, 1.0)?)?.log()?;
            cells.push((cell * 0.5)?);
        }
        Ok(Tensor::cat(&cells, 0)?)
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

fn pointwise(
    name: &str,
    given: &Given<'_>,
    params: &mut Settings,
    outputs: &mut Outputs,
) -> Mapped<()> {
    let bench = Bench::new(given)?;
    let x = bench.input.as_tensor();
    let last = x.rank() - 1;
    let dim = params.count("dim")?;
    // Ours work along the last dimension.
    let along = |x: &Tensor, run: fn(&Tensor) -> candle_core::Result<Tensor>| {
        let dim = dim.unwrap_or(last);
        run(&x.transpose(dim, last)?.contiguous()?)?.transpose(dim, last)
    };
    let output = match name {
        "relu" => relu(x)?,
        "sigmoid" => sigmoid(x)?,
        "softplus" => softplus(x)?,
        "softmax" => along(x, softmax)?,
        "log_softmax" => along(x, log_softmax)?,
        "logsumexp" if dim.is_none_or(|dim| dim == last) => log_sum_exp(x)?,
        "cdist" => {
            params.number("p")?;
            euclidean(x, x)?
        }
        "Dropout" => {
            params.flag_or("training", true)?;
            let rate = Fraction::new(params.number_or("p", 0.5)?)?;
            dropout(x, rate, &mut Mode::Eval)?
        }
        "MaxPool2d" => {
            params.count("padding")?;
            params.flag_or("ceil_mode", false)?;
            let kernel = size(params, "kernel_size")?;
            let stride = params.count("stride")?.unwrap_or(kernel);
            {
                let slide = Slide {
                    stride,
                    ..Slide::over(kernel)
                };
                max_pool(x, &Windows::sliding(&x.dims()[2..], &[slide; 2], false)?)?
            }
        }
        "normalize" if dim.is_none_or(|dim| dim == last) => {
            params.number("p")?;
            let eps = params.number_or("eps", 1e-12)?;
            if eps != TINY_NORM {
                return Err(Trouble::unmapped(format!("eps = {eps}")));
            }
            outputs.zero_by_definition("grad_input", rows_of_zeros(x)?);
            l2_normalize(x)?
        }
        other => return Err(Trouble::unmapped(format!("{other} along {dim:?}"))),
    };
    bench.backward(given, &output, outputs)
}

fn size(params: &mut Settings, key: &str) -> Mapped<usize> {
    let found = params.count(key)?;
    found.ok_or_else(|| Trouble::unmapped(format!("`{key}` is missing")))
}
