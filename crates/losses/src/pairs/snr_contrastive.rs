//! Contrastive loss of the signal-to-noise ratio.

use candle_core::{Result, Tensor};
use nearfar_core::{Finite, Reducer};
use serde::{Deserialize, Serialize};

use crate::family::PairLoss;
use crate::pairs::{Contrastive, PairForm};

/// The linear contrastive loss of the distance that relates the variance of a difference to that of the anchor.
///
/// ```text
/// d(a, r) = var(a − r) / var(a)
/// positive  max(0, d − positive_margin)        negative  max(0, negative_margin − d)
/// ```
///
/// Each kind is averaged over its active terms (the reducer `avg_nonzero`), and the two averages are added. The distance is not
/// symmetric: a pair of a batch counts once as each of its rows sees it. The paper adds the regularizer `zero_mean` of the
/// embeddings. A row without variance is at a large but finite distance, see the distance `snr`.
///
/// With one class there is only the positive side, with all classes distinct only the negative one.
///
/// Source: Yuan et al., "Signal-to-noise ratio: a robust distance metric for deep metric learning", CVPR 2019,
/// <https://arxiv.org/abs/1904.02616>, section 4.1. Agrees with `SignalToNoiseRatioContrastiveLoss` of
/// pytorch-metric-learning 2.9.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// use nearfar_losses::{PairLoss, SNRContrastive};
///
/// let distance = Tensor::new(&[0.25f32, 3.0], &Device::Cpu)?;
/// let loss = SNRContrastive::default();
/// assert_eq!(loss.positive(&distance)?.to_vec1::<f32>()?, [0.25, 3.0]);
/// assert_eq!(loss.negative(&distance)?.to_vec1::<f32>()?, [0.75, 0.0]);
/// # Ok::<(), candle_core::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SNRContrastive {
    /// Positives within it cost nothing.
    pub positive_margin: Finite,
    /// Negatives beyond it cost nothing.
    pub negative_margin: Finite,
}

impl Default for SNRContrastive {
    /// Noise as strong as the signal is far enough; those of pytorch-metric-learning.
    fn default() -> Self {
        Self {
            positive_margin: Finite::literal(0.0),
            negative_margin: Finite::literal(1.0),
        }
    }
}

impl SNRContrastive {
    fn contrastive(&self) -> Contrastive {
        Contrastive {
            form: PairForm::Linear,
            positive_margin: self.positive_margin,
            negative_margin: self.negative_margin,
        }
    }
}

impl PairLoss for SNRContrastive {
    fn positive(&self, distance: &Tensor) -> Result<Tensor> {
        self.contrastive().positive(distance)
    }

    fn negative(&self, distance: &Tensor) -> Result<Tensor> {
        self.contrastive().negative(distance)
    }

    fn reducer(&self) -> Reducer {
        Reducer::AvgNonzero {}
    }

    fn distance(&self) -> &'static str {
        "snr"
    }
}
