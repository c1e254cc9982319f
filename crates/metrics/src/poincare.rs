//! Poincaré distance.

use candle_core::{D, Result, Tensor};
use nearfar_core::{Axioms, Distance, shape};
use nearfar_kernels::{RowOf, RowPair, l2_normalize};
use serde::{Deserialize, Serialize};

use crate::coordinates::{self, add_to, sum};

/// `arcosh(1 + 2 ‖x − y‖² / ((1 − ‖x‖²) (1 − ‖y‖²)))`, in the Poincaré ball
///
/// The distance of hyperbolic space, in which trees have room: distances grow without bound towards the sphere. Rows must
/// lie within the unit ball; a row longer than 1 − 10⁻⁵ is moved to that length first, and what pulls on it pulls along
/// the sphere only. A metric within the ball; it does not separate rows of one direction that are both moved.
///
/// It is computed as `2 arsinh(‖x − y‖ / √((1 − ‖x‖²) (1 − ‖y‖²)))`, the same number, which keeps the digits of near rows.
/// Rows that coincide have gradient 0.
///
/// Source: Nickel, Kiela, "Poincaré embeddings for learning hierarchical representations", NeurIPS 2017, equation 1; there
/// rows are held in the ball by the optimizer, with the same 10⁻⁵.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use nearfar_core::Distance;
/// use nearfar_metrics::Poincare;
///
/// let (x, y) = (Tensor::new(&[[0f64, 0.0]], &Device::Cpu)?, Tensor::new(&[[0.6f64, 0.0]], &Device::Cpu)?);
/// let d = Poincare {}.paired(&x, &y)?.to_vec1::<f64>()?[0];
/// assert!((d - 4f64.ln()).abs() < 1e-14); // From the middle it is ln((1 + r) / (1 − r)).
/// # Ok::<(), candle_core::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Poincare {}

/// The length of the longest rows.
const LONGEST: f64 = 1.0 - 1e-5;

/// The rows, the long ones moved into the ball.
fn clipped(x: &Tensor) -> Result<Tensor> {
    let long = x
        .detach()
        .sqr()?
        .sum_keepdim(D::Minus1)?
        .gt(LONGEST * LONGEST)?;
    long.broadcast_as(x.shape())?
        .where_cond(&(l2_normalize(x)? * LONGEST)?, x)
}

impl Distance for Poincare {
    fn matrix(&self, x: &Tensor, y: &Tensor) -> Result<Tensor> {
        shape::rows_of_one_width("poincare", ("x", x), ("y", y))?;
        let rows = clipped(x)?;
        if x.id() == y.id() {
            coordinates::matrix(&Ball, &rows, &rows)
        } else {
            coordinates::matrix(&Ball, &rows, &clipped(y)?)
        }
    }

    fn paired(&self, x: &Tensor, y: &Tensor) -> Result<Tensor> {
        shape::same("poincare", ("x", x), ("y", y))?;
        coordinates::paired(&Ball, &clipped(x)?, &clipped(y)?)
    }

    fn axioms(&self) -> Axioms {
        Axioms {
            separates: false,
            ..Axioms::METRIC
        }
    }
}

/// Of rows within the ball; known of a row is `1 − ‖x‖²`.
#[derive(Clone, Debug)]
struct Ball;

#[inline(always)]
fn length(x: RowOf<'_, f64>, y: RowOf<'_, f64>) -> f64 {
    sum(x.numbers, y.numbers, |x, y| (x - y) * (x - y)).sqrt()
}

impl RowPair for Ball {
    type Known = f64;

    fn name(&self) -> &'static str {
        "poincare"
    }

    fn know(&self, row: &[f64]) -> f64 {
        // Rounding to f32 can leave a row a little longer.
        (1.0 - sum(row, row, |x, _| x * x)).max(1e-6)
    }

    #[inline(always)]
    fn value(&self, x: RowOf<'_, f64>, y: RowOf<'_, f64>) -> f64 {
        2.0 * (length(x, y) / (x.known * y.known).sqrt()).asinh()
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
        let length = length(x, y);
        if length == 0.0 {
            return;
        }
        let root = (x.known * y.known).sqrt();
        let ratio = length / root;
        let scale = 2.0 * gradient / (1.0 + ratio * ratio).sqrt();
        let (apart, outward) = (scale / (length * root), scale * ratio / x.known);
        add_to(pulled, x, y, |x, y| apart * (x - y) + outward * x);
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Var};

    use super::*;

    #[test]
    fn it_is_the_formula_with_the_arcosh() -> Result<()> {
        let x = Tensor::new(&[[0.3f64, -0.2]], &Device::Cpu)?;
        let y = Tensor::new(&[[-0.1f64, 0.7]], &Device::Cpu)?;
        // ‖x − y‖² = 0.97, 1 − ‖x‖² = 0.87, 1 − ‖y‖² = 0.5.
        let want = (1.0 + 2.0 * 0.97 / (0.87 * 0.5f64)).acosh();
        let got = Poincare {}.matrix(&x, &y)?.to_vec2::<f64>()?[0][0];
        assert!((got - want).abs() < 1e-14, "{got} {want}");
        Ok(())
    }

    #[test]
    fn long_rows_are_moved_into_the_ball_and_pulled_along_the_sphere() -> Result<()> {
        for rows in [[[5f32, 0.0], [0.0, 0.0]], [[1e30, 0.0], [0.0, 0.0]]] {
            let x = Var::new(&rows, &Device::Cpu)?;
            let distance = Poincare {}.matrix(&x, &x)?;
            let d = distance.to_vec2::<f32>()?;
            // ln((2 − 10⁻⁵) / 10⁻⁵) = 12.206; in f32 the length has its last digit at 6e-8 of 10⁻⁵.
            assert!((d[0][1] - 12.206).abs() < 0.01 && d[0][0] == 0.0, "{d:?}");
            let gradients = distance.sum_all()?.backward()?;
            let gradient = gradients
                .get(&x)
                .expect("it depends on it")
                .to_vec2::<f32>()?;
            assert!(
                gradient[0][0].abs() < 1.0 && gradient[1][0].is_finite(),
                "{gradient:?}"
            );
        }
        Ok(())
    }
}
