//! The same in one pass over each row, forward and backward.

use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp1, CustomOp2, Layout, Result, Shape, Tensor};

use super::EMPTY;
use crate::host::{by_type, give, read, slice, tensor};
use crate::lanes::Element;
use crate::slices::run;

/// Numbers that one task takes.
const CHUNK: usize = 1 << 13;
/// What one number costs, in multiplications of a matrix product.
const COST: usize = 256;

#[derive(Clone, Copy, PartialEq)]
pub(super) enum Kind {
    Softmax,
    LogSoftmax,
    LogSumExp,
}

/// The operation, with and without a mask of bytes.
pub(super) struct Rows(pub(super) Kind);

impl Rows {
    fn label(&self) -> &'static str {
        match self.0 {
            Kind::Softmax => "softmax",
            Kind::LogSoftmax => "log_softmax",
            Kind::LogSumExp => "log_sum_exp",
        }
    }

    fn fwd(
        &self,
        x: &CpuStorage,
        layout: &Layout,
        mask: Option<&[u8]>,
    ) -> Result<(CpuStorage, Shape)> {
        by_type!(x.dtype(), self.label(), T => {
            let x = slice::<T>(x, layout)?;
            let dims = layout.dims();
            let (width, kept) = (dims[dims.len() - 1], &dims[..dims.len() - 1]);
            match self.0 {
                Kind::LogSumExp => Ok(give(log_sum_exp(x, mask, width, kept.iter().product()), kept)),
                kind => Ok(give(normalized(x, mask, width, kind), dims)),
            }
        })
    }

    fn pull(
        &self,
        x: &Tensor,
        y: &Tensor,
        gradient: &Tensor,
        mask: Option<&[u8]>,
    ) -> Result<Tensor> {
        by_type!(x.dtype(), self.label(), T => {
            let width = x.dims()[x.rank() - 1];
            let pulled = read::<T, _>(x, |x| {
                read(y, |y| read(gradient, |g| Ok(backward(x, y, g, mask, width, self.0))))
            })?;
            tensor(pulled, x)
        })
    }
}

impl CustomOp1 for Rows {
    fn name(&self) -> &'static str {
        self.label()
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        self.fwd(x, layout, None)
    }

    fn bwd(&self, x: &Tensor, y: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        self.pull(x, y, gradient, None).map(Some)
    }
}

impl CustomOp2 for Rows {
    fn name(&self) -> &'static str {
        self.label()
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        layout: &Layout,
        mask: &CpuStorage,
        at: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        self.fwd(x, layout, Some(slice::<u8>(mask, at)?))
    }

    fn bwd(
        &self,
        x: &Tensor,
        mask: &Tensor,
        y: &Tensor,
        g: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let pulled = read::<u8, _>(mask, |mask| self.pull(x, y, g, Some(mask)))?;
        Ok((Some(pulled), None))
    }
}

#[inline(always)]
fn keeps(mask: Option<&[u8]>, at: usize) -> bool {
    mask.is_none_or(|mask| mask[at] != 0)
}

/// The largest kept entry of a row and the sum of all `e^(x − largest)`; none where nothing is kept.
fn largest_and_sum<T: Element>(row: &[T], mask: Option<&[u8]>) -> Option<(T, f64)> {
    let mut largest = None;
    for (at, &x) in row.iter().enumerate() {
        // A NaN becomes the largest and stays it, so that it is seen.
        if keeps(mask, at) && largest.is_none_or(|largest| x > largest || x.is_nan()) {
            largest = Some(x);
            if x.is_nan() {
                break;
            }
        }
    }
    let largest: T = largest?;
    if largest == T::NEG_INFINITY {
        return None; // e^−∞ is 0: such entries add nothing, as if they were not there.
    }
    let kept = row.iter().enumerate().filter(|(at, _)| keeps(mask, *at));
    Some((
        largest,
        kept.map(|(_, &x)| (x - largest).exp().to_f64()).sum(),
    ))
}

fn row_of<X>(x: &[X], row: usize, width: usize) -> &[X] {
    &x[row * width..(row + 1) * width]
}

/// Calls `row` for every row with its number and its part of `result`, of `width` numbers or of one.
fn each_row<T: Element>(
    result: &mut [T],
    width: usize,
    cost: usize,
    row: impl Fn(usize, &mut [T]) + Sync + Send,
) {
    if width == 0 {
        return;
    }
    let rows = (CHUNK / cost.max(1)).max(1);
    let total = result.len() / width * cost * COST;
    let tasks = result.chunks_mut(rows * width).enumerate().collect();
    run(total, tasks, |(task, result): (usize, &mut [T])| {
        for (i, result) in result.chunks_exact_mut(width).enumerate() {
            row(task * rows + i, result);
        }
    });
}

