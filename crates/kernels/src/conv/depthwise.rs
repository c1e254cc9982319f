//! A convolution whose groups have one channel each: as a matrix product it would be one row, and its columns would cost
//! more than the sums.

use super::{Geometry, Op, Pulled};
use crate::lanes::Element;
use crate::slices::run;

/// What a product costs beside one of a matrix product, which keeps its sums in registers.
const COST: usize = 4;

pub(super) fn forward<T: Element>(geometry: &Geometry, x: &[T], weight: &[T]) -> Vec<T> {
    let (area, taps, places) = (geometry.area(), geometry.taps(), geometry.places());
    let all = geometry.groups * geometry.outputs;
    let mut y = vec![T::ZERO; geometry.batch * all * places];
    let work = y.len() * taps * COST;
    let tasks = y.chunks_mut(places).enumerate().collect();
    run(work, tasks, |(index, y): (usize, &mut [T])| {
        let (image, output) = (index / all, index % all);
        let channel = image * geometry.groups + output / geometry.outputs;
        let (x, kernel) = (
            &x[channel * area..][..area],
            &weight[output * taps..][..taps],
        );
        geometry.each_row(|tap, place, count, source| {
            let (factor, row) = (kernel[tap], &mut y[place..][..count]);
            each(geometry, &x[source..], row, |x, y| *y += factor * *x);
        });
    });
    y
}

pub(super) fn backward<T: Element>(
    geometry: &Geometry,
    x: &[T],
    weight: &[T],
    gradient: &[T],
    op: &Op,
) -> Pulled<T> {
    let (area, taps, places) = (geometry.area(), geometry.taps(), geometry.places());
    let (groups, outputs) = (geometry.groups, geometry.outputs);
    let work = gradient.len() * taps * COST;

    let mut to_weight = op.for_weight.then(|| vec![T::ZERO; weight.len()]);
    let kernels = to_weight.iter_mut().flat_map(|it| it.chunks_mut(taps));
    let tasks = kernels.enumerate().collect();
    run(work, tasks, |(output, kernel): (usize, &mut [T])| {
        let mut sums = vec![0f64; taps];
        for image in 0..geometry.batch {
            let channel = image * groups + output / outputs;
            let x = &x[channel * area..][..area];
            let gradient = &gradient[(image * groups * outputs + output) * places..][..places];
            geometry.each_row(|tap, place, count, source| {
                sums[tap] += dot(
                    &x[source..],
                    geometry.stride[2],
                    &gradient[place..][..count],
                );
            });
        }
        for (to, sum) in kernel.iter_mut().zip(sums) {
            *to = T::from_f64(sum);
        }
    });

    let to_input = op.for_input.then(|| {
        let mut to_input = vec![T::ZERO; x.len()];
        let tasks = to_input.chunks_mut(area).enumerate().collect();
        run(work, tasks, |(channel, to): (usize, &mut [T])| {
            let (image, group) = (channel / groups, channel % groups);
            for output in group * outputs..(group + 1) * outputs {
                let kernel = &weight[output * taps..][..taps];
                let gradient = &gradient[(image * groups * outputs + output) * places..][..places];
                geometry.each_row(|tap, place, count, source| {
                    let (factor, row) = (kernel[tap], &gradient[place..][..count]);
                    let sources = to[source..].iter_mut();
                    if geometry.stride[2] == 1 {
                        sources.zip(row).for_each(|(to, &g)| *to += factor * g);
                    } else {
                        let sources = sources.step_by(geometry.stride[2]);
                        sources.zip(row).for_each(|(to, &g)| *to += factor * g);
                    }
                });
            }
        });
        to_input
    });
    Pulled {
        input: to_input,
        weight: to_weight,
    }
}

/// Calls `f` with each number of a row of sources and each of the row itself.
#[inline(always)]
fn each<T>(geometry: &Geometry, sources: &[T], row: &mut [T], f: impl Fn(&T, &mut T)) {
    // Beside one another they are whole vectors to the compiler.
    match geometry.stride[2] {
        1 => sources.iter().zip(row).for_each(|(x, y)| f(x, y)),
        stride => {
            let sources = sources.iter().step_by(stride);
            sources.zip(row).for_each(|(x, y)| f(x, y));
        }
    }
}

/// The inner product of a row with its sources, by eight sums side by side.
fn dot<T: Element>(sources: &[T], stride: usize, row: &[T]) -> f64 {
    if stride != 1 {
        let products = sources.iter().step_by(stride).zip(row);
        return products.map(|(x, g)| x.to_f64() * g.to_f64()).sum();
    }
    let sources = &sources[..row.len()];
    let ((x, x_rest), (g, g_rest)) = (sources.as_chunks::<8>(), row.as_chunks::<8>());
    let mut sums = [T::ZERO; 8];
    for (x, g) in x.iter().zip(g) {
        for (sum, (&x, &g)) in sums.iter_mut().zip(x.iter().zip(g)) {
            *sum += x * g;
        }
    }
    let rest = x_rest
        .iter()
        .zip(g_rest)
        .map(|(x, g)| x.to_f64() * g.to_f64());
    sums.iter().map(|sum| sum.to_f64()).sum::<f64>() + rest.sum::<f64>()
}
