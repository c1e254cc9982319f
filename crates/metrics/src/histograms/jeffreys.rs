//! Jeffreys divergence.

use candle_core::{Result, Tensor};
use nearfar_core::{Axioms, Distance, Positive, shape};
use nearfar_kernels::{RowOf, RowPair};
use serde::{Deserialize, Serialize};

use super::rows::{METRIC_OF_DISTRIBUTIONS, both};
use crate::coordinates::{self, add_to, sum};

/// `Σ_k (p_k − q_k) ln(p_k / q_k) = KL(p‖q) + KL(q‖p)`
///
/// The symmetric sum of both [Kullback–Leibler divergences](crate::KullbackLeibler), without a triangle inequality.
///
/// Rows are histograms: finite numbers of 0 or more, divided by their sum first; negative ones are refused. A row of zeros
/// counts as the uniform histogram and has gradient 0. Every bin is smoothed a little, so that the divergence is finite where one of
/// both is empty.
///
/// Source: Jeffreys, "An invariant form for the prior probability in estimation problems", Proceedings of the Royal Society A
/// 1946.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Jeffreys {
    /// Added to every bin of a histogram of sum 1, which is divided by its sum again: without it an
    /// empty bin would be infinitely far.
    pub smoothing: Positive,
}

impl Default for Jeffreys {
    /// As little smoothing as keeps empty bins finite.
    fn default() -> Self {
        Self {
            smoothing: Positive::literal(1e-12),
        }
    }
}

impl Distance for Jeffreys {
    fn matrix(&self, x: &Tensor, y: &Tensor) -> Result<Tensor> {
        shape::rows_of_one_width("jeffreys", ("x", x), ("y", y))?;
        let (p, q) = both("jeffreys", x, y, self.smoothing.get())?;
        coordinates::matrix(&Terms, &p, &q)
    }

    fn paired(&self, x: &Tensor, y: &Tensor) -> Result<Tensor> {
        shape::same("jeffreys", ("x", x), ("y", y))?;
        let (p, q) = both("jeffreys", x, y, self.smoothing.get())?;
        coordinates::paired(&Terms, &p, &q)
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
        "jeffreys"
    }

    fn know(&self, _: &[f64]) {}

    #[inline(always)]
    fn value(&self, x: RowOf<'_, ()>, y: RowOf<'_, ()>) -> f64 {
        sum(x.numbers, y.numbers, |p, q| (p - q) * (p / q).ln())
    }

    #[inline(always)]
    fn pull(&self, x: RowOf<'_, ()>, y: RowOf<'_, ()>, _: f64, gradient: f64, pulled: &mut [f64]) {
        add_to(pulled, x, y, |p, q| gradient * ((p / q).ln() + 1.0 - q / p));
    }
}
