//! Rows of mean 0 and variance 1, or of mean square 1.

use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp1, D, Layout, Result, Shape, Tensor, bail};

use crate::host::{by_type, give, read, serves, slice, tensor};
use crate::lanes::Element;
use crate::slices::run;

/// Numbers that one task takes.
const CHUNK: usize = 1 << 14;
/// What one number costs, in multiplications of a matrix product.
const COST: usize = 64;

/// Each row, along the last dimension, shifted and scaled to mean 0 and variance 1:
///
/// ```text
/// y = (x − mean) / √(variance + eps)
/// ```
///
/// with the biased variance, as in layer and group normalization. A constant row becomes 0, with a finite gradient. Sums
/// are in f64.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// let x = Tensor::new(&[[1f64, 3.0], [5.0, 5.0]], &Device::Cpu)?;
/// let y = nearfar_kernels::standardize(&x, 3.0)?.to_vec2::<f64>()?; // Variance 1, and 1 + 3 = 2².
/// assert_eq!(y, [[-0.5, 0.5], [0.0, 0.0]]);
/// # Ok::<(), candle_core::Error>(())
/// ```
///
/// # Errors
///
/// If `x` is a scalar, or `eps` is not greater than 0.
pub fn standardize(x: &Tensor, eps: f64) -> Result<Tensor> {
    rows(x, eps, true)
}

/// Each row, along the last dimension, scaled to a mean square of 1: `y = x / √(mean of x² + eps)`.
///
/// A row of zeros stays zero, with a finite gradient. Sums are in f64.
///
/// # Errors
///
/// Those of [`standardize`].
pub fn rms_normalize(x: &Tensor, eps: f64) -> Result<Tensor> {
    rows(x, eps, false)
}

fn rows(x: &Tensor, eps: f64, center: bool) -> Result<Tensor> {
    x.dim(D::Minus1)?; // A scalar has no rows.
    if !(eps > 0.0 && eps.is_finite()) {
        bail!(
            "{}: `eps` is {eps}; it must be greater than 0, or a {} row has no gradient",
            if center {
                "standardize"
            } else {
                "rms_normalize"
            },
            if center { "constant" } else { "zero" }
        );
    }
    match (serves(x), center) {
        (true, _) => x.contiguous()?.apply_op1(Rows { eps, center }),
        (false, true) => reference(x, eps),
        (false, false) => reference_rms(x, eps),
    }
}

/// [`standardize`](crate::standardize) in candle operations.
pub fn reference(x: &Tensor, eps: f64) -> Result<Tensor> {
    reference_rms(&x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?, eps)
}

/// [`rms_normalize`](crate::rms_normalize) in candle operations.
pub fn reference_rms(x: &Tensor, eps: f64) -> Result<Tensor> {
    x.broadcast_div(&(x.sqr()?.mean_keepdim(D::Minus1)? + eps)?.sqrt()?)
}

struct Rows {
    eps: f64,
    /// Whether the mean is taken away.
    center: bool,
}

impl CustomOp1 for Rows {
    fn name(&self) -> &'static str {
        if self.center {
            "standardize"
        } else {
            "rms_normalize"
        }
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        by_type!(storage.dtype(), self.name(), T => {
            let x = slice::<T>(storage, layout)?;
            Ok(give(self.forward(x, width(layout.shape())), layout.shape()))
        })
    }

    fn bwd(&self, x: &Tensor, y: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        by_type!(x.dtype(), self.name(), T => {
            let width = width(x.shape());
            let pulled = read::<T, _>(x, |x| read(y, |y| read(gradient, |g| Ok(self.backward(x, y, g, width)))))?;
            tensor(pulled, x).map(Some)
        })
    }
}

fn width(shape: &Shape) -> usize {
    shape.dims().last().copied().unwrap_or(1).max(1)
}

fn mean(values: impl Iterator<Item = f64>, width: usize) -> f64 {
    values.sum::<f64>() / width as f64
}

