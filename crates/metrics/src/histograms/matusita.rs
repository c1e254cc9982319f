//! Matusita distance.

use candle_core::{Result, Tensor};
use nearfar_core::{Axioms, Distance, NonNegative};
use serde::{Deserialize, Serialize};

use super::rows::{METRIC_OF_DISTRIBUTIONS, Sides, roots};
use crate::Euclidean;

/// `√Σ_k (√p_k − √q_k)² = √(2 − 2 BC)`, from 0 to √2
///
/// The Euclidean distance of the roots: a metric of distributions. `BC` is the
/// [Bhattacharyya coefficient](crate::divergences::bhattacharyya_coefficient). [`Hellinger`](crate::Hellinger) is the same
/// over √2, [`JeffriesMatusita`](crate::JeffriesMatusita) the same number or its square.
///
/// Rows are histograms: finite numbers of 0 or more, divided by their sum first; negative ones are refused. A row of zeros
/// counts as the uniform histogram and has gradient 0. An empty bin pulls on nothing: the derivative of its root is infinite,
/// and 0 is taken for it. Equal histograms have gradient 0.
///
/// Source: Matusita, "Decision rules, based on the distance, for problems of fit, two samples, and estimation", Annals of
/// Mathematical Statistics 1955.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Matusita {
    /// Added to every bin of a histogram of sum 1, which is divided by its sum again.
    pub smoothing: NonNegative,
}

impl Default for Matusita {
    /// No smoothing.
    fn default() -> Self {
        Self {
            smoothing: NonNegative::literal(0.0),
        }
    }
}

impl Matusita {
    fn sides(&self) -> Sides {
        Sides {
            name: "matusita",
            smoothing: self.smoothing.get(),
            made: roots,
        }
    }
}

impl Distance for Matusita {
    fn matrix(&self, x: &Tensor, y: &Tensor) -> Result<Tensor> {
        self.sides().matrix(x, y, |p, q| Euclidean {}.matrix(p, q))
    }

    fn paired(&self, x: &Tensor, y: &Tensor) -> Result<Tensor> {
        self.sides().paired(x, y, |p, q| Euclidean {}.paired(p, q))
    }

    fn axioms(&self) -> Axioms {
        METRIC_OF_DISTRIBUTIONS
    }
}
