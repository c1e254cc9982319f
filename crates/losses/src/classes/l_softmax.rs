//! Multiplied angle of a linear layer.

use std::num::NonZeroU32;

use candle_core::{Result, Tensor};
use nearfar_core::Positive;
use serde::{Deserialize, Serialize};

use super::angle;
use super::softmax::{Own, softmax_with_lengths};
use crate::ToCenters;
use crate::family::{ByRow, ClassificationLoss, Head};

/// Wants each row nearer to its class center than to any other by a multiple of the angle, in a softmax of plain dot products.
///
/// ```text
/// l = −log softmax(scale · z)_own,   z_c = ‖w_c‖ ‖x‖ cos θ_c,   z_own = ‖w_own‖ ‖x‖ ψ(θ_own)
/// ```
///
/// `ψ(θ) = (−1)^k cos(margin · θ) − 2k` with `k = ⌊margin · θ / π⌋` falls from 1 to `1 − 2 margin` as `θ` goes from 0 to π. A
/// margin of 1 is a plain softmax.
/// Long rows and centers make it confident. With one class the loss is 0.
///
/// The centers are parameters of the loss: `centers`, `(c, d)`. Labels are `0..c`. A miner, if there is one, gives each row a
/// weight: how often it is in a tuple, over the largest such count.
///
/// Source: Liu et al., "Large-Margin Softmax Loss for Convolutional Neural Networks", ICML 2016,
/// <https://arxiv.org/abs/1612.02295>, equations 4 to 6. Agrees with `LargeMarginSoftmaxLoss` of pytorch-metric-learning 2.9.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// use nearfar_losses::{ClassificationLoss, LSoftmax, ToCenters};
///
/// let row = Tensor::new(&[[3f64, 4.0]], &Device::Cpu)?; // Of length 5; cos θ = 0.6.
/// let centers = Tensor::new(&[[2f64, 0.0], [0.0, 1.0]], &Device::Cpu)?;
/// let loss = LSoftmax { margin: 2.try_into().expect("above 0"), ..LSoftmax::default() };
/// let logits = loss.logits(&ToCenters::new(&row, &centers, 1, &[0])?)?.to_vec2::<f64>()?;
/// assert!((logits[0][0] - 10.0 * (2.0 * 0.36 - 1.0)).abs() < 1e-12); // 2 · 5 · cos 2θ; 2θ is below π.
/// assert!((logits[0][1] - 4.0).abs() < 1e-12);
/// # Ok::<(), candle_core::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LSoftmax {
    /// What the own angle is multiplied by.
    pub margin: NonZeroU32,
    /// What the dot products are multiplied by before the softmax.
    pub scale: Positive,
}

impl Default for LSoftmax {
    /// The paper's margin, and dot products as they are.
    fn default() -> Self {
        Self {
            margin: NonZeroU32::new(4).expect("4 is above 0"),
            scale: Positive::literal(1.0),
        }
    }
}

impl ClassificationLoss for LSoftmax {
    fn logits(&self, to: &ToCenters) -> Result<Tensor> {
        let own = angle::multiplied(&to.of_own(&to.cosine)?, self.margin.get())?;
        let angles = to.with_own(&to.cosine, &own)?;
        angles
            .broadcast_mul(&to.center_lengths()?)?
            .broadcast_mul(&(to.row_lengths()? * self.scale.get())?)
    }

    fn by_row(&self, head: &Head<'_>) -> Option<ByRow> {
        let margin = self.margin.get();
        let own = move |it: Own| {
            let [row, center] = it.lengths;
            let mut own = angle::multiplied_with_length(it.value, row * center, margin);
            own.by_lengths[0] *= center;
            own.by_lengths[1] *= row;
            own
        };
        Some(ByRow {
            unit: [false; 2],
            ..ByRow::cosines(softmax_with_lengths(self.scale.get(), head, own))
        })
    }
}
