//! Images with the instance that each pixel is of.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::{
    Annotation, Dataset, Error, Limits, Mask, Sample, Size, Thumbnail,
    error::{Fault, Sink, shown},
    formats::image_files::{ImageFile, ImageFiles},
    pixels::{Color, decode_file},
};

/// The folders of a set with masks.
const IMAGES: &str = "images";
const MASKS: &str = "masks";

/// The images of a folder that have a mask, and the masks, in the order of their names. What is wrong goes to the sink.
pub(crate) fn read(
    folder: &Path,
    sink: &mut dyn Sink,
) -> Result<(Vec<ImageFile>, Vec<PathBuf>), Error> {
    let (images, masks) = (folder.join(IMAGES), folder.join(MASKS));
    let of_masks = files(&masks)?;
    let (mut found, mut of_found) = (Vec::new(), Vec::new());
    for path in files(&images)? {
        let mask = of_masks
            .iter()
            .find(|it| it.file_stem() == path.file_stem());
        match mask {
            Some(mask) => {
                found.push(ImageFile {
                    path,
                    corners: None,
                });
                of_found.push(mask.clone());
            }
            None => {
                let fault = Fault::NoMask {
                    folder: shown(&masks),
                };
                sink.take(Error::bad(shown(&path), None, fault))?;
            }
        }
    }
    if found.is_empty() {
        let wanted = "images with a mask of the same name (`images/a.png` and `masks/a.png`)";
        return Err(Error::bad(shown(folder), None, Fault::Empty { wanted }));
    }
    Ok((found, of_found))
}

/// The files of a folder by name; hidden ones do not count.
fn files(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let fail = |source| Error::read(folder, source);
    let mut names: Vec<OsString> = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(fail)? {
        let entry = entry.map_err(fail)?;
        let hidden = entry.file_name().to_string_lossy().starts_with('.');
        if !hidden && entry.file_type().map_err(fail)?.is_file() {
            names.push(entry.file_name());
        }
    }
    names.sort_unstable();
    Ok(names.into_iter().map(|name| folder.join(name)).collect())
}

/// Images in files, with their masks.
pub(crate) struct MaskedImages {
    images: ImageFiles,
    masks: Vec<PathBuf>,
    size: Size,
    /// Whether masks of other sizes are resized, rather than refused.
    resize: bool,
    limits: Limits,
}

impl MaskedImages {
    pub(crate) fn new(
        images: ImageFiles,
        masks: Vec<PathBuf>,
        (size, resize): (Size, bool),
        limits: &Limits,
    ) -> Self {
        Self {
            images,
            masks,
            size,
            resize,
            limits: *limits,
        }
    }
}

impl Dataset for MaskedImages {
    fn labels(&self) -> &[u32] {
        self.images.labels()
    }

    fn sample(&self, index: u32) -> Result<Sample, Error> {
        self.images.sample(index)
    }

    fn annotation(&self) -> Annotation {
        Annotation::Masks
    }

    fn mask(&self, index: u32) -> Result<Option<Mask>, Error> {
        let path = &self.masks[index as usize];
        let pixels = decode_file(path, Some(Color::Rgb), &self.limits)?;
        let Size { height, width } = self.size;
        if !self.resize && (pixels.height, pixels.width) != (height, width) {
            let fault = Fault::ImageSize {
                found: [pixels.width, pixels.height],
                expected: [width, height],
            };
            return Err(Error::bad(shown(path), None, fault));
        }
        // The nearest pixel, since a number between two instances is neither.
        let at =
            |place: usize, new: usize, old: usize| ((2 * place + 1) * old / (2 * new)).min(old - 1);
        let mut instances = Vec::with_capacity(height * width);
        for y in 0..height {
            let row = at(y, height, pixels.height) * pixels.width;
            for x in 0..width {
                let color = &pixels.bytes[3 * (row + at(x, width, pixels.width))..][..3];
                let number = |channel: usize| u32::from(color[channel]);
                instances.push(number(0) << 16 | number(1) << 8 | number(2));
            }
        }
        Ok(Some(Mask {
            height,
            width,
            instances,
        }))
    }

    fn describe(&self, index: u32) -> String {
        self.images.describe(index)
    }

    fn thumbnail(&self, index: u32) -> Option<Thumbnail> {
        self.images.thumbnail(index)
    }
}

/// The same drawings, every second one of a class with light and dark exchanged.
pub(crate) struct TwoInks {
    pub(crate) base: Arc<dyn Dataset>,
    /// Drawings of a class, which follow one another.
    pub(crate) samples: u32,
}

impl TwoInks {
    /// The domain of a drawing.
    pub(crate) fn domain(&self, index: u32) -> u32 {
        (index % self.samples.max(1)) % 2
    }
}

impl Dataset for TwoInks {
    fn labels(&self) -> &[u32] {
        self.base.labels()
    }

    fn sample(&self, index: u32) -> Result<Sample, Error> {
        let mut sample = self.base.sample(index)?;
        if self.domain(index) == 1 {
            for input in &mut sample.inputs {
                if let crate::Value::Image(image) = input {
                    image
                        .values
                        .iter_mut()
                        .for_each(|value| *value = 1.0 - *value);
                }
            }
        }
        Ok(sample)
    }

    fn classes(&self) -> &[String] {
        self.base.classes()
    }

    fn describe(&self, index: u32) -> String {
        let ink = ["", ", light on dark"][self.domain(index) as usize];
        format!("{}{ink}", self.base.describe(index))
    }

    fn thumbnail(&self, index: u32) -> Option<Thumbnail> {
        let mut thumbnail = self.base.thumbnail(index)?;
        if self.domain(index) == 1 {
            thumbnail.pixels.iter_mut().for_each(|it| *it = 255 - *it);
        }
        Some(thumbnail)
    }
}
