//! The linear map in candle operations.

use candle_core::{Result, Tensor};

/// [`linear`](crate::linear) in candle operations.
///
/// # Errors
///
/// Those of candle.
pub fn reference(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let product = x.matmul(&weight.t()?)?;
    match bias {
        Some(bias) => product.broadcast_add(bias),
        None => Ok(product),
    }
}
