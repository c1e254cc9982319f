//! Signal-to-noise distance.

use candle_core::{Result, Tensor};
use nearfar_core::{Axioms, Distance};
use nearfar_kernels::{RowOf, RowPair};

use crate::coordinates::{self, add_to, sum};

/// `var(x − y) / var(x)`, variances over the components of a row
///
/// The first row is the signal, its difference from the second the noise: the inverse of a signal-to-noise ratio. It is
/// not symmetric, has no triangle inequality, and does not separate rows that differ by a constant.
///
/// A constant row has no signal. Its distance to another constant row is 0; to any other row it is `var(x − y)` over
/// 10⁻¹² (1 + ‖x‖²), large and finite; and nothing pulls on either row then. (pytorch-metric-learning gives infinity and
/// gradients of NaN.) Rows of one component are constant.
///
/// Source: Yuan, Deng, Tang, Tang, Chen, "Signal-to-noise ratio: a robust distance metric for deep metric learning", CVPR
/// 2019, equation 5. Agrees with `SNRDistance` of pytorch-metric-learning 2.9 with `normalize_embeddings = False`, and by
/// default with `normalize = true`.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use nearfar_core::Distance;
/// use nearfar_metrics::Snr;
///
/// let (x, y) = (Tensor::new(&[[1f64, 3.0]], &Device::Cpu)?, Tensor::new(&[[5f64, 9.0]], &Device::Cpu)?);
/// assert_eq!(Snr {}.paired(&x, &y)?.to_vec1::<f64>()?, [1.0]); // var(−4, −6) = 2, var(1, 3) = 2.
/// assert_eq!(Snr {}.paired(&y, &x)?.to_vec1::<f64>()?, [0.25]); // var(5, 9) = 8.
/// # Ok::<(), candle_core::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Snr {}

/// What a row without signal is divided by, beside its length.
const FLOOR: f64 = 1e-12;
/// A row that varies less than this, beside its length, is constant but for rounding.
const CONSTANT: f64 = 1e-14;

/// What must be known of a row.
#[derive(Clone, Copy, Debug)]
struct Signal {
    mean: f64,
    /// `Σ (x − mean)²`; none of a constant row.
    energy: Option<f64>,
    /// What stands for the energy of a constant row.
    floor: f64,
}

#[inline(always)]
fn noise(x: RowOf<'_, Signal>, y: RowOf<'_, Signal>) -> f64 {
    let (mean, other) = (x.known.mean, y.known.mean);
    sum(x.numbers, y.numbers, |x, y| {
        let difference = (x - mean) - (y - other);
        difference * difference
    })
}

impl Distance for Snr {
    fn matrix(&self, x: &Tensor, y: &Tensor) -> Result<Tensor> {
        coordinates::matrix(&Ratio, x, y)
    }

    fn paired(&self, x: &Tensor, y: &Tensor) -> Result<Tensor> {
        coordinates::paired(&Ratio, x, y)
    }

    fn axioms(&self) -> Axioms {
        Axioms {
            separates: false,
            symmetric: false,
            triangle: false,
            ..Axioms::METRIC
        }
    }
}

/// The function itself.
#[derive(Clone, Debug)]
struct Ratio;

impl RowPair for Ratio {
    type Known = Signal;

    fn name(&self) -> &'static str {
        "snr"
    }

    fn know(&self, row: &[f64]) -> Signal {
        let mean = sum(row, row, |x, _| x) / row.len().max(1) as f64;
        let energy = sum(row, row, |x, _| (x - mean) * (x - mean));
        let squared = sum(row, row, |x, _| x * x);
        Signal {
            mean,
            energy: (energy > CONSTANT * CONSTANT * squared).then_some(energy),
            floor: FLOOR * (1.0 + squared) * row.len().saturating_sub(1).max(1) as f64,
        }
    }

    #[inline(always)]
    fn value(&self, x: RowOf<'_, Signal>, y: RowOf<'_, Signal>) -> f64 {
        match (x.known.energy, y.known.energy) {
            (Some(energy), _) => noise(x, y) / energy,
            (None, Some(_)) => noise(x, y) / x.known.floor,
            (None, None) => 0.0,
        }
    }

    #[inline(always)]
    fn pull(
        &self,
        x: RowOf<'_, Signal>,
        y: RowOf<'_, Signal>,
        value: f64,
        gradient: f64,
        pulled: &mut [f64],
    ) {
        let Some(energy) = x.known.energy else {
            return;
        };
        let scale = 2.0 * gradient / energy;
        let (mean, other) = (x.known.mean, y.known.mean);
        add_to(pulled, x, y, |x, y| {
            let (x, y) = (x - mean, y - other);
            scale * (x - y - value * x)
        });
    }

    #[inline(always)]
    fn pull_other(
        &self,
        x: RowOf<'_, Signal>,
        y: RowOf<'_, Signal>,
        _: f64,
        gradient: f64,
        pulled: &mut [f64],
    ) {
        let Some(energy) = x.known.energy else {
            return;
        };
        let scale = 2.0 * gradient / energy;
        let (mean, other) = (x.known.mean, y.known.mean);
        add_to(pulled, x, y, |x, y| scale * ((y - other) - (x - mean)));
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Var};

    use super::*;

    #[test]
    fn a_constant_row_is_finite_and_pulls_on_nothing() -> Result<()> {
        // 0.1 thrice has a mean that is not 0.1.
        let x = Var::new(&[[0.1f64; 3], [7.0; 3], [1.0, 2.0, 3.0]], &Device::Cpu)?;
        let distance = Snr {}.matrix(&x, &x)?;
        let d = distance.to_vec2::<f64>()?;
        assert_eq!((d[0][0], d[0][1], d[1][0], d[2][2]), (0.0, 0.0, 0.0, 0.0));
        assert!((d[0][2] * 1.03 / 1e12 - 1.0).abs() < 1e-12, "{d:?}"); // var(1, 2, 3) = 1.
        assert!(
            (d[2][0] - 1.0).abs() < 1e-15,
            "a constant changes nothing but the signal"
        );
        let gradient = |row: usize| -> Result<Vec<Vec<f64>>> {
            let gradients = distance.narrow(0, row, 1)?.sum_all()?.backward()?;
            gradients
                .get(&x)
                .expect("it depends on it")
                .to_vec2::<f64>()
        };
        assert_eq!(gradient(0)?.concat(), [0.0; 9]);
        assert!(gradient(2)?.concat().iter().all(|g| g.is_finite()));
        let one = Tensor::new(&[[1f32], [2.0]], &Device::Cpu)?;
        assert_eq!(Snr {}.matrix(&one, &one)?.to_vec2::<f32>()?, [[0.0; 2]; 2]);
        Ok(())
    }

    #[test]
    fn tiny_rows_are_signals_too() -> Result<()> {
        let x = Tensor::new(&[[1e-20f64, 3e-20]], &Device::Cpu)?;
        let y = Tensor::new(&[[5e-20f64, 9e-20]], &Device::Cpu)?;
        let d = Snr {}.paired(&x, &y)?.to_vec1::<f64>()?[0];
        assert!((d - 1.0).abs() < 1e-12);
        Ok(())
    }
}
