//! Multiplied angle with centers of length 1.

use std::num::NonZeroU32;

use candle_core::{Result, Tensor};
use nearfar_core::Positive;
use serde::{Deserialize, Serialize};

use super::angle;
use super::softmax::{Own, softmax_with_lengths};
use crate::ToCenters;
use crate::family::{ByRow, ClassificationLoss, Head};

/// Wants each row nearer to its class center than to any other by a multiple of the angle.
///
/// ```text
/// l = −log softmax(scale · z)_own,   z_c = ‖x‖ cos θ_c,   z_own = ‖x‖ ψ(θ_own)
/// ```
///
/// `ψ(θ) = (−1)^k cos(margin · θ) − 2k` with `k = ⌊margin · θ / π⌋` falls from 1 to `1 − 2 margin` as `θ` goes from 0 to π. A
/// margin of 1 is a plain softmax.
/// Of the centers only the direction counts; long rows make it confident. With one class the loss is 0.
///
/// The centers are parameters of the loss: `centers`, `(c, d)`. Labels are `0..c`. A miner, if there is one, gives each row a
/// weight: how often it is in a tuple, over the largest such count.
///
/// Source: Liu et al., "SphereFace: Deep Hypersphere Embedding for Face Recognition", CVPR 2017,
/// <https://arxiv.org/abs/1704.08063>, equation 6. Agrees with `SphereFaceLoss` of pytorch-metric-learning 2.9.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// use nearfar_losses::{ClassificationLoss, SphereFace, ToCenters};
///
/// let row = Tensor::new(&[[3f64, 4.0]], &Device::Cpu)?; // Of length 5; cos θ = 0.6, cos 4θ = −0.8432.
/// let centers = Tensor::new(&[[2f64, 0.0], [0.0, 1.0]], &Device::Cpu)?;
/// let logits = SphereFace::default().logits(&ToCenters::new(&row, &centers, 1, &[0])?)?.to_vec2::<f64>()?;
/// assert!((logits[0][0] - 5.0 * (0.8432 - 2.0)).abs() < 1e-12); // 4θ is 212°, so k = 1.
/// assert!((logits[0][1] - 4.0).abs() < 1e-12);
/// # Ok::<(), candle_core::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SphereFace {
    /// What the own angle is multiplied by.
    pub margin: NonZeroU32,
    /// What the projections are multiplied by before the softmax.
    pub scale: Positive,
}

impl Default for SphereFace {
    /// The paper's margin, and projections as they are.
    fn default() -> Self {
        Self {
            margin: NonZeroU32::new(4).expect("4 is above 0"),
            scale: Positive::literal(1.0),
        }
    }
}

impl ClassificationLoss for SphereFace {
    fn logits(&self, to: &ToCenters) -> Result<Tensor> {
        let own = angle::multiplied(&to.of_own(&to.cosine)?, self.margin.get())?;
        let angles = to.with_own(&to.cosine, &own)?;
        angles.broadcast_mul(&(to.row_lengths()? * self.scale.get())?)
    }

    fn by_row(&self, head: &Head<'_>) -> Option<ByRow> {
        let margin = self.margin.get();
        let own = move |it: Own| angle::multiplied_with_length(it.value, it.lengths[0], margin);
        Some(ByRow {
            unit: [false, true],
            ..ByRow::cosines(softmax_with_lengths(self.scale.get(), head, own))
        })
    }
}
