//! Convolution, normalization, a sum, activation and pooling as one operation.
//!
//! | tensors | version |
//! |---|---|
//! | `f32` on a CPU | `cpu.rs`, one custom operation on the kernels of `slices` |
//! | any other device or type | `reference.rs`, candle operations |

mod cpu;
mod reference;

use candle_core::{Result, Tensor, bail};

pub use self::reference::conv_block_reference;

/// How the convolution of a block goes over an image, and what follows it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ConvBlock {
    /// Zeros put around the image on each side, fewer than the kernel is wide.
    pub padding: usize,
    /// From one place of the kernel to the next, at least 1.
    pub stride: usize,
    /// How each channel is normalized, if it is.
    pub norm: Option<Norm>,
    /// Whether `max(0, x)` follows. Its gradient at 0 is 0, as in torch.
    pub relu: bool,
    /// Side of the max-pooling windows, which do not overlap; 1 means no pooling. Rows and columns that do not fill a
    /// window are left out, as in torch's `MaxPool2d(pool)`.
    pub pool: usize,
}

/// How the channels of a convolution's output are normalized: `(x − mean) / √(variance + eps) · scale + shift`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Norm {
    /// By the mean and the biased variance of this batch, which the gradient passes through: training.
    Batch {
        /// Added to the variance.
        eps: f64,
    },
    /// By given statistics, which are constants: evaluation, or training with frozen statistics.
    Fixed {
        /// Added to the variance.
        eps: f64,
    },
}

impl Norm {
    /// Added to the variance.
    fn eps(self) -> f64 {
        match self {
            Norm::Batch { eps } | Norm::Fixed { eps } => eps,
        }
    }
}

/// What [`conv_block`] gives.
#[derive(Clone, Debug)]
pub struct ConvBlockOutput {
    /// `(b, o, h', w')`
    pub output: Tensor,
    /// Mean of each channel over the batch, `(o)`, without a gradient; present for [`Norm::Batch`].
    pub mean: Option<Tensor>,
    /// Biased variance of each channel over the batch, `(o)`, without a gradient; present for [`Norm::Batch`].
    pub variance: Option<Tensor>,
    /// Number of values a channel has in the batch before pooling, `b · rows · columns`: what `mean` and `variance` are
    /// taken over. The unbiased variance is `variance · count / (count − 1)`.
    pub count: usize,
}

/// Convolution, then normalization, a residual sum, activation and max-pooling, each as `block` says, in this order.
///
/// ```text
/// z = conv2d(input, weight)                                (b, o, ⌊(h + 2·padding − k) / stride⌋ + 1, the same of w)
/// z = (z − mean) / √(variance + eps) · scale + shift       with a norm
/// z = z + shift                                            without one: `shift` is the bias
/// z = z + residual                                         with one, which goes with `pool = 1` alone
/// z = max(0, z)                                            with `relu`
/// z = max of each pool × pool window
/// ```
///
/// `input` is `(b, c, h, w)`, `weight` is `(o, c, k, k)`, `scale` (present with a norm) and `shift` are `(o)`.
/// `statistics` is mean and variance, `(o)` each, for [`Norm::Fixed`] only; they are constants and get no gradient.
/// `residual` has the shape of the output. `input`, `weight`, `scale`, `shift` and `residual` get gradients. Of equal values in a window the first in row-major order gets
/// the gradient, as in torch. NaN stays NaN. An empty batch gives an empty output that is not joined to the graph.
///
/// In `f32` on a CPU the whole block is one operation of the graph: nothing between input and output becomes a tensor,
/// no gradient of the input or the weight is computed unless something in its graph is a variable, and the result has the
/// same bits for any number of threads. Elsewhere it is [`conv_block_reference`].
///
/// Errors: shapes, types or devices that do not fit; a norm without `scale` or the reverse; padding that is not
/// smaller than the kernel; a stride of 0; an image smaller than the kernel or than one window; a residual with pooling;
/// [`Norm::Batch`] over one value per
/// channel, which has no variance.
///
/// ```
/// use candle_core::{Device, Tensor, Var};
/// use nearfar_kernels::{ConvBlock, Norm, conv_block};
///
/// let image = Tensor::arange(0f32, 16.0, &Device::Cpu)?.reshape((1, 1, 4, 4))?;
/// let weight = Var::ones((1, 1, 1, 1), candle_core::DType::F32, &Device::Cpu)?;
/// let bias = Tensor::zeros(1, candle_core::DType::F32, &Device::Cpu)?;
/// let block = ConvBlock { padding: 0, stride: 1, norm: None, relu: true, pool: 2 };
/// let pooled = conv_block(&image, &weight, None, &bias, None, None, &block)?.output;
/// assert_eq!(pooled.flatten_all()?.to_vec1::<f32>()?, [5.0, 7.0, 13.0, 15.0]);
/// let gradients = pooled.sum_all()?.backward()?;
/// let gradient = gradients.get(&weight).expect("the output depends on the weight");
/// assert_eq!(gradient.flatten_all()?.to_vec1::<f32>()?, [40.0]);
/// # Ok::<(), candle_core::Error>(())
/// ```
pub fn conv_block(
    input: &Tensor,
    weight: &Tensor,
    scale: Option<&Tensor>,
    shift: &Tensor,
    statistics: Option<(&Tensor, &Tensor)>,
    residual: Option<&Tensor>,
    block: &ConvBlock,
) -> Result<ConvBlockOutput> {
    let dims = Dims::check(input, weight, scale, shift, statistics, block)?;
    dims.check_residual(input, residual, block)?;
    if dims.batch == 0 {
        dims.empty(input, block)
    } else if cpu::supports(input, block) {
        cpu::conv_block(
            input, weight, scale, shift, statistics, residual, block, dims,
        )
    } else {
        conv_block_reference(input, weight, scale, shift, statistics, residual, block)
    }
}

