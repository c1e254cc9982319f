//! Pixels of images with the instances that they belong to.

use candle_core::{DType, Result, Tensor};
use nearfar_core::{Comparison, Error, Relation};

/// One image: its pixels that belong to an instance, and which.
pub(crate) struct Image {
    /// `(n, d)`
    pub(crate) pixels: Tensor,
    /// Of each pixel, from 0.
    pub(crate) instances: Vec<usize>,
    /// How many pixels each instance has.
    pub(crate) counts: Vec<usize>,
}

/// What the encoder's dense map is called.
pub(crate) const DENSE: &str = "dense";

/// The images of a batch: the map `dense` of shape `(b, d, height, width)`, and masks of 0 for the background and other numbers
/// for the instances, `(b, height, width)`.
pub(crate) fn images(name: &str, comparison: &Comparison<'_>) -> Result<Vec<Image>> {
    let Relation::Masks(masks) = comparison.relation else {
        return Err(comparison.cannot_read(name, "masks"))?;
    };
    let Some(dense) = comparison.anchors.extra.get(DENSE) else {
        Err(Error::Input(format!(
            "{name} learns from pixels; the encoder must give `{DENSE}` beside the embeddings"
        )))?
    };
    let (b, d, height, width) = match dense.dims() {
        [b, d, height, width] => (*b, *d, *height, *width),
        other => Err(Error::Shape(format!(
            "{name}: `{DENSE}` has shape {other:?}; (images, dimensions, height, width) is wanted"
        )))?,
    };
    if masks.dims() != [b, height, width] {
        Err(Error::Shape(format!(
            "{name}: `{DENSE}` has shape {:?}, the masks {:?}; images, height and width must agree",
            dense.dims(),
            masks.dims()
        )))?;
    }
    let numbers = masks.to_dtype(DType::U32)?.reshape((b, height * width))?;
    let numbers = numbers.to_vec2::<u32>()?;
    let mut images = Vec::with_capacity(b);
    for (image, numbers) in numbers.into_iter().enumerate() {
        let mut known = std::collections::BTreeMap::new();
        for &number in numbers.iter().filter(|it| **it != 0) {
            let next = known.len();
            known.entry(number).or_insert(next);
        }
        let (mut places, mut instances, mut counts) = (vec![], vec![], vec![0; known.len()]);
        for (place, number) in numbers.iter().enumerate() {
            if let Some(&instance) = known.get(number) {
                places.push(place as u32);
                instances.push(instance);
                counts[instance] += 1;
            }
        }
        let count = places.len();
        let places = Tensor::from_vec(places, count, dense.device())?;
        let pixels = dense.get(image)?.reshape((d, height * width))?.t()?;
        images.push(Image {
            pixels: pixels.contiguous()?.index_select(&places, 0)?,
            instances,
            counts,
        });
    }
    Ok(images)
}
