//! Matusita distance.

use candle_core::{Result, Tensor};
use nearfar_core::{Axioms, Distance, NonNegative, shape};
use serde::{Deserialize, Serialize};

use super::rows::{METRIC_OF_DISTRIBUTIONS, roots};
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

impl Distance for Matusita {
    fn matrix(&self, x: &Tensor, y: &Tensor) -> Result<Tensor> {
        shape::rows_of_one_width("matusita", ("x", x), ("y", y))?;
        let (p, q) = roots("matusita", x, y, self.smoothing.get())?;
        Euclidean {}.matrix(&p, &q)?.to_dtype(x.dtype())
    }

    fn paired(&self, x: &Tensor, y: &Tensor) -> Result<Tensor> {
        shape::same("matusita", ("x", x), ("y", y))?;
        let (p, q) = roots("matusita", x, y, self.smoothing.get())?;
        Euclidean {}.paired(&p, &q)?.to_dtype(x.dtype())
    }

    fn axioms(&self) -> Axioms {
        METRIC_OF_DISTRIBUTIONS
    }
}
