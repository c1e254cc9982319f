//! Hellinger distance.

use candle_core::{Result, Tensor};
use nearfar_core::{Axioms, Distance, NonNegative};
use serde::{Deserialize, Serialize};

use super::rows::{METRIC_OF_DISTRIBUTIONS, Sides, roots};
use crate::Euclidean;

/// `√(½ Σ_k (√p_k − √q_k)²) = √(1 − BC)`, from 0 to 1
///
/// [`Matusita`](crate::Matusita) over √2: 1 where no bin is shared. A metric of distributions.
///
/// Rows are histograms: finite numbers of 0 or more, divided by their sum first; negative ones are refused. A row of zeros
/// counts as the uniform histogram and has gradient 0. An empty bin pulls on nothing: the derivative of its root is infinite,
/// and 0 is taken for it. Equal histograms have gradient 0.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use nearfar_core::Distance;
/// use nearfar_metrics::Hellinger;
///
/// let x = Tensor::new(&[[9f64, 16.0]], &Device::Cpu)?; // Roots 0.6 and 0.8 of the shares.
/// let y = Tensor::new(&[[1f64, 0.0], [0.0, 3.0]], &Device::Cpu)?;
/// let d = Hellinger::default().matrix(&x, &y)?.to_vec2::<f64>()?;
/// assert!((d[0][0] - 0.4f64.sqrt()).abs() < 1e-15 && (d[0][1] - 0.2f64.sqrt()).abs() < 1e-15); // √(1 − BC).
/// # Ok::<(), candle_core::Error>(())
/// ```
///
/// Source: Hellinger, "Neue Begründung der Theorie quadratischer Formen von unendlichvielen Veränderlichen", Journal für die
/// reine und angewandte Mathematik 1909.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Hellinger {
    /// Added to every bin of a histogram of sum 1, which is divided by its sum again.
    pub smoothing: NonNegative,
}

impl Default for Hellinger {
    /// No smoothing.
    fn default() -> Self {
        Self {
            smoothing: NonNegative::literal(0.0),
        }
    }
}

impl Hellinger {
    fn sides(&self) -> Sides {
        Sides {
            name: "hellinger",
            smoothing: self.smoothing.get(),
            made: roots,
        }
    }
}

impl Distance for Hellinger {
    fn matrix(&self, x: &Tensor, y: &Tensor) -> Result<Tensor> {
        self.sides().matrix(x, y, |p, q| {
            Euclidean {}.matrix(p, q)? * std::f64::consts::FRAC_1_SQRT_2
        })
    }

    fn paired(&self, x: &Tensor, y: &Tensor) -> Result<Tensor> {
        self.sides().paired(x, y, |p, q| {
            Euclidean {}.paired(p, q)? * std::f64::consts::FRAC_1_SQRT_2
        })
    }

    fn axioms(&self) -> Axioms {
        METRIC_OF_DISTRIBUTIONS
    }
}
