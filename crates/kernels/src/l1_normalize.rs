//! Rows whose absolute values sum to one.

use candle_core::{D, Result, Tensor};

use crate::{TINY_NORM, absolute};

/// Each row, along the last dimension, divided by the sum of its absolute values: `x / max(Σ|x|, 1e−12)`.
///
/// A row of zeros stays zero, and rows whose sum is below [`TINY_NORM`] have gradient 0, as with
/// [`l2_normalize`](crate::l2_normalize) (torch's `normalize` with `p = 1` gives them the gradient divided by 1e−12).
///
/// ```
/// # use candle_core::{Device, Tensor};
/// let x = Tensor::new(&[[1f64, -3.0], [0.0, 0.0]], &Device::Cpu)?;
/// let unit = nearfar_kernels::l1_normalize(&x)?.to_vec2::<f64>()?;
/// assert_eq!(unit, [[0.25, -0.75], [0.0, 0.0]]);
/// # Ok::<(), candle_core::Error>(())
/// ```
///
/// # Errors
///
/// If `x` is a scalar.
pub fn l1_normalize(x: &Tensor) -> Result<Tensor> {
    let sum = absolute(x)?.sum_keepdim(D::Minus1)?;
    let tiny = sum.lt(TINY_NORM)?; // (…, 1)
    let length = tiny.where_cond(&sum.ones_like()?, &sum)?;
    let unit = x.broadcast_div(&length)?;
    let constant = (x.detach() / TINY_NORM)?;
    tiny.broadcast_as(x.shape())?.where_cond(&constant, &unit)
}
