//! Convolution in one to three dimensions.
//!
//! | tensors | version |
//! |---|---|
//! | `f32`, `f64` on a CPU, one channel in each group | `depthwise.rs`, straight over the images |
//! | `f32`, `f64` on a CPU | `products.rs`, a matrix product for each image |
//! | any other | `reference.rs`, candle's two-dimensional convolution, fed so that its gradient is right |

mod depthwise;
mod products;
mod reference;

use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp2, CustomOp3, Layout, Result, Shape, Tensor, bail};

pub use reference::reference;

use crate::host::{by_type, give, read, serves, slice, tensor};
use crate::lanes::Element;

/// How a convolution in `N` dimensions goes over an image. The default is a step of 1, no padding, no gaps, one group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conv<const N: usize> {
    /// From one place of the kernel to the next.
    pub stride: [usize; N],
    /// Zeros around the image, on each side.
    pub padding: [usize; N],
    /// From one number of the image that the kernel reads to the next; 1 leaves no gaps.
    pub dilation: [usize; N],
    /// Groups of channels that see nothing of one another.
    pub groups: usize,
}

impl<const N: usize> Default for Conv<N> {
    fn default() -> Self {
        Self {
            stride: [1; N],
            padding: [0; N],
            dilation: [1; N],
            groups: 1,
        }
    }
}

impl<const N: usize> Conv<N> {
    /// How many places a kernel of this size has along dimension `axis` of `size` numbers; none where it does not fit.
    pub fn count(&self, axis: usize, size: usize, kernel: usize) -> Option<usize> {
        let reach = self.dilation[axis].checked_mul(kernel.checked_sub(1)?)?;
        let padded = size.checked_add(self.padding[axis].checked_mul(2)?)?;
        let rest = padded.checked_sub(reach.checked_add(1)?)?;
        Some(rest.checked_div(self.stride[axis])? + 1)
    }
}

/// A convolution (a correlation, to be exact: the kernel is not turned) in `N` = 1, 2 or 3 dimensions:
/// `(b, c, …), (o, c / groups, kernel…) → (b, o, …')`.
///
/// ```text
/// y[b, o, p] = bias[o] + Σ_c Σ_k weight[o, c, k] · x[b, c of o's group, p · stride − padding + k · dilation]
/// ```
///
/// Beyond the image `x` is 0. Along each dimension there are
/// `⌊(size + 2 padding − dilation (kernel − 1) − 1) / stride⌋ + 1` places `p`. Agrees with torch's `conv1d`, `conv2d` and
/// `conv3d`. (candle's `conv1d` has a wrong gradient, its `conv2d` fails where stride and a side do not match, and it has
/// none in three dimensions.)
///
/// ```
/// # use candle_core::{Device, Tensor};
/// use nearfar_kernels::{Conv, conv};
///
/// let x = Tensor::new(&[[[1f32, 2.0, 4.0, 8.0]]], &Device::Cpu)?;
/// let difference = Tensor::new(&[[[-1f32, 1.0]]], &Device::Cpu)?;
/// let y = conv(&x, &difference, None, &Conv::<1>::default())?;
/// assert_eq!(y.flatten_all()?.to_vec1::<f32>()?, [1.0, 2.0, 4.0]);
/// # Ok::<(), candle_core::Error>(())
/// ```
///
/// # Errors
///
/// If a shape does not fit the others, `groups` does not divide the channels, a stride or dilation is 0, or the kernel
/// does not fit into the image.
pub fn conv<const N: usize>(
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    settings: &Conv<N>,
) -> Result<Tensor> {
    let geometry = Geometry::new(x, weight, bias, settings)?;
    if !serves(x) {
        return reference::checked(x, weight, bias, settings);
    }
    let op = Op {
        geometry,
        dims: N,
        for_input: x.track_op(),
        for_weight: weight.track_op(),
        for_bias: bias.is_some_and(Tensor::track_op),
    };
    let (x, weight) = (x.contiguous()?, weight.contiguous()?);
    match bias {
        Some(bias) => x.apply_op3(&weight, &bias.contiguous()?, op),
        None => x.apply_op2(&weight, op),
    }
}

/// The sizes of a convolution, in three dimensions: of the leading ones that an image has not, all are 1.
#[derive(Clone, Copy, Debug)]
struct Geometry {
    batch: usize,
    groups: usize,
    /// Channels of a group, in and out.
    inputs: usize,
    outputs: usize,
    image: [usize; 3],
    kernel: [usize; 3],
    result: [usize; 3],
    stride: [usize; 3],
    padding: [usize; 3],
    dilation: [usize; 3],
}

