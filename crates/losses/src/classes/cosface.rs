//! Additive margin of the cosine.

use candle_core::{Result, Tensor};
use nearfar_core::{NonNegative, Positive};
use nearfar_kernels::rows::Sloped;
use serde::{Deserialize, Serialize};

use super::softmax::softmax_over_classes;
use crate::ToCenters;
use crate::family::{ByRow, ClassificationLoss, Head};

/// Wants the cosine of each row with its class center to be larger than with any other, by a margin.
///
/// ```text
/// l = −log softmax(scale · z)_own,   z_c = cos θ_c,   z_own = cos θ_own − margin
/// ```
///
/// With one class the loss is 0.
///
/// The centers are parameters of the loss: `centers`, `(c, d)`. Labels are `0..c`. A miner, if there is one, gives each row a
/// weight: how often it is in a tuple, over the largest such count.
///
/// Source: Wang et al., "CosFace: Large Margin Cosine Loss for Deep Face Recognition", CVPR 2018,
/// <https://arxiv.org/abs/1801.09414>, equation 4. Agrees with `CosFaceLoss` of pytorch-metric-learning 2.9. insightface takes a
/// margin of 0.4.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// use nearfar_losses::{ClassificationLoss, CosFace, ToCenters};
///
/// let row = Tensor::new(&[[0.6f64, 0.8]], &Device::Cpu)?;
/// let centers = Tensor::new(&[[1f64, 0.0], [0.0, 1.0]], &Device::Cpu)?;
/// let logits = CosFace::default().logits(&ToCenters::new(&row, &centers, 1, &[0])?)?.to_vec2::<f64>()?;
/// assert!((logits[0][0] - 64.0 * (0.6 - 0.35)).abs() < 1e-12);
/// assert!((logits[0][1] - 64.0 * 0.8).abs() < 1e-12);
/// # Ok::<(), candle_core::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CosFace {
    /// By how much the own cosine must be larger.
    pub margin: NonNegative,
    /// What the cosines are multiplied by before the softmax.
    pub scale: Positive,
}

impl Default for CosFace {
    /// The paper's values.
    fn default() -> Self {
        Self {
            margin: NonNegative::literal(0.35),
            scale: Positive::literal(64.0),
        }
    }
}

impl ClassificationLoss for CosFace {
    fn logits(&self, to: &ToCenters) -> Result<Tensor> {
        let harder = to.own.to_dtype(to.cosine.dtype())? * self.margin.get();
        (&to.cosine - harder?)? * self.scale.get()
    }

    fn by_row(&self, head: &Head<'_>) -> Option<ByRow> {
        let margin = self.margin.get() as f32;
        let own = move |cosine, _| Sloped {
            value: cosine - margin,
            slope: 1.0,
        };
        Some(ByRow::cosines(softmax_over_classes(
            self.scale.get(),
            head,
            own,
        )))
    }
}
