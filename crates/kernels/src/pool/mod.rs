//! The largest and the mean number of each window.
//!
//! | file | |
//! |---|---|
//! | `windows.rs` | where the windows of an image lie |
//! | `max.rs`, `average.rs` | one pass forward and one back, on a CPU |
//! | `reference.rs` | both in candle operations |

mod average;
mod max;
pub(crate) mod reference;
mod windows;

use candle_core::{Result, Tensor};

pub use windows::{Slide, Windows};

use crate::host::serves;

/// The largest number of each window, per channel: `(b, c, …) → (b, c, …')` for one to three dimensions of an image.
///
/// Zeros around the image are not looked at, so padding never wins. Of equal numbers the first one, row by row, gets the
/// gradient, and a window with a NaN is NaN, as in torch. (candle's own gradient is wrong: 0.25 instead of 1 for a window
/// of four, and there is none where kernel and stride differ.)
///
/// ```
/// # use candle_core::{Device, Tensor};
/// use nearfar_kernels::{Slide, Windows, max_pool};
///
/// let x = Tensor::new(&[[[[1f32, 2.0, 9.0], [3.0, 4.0, 9.0]]]], &Device::Cpu)?;
/// let windows = Windows::sliding(&[2, 3], &[Slide::over(2); 2], false)?;
/// assert_eq!(max_pool(&x, &windows)?.flatten_all()?.to_vec1::<f32>()?, [4.0]);
/// # Ok::<(), candle_core::Error>(())
/// ```
///
/// # Errors
///
/// If `x` is not `(b, c, …)` of the image that the windows were made for.
pub fn max_pool(x: &Tensor, windows: &Windows) -> Result<Tensor> {
    windows.check("max_pool", x)?;
    if serves(x) {
        x.contiguous()?.apply_op1(max::MaxPool::new(windows))
    } else {
        reference::max_pool(x, windows)
    }
}

/// The mean of each window, per channel: `(b, c, …) → (b, c, …')` for one to three dimensions of an image.
///
/// Zeros around the image count as the windows say. The sum is in f64. (candle's own has no gradient where kernel and
/// stride differ.)
///
/// ```
/// # use candle_core::{Device, Tensor};
/// use nearfar_kernels::{Windows, average_pool};
///
/// let x = Tensor::new(&[[[1f32, 2.0, 9.0]]], &Device::Cpu)?;
/// let windows = Windows::adaptive(&[3], &[2])?; // The middle is in both.
/// assert_eq!(average_pool(&x, &windows)?.flatten_all()?.to_vec1::<f32>()?, [1.5, 5.5]);
/// # Ok::<(), candle_core::Error>(())
/// ```
///
/// # Errors
///
/// Those of [`max_pool`].
pub fn average_pool(x: &Tensor, windows: &Windows) -> Result<Tensor> {
    windows.check("average_pool", x)?;
    if serves(x) {
        x.contiguous()?
            .apply_op1(average::AveragePool::new(windows))
    } else {
        reference::average_pool(x, windows)
    }
}
