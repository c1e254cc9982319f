//! Angular distance.

use candle_core::{Result, Tensor};
use nearfar_core::{Axioms, Distance, shape};
use nearfar_kernels::{RowOf, RowPair, l2_normalize};
use serde::{Deserialize, Serialize};

use crate::coordinates::{self, add_to, sum};

/// `arccos(x·y / (‖x‖ ‖y‖)) / π`, from 0 to 1
///
/// The angle between two rows, as a part of half a turn. Unlike [`CosineDistance`](crate::CosineDistance) it has the
/// triangle inequality: it is a metric of directions, and only does not separate rows of one direction. A row of zeros has
/// no direction: its distance is 1/2 to every row, 0 to another row of zeros, and its gradient 0.
///
/// The angle is computed as `2 arctan(‖u − v‖ / ‖u + v‖)` of the unit rows `u` and `v` (Kahan, "How futile are mindless
/// assessments of roundoff", 2006, section 12) and not from the cosine, whose arc loses half of the digits for near rows
/// and has an infinite derivative at ±1. Its gradient is bounded: towards rows of the same and of the opposite direction
/// its length stays 1/π on unit rows, and is 0 at them.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use nearfar_core::Distance;
/// use nearfar_metrics::Angular;
///
/// let (x, y) = (Tensor::new(&[[2f64, 0.0]], &Device::Cpu)?, Tensor::new(&[[1f64, 1.0], [-3.0, 0.0]], &Device::Cpu)?);
/// let d = Angular {}.matrix(&x, &y)?.to_vec2::<f64>()?;
/// assert!((d[0][0] - 0.25).abs() < 1e-15 && (d[0][1] - 1.0).abs() < 1e-15); // 45° and 180°.
/// # Ok::<(), candle_core::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Angular {}

impl Distance for Angular {
    fn matrix(&self, x: &Tensor, y: &Tensor) -> Result<Tensor> {
        shape::rows_of_one_width("angular", ("x", x), ("y", y))?;
        let unit = l2_normalize(x)?;
        if x.id() == y.id() {
            coordinates::matrix(&Angle, &unit, &unit)
        } else {
            coordinates::matrix(&Angle, &unit, &l2_normalize(y)?)
        }
    }

    fn paired(&self, x: &Tensor, y: &Tensor) -> Result<Tensor> {
        shape::same("angular", ("x", x), ("y", y))?;
        coordinates::paired(&Angle, &l2_normalize(x)?, &l2_normalize(y)?)
    }

    fn axioms(&self) -> Axioms {
        Axioms {
            separates: false,
            ..Axioms::METRIC
        }
    }
}

/// The angle between unit rows, as a part of half a turn.
#[derive(Clone, Debug)]
struct Angle;

#[inline(always)]
fn minus_and_plus(x: RowOf<'_, ()>, y: RowOf<'_, ()>) -> (f64, f64) {
    let minus = sum(x.numbers, y.numbers, |x, y| (x - y) * (x - y));
    let plus = sum(x.numbers, y.numbers, |x, y| (x + y) * (x + y));
    (minus.sqrt(), plus.sqrt())
}

impl RowPair for Angle {
    type Known = ();

    fn name(&self) -> &'static str {
        "angular"
    }

    fn know(&self, _: &[f64]) {}

    #[inline(always)]
    fn value(&self, x: RowOf<'_, ()>, y: RowOf<'_, ()>) -> f64 {
        let (minus, plus) = minus_and_plus(x, y);
        2.0 * minus.atan2(plus) / std::f64::consts::PI
    }

    #[inline(always)]
    fn pull(&self, x: RowOf<'_, ()>, y: RowOf<'_, ()>, _: f64, gradient: f64, pulled: &mut [f64]) {
        // Of the angle 2 arcsin(‖u − v‖ / 2) the derivative is (u − v) / ‖u − v‖ / cos(angle / 2), and ‖u + v‖ / 2 is that
        // cosine; beyond a right angle it is the same the other way round. Neither divisor is small for both.
        let (minus, plus) = minus_and_plus(x, y);
        let scale = 2.0 * gradient / std::f64::consts::PI;
        if minus == 0.0 || plus == 0.0 {
            return;
        }
        let scale = scale / (minus * plus);
        if minus <= plus {
            add_to(pulled, x, y, |x, y| scale * (x - y));
        } else {
            add_to(pulled, x, y, |x, y| -scale * (x + y));
        }
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Var};

    use super::*;

    #[test]
    fn near_and_opposite_rows_keep_their_digits_and_a_bounded_gradient() -> Result<()> {
        for (x, y, angle) in [
            ([1f64, 0.0], [1.0, 1e-9], 1e-9),
            ([1.0, 0.0], [-1.0, 1e-9], std::f64::consts::PI - 1e-9),
            ([1.0, 0.0], [0.0, 2.0], std::f64::consts::FRAC_PI_2),
        ] {
            let x = Var::new(&[x], &Device::Cpu)?;
            let y = Tensor::new(&[y], &Device::Cpu)?;
            let distance = Angular {}.matrix(&x, &y)?;
            let got = distance.to_vec2::<f64>()?[0][0] * std::f64::consts::PI;
            assert!((got - angle).abs() < 1e-9 * 1e-6 + 1e-15, "{got} {angle}");
            let gradients = distance.backward()?;
            let gradient = gradients
                .get(&x)
                .expect("it depends on it")
                .to_vec2::<f64>()?;
            // It turns away from `y`.
            assert!(gradient[0][0].abs() < 1e-9);
            assert!(
                (gradient[0][1] + 1.0 / std::f64::consts::PI).abs() < 1e-9,
                "{gradient:?}"
            );
        }
        Ok(())
    }

    #[test]
    fn a_row_of_zeros_is_half_way_to_everything() -> Result<()> {
        let x = Var::new(&[[0f32, 0.0], [3.0, 4.0]], &Device::Cpu)?;
        let distance = Angular {}.matrix(&x, &x)?;
        assert_eq!(distance.to_vec2::<f32>()?, [[0.0, 0.5], [0.5, 0.0]]);
        let gradients = distance.backward()?;
        let gradient = gradients
            .get(&x)
            .expect("it depends on it")
            .to_vec2::<f32>()?;
        assert_eq!(gradient[0], [0.0, 0.0]);
        Ok(())
    }
}
