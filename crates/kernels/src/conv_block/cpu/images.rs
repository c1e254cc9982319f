//! Images of a batch, a group after the other.

use std::ops::Range;

use candle_core::{CpuStorage, Layout, Result, bail};

use crate::slices::conv::{self, Conv, Images, to_pixels};
use crate::slices::gemm::Panels;
use crate::slices::{Lease, dispatch, lease};

/// Reads images and convolves them, a group at a time.
pub(super) struct Convolver<'a> {
    conv: Conv,
    images: Images<'a>,
    image: Lease,
    gathered: Lease,
    staged: Lease,
    /// Images that were read.
    count: usize,
}

impl<'a> Convolver<'a> {
    /// For groups of up to `group` images.
    pub(super) fn new(conv: Conv, images: Images<'a>, group: usize) -> Self {
        let staged = if conv.stages(&images) {
            conv.channels * conv.size.0 * conv.size.1
        } else {
            0
        };
        Self {
            conv,
            images,
            image: lease(group * conv.image_len()),
            gathered: lease(group * conv.gathered_len()),
            staged: lease(staged),
            count: 0,
        }
    }

    pub(super) fn read(&mut self, images: Range<usize>) {
        self.count = images.len();
        let places = pieces(&mut self.image, self.conv.image_len());
        let gathered = pieces(&mut self.gathered, self.conv.gathered_len());
        for (b, (image, gathered)) in images.zip(places.zip(gathered)) {
            self.conv
                .read(&self.images, b, &mut self.staged, image, gathered);
        }
    }

    /// The images that were read, and their rows where short ones are gathered.
    pub(super) fn seen(&self) -> (&[f32], &[f32]) {
        let (image, gathered) = (self.conv.image_len(), self.conv.gathered_len());
        (
            &self.image[..self.count * image],
            &self.gathered[..self.count * gathered],
        )
    }

    /// Convolves the images that were read.
    pub(super) fn convolve(&self, weights: &Panels, out: &mut [f32]) {
        let (conv, (image, gathered)) = (self.conv, self.seen());
        dispatch(conv::Forward {
            conv,
            image,
            gathered,
            weights,
            out,
        });
    }
}

/// Turns one image after another to channels last.
pub(super) struct Turner<'a> {
    planes: &'a [f32],
    width: usize,
    staged: Lease,
    pixels: Lease,
}

impl<'a> Turner<'a> {
    pub(super) fn new(
        planes: &'a [f32],
        planes_len: usize,
        pooled_len: usize,
        width: usize,
    ) -> Self {
        Self {
            planes,
            width,
            staged: lease(planes_len),
            pixels: lease(pooled_len),
        }
    }

    pub(super) fn turn(&mut self, b: usize) -> &[f32] {
        // Memory is read in order; the copy in the cache is read across.
        let planes = image(self.planes, self.staged.len(), b);
        self.staged.copy_from_slice(planes);
        to_pixels(&self.staged, self.width, &mut self.pixels);
        &self.pixels
    }
}

/// Runs of up to `size` of these images.
pub(super) fn runs(images: Range<usize>, size: usize) -> impl Iterator<Item = Range<usize>> {
    let end = images.end;
    images
        .step_by(size)
        .map(move |first| first..end.min(first + size))
}

/// Image `b` of a buffer of images of `len` values.
pub(super) fn image<T>(images: &[T], len: usize, b: usize) -> &[T] {
    &images[b * len..][..len]
}

/// A buffer cut into pieces of `size`; without end, so that an empty buffer gives empty pieces.
pub(super) fn pieces<T>(buffer: &mut [T], size: usize) -> impl Iterator<Item = &mut [T]> {
    buffer
        .chunks_mut(size.max(1))
        .chain(std::iter::repeat_with(|| -> &mut [T] { &mut [] }))
}

fn values<'s>(storage: &'s CpuStorage, what: &str) -> Result<&'s [f32]> {
    match storage {
        CpuStorage::F32(values) => Ok(values),
        _ => bail!("conv_block: {what} is not f32 on the way through the operation"),
    }
}

pub(super) fn images<'s>(storage: &'s CpuStorage, layout: &Layout) -> Result<Images<'s>> {
    let data = &values(storage, "`input`")?[layout.start_offset()..];
    match *layout.stride() {
        [b, c, h, w] => Ok(Images {
            data,
            strides: [b, c, h, w],
        }),
        _ => bail!(
            "conv_block: `input` has shape {:?}; it must have four dimensions",
            layout.dims()
        ),
    }
}

pub(super) fn contiguous<'s>(
    storage: &'s CpuStorage,
    layout: &Layout,
    what: &str,
) -> Result<&'s [f32]> {
    match layout.contiguous_offsets() {
        Some((from, to)) => Ok(&values(storage, what)?[from..to]),
        None => bail!("conv_block: {what} is not contiguous on the way through the operation"),
    }
}
