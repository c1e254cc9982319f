//! Multi-label metric loss.

use candle_core::Result;
use nearfar_core::{Comparison, NonNegative, Positive, Rng, Terms};
use nearfar_kernels::{hinge, masked_log_sum_exp};
use serde::{Deserialize, Serialize};

use crate::family::batch_loss;
use crate::over::matrix::{MatrixLoss, View};
use crate::over::relations::{by_sets, overlaps, own};

/// Wants rows as far apart as their sets of labels differ.
///
/// ```text
/// J = |A ∩ B| / |A ∪ B|,   t = margin · (1 − J)
/// attract  Σ J max(0, d − t − slack)² / Σ J
/// repel    Σ (1 − J) max(0, t − slack − d)² / Σ (1 − J)
/// structured: repel is the mean over anchors of 1/γ · log Σ_j exp(γ (t − d)) over the references with J < 1
/// ```
///
/// Sums are over all ordered pairs of different rows. Two empty sets overlap fully: no label is a label of its own. Where sets
/// are equal or disjoint it is the squared contrastive loss. A side whose weights add up to 0 has nothing to learn: with all sets
/// equal there is only `attract`, with all sets disjoint only `repel`.
///
/// Source: ours, with the purpose of the loss of Annarumma, Montana, "Deep metric learning for multi-labelled radiographs", SAC
/// 2018, <https://arxiv.org/abs/1712.07682>: the distance should grow as the labels differ, over the whole batch.
///
/// ```
/// # use nearfar_losses::{LossConfig, Reads};
/// let config: LossConfig = toml::from_str("ml2 = { structured = { gamma = 10 } }")?;
/// assert_eq!(config.reads(), Reads::Sets);
/// # Ok::<(), toml::de::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ML2 {
    /// How far rows without a common label should be.
    pub margin: Positive,
    /// How far off a distance may be without costing anything.
    pub slack: NonNegative,
    /// Whether an anchor's nearest negatives stand for all; left out, all count.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub structured: Option<Sharpness>,
}

/// How sharp a smooth maximum is.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sharpness {
    /// Larger is nearer to the maximum itself.
    pub gamma: Positive,
}

impl Default for ML2 {
    /// Ours, for rows of length 1, whose right angle is at 1.41.
    fn default() -> Self {
        Self {
            margin: Positive::literal(1.4),
            slack: NonNegative::literal(0.05),
            structured: None,
        }
    }
}

batch_loss!(ML2, Sets, "euclidean");

impl MatrixLoss for ML2 {
    fn parts(&self) -> &'static [&'static str] {
        &["attract", "repel"]
    }

    fn accepts(&self, name: &str, comparison: &Comparison<'_>) -> Result<()> {
        by_sets(name, comparison)
    }

    fn terms(&self, view: &View<'_>, _: &mut Rng) -> Result<Vec<Terms>> {
        let (comparison, (n, m)) = (view.comparison, view.size());
        let overlaps = overlaps(view.name, comparison)?;
        let own = own(comparison);
        let (margin, slack) = (self.margin.get(), self.slack.get());
        let targets = overlaps.iter().map(|overlap| margin * (1.0 - overlap));
        let targets = view.tensor(targets.collect(), (n, m))?;
        let weights = |of: fn(f64) -> f64| -> (Vec<f64>, f64) {
            let both = overlaps.iter().zip(&own);
            let weights: Vec<f64> = both
                .map(|(overlap, own)| if *own { 0.0 } else { of(*overlap) })
                .collect();
            let sum = weights.iter().sum();
            (weights, sum)
        };
        let (near, near_sum) = weights(|overlap| overlap);
        let (far, far_sum) = weights(|overlap| 1.0 - overlap);
        let attract = if near_sum > 0.0 {
            let beyond = hinge(&((&view.matrix - &targets)? - slack)?)?.sqr()?;
            let near = view.tensor(near.iter().map(|it| it / near_sum).collect(), (n, m))?;
            Terms::of_batch("attract", &(beyond * near)?.sum_all()?, comparison)?
        } else {
            Terms::none("attract", comparison)
        };
        let repel = if far_sum <= 0.0 {
            Terms::none("repel", comparison)
        } else if let Some(Sharpness { gamma }) = self.structured {
            let gamma = gamma.get();
            let within = ((targets - &view.matrix)? * gamma)?;
            let largest = masked_log_sum_exp(&within, &view.tensor(far.clone(), (n, m))?)?;
            let anchors = (0..n).filter(|row| far[row * m..][..m].iter().any(|it| *it > 0.0));
            let anchors: Vec<u32> = anchors.map(|row| row as u32).collect();
            let count = anchors.len();
            let anchors = candle_core::Tensor::from_vec(anchors, count, view.matrix.device())?;
            let value = (largest.index_select(&anchors, 0)?.mean_all()? / gamma)?;
            Terms::of_batch("repel", &value, comparison)?
        } else {
            let within = hinge(&((targets - &view.matrix)? - slack)?)?.sqr()?;
            let far = view.tensor(far.iter().map(|it| it / far_sum).collect(), (n, m))?;
            Terms::of_batch("repel", &(within * far)?.sum_all()?, comparison)?
        };
        Ok(vec![attract, repel])
    }
}