/// The sizes of one call, checked.
#[derive(Clone, Copy, Debug)]
struct Dims {
    /// Images.
    batch: usize,
    /// Channels of the input.
    channels: usize,
    /// Channels of the output.
    outputs: usize,
    /// Rows and columns of the input.
    size: (usize, usize),
    /// Side of the kernel.
    kernel: usize,
    /// Rows and columns after the convolution.
    convolved: (usize, usize),
    /// Rows and columns after pooling.
    pooled: (usize, usize),
}

impl Dims {
    fn check(
        input: &Tensor,
        weight: &Tensor,
        scale: Option<&Tensor>,
        shift: &Tensor,
        statistics: Option<(&Tensor, &Tensor)>,
        block: &ConvBlock,
    ) -> Result<Self> {
        let ([batch, channels, rows, columns], [outputs, weight_channels, kernel, kernel_columns]) =
            (dims4("input", input)?, dims4("weight", weight)?);
        if channels != weight_channels {
            bail!(
                "conv_block: `input` has {channels} channels, `weight` expects {weight_channels}"
            );
        }
        if kernel != kernel_columns || kernel == 0 {
            bail!(
                "conv_block: the kernel is {kernel} × {kernel_columns}; it must be square and not empty"
            );
        }
        if channels == 0 || outputs == 0 {
            bail!(
                "conv_block: `weight` has shape {:?}; it needs at least one channel on each side",
                weight.dims()
            );
        }
        if block.padding >= kernel {
            bail!(
                "conv_block: `padding` is {}; it must be smaller than the kernel, {kernel}",
                block.padding
            );
        }
        if block.pool == 0 {
            bail!("conv_block: `pool` is 0; it must be at least 1, which means no pooling");
        }
        if block.stride == 0 {
            bail!("conv_block: `stride` is 0; it must be at least 1");
        }
        let around = 2 * block.padding;
        if rows + around < kernel || columns + around < kernel {
            bail!(
                "conv_block: an image of {rows} × {columns} with padding {} is smaller than the kernel, {kernel}",
                block.padding
            );
        }
        let side = |size: usize| (size + around - kernel) / block.stride + 1;
        let convolved = (side(rows), side(columns));
        let pooled = (convolved.0 / block.pool, convolved.1 / block.pool);
        if pooled.0 == 0 || pooled.1 == 0 {
            bail!(
                "conv_block: the convolution gives {} × {}, smaller than one pooling window of {}",
                convolved.0,
                convolved.1,
                block.pool
            );
        }
        match (block.norm, scale) {
            (Some(_), None) => bail!("conv_block: `norm` needs `scale`"),
            (None, Some(_)) => bail!(
                "conv_block: `scale` needs `norm`; without one there is only `shift`, the bias"
            ),
            _ => {}
        }
        match (block.norm, statistics) {
            (Some(Norm::Fixed { .. }), None) => {
                bail!("conv_block: `Norm::Fixed` needs `statistics`, mean and variance")
            }
            (Some(Norm::Batch { .. }) | None, Some(_)) => {
                bail!("conv_block: `statistics` are for `Norm::Fixed` alone")
            }
            _ => {}
        }
        let (mean, variance) = statistics.unzip();
        let vectors = [
            ("scale", scale),
            ("shift", Some(shift)),
            ("mean", mean),
            ("variance", variance),
        ];
        for (name, vector) in vectors
            .into_iter()
            .filter_map(|(name, vector)| Some((name, vector?)))
        {
            if vector.dims() != [outputs] {
                bail!(
                    "conv_block: `{name}` has shape {:?}; `weight` has {outputs} output channels",
                    vector.dims()
                );
            }
            check_kind(name, vector, input)?;
        }
        check_kind("weight", weight, input)?;
        if !input.dtype().is_float() {
            bail!(
                "conv_block: `input` is {:?}; it must be of a float type",
                input.dtype()
            );
        }
        let dims = Self {
            batch,
            channels,
            outputs,
            size: (rows, columns),
            kernel,
            convolved,
            pooled,
        };
        if batch > 0 && dims.count() < 2 && matches!(block.norm, Some(Norm::Batch { .. })) {
            bail!(
                "conv_block: `Norm::Batch` over a batch of {batch} with {} × {} values per channel: one value has no \
                 variance; use a larger batch or `Norm::Fixed`",
                convolved.0,
                convolved.1
            );
        }
        Ok(dims)
    }

