//! The readable versions, in candle operations.

use candle_core::{D, Result, Tensor};

use super::Windows;
use super::windows::{Axis, Window};

/// [`max_pool`](crate::max_pool) in candle operations: goes through the places of a window, and looks at one place of all
/// windows at a time.
pub fn max_pool(x: &Tensor, windows: &Windows) -> Result<Tensor> {
    windows.check("max_pool", x)?;
    let depth = |axis: &Axis| {
        axis.windows
            .iter()
            .map(|it| it.to - it.from)
            .max()
            .unwrap_or(0)
    };
    let lengths: Vec<usize> = windows.axes.iter().map(depth).collect();
    let mut best: Option<Tensor> = None;
    for place in 0..lengths.iter().product() {
        let mut seen = x.contiguous()?;
        let (mut rest, mut within) = (place, vec![0; lengths.len()]);
        // Row-major: the last dimension goes first.
        for (within, length) in within.iter_mut().zip(&lengths).rev() {
            *within = rest % length;
            rest /= length;
        }
        for (index, (axis, within)) in windows.axes.iter().zip(within).enumerate() {
            // A shorter window sees its last number again, which then is not larger.
            let place = |it: &Window| (it.from + within).min(it.to - 1) as u32;
            let places: Vec<u32> = axis.windows.iter().map(place).collect();
            let places = Tensor::from_vec(places, axis.windows.len(), x.device())?;
            seen = seen.index_select(&places, index + 2)?;
        }
        best = Some(match best {
            None => seen,
            Some(best) => {
                // NaN is not equal to itself, and wins.
                let wins = (seen.gt(&best)? + seen.ne(&seen)?)?;
                wins.where_cond(&seen, &best)?
            }
        });
    }
    Ok(best.expect("a window has at least one place"))
}

/// [`average_pool`](crate::average_pool) in candle operations: a matrix product along each dimension.
pub fn average_pool(x: &Tensor, windows: &Windows) -> Result<Tensor> {
    windows.check("average_pool", x)?;
    let mut y = x.clone();
    for (index, axis) in windows.axes.iter().enumerate() {
        let count = axis.windows.len();
        let mut shares = vec![0f64; axis.size * count]; // (size, count)
        for (i, window) in axis.windows.iter().enumerate() {
            for place in window.from..window.to {
                shares[place * count + i] = 1.0 / window.count as f64;
            }
        }
        let shares = Tensor::from_vec(shares, (axis.size, count), &candle_core::Device::Cpu)?
            .to_dtype(x.dtype())?
            .to_device(x.device())?;
        let turned = y.transpose(index + 2, D::Minus1)?.contiguous()?;
        let mut dims = turned.dims().to_vec();
        let rows = turned.reshape(((), axis.size))?.matmul(&shares)?;
        dims[x.rank() - 1] = count;
        y = rows.reshape(dims)?.transpose(index + 2, D::Minus1)?;
    }
    y.contiguous()
}
