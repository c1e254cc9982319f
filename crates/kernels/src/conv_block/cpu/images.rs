//! Images of a batch, one after the other.

use candle_core::{CpuStorage, Layout, Result, bail};

use crate::slices::conv::{self, Conv, Images};
use crate::slices::gemm::Panels;
use crate::slices::{Lease, dispatch, lease};

/// Reads images and convolves them, one at a time.
pub(super) struct Convolver<'a> {
    conv: Conv,
    images: Images<'a>,
    /// The image that was read, and its rows where short ones are gathered.
    pub(super) image: Lease,
    pub(super) gathered: Lease,
    staged: Lease,
}

impl<'a> Convolver<'a> {
    pub(super) fn new(conv: Conv, images: Images<'a>) -> Self {
        let staged = if conv.stages(&images) {
            conv.channels * conv.size.0 * conv.size.1
        } else {
            0
        };
        Self {
            conv,
            images,
            image: lease(conv.image_len()),
            gathered: lease(conv.gathered_len()),
            staged: lease(staged),
        }
    }

    pub(super) fn read(&mut self, b: usize) {
        self.conv.read(
            &self.images,
            b,
            &mut self.staged,
            &mut self.image,
            &mut self.gathered,
        );
    }

    /// Convolves the image that was read.
    pub(super) fn convolve(&self, weights: &Panels, out: &mut [f32]) {
        let (conv, image, gathered) = (self.conv, &self.image, &self.gathered);
        dispatch(conv::Forward {
            conv,
            image,
            gathered,
            weights,
            out,
        });
    }
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
