//! Softmax over cosines.

use candle_core::{Result, Tensor};
use nearfar_core::Positive;
use nearfar_kernels::l2_normalize;
use nearfar_kernels::rows::Sloped;
use serde::{Deserialize, Serialize};

use super::softmax::softmax_over_classes;
use crate::ToCenters;
use crate::family::{ByRow, ClassificationLoss, Head};

/// Wants the cosine of each row with its class center to be the largest.
///
/// ```text
/// l = −log softmax(z / temperature)_own,   z_c = cos θ_c
/// ```
///
/// With `unit_rows = false` only the centers are divided by their length, and `z_c = ‖x‖ cos θ_c`. With one class the loss is 0.
///
/// The centers are parameters of the loss: `centers`, `(c, d)`. Labels are `0..c`. A miner, if there is one, gives each row a
/// weight: how often it is in a tuple, over the largest such count.
///
/// Source: Zhai, Wu, "Classification is a Strong Baseline for Deep Metric Learning", BMVC 2019,
/// <https://arxiv.org/abs/1811.12649>, equation 3. Agrees with `NormalizedSoftmaxLoss` of pytorch-metric-learning 2.9, whose dot
/// product divides rows by their length; with its squared Euclidean distance it is this loss at half the temperature.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// use nearfar_losses::{ClassificationLoss, NormalizedSoftmax, ToCenters};
///
/// let row = Tensor::new(&[[0.3f64, 0.4]], &Device::Cpu)?;
/// let centers = Tensor::new(&[[2f64, 0.0], [0.0, 1.0]], &Device::Cpu)?;
/// let loss = NormalizedSoftmax::default().values(&ToCenters::new(&row, &centers, 1, &[1])?)?.to_vec1::<f64>()?;
/// assert!((loss[0] - (1.0 + (-0.2f64 / 0.05).exp()).ln()).abs() < 1e-12); // Cosines 0.6 and 0.8.
/// # Ok::<(), candle_core::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NormalizedSoftmax {
    /// What the cosines are divided by before the softmax.
    pub temperature: Positive,
    /// Whether rows are divided by their length, as the centers always are.
    pub unit_rows: bool,
}

impl Default for NormalizedSoftmax {
    /// The paper's values.
    fn default() -> Self {
        Self {
            temperature: Positive::literal(0.05),
            unit_rows: true,
        }
    }
}

impl ClassificationLoss for NormalizedSoftmax {
    fn logits(&self, to: &ToCenters) -> Result<Tensor> {
        let z = if self.unit_rows {
            to.cosine.clone()
        } else {
            to.rows.matmul(&l2_normalize(&to.centers)?.t()?)?
        };
        z / self.temperature.get()
    }

    fn by_row(&self, head: &Head<'_>) -> Option<ByRow> {
        let own = |z, _| Sloped {
            value: z,
            slope: 1.0,
        };
        let functional = softmax_over_classes(1.0 / self.temperature.get(), head, own);
        Some(ByRow {
            unit: [self.unit_rows, true],
            ..ByRow::cosines(functional)
        })
    }
}
