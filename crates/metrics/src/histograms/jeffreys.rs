//! Jeffreys divergence.

use candle_core::{Result, Tensor};
use nearfar_core::{Axioms, Distance, Positive};
use nearfar_kernels::{RowOf, RowPair};
use serde::{Deserialize, Serialize};

use super::rows::{METRIC_OF_DISTRIBUTIONS, Sides, with_logarithms};
use crate::coordinates;

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

impl Jeffreys {
    fn sides(&self) -> Sides {
        Sides {
            name: "jeffreys",
            smoothing: self.smoothing.get(),
            made: with_logarithms,
        }
    }
}

impl Distance for Jeffreys {
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

/// The function itself, of histograms with their logarithms behind them.
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
        let (p, ln_p) = x.numbers.split_at(x.numbers.len() / 2);
        let (q, ln_q) = y.numbers.split_at(y.numbers.len() / 2);
        let mut total = 0.0;
        for k in 0..p.len() {
            total += (p[k] - q[k]) * (ln_p[k] - ln_q[k]);
        }
        total
    }

    #[inline(always)]
    fn pull(&self, x: RowOf<'_, ()>, y: RowOf<'_, ()>, _: f64, gradient: f64, pulled: &mut [f64]) {
        let d = x.numbers.len() / 2;
        let (to_p, to_ln_p) = pulled.split_at_mut(d);
        for k in 0..d {
            to_p[k] += gradient * (x.numbers[d + k] - y.numbers[d + k]);
            to_ln_p[k] += gradient * (x.numbers[k] - y.numbers[k]);
        }
    }
}
