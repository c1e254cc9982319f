//! Additive angular margin.

use candle_core::{Result, Tensor};
use nearfar_core::{Error, NonNegative, Positive};
use serde::{Deserialize, Serialize};

use super::angle;
use super::softmax::softmax_over_classes;
use crate::ToCenters;
use crate::family::{ByRow, ClassificationLoss, Head};

/// Wants each row nearer to its class center than to any other, by an angle.
///
/// ```text
/// l = −log softmax(scale · z)_own,   z_c = cos θ_c,   z_own = cos(θ_own + margin)         while θ_own ≤ π − margin
///                                                           cos θ_own − margin sin margin  beyond
/// ```
///
/// `θ_c` is the angle between the row and the center of class `c`; both are taken by their direction alone. The second
/// branch keeps the loss falling as a row turns to its center from behind. With one class the loss is 0.
///
/// Where a row lies on its center, the derivative of `cos(θ + margin)` by `cos θ` is infinite; it is kept below 10⁴.
///
/// The centers are parameters of the loss: `centers`, `(c, d)`, drawn from a normal distribution by name and seed. Labels
/// are `0..c`. A miner, if there is one, gives each row a weight: how often it is in a tuple, over the largest such count.
///
/// Source: Deng et al., "ArcFace", CVPR 2019, <https://arxiv.org/abs/1801.07698>, equation 3; the second branch as in the
/// authors' code. Agrees with `ArcFaceLoss` of pytorch-metric-learning 2.9, whose margin is in degrees.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// use nearfar_core::{NonNegative, Positive};
/// use nearfar_losses::{ArcFace, ClassificationLoss, ToCenters};
///
/// let loss = ArcFace { margin: NonNegative::literal(0.5), scale: Positive::literal(10.0) };
/// let row = Tensor::new(&[[0.8f32, 0.6]], &Device::Cpu)?;
/// let centers = Tensor::new(&[[1f32, 0.0], [0.0, 1.0]], &Device::Cpu)?;
/// let logits = loss.logits(&ToCenters::new(&row, &centers, 1, &[0])?)?.to_vec2::<f32>()?;
/// assert!((logits[0][0] - 10.0 * (0.8f32.acos() + 0.5).cos()).abs() < 1e-5);
/// assert!((logits[0][1] - 6.0).abs() < 1e-5); // Only the own class is made harder.
/// # Ok::<(), candle_core::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ArcFace {
    /// The wanted angle, in radians; below π.
    pub margin: NonNegative,
    /// What the cosines are multiplied by before the softmax.
    pub scale: Positive,
}

impl Default for ArcFace {
    /// The paper's values.
    fn default() -> Self {
        Self {
            margin: NonNegative::literal(0.5),
            scale: Positive::literal(64.0),
        }
    }
}

impl ClassificationLoss for ArcFace {
    fn logits(&self, to: &ToCenters) -> Result<Tensor> {
        let own = to.of_own(&to.cosine)?;
        let margins = vec![self.margin.get(); own.elem_count()];
        to.with_own(&to.cosine, &angle::plus(&own, &margins)?)? * self.scale.get()
    }

    fn by_row(&self, head: &Head<'_>) -> Option<ByRow> {
        let (scale, margin) = (self.scale.get(), self.margin.get());
        let own = move |cosine, _| angle::plus_one(cosine, margin);
        Some(ByRow::cosines(softmax_over_classes(scale, head, own)))
    }

    fn check(&self) -> std::result::Result<(), Error> {
        angle::below_pi("arcface", "margin", self.margin.get())
    }
}
