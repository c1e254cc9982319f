//! One pass forward, which remembers where each largest number was, and one backward.

use std::sync::OnceLock;

use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};

use super::Windows;
use super::windows::Solid;
use crate::host::{by_type, give, read, slice, tensor};
use crate::lanes::Element;
use crate::slices::run;

/// What a number costs, in multiplications of a matrix product.
const COST: usize = 32;

pub(super) struct MaxPool {
    windows: Windows,
    /// For each result its source inside its channel's image.
    sources: OnceLock<Vec<u32>>,
}

impl MaxPool {
    pub(super) fn new(windows: &Windows) -> Self {
        Self {
            windows: windows.clone(),
            sources: OnceLock::new(),
        }
    }
}

impl CustomOp1 for MaxPool {
    fn name(&self) -> &'static str {
        "max_pool"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        by_type!(storage.dtype(), "max_pool", T => {
            let (y, sources) = forward(slice::<T>(storage, layout)?, &self.windows.solid());
            // An operation object serves one call; a second forward would find the same sources.
            let _ = self.sources.set(sources);
            Ok(give(y, self.windows.result(layout.shape())))
        })
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        let sources = self.sources.get().expect("backward follows forward");
        let windows = self.windows.solid();
        by_type!(x.dtype(), "max_pool", T => {
            let pulled = read::<T, _>(gradient, |g| Ok(backward(g, sources, x.elem_count(), &windows)))?;
            tensor(pulled, x).map(Some)
        })
    }
}

fn forward<T: Element>(x: &[T], windows: &Solid) -> (Vec<T>, Vec<u32>) {
    let (area, count) = (windows.area(), windows.count());
    let results = x.len() / area * count;
    let (mut y, mut sources) = (vec![T::ZERO; results], vec![0; results]);
    let work = x.len() / area * windows.reads() * COST;
    let written = y.chunks_mut(count).zip(sources.chunks_mut(count));
    let tasks = written.zip(x.chunks(area)).collect();
    run(
        work,
        tasks,
        |((y, sources), x): ((&mut [T], &mut [u32]), &[T])| {
            windows.each(|index, _, rows| {
                let mut best: Option<(T, usize)> = None;
                rows.each(|places| {
                    for (place, &x) in places.clone().zip(&x[places]) {
                        // A NaN wins, so that it is seen.
                        if best.is_none_or(|(best, _)| x > best || x.is_nan()) {
                            best = Some((x, place));
                        }
                    }
                });
                if let Some((best, source)) = best {
                    (y[index], sources[index]) = (best, source as u32);
                }
            });
        },
    );
    (y, sources)
}

fn backward<T: Element>(gradient: &[T], sources: &[u32], size: usize, windows: &Solid) -> Vec<T> {
    let (area, count) = (windows.area(), windows.count());
    let mut pulled = vec![T::ZERO; size];
    for ((pulled, gradient), sources) in pulled
        .chunks_exact_mut(area)
        .zip(gradient.chunks_exact(count))
        .zip(sources.chunks_exact(count))
    {
        // Windows that overlap may share a source.
        for (&g, &source) in gradient.iter().zip(sources) {
            pulled[source as usize] += g;
        }
    }
    pulled
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Tensor, Var};

    use crate::{Slide, Windows};

    type Pool = fn(&Tensor, &Windows) -> candle_core::Result<Tensor>;

    fn gradient_of(
        version: Pool,
        x: &[[f64; 3]; 3],
        stride: usize,
    ) -> candle_core::Result<Vec<f64>> {
        let x = Var::new(x, &Device::Cpu)?;
        let slide = Slide {
            stride,
            ..Slide::over(2)
        };
        let windows = Windows::sliding(&[3, 3], &[slide; 2], false)?;
        let y = version(&x.unsqueeze(0)?.unsqueeze(0)?, &windows)?;
        let gradients = y.backward()?;
        gradients
            .get(&x)
            .expect("it depends on its input")
            .flatten_all()?
            .to_vec1()
    }

    #[test]
    fn the_gradient_goes_to_the_first_of_the_largest() -> candle_core::Result<()> {
        for version in [super::super::max_pool as Pool, crate::reference::max_pool] {
            let gradient = gradient_of(
                version,
                &[[1.0, 2.0, 9.0], [2.0, 1.0, 9.0], [9.0, 9.0, 9.0]],
                2,
            )?;
            assert_eq!(gradient, [0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]);
            // The center is in four windows, and the largest in all.
            let gradient = gradient_of(
                version,
                &[[1.0, 2.0, 0.0], [2.0, 3.0, 1.0], [0.0, 1.0, 1.0]],
                1,
            )?;
            assert_eq!(gradient, [0.0, 0.0, 0.0, 0.0, 4.0, 0.0, 0.0, 0.0, 0.0]);
        }
        Ok(())
    }
}
