//! Exponentials of rows, relative to their sum.

mod cpu;
pub(crate) mod reference;

use candle_core::{D, DType, Result, Tensor, bail};

use crate::host::serves;

/// The log-sum-exp of an empty set, as [`masked_log_sum_exp`] gives it: so far below zero that `softplus(EMPTY − s)` is 0
/// with gradient 0 for every `s` of a loss, and yet finite, so that arithmetic on it makes no NaN.
pub const EMPTY: f64 = -1e30;

/// Exponentials along the last dimension divided by their sum.
pub fn softmax(x: &Tensor) -> Result<Tensor> {
    x.dim(D::Minus1)?;
    if serves(x) {
        x.contiguous()?.apply_op1(cpu::Rows(cpu::Kind::Softmax))
    } else {
        reference::softmax(x)
    }
}

/// The logarithm of [`softmax`], `x − log Σ e^x` along the last dimension, without the softmax's underflow.
pub fn log_softmax(x: &Tensor) -> Result<Tensor> {
    x.dim(D::Minus1)?;
    if serves(x) {
        x.contiguous()?.apply_op1(cpu::Rows(cpu::Kind::LogSoftmax))
    } else {
        reference::log_softmax(x)
    }
}

/// `log Σ e^x` along the last dimension, which disappears: `(…, m) → (…)`. A row without columns gives [`EMPTY`].
pub fn log_sum_exp(x: &Tensor) -> Result<Tensor> {
    x.dim(D::Minus1)?;
    if serves(x) {
        x.contiguous()?.apply_op1(cpu::Rows(cpu::Kind::LogSumExp))
    } else {
        reference::log_sum_exp(x)
    }
}

/// `log Σ e^x` over the entries of each row that the mask keeps: `(n, m), (n, m) → (n)`.
///
/// `mask` is 0 where an entry is left out, of any number type; entries left out may be anything, NaN too, and have
/// gradient 0. The largest entry is subtracted first, so nothing overflows. A row that keeps nothing gives [`EMPTY`] and
/// has gradient 0.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// use nearfar_kernels::{EMPTY, masked_log_sum_exp};
///
/// let x = Tensor::new(&[[1000f32, 1000.0, 7.0], [1.0, 2.0, 3.0]], &Device::Cpu)?;
/// let mask = Tensor::new(&[[1u8, 1, 0], [0, 0, 0]], &Device::Cpu)?;
/// assert_eq!(masked_log_sum_exp(&x, &mask)?.to_vec1::<f32>()?, [1000.0 + 2f32.ln(), EMPTY as f32]);
/// # Ok::<(), candle_core::Error>(())
/// ```
pub fn masked_log_sum_exp(x: &Tensor, mask: &Tensor) -> Result<Tensor> {
    let mask = kept("masked_log_sum_exp", x, mask)?;
    if serves(x) {
        x.contiguous()?
            .apply_op2(&mask, cpu::Rows(cpu::Kind::LogSumExp))
    } else {
        reference::masked_log_sum_exp(x, &mask)
    }
}

/// [`softmax`] over the entries of each row that the mask keeps, 0 elsewhere: `(n, m), (n, m) → (n, m)`.
///
/// The mask is read as by [`masked_log_sum_exp`]. A row that keeps nothing is all zeros, with gradient 0.
pub fn masked_softmax(x: &Tensor, mask: &Tensor) -> Result<Tensor> {
    let mask = kept("masked_softmax", x, mask)?;
    if serves(x) {
        x.contiguous()?
            .apply_op2(&mask, cpu::Rows(cpu::Kind::Softmax))
    } else {
        reference::masked_softmax(x, &mask)
    }
}

/// The mask as bytes, 1 where an entry is kept.
fn kept(name: &str, x: &Tensor, mask: &Tensor) -> Result<Tensor> {
    x.dim(D::Minus1)?;
    if x.dims() != mask.dims() {
        bail!(
            "{name}: `x` has shape {:?}, `mask` {:?}; they must agree",
            x.dims(),
            mask.dims()
        );
    }
    let mask = mask.detach();
    if mask.dtype() == DType::U8 {
        mask.contiguous()
    } else {
        mask.ne(0f64)?.contiguous()
    }
}
