//! Jeffries–Matusita distance.

use candle_core::{Result, Tensor};
use nearfar_core::{Axioms, Distance, NonNegative};
use serde::{Deserialize, Serialize};

use super::rows::{METRIC_OF_DISTRIBUTIONS, Sides, roots};
use crate::{Euclidean, SquaredEuclidean};

/// `√(2 (1 − e^{−B}))` with the Bhattacharyya distance `B`, or its square, from 0 to √2 or 2
///
/// Of remote sensing, where either goes by this name. As `e^{−B}` is the Bhattacharyya coefficient, the root is the same
/// number as [`Matusita`](crate::Matusita). The root is a metric of distributions; the square has no triangle inequality.
/// Between normal distributions it is [`Gaussian::jeffries_matusita`](crate::divergences::Gaussian::jeffries_matusita).
///
/// Rows are histograms: finite numbers of 0 or more, divided by their sum first; negative ones are refused. A row of zeros
/// counts as the uniform histogram and has gradient 0. An empty bin pulls on nothing: the derivative of its root is infinite,
/// and 0 is taken for it. Equal histograms have gradient 0.
///
/// Source: Swain, King, "Two effective feature selection criteria for multispectral remote sensing", LARS 1973.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct JeffriesMatusita {
    /// The square instead of the root.
    pub squared: bool,
    /// Added to every bin of a histogram of sum 1, which is divided by its sum again.
    pub smoothing: NonNegative,
}

impl Default for JeffriesMatusita {
    /// The root, which is a metric; no smoothing.
    fn default() -> Self {
        Self {
            squared: false,
            smoothing: NonNegative::literal(0.0),
        }
    }
}

impl JeffriesMatusita {
    fn of_roots(&self) -> &dyn Distance {
        if self.squared {
            &SquaredEuclidean {}
        } else {
            &Euclidean {}
        }
    }
}

impl JeffriesMatusita {
    fn sides(&self) -> Sides {
        Sides {
            name: "jeffries_matusita",
            smoothing: self.smoothing.get(),
            made: roots,
        }
    }
}

impl Distance for JeffriesMatusita {
    fn matrix(&self, x: &Tensor, y: &Tensor) -> Result<Tensor> {
        self.sides()
            .matrix(x, y, |p, q| self.of_roots().matrix(p, q))
    }

    fn paired(&self, x: &Tensor, y: &Tensor) -> Result<Tensor> {
        self.sides()
            .paired(x, y, |p, q| self.of_roots().paired(p, q))
    }

    fn axioms(&self) -> Axioms {
        Axioms {
            triangle: !self.squared,
            ..METRIC_OF_DISTRIBUTIONS
        }
    }
}
