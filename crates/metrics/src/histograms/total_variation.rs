//! Total variation distance.

use candle_core::{Result, Tensor};
use nearfar_core::{Axioms, Distance, NonNegative, shape};
use serde::{Deserialize, Serialize};

use super::rows::{METRIC_OF_DISTRIBUTIONS, both};
use crate::Manhattan;

/// `½ Σ_k |p_k − q_k|`, from 0 to 1
///
/// The largest difference of the probability that both give to any set of bins. A metric of distributions.
///
/// Rows are histograms: finite numbers of 0 or more, divided by their sum first; negative ones are refused. A row of zeros
/// counts as the uniform histogram and has gradient 0.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TotalVariation {
    /// Added to every bin of a histogram of sum 1, which is divided by its sum again.
    pub smoothing: NonNegative,
}

impl Default for TotalVariation {
    /// No smoothing.
    fn default() -> Self {
        Self {
            smoothing: NonNegative::literal(0.0),
        }
    }
}

impl Distance for TotalVariation {
    fn matrix(&self, x: &Tensor, y: &Tensor) -> Result<Tensor> {
        shape::rows_of_one_width("total_variation", ("x", x), ("y", y))?;
        let (p, q) = both("total_variation", x, y, self.smoothing.get())?;
        (Manhattan {}.matrix(&p, &q)? * 0.5)?.to_dtype(x.dtype())
    }

    fn paired(&self, x: &Tensor, y: &Tensor) -> Result<Tensor> {
        shape::same("total_variation", ("x", x), ("y", y))?;
        let (p, q) = both("total_variation", x, y, self.smoothing.get())?;
        (Manhattan {}.paired(&p, &q)? * 0.5)?.to_dtype(x.dtype())
    }

    fn axioms(&self) -> Axioms {
        METRIC_OF_DISTRIBUTIONS
    }
}
