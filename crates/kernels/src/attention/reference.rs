//! Attention in other operations.

use candle_core::{Result, Tensor};

use super::Heads;
use crate::{masked_softmax, softmax};

/// [`attention`](crate::attention) in other operations.
///
/// # Errors
///
/// Those of candle.
pub fn reference(q: &Tensor, k: &Tensor, v: &Tensor, heads: Heads<'_>) -> Result<Tensor> {
    let weights = weights(&split(q, heads.count)?, &split(k, heads.count)?, heads.keep)?;
    let weights = match heads.factors {
        Some(factors) => (weights * factors.detach())?,
        None => weights,
    };
    let taken = weights.matmul(&split(v, heads.count)?)?; // (b, heads, t, d)
    taken.transpose(1, 2)?.reshape(q.shape())
}

/// How much each query takes of each key: `softmax(q kᵀ / √d)` of what is kept, `(b, heads, t, s)`, of `q` `(b, heads, t, d)` and `k`
/// `(b, heads, s, d)`.
///
/// # Errors
///
/// Those of candle.
pub fn weights(q: &Tensor, k: &Tensor, keep: Option<&Tensor>) -> Result<Tensor> {
    let scale = 1.0 / (q.dim(3)? as f64).sqrt();
    let scores = (q * scale)?.matmul(&k.transpose(2, 3)?)?;
    match keep {
        None => softmax(&scores),
        Some(keep) => masked_softmax(&scores, &keep.broadcast_as(scores.shape())?.contiguous()?),
    }
}

/// `(b, t, width)` to `(b, heads, t, width / heads)`.
fn split(x: &Tensor, heads: usize) -> Result<Tensor> {
    let (b, t, width) = x.dims3()?;
    x.reshape((b, t, heads, width / heads))?
        .transpose(1, 2)?
        .contiguous()
}
