//! Classes of pairs of sentences.

use candle_core::{DType, Device, Result, Tensor, Var};
use nearfar_core::{Comparison, Error, Loss, Parameter, Reducer, Relation, Rng, Stateful, Terms};
use nearfar_kernels::{absolute, log_softmax};
use serde::{Deserialize, Serialize};
use std::num::NonZeroUsize;

use crate::family::BatchLoss;
use crate::over::batches::{Formula, Whole};
use crate::over::rows_of_pairs;
use crate::{CenterStart, Compares, Join, Reads};

/// Wants a linear layer on two rows and their difference to tell what the two are to each other.
///
/// ```text
/// z = W [x; y; |x − y|] + b   (with product = true also x ∘ y),   l = −log softmax(z)_t
/// ```
///
/// The target of a pair is the number of its class, `0..classes`: entailment, contradiction, neutral. The layer is of the loss,
/// `head.weight` and `head.bias`, and is dropped after training. Reads scored pairs.
///
/// Source: Reimers, Gurevych, "Sentence-BERT", EMNLP 2019, <https://arxiv.org/abs/1908.10084>, section 3; `SoftmaxLoss` of
/// sentence-transformers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SoftmaxNLI {
    /// How many classes of pairs there are.
    pub classes: NonZeroUsize,
    /// Whether the layer sees the product of the two rows too.
    pub product: bool,
}

impl Default for SoftmaxNLI {
    /// Those of the paper.
    fn default() -> Self {
        Self {
            classes: NonZeroUsize::new(3).expect("3 is above 0"),
            product: false,
        }
    }
}

impl BatchLoss for SoftmaxNLI {
    fn reads(&self) -> Reads {
        Reads::ScoredPairs
    }

    fn compares(&self) -> Compares {
        Compares::Centers
    }

    fn takes_miner(&self) -> bool {
        false
    }

    fn build(&self, name: &'static str, mut join: Join) -> Result<Box<dyn Loss>> {
        join.refuse_scorer(name, "a layer of its own")?;
        join.refuse_metric(name)?;
        join.refuse_miner(name)?;
        let formula = Head {
            name,
            seen: if self.product { Seen::All } else { Seen::Rows },
            layer: Layer::new(
                self.classes.get(),
                if self.product { 4 } else { 3 },
                name,
                &join,
            )?,
        };
        Ok(Whole::boxed(formula, join.reducer.take(), Reducer::Mean {}))
    }
}

/// What a layer on two rows sees.
#[derive(Clone, Copy, Debug)]
pub(super) enum Seen {
    /// Both rows and their absolute difference.
    Rows,
    /// The same and their product.
    All,
    /// The absolute difference and the product.
    Symmetric,
}

impl Seen {
    pub(super) fn of(self, x: &Tensor, y: &Tensor) -> Result<Tensor> {
        let difference = absolute(&(x - y)?)?;
        match self {
            Self::Rows => Tensor::cat(&[x, y, &difference], 1),
            Self::All => Tensor::cat(&[x, y, &difference, &(x * y)?], 1),
            Self::Symmetric => Tensor::cat(&[&difference, &(x * y)?], 1),
        }
    }
}

/// A linear layer on two rows.
#[derive(Debug)]
pub(super) struct Layer {
    weight: Var,
    bias: Var,
}

impl Layer {
    pub(super) fn new(outputs: usize, blocks: usize, name: &str, join: &Join) -> Result<Self> {
        let inputs = blocks * join.known_width(name)?;
        let zeros = Tensor::zeros((1, outputs), join.dtype, &join.device)?;
        Ok(Self {
            weight: join.parameter(CenterStart::XavierUniform, "head.weight", (outputs, inputs))?,
            bias: Var::from_tensor(&zeros)?,
        })
    }

    pub(super) fn logits(&self, seen: &Tensor) -> Result<Tensor> {
        seen.matmul(&self.weight.t()?)?.broadcast_add(&self.bias)
    }

    /// How many outputs it has.
    pub(super) fn classes(&self) -> usize {
        self.bias.elem_count()
    }

    pub(super) fn parameters(&self) -> Vec<Parameter> {
        [("head.bias", &self.bias), ("head.weight", &self.weight)]
            .map(|(name, var)| Parameter {
                name: name.into(),
                var: var.clone(),
                trained: true,
            })
            .into()
    }
}

#[derive(Debug)]
struct Head {
    name: &'static str,
    seen: Seen,
    layer: Layer,
}

impl Stateful for Head {}

impl Formula for Head {
    fn terms(&self, comparison: &Comparison<'_>, _: &mut Rng) -> Result<Vec<Terms>> {
        let Relation::Scored { pairs, targets } = comparison.relation else {
            return Err(comparison.cannot_read(self.name, Reads::ScoredPairs.name()))?;
        };
        comparison.check()?;
        let classes = self.layer.bias.dims()[1];
        let is_class =
            |target: f32| target >= 0.0 && target.fract() == 0.0 && target < classes as f32;
        if let Some(pair) = targets.iter().position(|&target| !is_class(target)) {
            Err(Error::Input(format!(
                "{}: pair {pair} has the target {}, but there are {classes} classes, from 0 to {}",
                self.name,
                targets[pair],
                classes - 1
            )))?;
        }
        if pairs.is_empty() {
            return Ok(vec![Terms::none("score", comparison)]);
        }
        let (x, y) = rows_of_pairs(comparison, pairs)?;
        let log_p = log_softmax(&self.layer.logits(&self.seen.of(&x, &y)?)?)?;
        let targets = Tensor::from_slice(targets, (targets.len(), 1), &Device::Cpu)?;
        let targets = targets.to_dtype(DType::U32)?.to_device(log_p.device())?;
        let values = log_p.gather(&targets, 1)?.squeeze(1)?.neg()?;
        let anchors = pairs.anchors.clone();
        Ok(vec![Terms::tuples("score", values, anchors, comparison)?])
    }

    fn parameters(&self) -> Vec<Parameter> {
        self.layer.parameters()
    }
}
