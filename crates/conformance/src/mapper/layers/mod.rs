//! `torch.nn`.

mod convolutions;
mod fixture;
mod functions;
mod norms;
mod pools;
mod recurrent;
mod transformers;

use super::{Claim, Mapper, Pass};
use crate::golden::{Case, Given, Mapped, Outputs, Settings, Trouble};

/// Layers and functions, with the gradients of everything that goes in.
pub(super) struct Layers;

type Run = fn(&str, &Given<'_>, &mut Settings, &mut Outputs) -> Mapped<()>;

/// What runs a function of this name; none for those that are not ours.
fn run_of(path: &str) -> Option<Run> {
    let name = match path {
        "gem" => return Some(pools::gem), // Not torch's, but the definition of the authors.
        "torchvision BasicBlock, rebuilt" => return Some(convolutions::basic_block),
        "torch.logsumexp" => return Some(functions::along),
        "torch.cdist" => return Some(functions::cdist),
        _ => path.strip_prefix("torch.nn.")?,
    };
    Some(match name {
        "Linear" => convolutions::linear,
        "Conv1d" => convolutions::convolution::<1>,
        "Conv2d" => convolutions::convolution::<2>,
        "Conv3d" => convolutions::convolution::<3>,
        "BatchNorm1d" | "BatchNorm2d" => norms::batch_norm,
        "LayerNorm" => norms::layer_norm,
        "GroupNorm" => norms::group_norm,
        "MaxPool1d" | "AvgPool1d" => pools::sliding::<1>,
        "MaxPool2d" | "AvgPool2d" => pools::sliding::<2>,
        "AdaptiveAvgPool1d" => pools::adaptive::<1>,
        "AdaptiveAvgPool2d" => pools::adaptive::<2>,
        "LSTM" => recurrent::lstm,
        "GRU" => recurrent::gru,
        "Embedding" => recurrent::embedding,
        "MultiheadAttention" => transformers::attention,
        "TransformerEncoderLayer" => transformers::layer,
        "PReLU" => functions::prelu,
        "Dropout" => functions::dropout,
        "functional.softmax" | "functional.log_softmax" => functions::along,
        "functional.normalize" => functions::normalize,
        "functional.cross_entropy" => functions::cross_entropy,
        name => functions::activation(name.strip_prefix("functional.")?)?,
    })
}

impl Mapper for Layers {
    fn claims(&self, case: &Case) -> Claim {
        let function = &case.function;
        let mut params = function.params();
        match (function.short(), params.flag_or("training", true)) {
            // Its generator is not ours.
            ("Dropout", Ok(true)) => Claim::NotWith("training".into()),
            _ if run_of(function.path()).is_some() => Claim::Ours,
            _ => Claim::No,
        }
    }

    fn run(&self, given: &Given<'_>, _: Pass) -> Mapped<Outputs> {
        let function = &given.case.function;
        let mut call = function.call();
        call.text("name")?; // It has no peer whose name would be told apart.
        call.finish()?;
        let mut params = function.params();
        let mut outputs = Outputs::default();
        let run = run_of(function.path());
        let run = run.ok_or_else(|| Trouble::unmapped(function.path()))?;
        run(function.short(), given, &mut params, &mut outputs)?;
        params.finish()?;
        given.finish()?;
        Ok(outputs)
    }
}
