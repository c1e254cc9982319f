//! Jensen–Shannon divergence.

use candle_core::{Result, Tensor};
use nearfar_core::{Axioms, Distance, NonNegative};
use nearfar_kernels::{RowOf, RowPair};
use serde::{Deserialize, Serialize};

use super::rows::{METRIC_OF_DISTRIBUTIONS, Sides, both};
use crate::coordinates::{self, add_to, share, sum};

/// `½ KL(p‖m) + ½ KL(q‖m)` with `m = (p + q) / 2`, from 0 to ln 2
///
/// With the [Kullback–Leibler divergence](crate::KullbackLeibler) to the mean of both, which is finite for empty bins and
/// symmetric. It has no triangle inequality; its root has: [`JensenShannonDistance`](crate::JensenShannonDistance).
///
/// Rows are histograms: finite numbers of 0 or more, divided by their sum first; negative ones are refused. A row of zeros
/// counts as the uniform histogram and has gradient 0. An empty bin pulls on nothing: its derivative is infinite, and 0 is taken
/// for it.
///
/// The bins of near histograms are summed up as `¼ (p + q) h(t)` with `t = (p − q) / (p + q)` and `h(t) = (1 + t) ln(1 + t) + (1 − t) ln(1 − t)`,
/// for small `t` by its series: near histograms keep their digits, and nothing is below 0.
///
/// Source: Lin, "Divergence measures based on the Shannon entropy", IEEE Transactions on Information Theory 1991.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct JensenShannon {
    /// Added to every bin of a histogram of sum 1, which is divided by its sum again.
    pub smoothing: NonNegative,
}

impl Default for JensenShannon {
    /// No smoothing.
    fn default() -> Self {
        Self {
            smoothing: NonNegative::literal(0.0),
        }
    }
}

impl JensenShannon {
    fn sides(&self) -> Sides {
        Sides {
            name: "jensen_shannon",
            smoothing: self.smoothing.get(),
            made: both,
        }
    }
}

impl Distance for JensenShannon {
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
    /// `Σ p ln p`
    type Known = f64;

    fn name(&self) -> &'static str {
        "jensen_shannon"
    }

    fn know(&self, row: &[f64]) -> f64 {
        sum(row, row, |p, _| times_logarithm(p))
    }

    #[inline(always)]
    fn value(&self, x: RowOf<'_, f64>, y: RowOf<'_, f64>) -> f64 {
        // The difference of the entropies has one logarithm a bin; of near histograms little is left of it.
        let mixed = sum(x.numbers, y.numbers, |p, q| times_logarithm(0.5 * (p + q)));
        let divergence = 0.5 * (x.known + y.known) - mixed;
        if divergence > NEAR {
            divergence
        } else {
            jensen_shannon(x.numbers, y.numbers)
        }
    }

    #[inline(always)]
    fn pull(
        &self,
        x: RowOf<'_, f64>,
        y: RowOf<'_, f64>,
        _: f64,
        gradient: f64,
        pulled: &mut [f64],
    ) {
        add_to(pulled, x, y, |p, q| {
            if p > 0.0 {
                0.5 * gradient * (2.0 * p / (p + q)).ln()
            } else {
                0.0
            }
        });
    }
}

/// Below it the entropies have lost too many digits.
const NEAR: f64 = 1e-5;

/// `x ln x`, and 0 of 0.
#[inline(always)]
fn times_logarithm(x: f64) -> f64 {
    if x > 0.0 { x * x.ln() } else { 0.0 }
}

/// Of two histograms, to the last digits.
#[inline(always)]
pub(crate) fn jensen_shannon(p: &[f64], q: &[f64]) -> f64 {
    0.25 * sum(p, q, |p, q| (p + q) * excess(share(p, q)))
}

/// `(1 + t) ln(1 + t) + (1 − t) ln(1 − t)`, from 0 to 2 ln 2 for `t` from −1 to 1.
#[inline(always)]
fn excess(t: f64) -> f64 {
    let square = t * t;
    if square >= 1.0 {
        return 2.0 * std::f64::consts::LN_2;
    }
    if square > 0.01 {
        return (1.0 + t) * t.ln_1p() + (1.0 - t) * (-t).ln_1p();
    }
    // Σ t^2k / (k (2k − 1)): the terms of the logarithms cancel in their first order.
    let mut total = 0.0;
    for k in (1..=8).rev() {
        let k = f64::from(k);
        total = square * (1.0 / (k * (2.0 * k - 1.0)) + total);
    }
    total
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_series_and_the_logarithms_meet_and_the_ends_are_exact() {
        for t in [0.1, -0.1, 0.09999999, 0.3, 1e-3] {
            let t: f64 = t;
            let plain = (1.0 + t) * t.ln_1p() + (1.0 - t) * (-t).ln_1p();
            assert!((excess(t) - plain).abs() < 1e-16 * 8.0, "{t}");
        }
        assert!((excess(1e-9) / 1e-18 - 1.0).abs() < 1e-15);
        assert_eq!(
            jensen_shannon(&[1.0, 0.0], &[0.0, 1.0]),
            std::f64::consts::LN_2
        );
        assert_eq!(jensen_shannon(&[0.25, 0.75], &[0.25, 0.75]), 0.0);
        // ½ ln(1/0.75) + ½ (½ ln(½/0.75) + ½ ln(½/0.25)).
        let want = 0.5 * (4.0f64 / 3.0).ln() + 0.25 * ((2.0f64 / 3.0).ln() + 2.0f64.ln());
        assert!((jensen_shannon(&[1.0, 0.0], &[0.5, 0.5]) - want).abs() < 1e-15);
    }
}
