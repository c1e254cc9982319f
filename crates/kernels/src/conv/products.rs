//! A convolution as a matrix product for each image: what the kernel reads at a place becomes a column.
//!
//! The columns of one image live at a time, and the way back makes them again: kept, they would be as many times the input
//! as the kernel has numbers.

use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, Layout, Result, Tensor};

use super::{Geometry, Op, Pulled};
use crate::host::{read, slice};
use crate::lanes::Element;
use crate::slices::run;

/// What copying a number costs, in multiplications of a matrix product.
const COST: usize = 16;

pub(super) fn forward<T: Element>(
    geometry: &Geometry,
    (x, x_at): (&CpuStorage, &Layout),
    (weight, weight_at): (&CpuStorage, &Layout),
) -> Result<Vec<T>> {
    let &Geometry {
        batch,
        groups,
        inputs,
        outputs,
        ..
    } = geometry;
    let (depth, places) = (inputs * geometry.taps(), geometry.places());
    let mut y = Vec::with_capacity(batch * groups * outputs * places);
    let weight_at =
        Layout::contiguous_with_offset((groups, outputs, depth), weight_at.start_offset());
    let sizes = (groups, outputs, places, depth);
    let image_len = groups * inputs * geometry.area();
    for image in 0..batch {
        let product = if geometry.is_product() {
            let at = x_at.start_offset() + image * image_len;
            let at = Layout::contiguous_with_offset((groups, depth, places), at);
            weight.matmul(x, sizes, &weight_at, &at)?
        } else {
            let image = &slice::<T>(x, x_at)?[image * image_len..][..image_len];
            let columns = T::to_cpu_storage_owned(columns(geometry, image));
            let at = Layout::contiguous((groups, depth, places));
            weight.matmul(&columns, sizes, &weight_at, &at)?
        };
        y.extend_from_slice(product.as_slice::<T>()?);
    }
    Ok(y)
}

pub(super) fn backward<T: Element>(
    geometry: &Geometry,
    x: &Tensor,
    weight: &Tensor,
    gradient: &Tensor,
    op: &Op,
) -> Result<Pulled<T>> {
    let &Geometry {
        batch,
        groups,
        inputs,
        outputs,
        ..
    } = geometry;
    let (depth, places) = (inputs * geometry.taps(), geometry.places());
    let image_len = groups * inputs * geometry.area();
    let turned = weight
        .detach()
        .reshape((groups, outputs, depth))?
        .transpose(1, 2)?;
    let gradient = gradient.detach().contiguous()?;
    let mut to_weight = op.for_weight.then(|| vec![T::ZERO; weight.elem_count()]);
    let mut to_input = op.for_input.then(|| vec![T::ZERO; x.elem_count()]);
    for image in 0..batch {
        let gradient = gradient.get(image)?.reshape((groups, outputs, places))?;
        if let Some(to_weight) = &mut to_weight {
            let read_at = if geometry.is_product() {
                x.detach().get(image)?.reshape((groups, depth, places))?
            } else {
                let columns = read::<T, _>(&x.get(image)?, |image| Ok(columns(geometry, image)))?;
                Tensor::from_vec(columns, (groups, depth, places), x.device())?
            };
            // Image by image in their order, so that the sum does not depend on threads.
            read::<T, _>(&gradient.matmul(&read_at.transpose(1, 2)?)?, |product| {
                to_weight
                    .iter_mut()
                    .zip(product)
                    .for_each(|(sum, &x)| *sum += x);
                Ok(())
            })?;
        }
        if let Some(to_input) = &mut to_input {
            let to_image = &mut to_input[image * image_len..][..image_len];
            read::<T, _>(&turned.matmul(&gradient)?, |columns| {
                if geometry.is_product() {
                    to_image.copy_from_slice(columns);
                } else {
                    scatter(geometry, columns, to_image);
                }
                Ok(())
            })?;
        }
    }
    Ok(Pulled {
        input: to_input,
        weight: to_weight,
    })
}

impl Geometry {
    /// Whether an image is its own columns.
    fn is_product(&self) -> bool {
        self.taps() == 1 && self.stride == [1; 3] && self.padding == [0; 3]
    }
}

/// What the kernel reads: `(channels, taps, places)`.
fn columns<T: Element>(geometry: &Geometry, image: &[T]) -> Vec<T> {
    let (taps, places) = (geometry.taps(), geometry.places());
    let channels = image.len() / geometry.area();
    let mut columns = vec![T::ZERO; channels * taps * places];
    let work = columns.len() * COST;
    let tasks = columns
        .chunks_mut(taps * places)
        .zip(image.chunks(geometry.area()))
        .collect();
    let stride = geometry.stride[2];
    run(work, tasks, |(columns, channel): (&mut [T], &[T])| {
        geometry.each_row(|tap, place, count, source| {
            let row = &mut columns[tap * places + place..][..count];
            if stride == 1 {
                row.copy_from_slice(&channel[source..][..count]);
            } else {
                for (to, from) in row.iter_mut().zip(channel[source..].iter().step_by(stride)) {
                    *to = *from;
                }
            }
        });
    });
    columns
}

/// Adds each number of the columns to where it was read.
fn scatter<T: Element>(geometry: &Geometry, columns: &[T], image: &mut [T]) {
    let (taps, places) = (geometry.taps(), geometry.places());
    let stride = geometry.stride[2];
    let tasks = image
        .chunks_mut(geometry.area())
        .zip(columns.chunks(taps * places))
        .collect();
    run(
        columns.len() * COST,
        tasks,
        |(channel, columns): (&mut [T], &[T])| {
            geometry.each_row(|tap, place, count, source| {
                let row = &columns[tap * places + place..][..count];
                let sources = channel[source..].iter_mut().step_by(stride);
                sources.zip(row).for_each(|(to, &from)| *to += from);
            });
        },
    );
}
