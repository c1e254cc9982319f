//! Neighborhood components analysis with a proxy for each class.

use candle_core::{Result, Tensor};
use nearfar_core::Positive;
use nearfar_kernels::masked_log_sum_exp;
use nearfar_kernels::rows::Sloped;
use serde::{Deserialize, Serialize};

use super::softmax::softmax_over_classes;
use crate::ToCenters;
use crate::family::{ByRow, ClassificationLoss, Head};

/// Wants each row nearer to the proxy of its class than to all others together.
///
/// ```text
/// l = −log( e^(−scale · d²(x, p_own)) / Σ_c e^(−scale · d²(x, p_c)) ),   d²(x, p) = 2 − 2 cos θ
/// ```
///
/// Rows and proxies are taken at length 1. With `exclude_target` the sum is over the other classes only, as in the paper; then
/// the loss may be below zero, and with one class there is nothing to sum and it is 0. Included, it is 0 with one class too.
///
/// The proxies are parameters of the loss: `centers`, `(c, d)`. They want a learning rate 10 to 100 times that of the tower.
/// Labels are `0..c`. A miner, if there is one, gives each row a weight: how often it is the anchor of a tuple, over the largest
/// such count.
///
/// Source: Movshovitz-Attias et al., "No Fuss Distance Metric Learning using Proxies", ICCV 2017,
/// <https://arxiv.org/abs/1703.07464>, equation 6. Agrees with `ProxyNCALoss` of pytorch-metric-learning 2.9. ProxyNCA++ (Teh et
/// al., ECCV 2020, <https://arxiv.org/abs/2004.01113>) is `scale = 9`.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// use nearfar_losses::{ClassificationLoss, ProxyNCA, ToCenters};
///
/// let row = Tensor::new(&[[0.6f64, 0.8]], &Device::Cpu)?; // Squared distances 0.8 and 0.4.
/// let proxies = Tensor::new(&[[1f64, 0.0], [0.0, 1.0]], &Device::Cpu)?;
/// let to = ToCenters::new(&row, &proxies, 1, &[1])?;
/// let loss = ProxyNCA::default().values(&to)?.to_vec1::<f64>()?;
/// assert!((loss[0] - (1.0 + (-0.4f64).exp()).ln()).abs() < 1e-12);
/// let paper = ProxyNCA { exclude_target: true, ..ProxyNCA::default() };
/// assert!((paper.values(&to)?.to_vec1::<f64>()?[0] - (0.4 - 0.8)).abs() < 1e-12);
/// # Ok::<(), candle_core::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ProxyNCA {
    /// What the squared distances are multiplied by before the softmax.
    pub scale: Positive,
    /// Whether the row's own class is left out of the denominator.
    pub exclude_target: bool,
}

impl Default for ProxyNCA {
    /// Distances as they are, and the own class in the denominator, as it is used everywhere.
    fn default() -> Self {
        Self {
            scale: Positive::literal(1.0),
            exclude_target: false,
        }
    }
}

impl ClassificationLoss for ProxyNCA {
    fn logits(&self, to: &ToCenters) -> Result<Tensor> {
        let scale = 2.0 * self.scale.get();
        to.cosine.affine(scale, -scale)
    }

    fn values(&self, to: &ToCenters) -> Result<Tensor> {
        let logits = self.logits(to)?;
        if !self.exclude_target {
            return to.cross_entropy(&logits);
        }
        let others = to.own.eq(0u8)?.to_dtype(logits.dtype())?;
        if others.dim(1)? == 1 {
            // A product with the number 0 would not be differentiated at all.
            let own = to.of_own(&logits)?;
            return &own * own.zeros_like()?;
        }
        masked_log_sum_exp(&logits, &others)? - to.of_own(&logits)?
    }

    fn by_row(&self, head: &Head<'_>) -> Option<ByRow> {
        // What all logits are shifted by makes no difference.
        let own = |cosine, _| Sloped {
            value: cosine,
            slope: 1.0,
        };
        let mut functional = softmax_over_classes(2.0 * self.scale.get(), head, own);
        functional.own_counts = !self.exclude_target;
        Some(ByRow::cosines(functional))
    }

    fn weighs_anchors(&self) -> bool {
        true
    }

    fn is_softmax(&self) -> bool {
        !self.exclude_target
    }
}
