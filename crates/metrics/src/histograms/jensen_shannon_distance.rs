//! Jensen–Shannon distance.

use candle_core::{Result, Tensor};
use nearfar_core::{Axioms, Distance, NonNegative};
use nearfar_kernels::safe_sqrt;
use serde::{Deserialize, Serialize};

use super::rows::METRIC_OF_DISTRIBUTIONS;
use crate::JensenShannon;

/// The root of the [Jensen–Shannon divergence](crate::JensenShannon), from 0 to √ln 2: a metric of distributions
///
/// Rows are histograms: finite numbers of 0 or more, divided by their sum first; negative ones are refused. A row of zeros
/// counts as the uniform histogram and has gradient 0. An empty bin pulls on nothing. Equal histograms have gradient 0.
///
/// Source: Endres, Schindelin, "A new metric for probability distributions", IEEE Transactions on Information Theory 2003.
/// Agrees with `scipy.spatial.distance.jensenshannon`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct JensenShannonDistance {
    /// Added to every bin of a histogram of sum 1, which is divided by its sum again.
    pub smoothing: NonNegative,
}

impl Default for JensenShannonDistance {
    /// No smoothing.
    fn default() -> Self {
        Self {
            smoothing: NonNegative::literal(0.0),
        }
    }
}

impl JensenShannonDistance {
    fn divergence(&self) -> JensenShannon {
        JensenShannon {
            smoothing: self.smoothing,
        }
    }
}

impl Distance for JensenShannonDistance {
    fn matrix(&self, x: &Tensor, y: &Tensor) -> Result<Tensor> {
        safe_sqrt(&self.divergence().matrix(x, y)?)
    }

    fn paired(&self, x: &Tensor, y: &Tensor) -> Result<Tensor> {
        safe_sqrt(&self.divergence().paired(x, y)?)
    }

    fn axioms(&self) -> Axioms {
        METRIC_OF_DISTRIBUTIONS
    }
}
