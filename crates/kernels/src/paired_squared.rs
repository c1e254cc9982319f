//! Squared Euclidean distances of rows in pairs.

use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp2, D, Layout, Result, Shape, Tensor, bail};

use crate::host::{by_type, give, read, serves, slice, tensor};
use crate::lanes::Element;
use crate::slices::run;

/// Rows that one task takes.
const ROWS: usize = 64;
/// Sums that are kept side by side.
const SUMS: usize = 16;
/// Coordinates that are added up before their sum joins the others, so that long rows lose no digits.
const BLOCK: usize = 256;

/// Squared Euclidean distance of row `i` of `x` to row `i` of `y`, `‖x_i − y_i‖²`: `(n, d), (n, d) → (n)`.
///
/// Equal rows give 0 exactly. No matrix of differences is made.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// let x = Tensor::new(&[[0f32, 0.0], [3.0, 4.0]], &Device::Cpu)?;
/// let y = Tensor::new(&[[3f32, 4.0], [3.0, 3.0]], &Device::Cpu)?;
/// assert_eq!(nearfar_kernels::paired_squared_euclidean(&x, &y)?.to_vec1::<f32>()?, [25.0, 1.0]);
/// # Ok::<(), candle_core::Error>(())
/// ```
///
/// # Errors
///
/// If the shapes are not the same `(n, d)`, or the number types differ.
pub fn paired_squared_euclidean(x: &Tensor, y: &Tensor) -> Result<Tensor> {
    check(x, y)?;
    if serves(x) {
        let operation = Paired {
            for_x: x.track_op(),
            for_y: y.track_op(),
        };
        x.contiguous()?.apply_op2(&y.contiguous()?, operation)
    } else {
        reference(x, y)
    }
}

/// [`paired_squared_euclidean`](crate::paired_squared_euclidean) in candle operations.
///
/// # Errors
///
/// As the fast version's.
pub fn reference(x: &Tensor, y: &Tensor) -> Result<Tensor> {
    check(x, y)?;
    (x - y)?.sqr()?.sum(D::Minus1)
}

fn check(x: &Tensor, y: &Tensor) -> Result<()> {
    x.dims2()?;
    if x.dims() != y.dims() || x.dtype() != y.dtype() {
        bail!(
            "paired_squared_euclidean: `x` is {:?} of {:?}, `y` {:?} of {:?}; both must agree",
            x.dims(),
            x.dtype(),
            y.dims(),
            y.dtype()
        );
    }
    Ok(())
}

struct Paired {
    for_x: bool,
    for_y: bool,
}

impl CustomOp2 for Paired {
    fn name(&self) -> &'static str {
        "paired_squared_euclidean"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        layout: &Layout,
        y: &CpuStorage,
        other: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (n, d) = layout.shape().dims2()?;
        by_type!(x.dtype(), "paired_squared_euclidean", T => {
            let (x, y) = (slice::<T>(x, layout)?, slice::<T>(y, other)?);
            let mut values = vec![T::ZERO; n];
            if d > 0 {
                let sources = x.chunks(ROWS * d).zip(y.chunks(ROWS * d));
                let tasks = values.chunks_mut(ROWS).zip(sources).collect();
                run(n * d, tasks, |(values, (x, y)): (&mut [T], (&[T], &[T]))| {
                    let rows = x.chunks_exact(d).zip(y.chunks_exact(d));
                    for (value, (x, y)) in values.iter_mut().zip(rows) {
                        *value = squared(x, y);
                    }
                });
            }
            Ok(give(values, n))
        })
    }

    fn bwd(
        &self,
        x: &Tensor,
        y: &Tensor,
        _: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        by_type!(x.dtype(), "paired_squared_euclidean", T => {
            let pull = |x: &Tensor, y: &Tensor, wanted: bool| {
                if !wanted {
                    return Ok(None);
                }
                let pulled = read::<T, _>(x, |x| read(y, |y| read(gradient, |g| Ok(pulled(x, y, g)))))?;
                tensor(pulled, x).map(Some)
            };
            Ok((pull(x, y, self.for_x)?, pull(y, x, self.for_y)?))
        })
    }
}

fn squared<T: Element>(x: &[T], y: &[T]) -> T {
    let mut total = 0f64;
    for (x, y) in x.chunks(BLOCK).zip(y.chunks(BLOCK)) {
        let mut sums = [T::ZERO; SUMS];
        let (x, rest) = x.as_chunks::<SUMS>();
        let (y, other) = y.as_chunks::<SUMS>();
        for (x, y) in x.iter().zip(y) {
            for lane in 0..SUMS {
                let off = x[lane] - y[lane];
                sums[lane] += off * off;
            }
        }
        for (lane, (&x, &y)) in rest.iter().zip(other).enumerate() {
            let off = x - y;
            sums[lane] += off * off;
        }
        total += sums.iter().map(|sum| sum.to_f64()).sum::<f64>();
    }
    T::from_f64(total)
}

/// `2 g (x − y)`
fn pulled<T: Element>(x: &[T], y: &[T], gradient: &[T]) -> Vec<T> {
    let mut pulled = vec![T::ZERO; x.len()];
    let d = x.len() / gradient.len().max(1);
    if d == 0 {
        return pulled;
    }
    let sources = x
        .chunks(ROWS * d)
        .zip(y.chunks(ROWS * d))
        .zip(gradient.chunks(ROWS));
    let tasks = pulled.chunks_mut(ROWS * d).zip(sources).collect();
    run(
        x.len(),
        tasks,
        |(pulled, (rows, gradient)): (&mut [T], (_, &[T]))| {
            let (x, y): (&[T], &[T]) = rows;
            let rows = x.chunks_exact(d).zip(y.chunks_exact(d)).zip(gradient);
            for (pulled, ((x, y), &g)) in pulled.chunks_exact_mut(d).zip(rows) {
                let twice = g + g;
                for (pulled, (&x, &y)) in pulled.iter_mut().zip(x.iter().zip(y)) {
                    *pulled = twice * (x - y);
                }
            }
        },
    );
    pulled
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_util::{check_agreement, check_gradient, noise};

    #[test]
    fn it_is_the_composition_of_any_shape() -> Result<()> {
        for (n, d) in [(1, 1), (3, 16), (70, 37), (130, 300), (0, 4)] {
            let (x, y) = (noise((n, d), 1)?, noise((n, d), 2)?);
            let ours = |x: &[Tensor]| paired_squared_euclidean(&x[0], &x[1]);
            let plain = |x: &[Tensor]| reference(&x[0], &x[1]);
            check_agreement(ours, plain, &[x.clone(), y.clone()], 1e-12)?;
            if n * d < 200 {
                check_gradient(ours, &[x, y], 1e-6)?;
            }
        }
        Ok(())
    }

    #[test]
    fn rows_that_do_not_pair_are_refused() -> Result<()> {
        let (x, y) = (noise((2, 3), 1)?, noise((3, 3), 1)?);
        let message = paired_squared_euclidean(&x, &y).expect_err("2 and 3");
        assert!(message.to_string().contains("[2, 3]"), "{message}");
        Ok(())
    }
}