impl Geometry {
    fn new<const N: usize>(
        x: &Tensor,
        weight: &Tensor,
        bias: Option<&Tensor>,
        settings: &Conv<N>,
    ) -> Result<Self> {
        let shapes = || format!("`x` has shape {:?}, `weight` {:?}", x.dims(), weight.dims());
        if !(1..=3).contains(&N) || x.rank() != N + 2 || weight.rank() != N + 2 {
            bail!(
                "conv: {}; both need {N} dimensions after two for channels",
                shapes()
            );
        }
        if x.dtype() != weight.dtype() || bias.is_some_and(|bias| bias.dtype() != x.dtype()) {
            bail!(
                "conv: `x` holds {:?}, `weight` {:?}; they and the bias must agree",
                x.dtype(),
                weight.dtype()
            );
        }
        let (channels, outputs) = (x.dims()[1], weight.dims()[0]);
        let groups = settings.groups;
        if groups == 0 || weight.dims()[1] * groups != channels || outputs % groups != 0 {
            bail!(
                "conv: {} and `groups` is {groups}; (b, c, …), (o, c / groups, …) is wanted, and o a multiple of groups",
                shapes()
            );
        }
        if let Some(bias) = bias
            && bias.dims() != [outputs]
        {
            bail!(
                "conv: `bias` has shape {:?} and `weight` {outputs} channels out; they must agree",
                bias.dims()
            );
        }
        let mut solid = Self {
            batch: x.dims()[0],
            groups,
            inputs: weight.dims()[1],
            outputs: outputs / groups,
            image: [1; 3],
            kernel: [1; 3],
            result: [1; 3],
            stride: [1; 3],
            padding: [0; 3],
            dilation: [1; 3],
        };
        for axis in 0..N {
            let (stride, dilation) = (settings.stride[axis], settings.dilation[axis]);
            if stride == 0 || dilation == 0 {
                bail!(
                    "conv: `stride` is {stride} and `dilation` {dilation}; both must be at least 1"
                );
            }
            let (size, kernel) = (x.dims()[axis + 2], weight.dims()[axis + 2]);
            let count = settings
                .count(axis, size, kernel)
                .filter(|_| kernel > 0 && size > 0);
            let Some(count) = count else {
                bail!(
                    "conv: {}; a kernel of {kernel} with dilation {dilation} does not fit into {size} numbers with \
                     padding {}",
                    shapes(),
                    settings.padding[axis]
                );
            };
            let at = 3 - N + axis;
            solid.image[at] = size;
            solid.kernel[at] = kernel;
            solid.result[at] = count;
            solid.stride[at] = stride;
            solid.padding[at] = settings.padding[axis];
            solid.dilation[at] = dilation;
        }
        Ok(solid)
    }

    /// Numbers of a channel of an image.
    fn area(&self) -> usize {
        self.image.iter().product()
    }

    /// Numbers of a channel of the kernel.
    fn taps(&self) -> usize {
        self.kernel.iter().product()
    }

    /// Places of the kernel, the numbers of a channel of the result.
    fn places(&self) -> usize {
        self.result.iter().product()
    }

    /// Where kernel number `tap` reads along `axis`: the first and the last (excluded) place for which that is inside of
    /// the image.
    fn inside(&self, axis: usize, tap: usize) -> (usize, usize) {
        let (stride, padding) = (self.stride[axis], self.padding[axis]);
        let reach = tap * self.dilation[axis];
        // place · stride + reach − padding, from 0 to below the size.
        let first = padding.saturating_sub(reach).div_ceil(stride);
        let end = (self.image[axis] + padding)
            .saturating_sub(reach)
            .div_ceil(stride);
        let end = end.min(self.result[axis]);
        (first.min(end), end)
    }

    /// What it reads at a place that [`inside`](Self::inside) gave.
    fn source(&self, axis: usize, tap: usize, place: usize) -> usize {
        place * self.stride[axis] + tap * self.dilation[axis] - self.padding[axis]
    }

