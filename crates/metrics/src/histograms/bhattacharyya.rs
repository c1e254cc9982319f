//! Bhattacharyya distance.

use candle_core::{Result, Tensor};
use nearfar_core::{Axioms, Distance, Positive};
use nearfar_kernels::{RowOf, RowPair};
use serde::{Deserialize, Serialize};

use super::rows::{METRIC_OF_DISTRIBUTIONS, Sides, roots};
use crate::coordinates::{self, add_to, sum};

/// `−ln Σ_k √(p_k q_k)`
///
/// The negative logarithm of the [Bhattacharyya coefficient](crate::divergences::bhattacharyya_coefficient): symmetric,
/// without a triangle inequality.
///
/// Rows are histograms: finite numbers of 0 or more, divided by their sum first; negative ones are refused. A row of zeros
/// counts as the uniform histogram and has gradient 0. Every bin is smoothed a little, so that the distance is finite where no bin is
/// shared: some 13 for two lone bins at the default. Without smoothing there is
/// [`divergences::bhattacharyya`](crate::divergences::bhattacharyya), which is infinite there.
///
/// Source: Bhattacharyya, "On a measure of divergence between two statistical populations defined by their probability
/// distributions", Bulletin of the Calcutta Mathematical Society 1943.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Bhattacharyya {
    /// Added to every bin of a histogram of sum 1, which is divided by its sum again: without it an
    /// empty bin would be infinitely far.
    pub smoothing: Positive,
}

impl Default for Bhattacharyya {
    /// As little smoothing as keeps empty bins finite.
    fn default() -> Self {
        Self {
            smoothing: Positive::literal(1e-12),
        }
    }
}

impl Bhattacharyya {
    fn sides(&self) -> Sides {
        Sides {
            name: "bhattacharyya",
            smoothing: self.smoothing.get(),
            made: roots,
        }
    }
}

impl Distance for Bhattacharyya {
    fn matrix(&self, x: &Tensor, y: &Tensor) -> Result<Tensor> {
        self.sides()
            .matrix(x, y, |p, q| coordinates::matrix(&OfRoots, p, q))
    }

    fn paired(&self, x: &Tensor, y: &Tensor) -> Result<Tensor> {
        self.sides()
            .paired(x, y, |p, q| coordinates::paired(&OfRoots, p, q))
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
pub(super) struct OfRoots;

impl RowPair for OfRoots {
    type Known = ();

    fn name(&self) -> &'static str {
        "bhattacharyya"
    }

    fn know(&self, _: &[f64]) {}

    #[inline(always)]
    fn value(&self, x: RowOf<'_, ()>, y: RowOf<'_, ()>) -> f64 {
        // Near histograms keep their digits by what is missing to 1, far ones by what is there.
        let shared = sum(x.numbers, y.numbers, |p, q| p * q);
        if shared > 0.5 {
            let missing = 0.5 * sum(x.numbers, y.numbers, |p, q| (p - q) * (p - q));
            -(-missing).ln_1p()
        } else {
            -shared.ln()
        }
    }

    #[inline(always)]
    fn pull(&self, x: RowOf<'_, ()>, y: RowOf<'_, ()>, _: f64, gradient: f64, pulled: &mut [f64]) {
        let shared = sum(x.numbers, y.numbers, |p, q| p * q);
        // What points along the roots themselves is lost when histograms are divided by their sum.
        add_to(pulled, x, y, |p, q| gradient * (p - q) / shared);
    }
}
