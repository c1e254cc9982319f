//! Metric learning for kernel regression, as a loss of networks.

use candle_core::Result;
use nearfar_core::{Comparison, Positive, Rng, Terms};
use nearfar_kernels::masked_softmax;
use serde::{Deserialize, Serialize};

use crate::family::batch_loss;
use crate::over::matrix::{MatrixLoss, View};
use crate::over::relations::{own, targets};

/// Estimates each target from the others, weighted by how near they are, and wants the estimate right.
///
/// ```text
/// ŷ(i) = Σ_{j ≠ i} k(i, j) y(j) / Σ_{j ≠ i} k(i, j),   k(i, j) = exp(−gamma d(i, j)²)
/// l(i) = (ŷ(i) − y(i))²
/// ```
///
/// Averaged over the anchors with another row. Weights are a softmax, so rows that are all far are no trouble.
///
/// Source: Weinberger, Tesauro, "Metric learning for kernel regression", AISTATS 2007, there for a linear map.
///
/// Choose it for ages, counts and other numbers that neighbors share; scale the targets to about 1 first.
///
/// ```
/// # use nearfar_losses::{LossConfig, Reads};
/// let config: LossConfig = toml::from_str("deep_mlkr = { gamma = 4 }")?;
/// assert_eq!(config.reads(), Reads::Targets);
/// # Ok::<(), toml::de::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DeepMLKR {
    /// Larger looks at nearer rows alone; rows of length 1 want more than 1.
    pub gamma: Positive,
}

impl Default for DeepMLKR {
    /// The paper's kernel, for rows as they are.
    fn default() -> Self {
        Self {
            gamma: Positive::literal(1.0),
        }
    }
}

batch_loss!(DeepMLKR, Targets, "euclidean");

impl MatrixLoss for DeepMLKR {
    fn parts(&self) -> &'static [&'static str] {
        &["error"]
    }

    fn accepts(&self, name: &str, comparison: &Comparison<'_>) -> Result<()> {
        targets(name, comparison).map(drop)
    }

    fn terms(&self, view: &View<'_>, _: &mut Rng) -> Result<Vec<Terms>> {
        let (n, m) = view.size();
        let (ours, theirs) = targets(view.name, view.comparison)?;
        let own = own(view.comparison);
        let anchors = (0..n).filter(|row| own[row * m..][..m].contains(&false));
        let anchors: Vec<u32> = anchors.map(|row| row as u32).collect();
        if anchors.is_empty() {
            return Ok(vec![Terms::none("error", view.comparison)]);
        }
        let mask = own.iter().map(|own| if *own { 0.0 } else { 1.0 }).collect();
        let mask = view.tensor(mask, (n, m))?;
        let column = |targets: &[f32]| {
            let numbers = targets.iter().map(|it| f64::from(*it)).collect();
            view.tensor(numbers, (targets.len(), 1))
        };
        let kernel = masked_softmax(&(view.matrix.sqr()? * -self.gamma.get())?, &mask)?;
        let estimate = kernel.matmul(&column(theirs)?)?; // (n, 1)
        let errors = (estimate - column(ours)?)?.sqr()?.squeeze(1)?;
        let index = candle_core::Tensor::from_slice(&anchors, anchors.len(), errors.device())?;
        let values = errors.index_select(&index, 0)?;
        Ok(vec![Terms::of_anchors(
            "error",
            values,
            anchors,
            view.comparison,
        )?])
    }
}
