//! The readable versions, in candle operations.

use candle_core::{D, Result, Tensor};

use super::EMPTY;

/// [`softmax`](crate::softmax) in candle operations.
pub fn softmax(x: &Tensor) -> Result<Tensor> {
    masked_softmax(x, &all(x)?)
}

/// [`log_softmax`](crate::log_softmax) in candle operations.
pub fn log_softmax(x: &Tensor) -> Result<Tensor> {
    x.broadcast_sub(&log_sum_exp(x)?.unsqueeze(D::Minus1)?)
}

/// [`log_sum_exp`](crate::log_sum_exp) in candle operations.
pub fn log_sum_exp(x: &Tensor) -> Result<Tensor> {
    masked_log_sum_exp(x, &all(x)?)
}

/// [`masked_log_sum_exp`](crate::masked_log_sum_exp) in candle operations.
pub fn masked_log_sum_exp(x: &Tensor, mask: &Tensor) -> Result<Tensor> {
    let mask = mask.ne(0f64)?;
    if x.elem_count() == 0 {
        return Tensor::full(EMPTY, &x.dims()[..x.rank() - 1], x.device())?.to_dtype(x.dtype());
    }
    let (terms, largest) = terms(x, &mask)?;
    let sum = terms.sum_keepdim(D::Minus1)?;
    // An empty sum becomes 1 before the logarithm, which then has a gradient; the row is replaced after it.
    let empty = sum.eq(0f64)?;
    let value = (empty.where_cond(&sum.ones_like()?, &sum)?.log()? + largest)?;
    empty
        .where_cond(&value.zeros_like()?.affine(0.0, EMPTY)?, &value)?
        .squeeze(D::Minus1)
}

/// [`masked_softmax`](crate::masked_softmax) in candle operations.
pub fn masked_softmax(x: &Tensor, mask: &Tensor) -> Result<Tensor> {
    let mask = mask.ne(0f64)?;
    if x.elem_count() == 0 {
        return Ok(x.clone());
    }
    let (terms, _) = terms(x, &mask)?;
    let sum = terms.sum_keepdim(D::Minus1)?;
    let empty = sum.eq(0f64)?;
    terms.broadcast_div(&empty.where_cond(&sum.ones_like()?, &sum)?)
}

fn all(x: &Tensor) -> Result<Tensor> {
    x.detach().ones_like()
}

/// `e^(x − largest)` where the mask keeps an entry and 0 elsewhere; and the largest kept entry of each row.
fn terms(x: &Tensor, mask: &Tensor) -> Result<(Tensor, Tensor)> {
    let low = x.detach().zeros_like()?.affine(0.0, EMPTY)?;
    // Entries left out go before the exponential: they may be infinite or NaN.
    let kept = mask.where_cond(x, &low)?;
    // Bounded from below, so that a row of −∞ does not become −∞ + ∞.
    let largest = kept.detach().max_keepdim(D::Minus1)?.maximum(EMPTY)?;
    let terms = kept.broadcast_sub(&largest)?.exp()?;
    Ok((mask.where_cond(&terms, &terms.zeros_like()?)?, largest))
}
