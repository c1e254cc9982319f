//! The largest number of each window.

mod cpu;
mod reference;

use candle_core::{Result, Tensor, bail};

pub use reference::reference;

use crate::host::serves;

/// The largest number of each window, per channel: `(b, c, h, w) → (b, c, h', w')` with `h' = ⌊(h − kernel.0) / stride.0⌋ + 1`.
///
/// Any kernel and stride; rows and columns that fill no window are left out. Of equal numbers the first one, row by row,
/// gets the gradient, and a window with a NaN is NaN, as in torch. (candle's own gradient is wrong: 0.25 instead of 1 for
/// a window of four, and there is none where kernel and stride differ.)
///
/// ```
/// # use candle_core::{Device, Tensor};
/// let x = Tensor::new(&[[[[1f32, 2.0, 9.0], [3.0, 4.0, 9.0]]]], &Device::Cpu)?;
/// let y = nearfar_kernels::max_pool2d(&x, (2, 2), (2, 2))?;
/// assert_eq!(y.flatten_all()?.to_vec1::<f32>()?, [4.0]);
/// # Ok::<(), candle_core::Error>(())
/// ```
///
/// # Errors
///
/// If `x` has not four dimensions, if a kernel or stride is 0, or if the image is smaller than the kernel.
pub fn max_pool2d(x: &Tensor, kernel: (usize, usize), stride: (usize, usize)) -> Result<Tensor> {
    let windows = Windows::new(x, kernel, stride)?;
    if serves(x) {
        x.contiguous()?.apply_op1(cpu::MaxPool2d::new(windows))
    } else {
        windows.reference(x)
    }
}

/// Where the windows of an image lie.
#[derive(Clone, Copy)]
struct Windows {
    kernel: (usize, usize),
    stride: (usize, usize),
    /// Height and width of the image and of the result.
    image: (usize, usize),
    result: (usize, usize),
}

impl Windows {
    fn new(x: &Tensor, kernel: (usize, usize), stride: (usize, usize)) -> Result<Self> {
        let (_, _, height, width) = x.dims4()?;
        if kernel.0 == 0 || kernel.1 == 0 || stride.0 == 0 || stride.1 == 0 {
            bail!(
                "max_pool2d: `kernel` is {kernel:?} and `stride` {stride:?}; both must be at least 1"
            );
        }
        if height < kernel.0 || width < kernel.1 {
            bail!(
                "max_pool2d: the image is {height} by {width}, smaller than the kernel {kernel:?}"
            );
        }
        let result = (
            (height - kernel.0) / stride.0 + 1,
            (width - kernel.1) / stride.1 + 1,
        );
        Ok(Self {
            kernel,
            stride,
            image: (height, width),
            result,
        })
    }
}