    /// For each number of the kernel and each row of places that it reads inside of the image, calls `row` with the
    /// number, the first place, how many there are, and the first source; sources are `stride[2]` apart.
    #[inline(always)]
    fn each_row(&self, mut row: impl FnMut(usize, usize, usize, usize)) {
        for tap in 0..self.taps() {
            let [_, height, width] = self.kernel;
            let at = [tap / (height * width), tap / width % height, tap % width];
            let (first, end) = self.inside(2, at[2]);
            if first == end {
                continue;
            }
            let column = self.source(2, at[2], first);
            let (depths, rows) = (self.inside(0, at[0]), self.inside(1, at[1]));
            for depth in depths.0..depths.1 {
                let plane = self.source(0, at[0], depth) * self.image[1];
                for line in rows.0..rows.1 {
                    let place = (depth * self.result[1] + line) * self.result[2] + first;
                    let source = (plane + self.source(1, at[1], line)) * self.image[2] + column;
                    row(tap, place, end - first, source);
                }
            }
        }
    }
}

/// The operation on a CPU, with and without a bias.
struct Op {
    geometry: Geometry,
    dims: usize,
    for_input: bool,
    for_weight: bool,
    for_bias: bool,
}

/// Gradients of a call, those that were asked for.
struct Pulled<T> {
    input: Option<Vec<T>>,
    weight: Option<Vec<T>>,
}

impl Op {
    fn fwd(
        &self,
        x: (&CpuStorage, &Layout),
        weight: (&CpuStorage, &Layout),
        bias: Option<(&CpuStorage, &Layout)>,
    ) -> Result<(CpuStorage, Shape)> {
        let geometry = &self.geometry;
        let mut dims = vec![geometry.batch, geometry.groups * geometry.outputs];
        dims.extend(&geometry.result[3 - self.dims..]);
        by_type!(x.0.dtype(), "conv", T => {
            let mut y = if geometry.inputs == 1 {
                depthwise::forward(geometry, slice::<T>(x.0, x.1)?, slice::<T>(weight.0, weight.1)?)
            } else {
                products::forward::<T>(geometry, x, weight)?
            };
            if let Some((bias, at)) = bias {
                let bias = slice::<T>(bias, at)?;
                for (y, &bias) in y.chunks_mut(geometry.places()).zip(bias.iter().cycle()) {
                    y.iter_mut().for_each(|y| *y += bias);
                }
            }
            Ok(give(y, dims))
        })
    }

    fn pull(
        &self,
        x: &Tensor,
        weight: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let geometry = &self.geometry;
        by_type!(x.dtype(), "conv", T => {
            let Pulled { input, weight: to_weight } = if geometry.inputs == 1 {
                read::<T, _>(x, |x| read(weight, |weight| read(gradient, |gradient| {
                    Ok(depthwise::backward(geometry, x, weight, gradient, self))
                })))?
            } else {
                products::backward::<T>(geometry, x, weight, gradient, self)?
            };
            let input = input.map(|input| tensor(input, x)).transpose()?;
            Ok((input, to_weight.map(|it| tensor(it, weight)).transpose()?))
        })
    }

    fn pull_bias(&self, bias: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        if !self.for_bias {
            return Ok(None);
        }
        by_type!(bias.dtype(), "conv", T => {
            let sums = read::<T, _>(gradient, |gradient| {
                Ok(sums_of_channels(gradient, bias.elem_count(), self.geometry.places()))
            })?;
            tensor(sums, bias).map(Some)
        })
    }
}

/// For each channel the sum over all images and places, in f64.
fn sums_of_channels<T: Element>(values: &[T], channels: usize, places: usize) -> Vec<T> {
    let mut sums = vec![0f64; channels];
    for (index, values) in values.chunks(places).enumerate() {
        sums[index % channels] += values.iter().map(|x| x.to_f64()).sum::<f64>();
    }
    sums.into_iter().map(T::from_f64).collect()
}

impl CustomOp2 for Op {
    fn name(&self) -> &'static str {
        "conv"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_at: &Layout,
        weight: &CpuStorage,
        weight_at: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        self.fwd((x, x_at), (weight, weight_at), None)
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        _: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        self.pull(x, weight, gradient)
    }
}

impl CustomOp3 for Op {
    fn name(&self) -> &'static str {
        "conv"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_at: &Layout,
        weight: &CpuStorage,
        weight_at: &Layout,
        bias: &CpuStorage,
        bias_at: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        self.fwd((x, x_at), (weight, weight_at), Some((bias, bias_at)))
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        bias: &Tensor,
        _: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let (input, weight) = self.pull(x, weight, gradient)?;
        Ok((input, weight, self.pull_bias(bias, gradient)?))
    }
}
