//! Hamming distance.

use candle_core::{Result, Tensor};
use nearfar_core::{Axioms, Distance};
use serde::{Deserialize, Serialize};

use crate::Manhattan;

/// `Σ_k |x_k − y_k| / d`: of binary rows the share of coordinates in which they differ
///
/// Of rows between 0 and 1, as of a hash that is still learned, it is the mean difference, and so has a gradient. A metric.
/// Agrees with scipy's `hamming` on rows of zeros and ones. Rows of no coordinates do not differ.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use nearfar_core::Distance;
/// use nearfar_metrics::Hamming;
///
/// let x = Tensor::new(&[[1f32, 0.0, 1.0, 1.0]], &Device::Cpu)?;
/// let y = Tensor::new(&[[1f32, 1.0, 0.0, 1.0]], &Device::Cpu)?;
/// assert_eq!(Hamming {}.paired(&x, &y)?.to_vec1::<f32>()?, [0.5]);
/// # Ok::<(), candle_core::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Hamming {}

fn shared(x: &Tensor, total: Tensor) -> Result<Tensor> {
    total / x.dims().last().copied().unwrap_or(1).max(1) as f64
}

impl Distance for Hamming {
    fn matrix(&self, x: &Tensor, y: &Tensor) -> Result<Tensor> {
        shared(x, Manhattan {}.matrix(x, y)?)
    }

    fn paired(&self, x: &Tensor, y: &Tensor) -> Result<Tensor> {
        shared(x, Manhattan {}.paired(x, y)?)
    }

    fn axioms(&self) -> Axioms {
        Axioms::METRIC
    }
}
