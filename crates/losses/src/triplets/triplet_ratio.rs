//! Triplet loss of ratios.

use candle_core::{Result, Tensor};
use nearfar_core::shape;
use nearfar_kernels::sigmoid;
use serde::{Deserialize, Serialize};

use crate::family::TripletLoss;

/// Compares the two distances of a triplet by their softmax, which should be (0, 1).
///
/// ```text
/// l(a, p, n) = 2 (e^d(a, p) / (e^d(a, p) + e^d(a, n)))²
/// ```
///
/// That is the squared error of both numbers of the softmax. It is between 0 and 2, and ½ where the distances are equal; it has
/// no margin. With one class, or all classes distinct, there is no triplet and nothing to learn.
///
/// Source: Hoffer, Ailon, "Deep metric learning using triplet network", 2015, <https://arxiv.org/abs/1412.6622>, section 3.1.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// use nearfar_losses::{TripletLoss, TripletRatio};
///
/// let positive = Tensor::new(&[1f32, 0.0], &Device::Cpu)?;
/// let negative = Tensor::new(&[1f32, 3f32.ln()], &Device::Cpu)?;
/// let losses = TripletRatio {}.triplets(&positive, &negative)?.to_vec1::<f32>()?;
/// assert!((losses[0] - 0.5).abs() < 1e-6 && (losses[1] - 0.125).abs() < 1e-6); // 2 · ¼, 2 · (1/4)²
/// # Ok::<(), candle_core::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TripletRatio {}

impl TripletLoss for TripletRatio {
    fn triplets(&self, positive: &Tensor, negative: &Tensor) -> Result<Tensor> {
        shape::same(
            "triplet_ratio",
            ("positive", positive),
            ("negative", negative),
        )?;
        sigmoid(&(positive - negative)?)?.sqr()? * 2.0
    }
}
