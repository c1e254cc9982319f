//! The readable version, in candle operations.

use candle_core::{Result, Tensor};

use super::Windows;

/// [`max_pool2d`](crate::max_pool2d) in candle operations.
pub fn reference(x: &Tensor, kernel: (usize, usize), stride: (usize, usize)) -> Result<Tensor> {
    Windows::new(x, kernel, stride)?.reference(x)
}

impl Windows {
    /// Goes through the places of a window, and looks at one place of all windows at a time.
    pub(super) fn reference(self, x: &Tensor) -> Result<Tensor> {
        let x = &x.contiguous()?;
        let mut best: Option<Tensor> = None;
        for row in 0..self.kernel.0 {
            for column in 0..self.kernel.1 {
                let rows = every(x, row, self.stride.0, self.result.0)?;
                let columns = every(x, column, self.stride.1, self.result.1)?;
                let place = x.index_select(&rows, 2)?.index_select(&columns, 3)?;
                best = Some(match best {
                    None => place,
                    Some(best) => {
                        // NaN is not equal to itself, and wins.
                        let wins = (place.gt(&best)? + place.ne(&place)?)?;
                        wins.where_cond(&place, &best)?
                    }
                });
            }
        }
        Ok(best.expect("a kernel has at least one place"))
    }
}

/// The indices `from`, `from + step`, …
fn every(x: &Tensor, from: usize, step: usize, count: usize) -> Result<Tensor> {
    let indices: Vec<u32> = (0..count).map(|i| (from + i * step) as u32).collect();
    Tensor::from_vec(indices, count, x.device())
}
