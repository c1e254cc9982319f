//! The frame of the operations that treat every number alone: one pass forward, one pass backward.

use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};

use crate::host::{by_type, give, read, slice, tensor};
use crate::lanes::Element;
use crate::slices::run;

/// Numbers that one task takes.
const CHUNK: usize = 1 << 15;

/// A function of one number.
pub(crate) trait Pointwise: Send + Sync + 'static {
    const NAME: &'static str;
    /// What one number costs, in multiplications of a matrix product.
    const COST: usize;

    fn value<T: Element>(&self, x: T) -> T;

    /// The gradient at `x`, where the value is `y` and the value's gradient is `gradient`.
    fn pull<T: Element>(&self, x: T, y: T, gradient: T) -> T;
}

/// Applies a function to a tensor that [`crate::host::serves`] accepts.
pub(crate) fn apply<P: Pointwise>(x: &Tensor, function: P) -> Result<Tensor> {
    x.contiguous()?.apply_op1(Op(function))
}

struct Op<P>(P);

impl<P: Pointwise> CustomOp1 for Op<P> {
    fn name(&self) -> &'static str {
        P::NAME
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        by_type!(storage.dtype(), P::NAME, T => {
            let y = forward(&self.0, slice::<T>(storage, layout)?);
            Ok(give(y, layout.shape()))
        })
    }

    fn bwd(&self, x: &Tensor, y: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        by_type!(x.dtype(), P::NAME, T => {
            let pulled = read::<T, _>(x, |x| read(y, |y| read(gradient, |g| Ok(backward(&self.0, x, y, g)))))?;
            tensor(pulled, x).map(Some)
        })
    }
}

fn forward<T: Element, P: Pointwise>(function: &P, x: &[T]) -> Vec<T> {
    let mut y = vec![T::ZERO; x.len()];
    let tasks = y.chunks_mut(CHUNK).zip(x.chunks(CHUNK)).collect();
    run(x.len() * P::COST, tasks, |(y, x): (&mut [T], &[T])| {
        for (y, &x) in y.iter_mut().zip(x) {
            *y = function.value(x);
        }
    });
    y
}

fn backward<T: Element, P: Pointwise>(function: &P, x: &[T], y: &[T], gradient: &[T]) -> Vec<T> {
    let mut pulled = vec![T::ZERO; x.len()];
    let sources = x
        .chunks(CHUNK)
        .zip(y.chunks(CHUNK))
        .zip(gradient.chunks(CHUNK));
    let tasks = pulled.chunks_mut(CHUNK).zip(sources).collect();
    run(
        x.len() * P::COST,
        tasks,
        |(pulled, ((x, y), gradient)): (&mut [T], _)| {
            for (((pulled, &x), &y), &g) in pulled
                .iter_mut()
                .zip::<&[T]>(x)
                .zip::<&[T]>(y)
                .zip::<&[T]>(gradient)
            {
                *pulled = function.pull(x, y, g);
            }
        },
    );
    pulled
}
