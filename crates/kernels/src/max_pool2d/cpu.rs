//! One pass forward, which remembers where each largest number was, and one backward.

use std::sync::OnceLock;

use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};

use super::Windows;
use crate::host::{by_type, give, read, slice, tensor};
use crate::lanes::Element;
use crate::slices::run;

pub(super) struct MaxPool2d {
    windows: Windows,
    /// For each result its source inside its channel's image.
    sources: OnceLock<Vec<u32>>,
}

impl MaxPool2d {
    pub(super) fn new(windows: Windows) -> Self {
        Self {
            windows,
            sources: OnceLock::new(),
        }
    }
}

impl CustomOp1 for MaxPool2d {
    fn name(&self) -> &'static str {
        "max_pool2d"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (batch, channels, ..) = layout.shape().dims4()?;
        let (height, width) = self.windows.result;
        by_type!(storage.dtype(), "max_pool2d", T => {
            let (y, sources) = forward(slice::<T>(storage, layout)?, self.windows);
            // An operation object serves one call; a second forward would find the same sources.
            let _ = self.sources.set(sources);
            Ok(give(y, (batch, channels, height, width)))
        })
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        let sources = self.sources.get().expect("backward follows forward");
        by_type!(x.dtype(), "max_pool2d", T => {
            let pulled = read::<T, _>(gradient, |g| Ok(backward(g, sources, x.elem_count(), self.windows)))?;
            tensor(pulled, x).map(Some)
        })
    }
}

/// Images that one task takes, and what a number costs, in multiplications of a matrix product.
const IMAGES: usize = 16;
const COST: usize = 32;

fn forward<T: Element>(x: &[T], windows: Windows) -> (Vec<T>, Vec<u32>) {
    let Windows {
        kernel,
        stride,
        image,
        result,
    } = windows;
    let (area, count) = (image.0 * image.1, result.0 * result.1);
    let results = x.len() / area * count;
    let (mut y, mut sources) = (vec![T::ZERO; results], vec![0; results]);
    let written = y
        .chunks_mut(IMAGES * count)
        .zip(sources.chunks_mut(IMAGES * count));
    let tasks = written.zip(x.chunks(IMAGES * area)).collect();
    let one_image = |y: &mut [T], sources: &mut [u32], x: &[T]| {
        for row in 0..result.0 {
            for column in 0..result.1 {
                let corner = row * stride.0 * image.1 + column * stride.1;
                let (mut best, mut source) = (x[corner], corner);
                for i in 0..kernel.0 {
                    let from = corner + i * image.1;
                    for (j, &x) in x[from..from + kernel.1].iter().enumerate() {
                        // A NaN wins, so that it is seen.
                        if x > best || x.is_nan() {
                            (best, source) = (x, from + j);
                        }
                    }
                }
                y[row * result.1 + column] = best;
                sources[row * result.1 + column] = source as u32;
            }
        }
    };
    let work = results * kernel.0 * kernel.1 * COST;
    run(
        work,
        tasks,
        |((y, sources), x): ((&mut [T], &mut [u32]), &[T])| {
            let written = y
                .chunks_exact_mut(count)
                .zip(sources.chunks_exact_mut(count));
            for ((y, sources), x) in written.zip(x.chunks_exact(area)) {
                one_image(y, sources, x);
            }
        },
    );
    (y, sources)
}

fn backward<T: Element>(gradient: &[T], sources: &[u32], size: usize, windows: Windows) -> Vec<T> {
    let area = windows.image.0 * windows.image.1;
    let count = windows.result.0 * windows.result.1;
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

    type Pool = fn(&Tensor, (usize, usize), (usize, usize)) -> candle_core::Result<Tensor>;

    fn gradient_of(
        version: Pool,
        x: &[[f64; 3]; 3],
        stride: usize,
    ) -> candle_core::Result<Vec<f64>> {
        let x = Var::new(x, &Device::Cpu)?;
        let y = version(&x.unsqueeze(0)?.unsqueeze(0)?, (2, 2), (stride, stride))?;
        let gradients = y.backward()?;
        gradients
            .get(&x)
            .expect("it depends on its input")
            .flatten_all()?
            .to_vec1()
    }

    #[test]
    fn the_gradient_goes_to_the_first_of_the_largest() -> candle_core::Result<()> {
        for version in [super::super::max_pool2d as Pool, super::super::reference] {
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
