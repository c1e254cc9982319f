//! Binomial deviance loss.

use candle_core::{Result, Tensor};
use nearfar_core::{Finite, Positive};
use nearfar_kernels::softplus;
use serde::{Deserialize, Serialize};

use crate::Compares;
use crate::family::PairLoss;

/// The log-likelihood of a logistic model of whether two rows belong together.
///
/// ```text
/// positive  softplus(−alpha (s − base))        negative  softplus(alpha · negative_cost (s − base))
/// ```
///
/// Each kind is averaged over its pairs, and the two averages are added: there are many more negatives, and they count as much
/// as the positives. No pair is ever done with, but those that are well on their side pull with a force that fades exponentially.
///
/// With one class there is only the positive side, with all classes distinct only the negative one.
///
/// Source: Yi, Lei, Li, "Deep metric learning for practical person re-identification", 2014,
/// <https://arxiv.org/abs/1407.4979>, equation 4. No other library of today has it by this name.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// use nearfar_losses::{BinomialDeviance, PairLoss};
///
/// let distance = Tensor::new(&[-0.5f32, -0.7], &Device::Cpu)?; // Cosines of 0.5 and 0.7.
/// let loss = BinomialDeviance::default();
/// let pulled = loss.positive(&distance)?.to_vec1::<f32>()?;
/// assert!((pulled[0] - 2f32.ln()).abs() < 1e-6 && (pulled[1] - (1.0 + (-0.4f32).exp()).ln()).abs() < 1e-6);
/// let pushed = loss.negative(&distance)?.to_vec1::<f32>()?;
/// assert!((pushed[1] - (1.0 + 10f32.exp()).ln()).abs() < 1e-5); // 2 · 25 · 0.2 is 10.
/// # Ok::<(), candle_core::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BinomialDeviance {
    /// How sharply the two sides are told apart.
    pub alpha: Positive,
    /// The similarity that divides positives from negatives.
    pub base: Finite,
    /// How many times as sharp it is for negatives.
    pub negative_cost: Positive,
}

impl Default for BinomialDeviance {
    /// Those that the paper found best.
    fn default() -> Self {
        Self {
            alpha: Positive::literal(2.0),
            base: Finite::literal(0.5),
            negative_cost: Positive::literal(25.0),
        }
    }
}

impl PairLoss for BinomialDeviance {
    fn positive(&self, distance: &Tensor) -> Result<Tensor> {
        let alpha = self.alpha.get();
        softplus(&distance.affine(alpha, alpha * self.base.get())?)
    }

    fn negative(&self, distance: &Tensor) -> Result<Tensor> {
        let alpha = self.alpha.get() * self.negative_cost.get();
        softplus(&distance.affine(-alpha, -alpha * self.base.get())?)
    }

    fn compares(&self) -> Compares {
        Compares::Similarity("cosine")
    }
}
