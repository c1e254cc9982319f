//! Rows of length one.

use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp1, D, Layout, Result, Shape, Tensor};

use crate::host::{by_type, give, read, serves, slice, tensor};
use crate::lanes::Element;
use crate::slices::run;

/// Rows shorter than this are divided by it instead of by their length, and have gradient 0.
pub const TINY_NORM: f64 = 1e-12;

/// Numbers that one task takes.
const CHUNK: usize = 1 << 14;
/// What one number costs, in multiplications of a matrix product.
const COST: usize = 64;

/// Each row, along the last dimension, divided by its Euclidean length: `x / max(‖x‖, 1e−12)`.
///
/// A row of zeros stays zero, and rows shorter than [`TINY_NORM`] have gradient 0 (torch's `normalize` gives them the
/// gradient divided by 1e−12). All other gradients are orthogonal to their row. The length is summed in f64, so f32 rows
/// neither overflow nor vanish.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// let x = Tensor::new(&[[3f32, 4.0], [0.0, 0.0]], &Device::Cpu)?;
/// let unit = nearfar_kernels::l2_normalize(&x)?.to_vec2::<f32>()?;
/// assert_eq!(unit, [[0.6, 0.8], [0.0, 0.0]]);
/// # Ok::<(), candle_core::Error>(())
/// ```
pub fn l2_normalize(x: &Tensor) -> Result<Tensor> {
    x.dim(D::Minus1)?; // A scalar has no rows.
    if serves(x) {
        x.contiguous()?.apply_op1(L2Normalize)
    } else {
        reference(x)
    }
}

/// [`l2_normalize`](crate::l2_normalize) in candle operations.
pub fn reference(x: &Tensor) -> Result<Tensor> {
    let squared = x.sqr()?.sum_keepdim(D::Minus1)?;
    let tiny = squared.lt(TINY_NORM * TINY_NORM)?; // (…, 1)
    // The rows that are too short are cut off from the graph before the root, whose gradient would be infinite.
    let length = tiny.where_cond(&squared.ones_like()?, &squared)?.sqrt()?;
    let unit = x.broadcast_div(&length)?;
    let constant = (x.detach() / TINY_NORM)?;
    tiny.broadcast_as(x.shape())?.where_cond(&constant, &unit)
}

struct L2Normalize;

impl CustomOp1 for L2Normalize {
    fn name(&self) -> &'static str {
        "l2_normalize"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        by_type!(storage.dtype(), "l2_normalize", T => {
            let x = slice::<T>(storage, layout)?;
            Ok(give(forward(x, width(layout.shape())), layout.shape()))
        })
    }

    fn bwd(&self, x: &Tensor, y: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        by_type!(x.dtype(), "l2_normalize", T => {
            let width = width(x.shape());
            let pulled = read::<T, _>(x, |x| read(y, |y| read(gradient, |g| Ok(backward(x, y, g, width)))))?;
            tensor(pulled, x).map(Some)
        })
    }
}

fn width(shape: &Shape) -> usize {
    shape.dims().last().copied().unwrap_or(1).max(1)
}

/// The length of a row, in f64.
fn length<T: Element>(row: &[T]) -> f64 {
    row.iter()
        .map(|x| x.to_f64() * x.to_f64())
        .sum::<f64>()
        .sqrt()
}

fn forward<T: Element>(x: &[T], width: usize) -> Vec<T> {
    let mut y = x.to_vec();
    let tasks = y.chunks_mut(width * rows_of_a_task(width)).collect();
    run(x.len() * COST, tasks, |rows: &mut [T]| {
        for row in rows.chunks_exact_mut(width) {
            let length = length(row).max(TINY_NORM);
            for y in row {
                *y = T::from_f64(y.to_f64() / length);
            }
        }
    });
    y
}

fn backward<T: Element>(x: &[T], y: &[T], gradient: &[T], width: usize) -> Vec<T> {
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
                let length = length::<T>(x);
                if length < TINY_NORM {
                    continue;
                }
                // What points along the row changes its length, and the length is divided out.
                let along: f64 = y
                    .iter()
                    .zip(gradient)
                    .map(|(y, g)| y.to_f64() * g.to_f64())
                    .sum();
                for ((pulled, y), g) in pulled.iter_mut().zip(y).zip(gradient) {
                    *pulled = T::from_f64((g.to_f64() - along * y.to_f64()) / length);
                }
            }
        },
    );
    pulled
}

fn rows_of_a_task(width: usize) -> usize {
    (CHUNK / width).max(1)
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Var};

    use super::*;

    #[test]
    fn short_rows_have_no_gradient_and_long_ones_an_orthogonal_one() -> Result<()> {
        for version in [l2_normalize, reference] {
            let x = Var::new(&[[3f64, 4.0], [0.0, 0.0], [1e-13, 0.0]], &Device::Cpu)?;
            let y = version(&x)?;
            let unit = y.to_vec2::<f64>()?;
            assert_eq!(unit[1], [0.0, 0.0]);
            assert!((unit[2][0] - 0.1).abs() < 1e-15);
            let weights = Tensor::new(&[[1f64, 0.0], [1.0, 1.0], [1.0, 1.0]], &Device::Cpu)?;
            let gradients = (y * weights)?.sum_all()?.backward()?;
            let gradient = gradients
                .get(&x)
                .expect("it depends on its input")
                .to_vec2::<f64>()?;
            // (1 − 0.6²) / 5 and −0.6 · 0.8 / 5.
            assert!(
                (gradient[0][0] - 0.128).abs() < 1e-15 && (gradient[0][1] + 0.096).abs() < 1e-15
            );
            assert_eq!(gradient[1..], [[0.0, 0.0], [0.0, 0.0]]);
        }
        Ok(())
    }

    #[test]
    fn squares_beyond_f32_do_not_overflow() -> Result<()> {
        let y = l2_normalize(&Tensor::new(&[[3e30f32, 4e30]], &Device::Cpu)?)?.to_vec2::<f32>()?;
        assert!(
            (y[0][0] - 0.6).abs() < 1e-7 && (y[0][1] - 0.8).abs() < 1e-7,
            "{y:?}"
        );
        Ok(())
    }
}