    fn check_residual(
        &self,
        input: &Tensor,
        residual: Option<&Tensor>,
        block: &ConvBlock,
    ) -> Result<()> {
        let Some(residual) = residual else {
            return Ok(());
        };
        let (batch, outputs, rows, columns) = self.output_shape();
        if residual.dims() != [batch, outputs, rows, columns] || block.pool > 1 {
            bail!(
                "conv_block: `residual` has shape {:?} and `pool` is {}; the output's shape, {:?}, and no pooling (1) are wanted",
                residual.dims(),
                block.pool,
                self.output_shape()
            );
        }
        check_kind("residual", residual, input)
    }

    /// Values a channel has before pooling.
    fn count(&self) -> usize {
        self.batch * self.convolved.0 * self.convolved.1
    }

    fn output_shape(&self) -> (usize, usize, usize, usize) {
        (self.batch, self.outputs, self.pooled.0, self.pooled.1)
    }

    /// The answer for a batch without images.
    fn empty(&self, input: &Tensor, block: &ConvBlock) -> Result<ConvBlockOutput> {
        if matches!(block.norm, Some(Norm::Batch { .. })) {
            bail!(
                "conv_block: `Norm::Batch` over an empty batch; it needs more than one value per channel"
            );
        }
        let output = Tensor::zeros(self.output_shape(), input.dtype(), input.device())?;
        Ok(ConvBlockOutput {
            output,
            mean: None,
            variance: None,
            count: 0,
        })
    }
}

fn dims4(name: &str, tensor: &Tensor) -> Result<[usize; 4]> {
    match <[usize; 4]>::try_from(tensor.dims()) {
        Ok(dims) => Ok(dims),
        Err(_) => bail!(
            "conv_block: `{name}` has shape {:?}; it must have four dimensions",
            tensor.dims()
        ),
    }
}

fn check_kind(name: &str, tensor: &Tensor, input: &Tensor) -> Result<()> {
    if tensor.dtype() != input.dtype() {
        bail!(
            "conv_block: `{name}` is {:?}, `input` is {:?}; they must agree",
            tensor.dtype(),
            input.dtype()
        );
    }
    if !tensor.device().same_device(input.device()) {
        bail!(
            "conv_block: `{name}` is on {:?}, `input` on {:?}; they must be on one device",
            tensor.device().location(),
            input.device().location()
        );
    }
    Ok(())
}
