//! Layer normalization in other operations.

use candle_core::{Result, Tensor};

use crate::standardize::standardize;

/// [`layer_norm`](crate::layer_norm) in other operations.
///
/// # Errors
///
/// Those of candle.
pub fn reference(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>, eps: f64) -> Result<Tensor> {
    let scaled = standardize(x, eps)?.broadcast_mul(weight)?;
    match bias {
        Some(bias) => scaled.broadcast_add(bias),
        None => Ok(scaled),
    }
}
