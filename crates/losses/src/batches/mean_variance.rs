//! Means and variances of distances.

use candle_core::{Result, Tensor};
use nearfar_core::{Comparison, Distance, Loss, NonNegative, Reducer, Rng, Stateful, Terms};
use nearfar_kernels::{hinge, l2_normalize};
use serde::{Deserialize, Serialize};

use crate::family::BatchLoss;
use crate::over::batches::{Formula, Whole};
use crate::over::mining::Mining;
use crate::{Compares, Join, Reads};

/// Wants the distances of all positive pairs of a batch, and of all negative pairs, in two narrow heaps far apart.
///
/// ```text
/// l = σ²_p + σ²_n + weight · [ μ_p − μ_n + margin ]₊
/// ```
///
/// `μ` and `σ²` are mean and variance of the distances of a kind of pairs. Rows are taken at length 1. Without a pair of both kinds
/// there is nothing to learn. It is one term for the whole batch: reducers leave it as it is. Reads classes and listed pairs; a
/// miner chooses the pairs.
///
/// Source: after Kumar, Carneiro, Reid, "Learning Local Image Descriptors with Deep Siamese and Triplet Convolutional Networks by
/// Minimising Global Loss Functions", CVPR 2016, <https://arxiv.org/abs/1512.09272>, equation 3.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MeanVariance {
    /// The wanted gap of the means.
    pub margin: NonNegative,
    /// What the gap counts beside the variances; λ in the paper.
    pub weight: NonNegative,
}

impl Default for MeanVariance {
    /// The paper's weight; its margin, for rows of length 1.
    fn default() -> Self {
        Self {
            margin: NonNegative::literal(0.4),
            weight: NonNegative::literal(1.0),
        }
    }
}

impl BatchLoss for MeanVariance {
    fn reads(&self) -> Reads {
        Reads::ClassesOrPairs
    }

    fn compares(&self) -> Compares {
        Compares::Distance("euclidean")
    }

    fn build(&self, name: &'static str, mut join: Join) -> Result<Box<dyn Loss>> {
        join.refuse_scorer(name, "distances of pairs")?;
        let formula = Heaps {
            name,
            settings: self.clone(),
            distance: join.distance(name, "euclidean")?,
            mining: join.mining(),
        };
        Ok(Whole::boxed(formula, join.reducer.take(), Reducer::Mean {}))
    }
}

#[derive(Debug)]
struct Heaps {
    name: &'static str,
    settings: MeanVariance,
    distance: Box<dyn Distance>,
    mining: Mining,
}

impl Stateful for Heaps {
    fn state(&self) -> std::collections::BTreeMap<String, Tensor> {
        self.mining.state()
    }

    fn restore(&mut self, state: &std::collections::BTreeMap<String, Tensor>) -> Result<()> {
        self.mining.restore(state)
    }

    fn interval(&self) -> Option<nearfar_core::Span> {
        self.mining.interval()
    }

    fn refresh(&mut self, table: &nearfar_core::EmbeddingTable, rng: &mut Rng) -> Result<()> {
        self.mining.refresh(table, rng)
    }
}

impl Formula for Heaps {
    fn terms(&self, comparison: &Comparison<'_>, rng: &mut Rng) -> Result<Vec<Terms>> {
        let none = || Ok(vec![Terms::none("batch", comparison)]);
        comparison.kinds(self.name)?; // Before anything is computed.
        if comparison.anchors.is_empty() || comparison.references.is_empty() {
            return none();
        }
        let anchors = l2_normalize(&comparison.anchors.vectors)?;
        let references = match std::ptr::eq(comparison.anchors, comparison.references) {
            true => anchors.clone(),
            false => l2_normalize(&comparison.references.vectors)?,
        };
        let distances = self.distance.matrix(&anchors, &references)?;
        let own = || Ok(distances.detach());
        let pairs = self
            .mining
            .tuples(self.name, comparison, own, rng)?
            .into_pairs();
        if pairs.positive.is_empty() || pairs.negative.is_empty() {
            return none();
        }
        let m = distances.dim(1)? as u32;
        let flat = distances.flatten_all()?;
        let moments = |pairs: &nearfar_core::Pairs| -> Result<(Tensor, Tensor)> {
            let index: Vec<u32> = pairs.iter().map(|(row, other)| row * m + other).collect();
            let index = Tensor::from_slice(&index, index.len(), flat.device())?;
            let chosen = flat.index_select(&index, 0)?;
            let mean = chosen.mean_all()?;
            let variance = chosen.broadcast_sub(&mean)?.sqr()?.mean_all()?;
            Ok((mean, variance))
        };
        let (positive, positive_variance) = moments(&pairs.positive)?;
        let (negative, negative_variance) = moments(&pairs.negative)?;
        let gap = hinge(&((positive - negative)? + self.settings.margin.get())?)?;
        let value =
            ((positive_variance + negative_variance)? + (gap * self.settings.weight.get())?)?;
        Ok(vec![Terms::of_batch("batch", &value, comparison)?])
    }
}
