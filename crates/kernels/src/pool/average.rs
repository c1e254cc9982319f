//! One pass forward and one backward.

use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};

use super::Windows;
use super::windows::Solid;
use crate::host::{by_type, give, read, slice, tensor};
use crate::lanes::Element;
use crate::slices::run;

/// What a number costs, in multiplications of a matrix product.
const COST: usize = 32;

pub(super) struct AveragePool {
    windows: Windows,
}

impl AveragePool {
    pub(super) fn new(windows: &Windows) -> Self {
        Self {
            windows: windows.clone(),
        }
    }
}

impl CustomOp1 for AveragePool {
    fn name(&self) -> &'static str {
        "average_pool"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        by_type!(storage.dtype(), "average_pool", T => {
            let y = forward(slice::<T>(storage, layout)?, &self.windows.solid());
            Ok(give(y, self.windows.result(layout.shape())))
        })
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        let windows = self.windows.solid();
        by_type!(x.dtype(), "average_pool", T => {
            let pulled = read::<T, _>(gradient, |g| Ok(backward(g, x.elem_count(), &windows)))?;
            tensor(pulled, x).map(Some)
        })
    }
}

fn forward<T: Element>(x: &[T], windows: &Solid) -> Vec<T> {
    let (area, count) = (windows.area(), windows.count());
    let mut y = vec![T::ZERO; x.len() / area * count];
    let work = x.len() / area * windows.reads() * COST;
    let tasks = y.chunks_mut(count).zip(x.chunks(area)).collect();
    run(work, tasks, |(y, x): (&mut [T], &[T])| {
        windows.each(|index, count, rows| {
            let mut sum = 0.0;
            rows.each(|places| sum += x[places].iter().map(|x| x.to_f64()).sum::<f64>());
            y[index] = T::from_f64(sum / count as f64);
        });
    });
    y
}

fn backward<T: Element>(gradient: &[T], size: usize, windows: &Solid) -> Vec<T> {
    let (area, count) = (windows.area(), windows.count());
    let mut pulled = vec![T::ZERO; size];
    let work = size / area * windows.reads() * COST;
    let tasks = pulled
        .chunks_mut(area)
        .zip(gradient.chunks(count))
        .collect();
    run(work, tasks, |(pulled, gradient): (&mut [T], &[T])| {
        windows.each(|index, count, rows| {
            let share = T::from_f64(gradient[index].to_f64() / count as f64);
            rows.each(|places| pulled[places].iter_mut().for_each(|x| *x += share));
        });
    });
    pulled
}
