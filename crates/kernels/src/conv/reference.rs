//! The readable version: candle's two-dimensional convolution, fed so that its gradient is right.
//!
//! Its gradient takes what is missing behind the last place from the height alone. So padding is added here, what no place
//! reads is cut off, and nothing is missing. Where strides or dilations differ, and in three dimensions, the numbers of the
//! kernel's first dimension go one by one.

use candle_core::{Result, Tensor};

use super::{Conv, Geometry};

/// [`conv`](crate::conv) in candle operations.
pub fn reference<const N: usize>(
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    settings: &Conv<N>,
) -> Result<Tensor> {
    Geometry::new(x, weight, bias, settings)?;
    checked(x, weight, bias, settings)
}

pub(super) fn checked<const N: usize>(
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    settings: &Conv<N>,
) -> Result<Tensor> {
    let Conv {
        stride,
        padding,
        dilation,
        groups,
    } = settings;
    let mut padded = x.clone();
    for (axis, &padding) in padding
        .iter()
        .enumerate()
        .filter(|(_, padding)| **padding > 0)
    {
        padded = padded.pad_with_zeros(axis + 2, padding, padding)?;
    }
    let y = unpadded(&padded, weight, stride, dilation, *groups)?;
    let Some(bias) = bias else { return Ok(y) };
    let mut dims = vec![1; y.rank()];
    dims[1] = bias.elem_count();
    y.broadcast_add(&bias.reshape(dims)?)
}

fn unpadded(
    x: &Tensor,
    weight: &Tensor,
    stride: &[usize],
    dilation: &[usize],
    groups: usize,
) -> Result<Tensor> {
    let even =
        stride.windows(2).all(|it| it[0] == it[1]) && dilation.windows(2).all(|it| it[0] == it[1]);
    match stride.len() {
        1 => {
            // One row of an image.
            let (x, weight) = (x.unsqueeze(2)?, weight.unsqueeze(2)?);
            candle_conv2d(&x, &weight, stride[0], dilation[0], groups)?.squeeze(2)
        }
        2 if even => candle_conv2d(x, weight, stride[0], dilation[0], groups),
        _ => {
            let kernel = weight.dim(2)?;
            let count = (x.dim(2)? - dilation[0] * (kernel - 1) - 1) / stride[0] + 1;
            let mut sum: Option<Tensor> = None;
            for tap in 0..kernel {
                let places = (0..count).map(|place| (place * stride[0] + tap * dilation[0]) as u32);
                let places = Tensor::from_iter(places, x.device())?;
                // (b, c, count, …) to (b · count, c, …): each place is an image of its own.
                let seen = x
                    .contiguous()?
                    .index_select(&places, 2)?
                    .transpose(1, 2)?
                    .contiguous()?;
                let (batch, rest) = (x.dim(0)?, seen.dims()[2..].to_vec());
                let mut dims = vec![batch * count];
                dims.extend(&rest);
                let slice = weight.narrow(2, tap, 1)?.squeeze(2)?.contiguous()?;
                let y = unpadded(
                    &seen.reshape(dims)?,
                    &slice,
                    &stride[1..],
                    &dilation[1..],
                    groups,
                )?;
                let mut dims = vec![batch, count];
                dims.extend(&y.dims()[1..]);
                let y = y.reshape(dims)?.transpose(1, 2)?.contiguous()?;
                sum = Some(match sum {
                    None => y,
                    Some(sum) => (sum + y)?,
                });
            }
            Ok(sum.expect("a kernel has at least one number"))
        }
    }
}

fn candle_conv2d(
    x: &Tensor,
    weight: &Tensor,
    stride: usize,
    dilation: usize,
    groups: usize,
) -> Result<Tensor> {
    let mut x = x.clone();
    for axis in [2, 3] {
        let (size, reach) = (x.dim(axis)?, dilation * (weight.dim(axis)? - 1) + 1);
        x = x.narrow(axis, 0, size - (size - reach) % stride)?;
    }
    x.contiguous()?.conv2d(weight, 0, stride, dilation, groups)
}
