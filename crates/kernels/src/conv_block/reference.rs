//! The block in candle operations.

use candle_core::{Result, Tensor};

use super::{ConvBlock, ConvBlockOutput, Dims};
use crate::conv::{Conv, reference as conv};

/// [`conv_block`](super::conv_block) written in candle operations, with the same definition, gradients and errors: the
/// version to read, what runs on devices and types without a kernel of their own, and what the kernels are tested
/// against.
pub fn conv_block_reference(
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
        return dims.empty(input, block);
    }
    let per_channel = |vector: &Tensor| vector.reshape((1, (), 1, 1));
    let settings = Conv {
        stride: [block.stride; 2],
        padding: [block.padding; 2],
        ..Conv::<2>::default()
    };
    let convolved = conv(input, weight, None, &settings)?; // (b, o, h, w)
    let (mut mean, mut variance) = (None, None);
    let normalized = match (block.norm, scale) {
        (Some(norm), Some(scale)) => {
            let (centered, spread) = match statistics {
                Some((mean, variance)) => {
                    let mean = per_channel(&mean.detach())?;
                    (
                        convolved.broadcast_sub(&mean)?,
                        per_channel(&variance.detach())?,
                    )
                }
                None => {
                    let center = convolved.mean_keepdim((0, 2, 3))?; // (1, o, 1, 1)
                    let centered = convolved.broadcast_sub(&center)?;
                    let spread = centered.sqr()?.mean_keepdim((0, 2, 3))?;
                    mean = Some(center.flatten_all()?.detach());
                    variance = Some(spread.flatten_all()?.detach());
                    (centered, spread)
                }
            };
            centered
                .broadcast_div(&(spread + norm.eps())?.sqrt()?)?
                .broadcast_mul(&per_channel(scale)?)?
        }
        _ => convolved,
    };
    let shifted = normalized.broadcast_add(&per_channel(shift)?)?;
    let shifted = match residual {
        Some(residual) => (shifted + residual)?,
        None => shifted,
    };
    // candle's `relu` has the gradient 1 at 0.
    let active = if block.relu {
        shifted
            .le(0f64)?
            .where_cond(&shifted.zeros_like()?, &shifted)?
    } else {
        shifted
    };
    let output = max_pool(&active, block.pool, dims.pooled)?;
    Ok(ConvBlockOutput {
        output,
        mean,
        variance,
        count: dims.count(),
    })
}

/// The largest value of each window. candle's `max_pool2d` spreads the gradient over the window; here the first of the
/// largest values gets it all.
fn max_pool(x: &Tensor, pool: usize, (rows, columns): (usize, usize)) -> Result<Tensor> {
    if pool == 1 {
        return Ok(x.clone());
    }
    let (batch, channels, ..) = x.dims4()?;
    let whole = x.narrow(2, 0, rows * pool)?.narrow(3, 0, columns * pool)?;
    let windows = whole.reshape(vec![batch, channels, rows, pool, columns, pool])?;
    let mut largest: Option<Tensor> = None;
    for i in 0..pool {
        for j in 0..pool {
            let value = windows
                .narrow(3, i, 1)?
                .narrow(5, j, 1)?
                .reshape((batch, channels, rows, columns))?;
            largest = Some(match largest {
                None => value,
                Some(largest) => {
                    // NaN is larger than everything, as in torch.
                    let larger = (value.gt(&largest)? + value.ne(&value)?)?;
                    larger.where_cond(&value, &largest)?
                }
            });
        }
    }
    Ok(largest.expect("a window has at least one value"))
}
