//! Chi-square distance.

use candle_core::{Result, Tensor};
use nearfar_core::{Axioms, Distance, NonNegative};
use nearfar_kernels::{RowOf, RowPair};
use serde::{Deserialize, Serialize};

use super::rows::{METRIC_OF_DISTRIBUTIONS, Sides, both};
use crate::coordinates::{self, add_to, share, sum};

/// `½ Σ_k (p_k − q_k)² / (p_k + q_k)`, a term 0/0 is 0, from 0 to 1
///
/// Its root is a metric; it has no triangle inequality itself. Other libraries leave out the half.
///
/// Rows are histograms: finite numbers of 0 or more, divided by their sum first; negative ones are refused. A row of zeros
/// counts as the uniform histogram and has gradient 0.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ChiSquare {
    /// Added to every bin of a histogram of sum 1, which is divided by its sum again.
    pub smoothing: NonNegative,
}

impl Default for ChiSquare {
    /// No smoothing.
    fn default() -> Self {
        Self {
            smoothing: NonNegative::literal(0.0),
        }
    }
}

impl ChiSquare {
    fn sides(&self) -> Sides {
        Sides {
            name: "chi_square",
            smoothing: self.smoothing.get(),
            made: both,
        }
    }
}

impl Distance for ChiSquare {
    fn matrix(&self, x: &Tensor, y: &Tensor) -> Result<Tensor> {
        self.sides()
            .matrix(x, y, |p, q| coordinates::matrix(&Terms, p, q))
    }

    fn paired(&self, x: &Tensor, y: &Tensor) -> Result<Tensor> {
        self.sides()
            .paired(x, y, |p, q| coordinates::paired(&Terms, p, q))
    }

    fn axioms(&self) -> Axioms {
        Axioms {
            triangle: false,
            ..METRIC_OF_DISTRIBUTIONS
        }
    }
}

/// The function itself, of histograms.
#[derive(Clone, Debug)]
pub(super) struct Terms;

impl RowPair for Terms {
    type Known = ();

    fn name(&self) -> &'static str {
        "chi_square"
    }

    fn know(&self, _: &[f64]) {}

    #[inline(always)]
    fn value(&self, x: RowOf<'_, ()>, y: RowOf<'_, ()>) -> f64 {
        0.5 * sum(x.numbers, y.numbers, |p, q| (p - q) * share(p, q))
    }

    #[inline(always)]
    fn pull(&self, x: RowOf<'_, ()>, y: RowOf<'_, ()>, _: f64, gradient: f64, pulled: &mut [f64]) {
        add_to(pulled, x, y, |p, q| {
            let share = share(p, q);
            gradient * (share - 0.5 * share * share)
        });
    }
}
