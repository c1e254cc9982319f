//! Additive angular margin with several centers a class.

use std::num::NonZeroUsize;

use candle_core::{Result, Tensor};
use nearfar_core::{Error, NonNegative, Positive};
use serde::{Deserialize, Serialize};

use super::angle;
use super::softmax::{Centers, softmax_over_classes};
use crate::ToCenters;
use crate::family::{ByRow, ClassificationLoss, Head};

/// Wants each row nearer to one of its class's centers than to those of any other class, by an angle.
///
/// ```text
/// z_c = max over the k centers of class c of cos θ_ck,   then as ArcFace
/// ```
///
/// Where a class has wrong labels or several looks, its rows gather around different centers. Only the nearest center of each
/// class has a gradient; of equal ones the first. After training, [`outliers`](crate::outliers) names the rows that are far from
/// where most of their class lies. With one class the loss is 0.
///
/// The centers are parameters of the loss: `centers`, `(c · k, d)`, those of one class together. Labels are `0..c`. A miner, if
/// there is one, gives each row a weight: how often it is in a tuple, over the largest such count.
///
/// Source: Deng et al., "Sub-center ArcFace: Boosting Face Recognition by Large-Scale Noisy Web Faces", ECCV 2020, equation 3.
/// Agrees with `SubCenterArcFaceLoss` of pytorch-metric-learning 2.9, whose margin is in degrees.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// use nearfar_losses::{ClassificationLoss, SubCenterArcFace, ToCenters};
///
/// let loss = SubCenterArcFace { centers: 2.try_into().expect("above 0"), ..SubCenterArcFace::default() };
/// let row = Tensor::new(&[[0.8f64, 0.6]], &Device::Cpu)?;
/// let centers = Tensor::new(&[[-1f64, 0.0], [1.0, 0.0], [0.0, -1.0], [0.0, 1.0]], &Device::Cpu)?;
/// let logits = loss.logits(&ToCenters::new(&row, &centers, 2, &[0])?)?.to_vec2::<f64>()?;
/// assert!((logits[0][0] - 64.0 * (0.8f64.acos() + 0.5).cos()).abs() < 1e-12); // To the second center of its class.
/// assert!((logits[0][1] - 64.0 * 0.6).abs() < 1e-12);
/// # Ok::<(), candle_core::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SubCenterArcFace {
    /// How many centers a class has.
    pub centers: NonZeroUsize,
    /// The wanted angle, in radians; below π.
    pub margin: NonNegative,
    /// What the cosines are multiplied by before the softmax.
    pub scale: Positive,
}

impl Default for SubCenterArcFace {
    /// The paper's values.
    fn default() -> Self {
        Self {
            centers: NonZeroUsize::new(3).expect("3 is above 0"),
            margin: NonNegative::literal(0.5),
            scale: Positive::literal(64.0),
        }
    }
}

impl ClassificationLoss for SubCenterArcFace {
    fn logits(&self, to: &ToCenters) -> Result<Tensor> {
        let cosine = if self.centers.get() == 1 {
            to.cosine.clone()
        } else {
            // Not `max`: of equal ones it would give each the whole gradient.
            let nearest = to.cosine.detach().contiguous()?.argmax_keepdim(2)?;
            to.cosine.contiguous()?.gather(&nearest, 2)?.squeeze(2)? // (n, c)
        };
        let own = to.of_own(&cosine)?;
        let margins = vec![self.margin.get(); own.elem_count()];
        to.with_own(&cosine, &angle::plus(&own, &margins)?)? * self.scale.get()
    }

    fn by_row(&self, head: &Head<'_>) -> Option<ByRow> {
        let (margin, k) = (self.margin.get(), self.centers.get());
        let own = move |cosine, _| angle::plus_one(cosine, margin);
        let mut functional = softmax_over_classes(self.scale.get(), head, own);
        if k > 1 {
            functional.centers = Centers::Nearest(k);
        }
        Some(ByRow::cosines(functional))
    }

    fn centers_per_class(&self) -> usize {
        self.centers.get()
    }

    fn check(&self) -> std::result::Result<(), Error> {
        angle::below_pi("subcenter_arcface", "margin", self.margin.get())
    }
}
