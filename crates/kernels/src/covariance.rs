//! Covariances of the columns of a matrix.

use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor, bail};

use crate::host::{by_type, give, read, serves, tensor};
use crate::lanes::Element;

/// What the coordinates of rows do together, with the divisor `n − 1`: `(n, d) → (d, d)`.
///
/// ```text
/// C = (x − mean)ᵀ (x − mean) / (n − 1)
/// ```
///
/// ```
/// # use candle_core::{Device, Tensor};
/// let x = Tensor::new(&[[1f64, 2.0], [3.0, 8.0]], &Device::Cpu)?;
/// assert_eq!(nearfar_kernels::covariance(&x)?.to_vec2::<f64>()?, [[2.0, 6.0], [6.0, 18.0]]);
/// # Ok::<(), candle_core::Error>(())
/// ```
///
/// # Errors
///
/// If `x` is no matrix of at least two rows.
pub fn covariance(x: &Tensor) -> Result<Tensor> {
    let (n, _) = x.dims2()?;
    if n < 2 {
        bail!("covariance: there must be at least two rows, and there are {n}");
    }
    if !serves(x) {
        return reference(x);
    }
    let centered = by_type!(x.dtype(), "covariance", T => {
        tensor(read::<T, _>(x, |x| Ok(subtracted(x, n)))?, x)
    })?;
    x.apply_op1(Covariance { centered })
}

/// [`covariance`] in candle operations.
///
/// # Errors
///
/// Those of candle.
pub fn reference(x: &Tensor) -> Result<Tensor> {
    let centered = centered(x)?;
    centered.t()?.matmul(&centered)? / (x.dim(0)? as f64 - 1.0)
}

fn centered(x: &Tensor) -> Result<Tensor> {
    // Sums over rows as matrix products, which are faster by far, on the way back too.
    let n = x.dim(0)?;
    let ones = Tensor::ones((n, 1), x.dtype(), x.device())?;
    let mean = (ones.t()?.matmul(&x.contiguous()?)? / n as f64)?; // (1, d)
    x - ones.matmul(&mean)?
}

/// The same of numbers; sums are in f64.
fn subtracted<T: Element>(x: &[T], n: usize) -> Vec<T> {
    let width = (x.len() / n).max(1);
    let mut means = vec![0f64; width];
    for row in x.chunks_exact(width) {
        means
            .iter_mut()
            .zip(row)
            .for_each(|(mean, x)| *mean += x.to_f64());
    }
    means.iter_mut().for_each(|mean| *mean /= n as f64);
    let rows = x.chunks_exact(width);
    rows.flat_map(|row| {
        row.iter()
            .zip(&means)
            .map(|(x, mean)| T::from_f64(x.to_f64() - mean))
    })
    .collect()
}

/// Without a graph of its own: on the way back one product takes the place of two, and of those of the mean.
struct Covariance {
    /// The rows without their mean.
    centered: Tensor,
}

impl CustomOp1 for Covariance {
    fn name(&self) -> &'static str {
        "covariance"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        by_type!(storage.dtype(), "covariance", T => {
            let product = self.centered.t()?.matmul(&self.centered)?;
            let found = (product / (self.centered.dim(0)? as f64 - 1.0))?;
            Ok(give(found.flatten_all()?.to_vec1::<T>()?, found.shape()))
        })
    }

    fn bwd(&self, _: &Tensor, _: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        // Columns that are centered stay so in their combinations, so that the mean has no gradient of its own.
        let both = (gradient + gradient.t()?)?;
        let by = (both / (self.centered.dim(0)? as f64 - 1.0))?;
        Ok(Some(self.centered.matmul(&by)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_util::{check_agreement, check_gradient, noise};

    #[test]
    fn the_gradient_is_that_of_the_composition() -> Result<()> {
        for (n, d) in [(2, 1), (3, 5), (40, 7)] {
            let x = noise((n, d), 1)?;
            let ours = |x: &[Tensor]| covariance(&x[0]);
            check_agreement(
                ours,
                |x: &[Tensor]| reference(&x[0]),
                std::slice::from_ref(&x),
                1e-12,
            )?;
            check_gradient(ours, &[x], 1e-6)?;
        }
        let one = noise((1, 3), 1)?;
        let message = covariance(&one).expect_err("one row").to_string();
        assert!(message.contains("at least two rows"), "{message}");
        Ok(())
    }
}
