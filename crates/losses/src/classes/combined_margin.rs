//! Three margins in one.

use candle_core::{Result, Tensor};
use nearfar_core::{NonNegative, Positive};
use nearfar_kernels::rows::Sloped;
use serde::{Deserialize, Serialize};

use super::angle;
use super::softmax::softmax_over_classes;
use crate::ToCenters;
use crate::family::{ByRow, ClassificationLoss, Head};

/// Wants each row nearer to its class center than to any other: by a factor of the angle, an angle, and a cosine.
///
/// ```text
/// l = −log softmax(scale · z)_own,   z_c = cos θ_c,   z_own = cos(factor · θ_own + angle) − cosine
/// ```
///
/// SphereFace, ArcFace and CosFace are near its corners `(m, 0, 0)`, `(1, m, 0)` and `(1, 0, m)`. It has no second branch: where
/// `factor · θ + angle` is beyond π it turns back, and a row that far behind its center is pushed away; [`arcface`](crate::ArcFace)
/// and [`sphereface`](crate::SphereFace) do not. The derivative by the cosine is kept within ±10⁴. With one class the loss is 0.
///
/// The centers are parameters of the loss: `centers`, `(c, d)`. Labels are `0..c`. A miner, if there is one, gives each row a
/// weight: how often it is in a tuple, over the largest such count.
///
/// Source: Deng et al., "ArcFace", CVPR 2019, <https://arxiv.org/abs/1801.07698>, equation 4.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// use nearfar_losses::{ClassificationLoss, CombinedMargin, ToCenters};
///
/// let row = Tensor::new(&[[0.8f64, 0.6]], &Device::Cpu)?;
/// let centers = Tensor::new(&[[1f64, 0.0], [0.0, 1.0]], &Device::Cpu)?;
/// let logits = CombinedMargin::default().logits(&ToCenters::new(&row, &centers, 1, &[0])?)?.to_vec2::<f64>()?;
/// assert!((logits[0][0] - 64.0 * (0.8f64.acos() + 0.5).cos()).abs() < 1e-12);
/// # Ok::<(), candle_core::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CombinedMargin {
    /// What the own angle is multiplied by.
    pub factor: Positive,
    /// What is added to it, in radians.
    pub angle: NonNegative,
    /// What its cosine is lowered by.
    pub cosine: NonNegative,
    /// What the cosines are multiplied by before the softmax.
    pub scale: Positive,
}

impl Default for CombinedMargin {
    /// ArcFace's corner, with the paper's values.
    fn default() -> Self {
        Self {
            factor: Positive::literal(1.0),
            angle: NonNegative::literal(0.5),
            cosine: NonNegative::literal(0.0),
            scale: Positive::literal(64.0),
        }
    }
}

impl ClassificationLoss for CombinedMargin {
    fn logits(&self, to: &ToCenters) -> Result<Tensor> {
        let own = to.of_own(&to.cosine)?;
        let own = angle::stretched(&own, self.factor.get(), self.angle.get())?;
        to.with_own(&to.cosine, &(own - self.cosine.get())?)? * self.scale.get()
    }

    fn by_row(&self, head: &Head<'_>) -> Option<ByRow> {
        let (factor, margin) = (self.factor.get(), self.angle.get());
        let lower = self.cosine.get() as f32;
        let own = move |cosine, _| {
            let turned = angle::stretched_one(cosine, factor, margin);
            Sloped {
                value: turned.value - lower,
                ..turned
            }
        };
        Some(ByRow::cosines(softmax_over_classes(
            self.scale.get(),
            head,
            own,
        )))
    }
}
