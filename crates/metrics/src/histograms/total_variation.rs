//! Total variation distance.

use candle_core::{Result, Tensor};
use nearfar_core::{Axioms, Distance, NonNegative};
use serde::{Deserialize, Serialize};

use super::rows::{METRIC_OF_DISTRIBUTIONS, Sides, both};
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

impl TotalVariation {
    fn sides(&self) -> Sides {
        Sides {
            name: "total_variation",
            smoothing: self.smoothing.get(),
            made: both,
        }
    }
}

impl Distance for TotalVariation {
    fn matrix(&self, x: &Tensor, y: &Tensor) -> Result<Tensor> {
        self.sides()
            .matrix(x, y, |p, q| Manhattan {}.matrix(p, q)? * 0.5)
    }

    fn paired(&self, x: &Tensor, y: &Tensor) -> Result<Tensor> {
        self.sides()
            .paired(x, y, |p, q| Manhattan {}.paired(p, q)? * 0.5)
    }

    fn axioms(&self) -> Axioms {
        METRIC_OF_DISTRIBUTIONS
    }
}
