//! The order of scores.

use candle_core::{Result, Tensor};
use nearfar_core::{Positive, shape};
use nearfar_kernels::{masked_log_sum_exp, softplus};
use serde::{Deserialize, Serialize};

use crate::family::ScoreLoss;

/// Wants pairs with a higher target to have a higher score; by how much the targets differ does not matter.
///
/// ```text
/// L = log(1 + Σ_{i, j: t_i < t_j} e^(scale · (s_i − s_j)))   over the pairs of the batch
/// ```
///
/// It is one term for the whole batch. Where all targets are equal there is no order, and it is 0 without a gradient. Its scores
/// are not on the scale of the targets: only their order is learned.
///
/// Source: Su, "CoSENT", 2022, <https://kexue.fm/archives/8847>; `CoSENTLoss` of sentence-transformers.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// use nearfar_losses::{CoSENT, ScoreLoss};
///
/// let score = Tensor::new(&[0.5f64, 0.4, 0.1], &Device::Cpu)?;
/// let target = Tensor::new(&[1f64, 2.0, 2.0], &Device::Cpu)?;
/// let loss = CoSENT::default().scores(&score, &target)?.to_vec1::<f64>()?;
/// assert!((loss[0] - (1.0 + 2f64.exp() + 8f64.exp()).ln()).abs() < 1e-12); // The first is above the others by 0.1 and 0.4.
/// # Ok::<(), candle_core::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CoSENT {
    /// What differences of scores are multiplied by.
    pub scale: Positive,
}

impl Default for CoSENT {
    /// The author's value.
    fn default() -> Self {
        Self {
            scale: Positive::literal(20.0),
        }
    }
}

impl ScoreLoss for CoSENT {
    fn scores(&self, score: &Tensor, target: &Tensor) -> Result<Tensor> {
        shape::same("cosent", ("score", score), ("target", target))?;
        ordered(score, target, self.scale.get())
    }
}

/// `log(1 + Σ_{t_i < t_j} e^(scale (s_i − s_j)))`, `(1)`.
pub(crate) fn ordered(score: &Tensor, target: &Tensor, scale: f64) -> Result<Tensor> {
    let t = score.dim(0)?;
    let (rows, columns) = (score.reshape((t, 1))?, score.reshape((1, t))?);
    let differences = (rows.broadcast_sub(&columns)? * scale)?.reshape((1, t * t))?;
    let (rows, columns) = (target.reshape((t, 1))?, target.reshape((1, t))?);
    let wrong = rows.broadcast_lt(&columns)?.reshape((1, t * t))?;
    softplus(&masked_log_sum_exp(&differences, &wrong)?)
}
