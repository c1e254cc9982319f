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

    /// The values of a slice of f32, for a function that has a way of its own for vectors.
    fn singles(&self, x: &[f32], y: &mut [f32]) {
        values(self, x, y);
    }

    /// The gradients of a slice of f32.
    fn pull_singles(&self, x: &[f32], y: &[f32], gradient: &[f32], pulled: &mut [f32]) {
        pulls(self, x, y, gradient, pulled);
    }
}

fn values<T: Element, P: Pointwise + ?Sized>(function: &P, x: &[T], y: &mut [T]) {
    for (y, &x) in y.iter_mut().zip(x) {
        *y = function.value(x);
    }
}

fn pulls<T: Element, P: Pointwise + ?Sized>(
    function: &P,
    x: &[T],
    y: &[T],
    gradient: &[T],
    pulled: &mut [T],
) {
    let sources = x.iter().zip(y).zip(gradient);
    for (pulled, ((&x, &y), &g)) in pulled.iter_mut().zip(sources) {
        *pulled = function.pull(x, y, g);
    }
}

/// Which way a number type takes through a function.
trait Numbers: Element {
    fn values<P: Pointwise>(function: &P, x: &[Self], y: &mut [Self]) {
        values(function, x, y);
    }

    fn pulls<P: Pointwise>(
        function: &P,
        x: &[Self],
        y: &[Self],
        gradient: &[Self],
        pulled: &mut [Self],
    ) {
        pulls(function, x, y, gradient, pulled);
    }
}

impl Numbers for f64 {}

impl Numbers for f32 {
    fn values<P: Pointwise>(function: &P, x: &[Self], y: &mut [Self]) {
        function.singles(x, y);
    }

    fn pulls<P: Pointwise>(
        function: &P,
        x: &[Self],
        y: &[Self],
        gradient: &[Self],
        pulled: &mut [Self],
    ) {
        function.pull_singles(x, y, gradient, pulled);
    }
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

fn forward<T: Numbers, P: Pointwise>(function: &P, x: &[T]) -> Vec<T> {
    let mut y = vec![T::ZERO; x.len()];
    let tasks = y.chunks_mut(CHUNK).zip(x.chunks(CHUNK)).collect();
    run(x.len() * P::COST, tasks, |(y, x): (&mut [T], &[T])| {
        T::values(function, x, y);
    });
    y
}

fn backward<T: Numbers, P: Pointwise>(function: &P, x: &[T], y: &[T], gradient: &[T]) -> Vec<T> {
    let mut pulled = vec![T::ZERO; x.len()];
    let sources = x
        .chunks(CHUNK)
        .zip(y.chunks(CHUNK))
        .zip(gradient.chunks(CHUNK));
    let tasks = pulled.chunks_mut(CHUNK).zip(sources).collect();
    run(
        x.len() * P::COST,
        tasks,
        |(pulled, ((x, y), gradient)): (&mut [T], _)| T::pulls(function, x, y, gradient, pulled),
    );
    pulled
}
