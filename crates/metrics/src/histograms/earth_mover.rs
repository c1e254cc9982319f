//! Earth mover's distance on a line.

use candle_core::{Result, Tensor};
use nearfar_core::{Axioms, Distance, NonNegative};
use nearfar_kernels::{RowOf, RowPair};
use serde::{Deserialize, Serialize};

use super::rows::{METRIC_OF_DISTRIBUTIONS, Sides, both};
use crate::coordinates::{self, sign};

/// `Σ_k |P_k − Q_k|` with the cumulated shares `P_k = Σ_{j ≤ k} p_j`
///
/// How much must be moved how far, one bin being a distance of 1, to make one histogram of the other (Wasserstein-1): bins
/// have an order here, and near ones are near. A metric of distributions.
///
/// Rows are histograms: finite numbers of 0 or more, divided by their sum first; negative ones are refused. A row of zeros
/// counts as the uniform histogram and has gradient 0.
///
/// Agrees with `scipy.stats.wasserstein_distance` of the bin numbers, with the histograms as their weights. Of samples
/// there is [`divergences::wasserstein`](crate::divergences::wasserstein).
///
/// ```
/// use candle_core::{Device, Tensor};
/// use nearfar_core::Distance;
/// use nearfar_metrics::EarthMover;
///
/// let x = Tensor::new(&[[1f64, 0.0, 0.0, 0.0]], &Device::Cpu)?;
/// let y = Tensor::new(&[[0f64, 1.0, 0.0, 0.0], [0.0, 0.0, 0.0, 5.0]], &Device::Cpu)?;
/// assert_eq!(EarthMover::default().matrix(&x, &y)?.to_vec2::<f64>()?, [[1.0, 3.0]]);
/// # Ok::<(), candle_core::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EarthMover {
    /// Added to every bin of a histogram of sum 1, which is divided by its sum again.
    pub smoothing: NonNegative,
}

impl Default for EarthMover {
    /// No smoothing.
    fn default() -> Self {
        Self {
            smoothing: NonNegative::literal(0.0),
        }
    }
}

impl EarthMover {
    fn sides(&self) -> Sides {
        Sides {
            name: "earth_mover",
            smoothing: self.smoothing.get(),
            made: both,
        }
    }
}

impl Distance for EarthMover {
    fn matrix(&self, x: &Tensor, y: &Tensor) -> Result<Tensor> {
        self.sides()
            .matrix(x, y, |p, q| coordinates::matrix(&Cumulated, p, q))
    }

    fn paired(&self, x: &Tensor, y: &Tensor) -> Result<Tensor> {
        self.sides()
            .paired(x, y, |p, q| coordinates::paired(&Cumulated, p, q))
    }

    fn axioms(&self) -> Axioms {
        METRIC_OF_DISTRIBUTIONS
    }
}

/// The function itself, of histograms.
#[derive(Clone, Debug)]
pub(super) struct Cumulated;

impl RowPair for Cumulated {
    type Known = ();

    fn name(&self) -> &'static str {
        "earth_mover"
    }

    fn know(&self, _: &[f64]) {}

    #[inline(always)]
    fn value(&self, x: RowOf<'_, ()>, y: RowOf<'_, ()>) -> f64 {
        let (mut ahead, mut total) = (0.0, 0.0f64);
        for (p, q) in x.numbers.iter().zip(y.numbers) {
            ahead += p - q;
            total += ahead.abs();
        }
        total
    }

    #[inline(always)]
    fn pull(&self, x: RowOf<'_, ()>, y: RowOf<'_, ()>, _: f64, gradient: f64, pulled: &mut [f64]) {
        // A share counts in its own bin and in all after it: first all signs, then less and less of them.
        let mut ahead = 0.0;
        let mut signs = 0.0;
        for (p, q) in x.numbers.iter().zip(y.numbers) {
            ahead += p - q;
            signs += sign(ahead);
        }
        ahead = 0.0;
        for (pulled, (p, q)) in pulled.iter_mut().zip(x.numbers.iter().zip(y.numbers)) {
            *pulled += gradient * signs;
            ahead += p - q;
            signs -= sign(ahead);
        }
    }
}