fn log_sum_exp<T: Element>(x: &[T], mask: Option<&[u8]>, width: usize, rows: usize) -> Vec<T> {
    let mut y = vec![T::ZERO; rows];
    each_row(&mut y, 1, width, |row, y| {
        let mask = mask.map(|mask| row_of(mask, row, width));
        y[0] = match largest_and_sum(row_of(x, row, width), mask) {
            Some((largest, sum)) => largest + T::from_f64(sum.ln()),
            None => T::from_f64(EMPTY),
        };
    });
    y
}

fn normalized<T: Element>(x: &[T], mask: Option<&[u8]>, width: usize, kind: Kind) -> Vec<T> {
    let mut y = vec![T::ZERO; x.len()];
    each_row(&mut y, width, width, |row, y| {
        let mask = mask.map(|mask| row_of(mask, row, width));
        let x = row_of(x, row, width);
        let found = largest_and_sum(x, mask);
        for (at, (y, &x)) in y.iter_mut().zip(x).enumerate() {
            *y = match (kind, found) {
                (Kind::LogSoftmax, Some((largest, sum))) => x - largest - T::from_f64(sum.ln()),
                (Kind::LogSoftmax, None) => x - T::from_f64(EMPTY),
                (_, Some((largest, sum))) if keeps(mask, at) => {
                    T::from_f64((x - largest).exp().to_f64() / sum)
                }
                _ => T::ZERO,
            };
        }
    });
    y
}

/// With p the softmax: `p (g − Σ p g)` for the softmax, `g − p Σ g` for its logarithm, `p g` for the sum.
fn backward<T: Element>(
    x: &[T],
    y: &[T],
    gradient: &[T],
    mask: Option<&[u8]>,
    width: usize,
    kind: Kind,
) -> Vec<T> {
    let mut pulled = vec![T::ZERO; x.len()];
    let empty = T::from_f64(EMPTY);
    each_row(&mut pulled, width, width, |row, pulled| {
        let mask = mask.map(|mask| row_of(mask, row, width));
        match kind {
            Kind::LogSumExp => {
                let (y, g) = (y[row], gradient[row]);
                if y == empty {
                    return;
                }
                for (at, (pulled, &x)) in pulled.iter_mut().zip(row_of(x, row, width)).enumerate() {
                    if keeps(mask, at) {
                        *pulled = (x - y).exp() * g;
                    }
                }
            }
            Kind::Softmax => {
                let (y, g) = (row_of(y, row, width), row_of(gradient, row, width));
                let along: f64 = y.iter().zip(g).map(|(y, g)| y.to_f64() * g.to_f64()).sum();
                let along = T::from_f64(along);
                for (at, ((pulled, &y), &g)) in pulled.iter_mut().zip(y).zip(g).enumerate() {
                    if keeps(mask, at) {
                        *pulled = y * (g - along);
                    }
                }
            }
            Kind::LogSoftmax => {
                let (y, g) = (row_of(y, row, width), row_of(gradient, row, width));
                let sum = T::from_f64(g.iter().map(|g| g.to_f64()).sum());
                for ((pulled, &y), &g) in pulled.iter_mut().zip(y).zip(g) {
                    *pulled = g - y.exp() * sum;
                }
            }
        }
    });
    pulled
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Tensor, Var};

    use crate::{EMPTY, masked_log_sum_exp, masked_softmax, reference, softplus};

    type Masked = fn(&Tensor, &Tensor) -> candle_core::Result<Tensor>;

    #[test]
    fn a_row_that_keeps_nothing_is_harmless() -> candle_core::Result<()> {
        for version in [masked_log_sum_exp as Masked, reference::masked_log_sum_exp] {
            let x = Var::new(&[[1f32, 2.0], [3.0, f32::NAN]], &Device::Cpu)?;
            let mask = Tensor::new(&[[0f32, 0.0], [1.0, 0.0]], &Device::Cpu)?;
            let y = version(&x, &mask)?;
            assert_eq!(y.to_vec1::<f32>()?, [EMPTY as f32, 3.0]);
            let score = Tensor::new(&[-100f32, 3.0], &Device::Cpu)?;
            let loss = softplus(&(y - score)?)?;
            assert_eq!(loss.to_vec1::<f32>()?, [0.0, 2f32.ln()]);
            let gradients = loss.backward()?;
            let gradient = gradients
                .get(&x)
                .expect("it depends on its input")
                .to_vec2::<f32>()?;
            assert_eq!(gradient, [[0.0, 0.0], [0.5, 0.0]]);
        }
        Ok(())
    }

    #[test]
    fn a_masked_softmax_sums_to_one_or_zero() -> candle_core::Result<()> {
        for version in [masked_softmax as Masked, reference::masked_softmax] {
            let x = Tensor::new(
                &[[1e4f32, 1e4, f32::INFINITY], [1.0, 2.0, 3.0]],
                &Device::Cpu,
            )?;
            let mask = Tensor::new(&[[1u8, 1, 0], [0, 0, 0]], &Device::Cpu)?;
            assert_eq!(
                version(&x, &mask)?.to_vec2::<f32>()?,
                [[0.5, 0.5, 0.0], [0.0, 0.0, 0.0]]
            );
        }
        Ok(())
    }
}
