//! Correlation distance.

use candle_core::{D, DType, Result, Tensor};
use nearfar_core::{Axioms, Distance, shape};
use serde::{Deserialize, Serialize};

use crate::CosineDistance;

/// `1 − corr(x, y)`, from 0 to 2
///
/// The cosine distance of the rows less their means: neither a shift nor a positive factor of a row changes it. A constant
/// row correlates with nothing: its distance is 1 to every row, itself included (scipy gives NaN), and its gradient 0; so
/// is that of a row whose variation is no more than its rounding. Symmetric and not negative, no more.
///
/// Agrees with scipy's `correlation`.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use nearfar_core::Distance;
/// use nearfar_metrics::Correlation;
///
/// let x = Tensor::new(&[[1f64, 2.0, 3.0]], &Device::Cpu)?;
/// let y = Tensor::new(&[[10f64, 20.0, 30.0], [3.0, 2.0, 1.0], [5.0, 5.0, 5.0]], &Device::Cpu)?;
/// let d = Correlation {}.matrix(&x, &y)?.to_vec2::<f64>()?[0].clone();
/// assert!(d[0].abs() < 1e-15 && (d[1] - 2.0).abs() < 1e-15 && d[2] == 1.0);
/// # Ok::<(), candle_core::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Correlation {}

/// The rows less their means; rows that are constant but for rounding are zeros, without a gradient.
fn centered(x: &Tensor) -> Result<Tensor> {
    if x.elem_count() == 0 {
        return Ok(x.clone());
    }
    let rounding = match x.dtype() {
        DType::F64 => f64::EPSILON,
        DType::F32 => f64::from(f32::EPSILON),
        DType::F16 => 2f64.powi(-10),
        _ => 2f64.powi(-7),
    };
    // In units of the largest number of a row, so that no square overflows.
    let largest = x.detach().abs()?.max_keepdim(D::Minus1)?;
    let unit = largest
        .eq(0f64)?
        .where_cond(&largest.ones_like()?, &largest)?;
    let x = x.broadcast_div(&unit)?;
    let centered = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
    let energy = centered.detach().sqr()?.sum_keepdim(D::Minus1)?;
    let least = (x.detach().sqr()?.sum_keepdim(D::Minus1)? * (32.0 * rounding).powi(2))?;
    let constant = energy.le(&least)?.broadcast_as(x.shape())?;
    constant.where_cond(&centered.zeros_like()?, &centered)
}

impl Distance for Correlation {
    fn matrix(&self, x: &Tensor, y: &Tensor) -> Result<Tensor> {
        shape::rows_of_one_width("correlation", ("x", x), ("y", y))?;
        let rows = centered(x)?;
        if x.id() == y.id() {
            CosineDistance {}.matrix(&rows, &rows)
        } else {
            CosineDistance {}.matrix(&rows, &centered(y)?)
        }
    }

    fn paired(&self, x: &Tensor, y: &Tensor) -> Result<Tensor> {
        shape::same("correlation", ("x", x), ("y", y))?;
        CosineDistance {}.paired(&centered(x)?, &centered(y)?)
    }

    fn axioms(&self) -> Axioms {
        CosineDistance {}.axioms()
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Var};

    use super::*;

    #[test]
    fn a_constant_row_correlates_with_nothing_whatever_its_rounding() -> Result<()> {
        let x = Var::new(
            &[[0.1f32; 7], [1e6; 7], [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0]],
            &Device::Cpu,
        )?;
        let distance = Correlation {}.matrix(&x, &x)?;
        let d = distance.to_vec2::<f32>()?;
        assert_eq!((&d[0][..], &d[1][..]), (&[1.0; 3][..], &[1.0; 3][..]));
        assert!(d[2][2].abs() < 1e-6);
        let gradients = distance.backward()?;
        let gradient = gradients
            .get(&x)
            .expect("it depends on it")
            .to_vec2::<f32>()?;
        assert_eq!((&gradient[0], &gradient[1]), (&vec![0.0; 7], &vec![0.0; 7]));
        Ok(())
    }
}