impl Rows {
    /// What is taken away from a row, and what it is divided by.
    fn shift_and_scale<T: Element>(&self, row: &[T]) -> (f64, f64) {
        let shift = match self.center {
            true => mean(row.iter().map(|x| x.to_f64()), row.len()),
            false => 0.0,
        };
        let square = |x: &T| (x.to_f64() - shift) * (x.to_f64() - shift);
        let variance = mean(row.iter().map(square), row.len());
        (shift, (variance + self.eps).sqrt())
    }

    fn forward<T: Element>(&self, x: &[T], width: usize) -> Vec<T> {
        let mut y = x.to_vec();
        let tasks = y.chunks_mut(width * rows_of_a_task(width)).collect();
        run(x.len() * COST, tasks, |rows: &mut [T]| {
            for row in rows.chunks_exact_mut(width) {
                let (shift, scale) = self.shift_and_scale(row);
                for y in row {
                    *y = T::from_f64((y.to_f64() - shift) / scale);
                }
            }
        });
        y
    }

    /// `(g − mean of g − y · mean of g y) / scale`: what shifts the row and what scales it is divided out.
    fn backward<T: Element>(&self, x: &[T], y: &[T], gradient: &[T], width: usize) -> Vec<T> {
        let mut pulled = vec![T::ZERO; x.len()];
        let size = width * rows_of_a_task(width);
        let sources = x
            .chunks(size)
            .zip(y.chunks(size))
            .zip(gradient.chunks(size));
        let tasks = pulled.chunks_mut(size).zip(sources).collect();
        run(
            x.len() * COST,
            tasks,
            |(pulled, ((x, y), gradient)): (&mut [T], _)| {
                for (row, pulled) in pulled.chunks_exact_mut(width).enumerate() {
                    let at = row * width..(row + 1) * width;
                    let (x, y, gradient) = (&x[at.clone()], &y[at.clone()], &gradient[at]);
                    let (_, scale) = self.shift_and_scale::<T>(x);
                    let products = y.iter().zip(gradient);
                    let along = mean(
                        products.map(|(y, g): (&T, &T)| y.to_f64() * g.to_f64()),
                        width,
                    );
                    let level = match self.center {
                        true => mean(gradient.iter().map(|g: &T| g.to_f64()), width),
                        false => 0.0,
                    };
                    for ((pulled, y), g) in pulled.iter_mut().zip(y).zip(gradient) {
                        let g = g.to_f64() - level - along * y.to_f64();
                        *pulled = T::from_f64(g / scale);
                    }
                }
            },
        );
        pulled
    }
}

fn rows_of_a_task(width: usize) -> usize {
    (CHUNK / width).max(1)
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Var};

    use super::*;

    type Version = fn(&Tensor, f64) -> Result<Tensor>;

    #[test]
    fn constant_rows_and_rows_of_zeros_have_finite_gradients() -> Result<()> {
        let versions: [Version; 4] = [standardize, reference, rms_normalize, reference_rms];
        for version in versions {
            let x = Var::new(&[[0f64, 0.0]], &Device::Cpu)?;
            let y = version(&x, 0.25)?;
            assert_eq!(y.to_vec2::<f64>()?, [[0.0, 0.0]]);
            let gradients = (y * Tensor::new(&[[1f64, -1.0]], &Device::Cpu)?)?.backward()?;
            let gradient = gradients.get(&x).expect("it depends on its input");
            assert_eq!(gradient.to_vec2::<f64>()?, [[2.0, -2.0]]); // 1 / √0.25
        }
        assert!(standardize(&Tensor::new(&[1f64], &Device::Cpu)?, 0.0).is_err());
        Ok(())
    }

    #[test]
    fn a_mean_square_of_one_keeps_the_direction() -> Result<()> {
        let x = Tensor::new(&[[3f64, -3.0, 3.0]], &Device::Cpu)?;
        let y = rms_normalize(&x, 7.0)?; // 9 + 7 = 4²
        assert_eq!(y.to_vec2::<f64>()?, [[0.75, -0.75, 0.75]]);
        Ok(())
    }
}
