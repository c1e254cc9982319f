//! Covariances of the columns of a matrix.

use candle_core::backend::BackendStorage;
use candle_core::{
    CpuStorage, CustomOp1, D, DType, Layout, Result, Shape, Tensor, WithDType, bail,
};

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
    two_rows("covariance", x)?;
    if !serves(x) {
        return reference(x);
    }
    let centered = subtracted(x)?;
    x.apply_op1(Covariance { centered })
}

fn two_rows(name: &str, x: &Tensor) -> Result<()> {
    let (n, _) = x.dims2()?;
    if n < 2 {
        bail!("{name}: there must be at least two rows, and there are {n}");
    }
    Ok(())
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

/// The same without a graph; sums are in f64.
fn subtracted(x: &Tensor) -> Result<Tensor> {
    let (n, width) = x.dims2()?;
    let width = width.max(1);
    by_type!(x.dtype(), "covariance", T => {
        let centered = read::<T, _>(x, |x| {
            let mut means = vec![0f64; width];
            for row in x.chunks_exact(width) {
                let pairs = means.iter_mut().zip(row);
                pairs.for_each(|(mean, x)| *mean += x.to_f64());
            }
            means.iter_mut().for_each(|mean| *mean /= n as f64);
            let mut centered = vec![T::ZERO; x.len()];
            for (to, row) in centered.chunks_exact_mut(width).zip(x.chunks_exact(width)) {
                for ((to, x), mean) in to.iter_mut().zip(row).zip(&means) {
                    *to = T::from_f64(x.to_f64() - mean);
                }
            }
            Ok(centered)
        })?;
        tensor(centered, x)
    })
}

/// `(x − mean)ᵀ (x − mean) / (n − 1)` of rows that are centered.
fn product(centered: &Tensor) -> Result<Tensor> {
    centered.t()?.matmul(centered)? / (centered.dim(0)? as f64 - 1.0)
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
            let found = product(&self.centered)?;
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

/// How much each coordinate varies over the rows, and the sum of squares of what two of them do together: `(n, d) → (d), ()`.
///
/// ```text
/// variances  = diagonal of C
/// redundancy = Σ_{k ≠ j} C_kj²          where C is the covariance of x
/// ```
///
/// They are what is wanted of [`covariance`] by losses that decorrelate coordinates. A covariance beyond ±10¹⁵ counts as that and has no gradient,
/// so that the squares of large rows stay within f32.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// let x = Tensor::new(&[[1f64, 2.0], [3.0, 8.0]], &Device::Cpu)?;
/// let (variances, redundancy) = nearfar_kernels::variances_and_redundancy(&x)?;
/// assert_eq!(variances.to_vec1::<f64>()?, [2.0, 18.0]);
/// assert_eq!(redundancy.to_scalar::<f64>()?, 72.0); // 6² + 6²
/// # Ok::<(), candle_core::Error>(())
/// ```
///
/// # Errors
///
/// If `x` is no matrix of at least two rows.
pub fn variances_and_redundancy(x: &Tensor) -> Result<(Tensor, Tensor)> {
    two_rows("variances_and_redundancy", x)?;
    if !serves(x) {
        return variances_and_redundancy_reference(x);
    }
    let d = x.dim(1)?;
    let centered = subtracted(x)?;
    let covariance = product(&centered)?;
    let both = x.apply_op1(Moments {
        centered,
        covariance,
    })?;
    Ok((both.narrow(0, 0, d)?, both.get(d)?))
}

/// [`variances_and_redundancy`] in candle operations.
///
/// # Errors
///
/// Those of candle.
pub fn variances_and_redundancy_reference(x: &Tensor) -> Result<(Tensor, Tensor)> {
    let covariance = reference(x)?;
    let eye = Tensor::eye(x.dim(1)?, DType::F32, x.device())?.to_dtype(x.dtype())?;
    let on = eye.ne(0f64)?;
    let none = covariance.zeros_like()?;
    let variances = on.where_cond(&covariance, &none)?.sum(D::Minus1)?;
    let off = on.where_cond(&none, &covariance)?;
    let off = off.minimum(LARGEST)?.maximum(-LARGEST)?;
    Ok((variances, off.sqr()?.sum_all()?))
}

/// The largest covariance that is squared.
const LARGEST: f64 = 1e15;

/// The variances, and after them the redundancy.
struct Moments {
    /// The rows without their mean.
    centered: Tensor,
    covariance: Tensor,
}

impl CustomOp1 for Moments {
    fn name(&self) -> &'static str {
        "variances_and_redundancy"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        let d = self.covariance.dim(0)?;
        by_type!(storage.dtype(), "variances_and_redundancy", T => {
            read::<T, _>(&self.covariance, |covariance| {
                let mut both = vec![T::ZERO; d + 1];
                let mut sum = 0f64;
                for (k, row) in covariance.chunks_exact(d.max(1)).enumerate() {
                    both[k] = row[k];
                    let square = |x: &T| x.to_f64().clamp(-LARGEST, LARGEST).powi(2);
                    sum += row[..k].iter().chain(&row[k + 1..]).map(square).sum::<f64>();
                }
                both[d] = T::from_f64(sum);
                Ok(give(both, d + 1))
            })
        })
    }

    fn bwd(&self, _: &Tensor, _: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        // As for the covariance, whose gradient is symmetric here.
        let (n, d) = self.centered.dims2()?;
        let by = by_type!(gradient.dtype(), "variances_and_redundancy", T => {
            let by = read::<T, _>(gradient, |gradient| read::<T, _>(&self.covariance, |covariance| {
                let mut by = covariance.to_vec();
                let scale = 4.0 * gradient[d].to_f64() / (n as f64 - 1.0);
                for (k, row) in by.chunks_exact_mut(d.max(1)).enumerate() {
                    for x in row.iter_mut() {
                        let one = x.to_f64();
                        *x = T::from_f64(if one.abs() < LARGEST { scale * one } else { 0.0 });
                    }
                    row[k] = T::from_f64(2.0 * gradient[k].to_f64() / (n as f64 - 1.0));
                }
                Ok(by)
            }))?;
            tensor(by, &self.covariance)
        })?;
        Ok(Some(self.centered.matmul(&by)?))
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Var};

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
        for (n, d) in [(2, 1), (3, 5), (40, 7)] {
            let x = noise((n, d), 2)?;
            let joined = |(variances, redundancy): (Tensor, Tensor)| {
                Tensor::cat(&[variances, redundancy.reshape(1)?], 0)
            };
            let ours = |x: &[Tensor]| joined(variances_and_redundancy(&x[0])?);
            let plain = |x: &[Tensor]| joined(variances_and_redundancy_reference(&x[0])?);
            check_agreement(ours, plain, std::slice::from_ref(&x), 1e-12)?;
            check_gradient(ours, &[x], 1e-6)?;
        }
        let one = noise((1, 3), 1)?;
        let message = covariance(&one).expect_err("one row").to_string();
        assert!(message.contains("at least two rows"), "{message}");
        Ok(())
    }

    #[test]
    fn large_rows_are_redundant_within_f32() -> Result<()> {
        for version in [variances_and_redundancy, variances_and_redundancy_reference] {
            let x = Var::new(&[[1e9f32, 2.0, 3e9], [-1e9, 5.0, 1e9]], &Device::Cpu)?;
            let (variances, redundancy) = version(&x)?;
            let value = redundancy.to_scalar::<f32>()?;
            assert!(value.is_finite() && value >= 1.9e30, "{value}");
            let loss = (variances.sqrt()?.sum_all()? + redundancy)?;
            let gradients = loss.backward()?;
            let gradient = gradients.get(&x).expect("it depends on the rows");
            for number in gradient.flatten_all()?.to_vec1::<f32>()? {
                assert!(number.is_finite(), "{number}");
            }
        }
        Ok(())
    }
}
