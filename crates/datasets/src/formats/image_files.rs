//! Images that stay in their files.

use std::{
    path::PathBuf,
    sync::{Arc, OnceLock},
};

use crate::{
    Dataset, Error, Limits, Sample, Size, Thumbnail,
    error::{Fault, Sink, shown},
    pixels::{Color, Filter, Pixels, decode_file, levels, to_image},
    rows::Rows,
};

/// A file, and the part of it that counts.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ImageFile {
    pub(crate) path: PathBuf,
    /// Left, top, right, bottom.
    pub(crate) corners: Option<[f64; 4]>,
}

impl ImageFile {
    /// A file of which all counts.
    pub(crate) fn whole(path: PathBuf) -> Self {
        Self {
            path,
            corners: None,
        }
    }
}

/// How images are made alike.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Alike {
    pub(crate) size: Size,
    pub(crate) color: Color,
    pub(crate) dark_ink: bool,
    /// Whether images of other sizes are resized, rather than refused.
    pub(crate) resize: bool,
}

/// Images in files, decoded when they are asked for. What was decoded stays in memory as bytes if all of it will fit
/// within the limits.
pub(crate) struct ImageFiles {
    files: Vec<ImageFile>,
    alike: Alike,
    limits: Limits,
    levels: Box<[f32; 256]>,
    /// Empty if they would not fit.
    decoded: Vec<OnceLock<Box<[u8]>>>,
    labels: Vec<u32>,
    classes: Arc<[String]>,
}

impl ImageFiles {
    pub(crate) fn new(files: Vec<ImageFile>, alike: Alike, rows: &Rows, limits: &Limits) -> Self {
        let each = alike.size.height * alike.size.width * alike.color.channels();
        let fits = each as u128 * files.len() as u128 <= u128::from(limits.memory_bytes);
        Self {
            decoded: if fits {
                files.iter().map(|_| OnceLock::new()).collect()
            } else {
                Vec::new()
            },
            files,
            alike,
            limits: *limits,
            levels: levels(255, alike.dark_ink),
            labels: rows.labels.clone(),
            classes: rows.classes.clone().into(),
        }
    }

    fn shape(&self) -> [usize; 3] {
        [
            self.alike.color.channels(),
            self.alike.size.height,
            self.alike.size.width,
        ]
    }

    /// The pixels of a file, made alike.
    pub(crate) fn pixels(&self, index: u32) -> Result<Pixels, Error> {
        let file = &self.files[index as usize];
        let pixels = whole(file, Some(self.alike.color), &self.limits)?;
        let found = [pixels.height, pixels.width];
        let size = self.alike.size;
        if !self.alike.resize && found != [size.height, size.width] {
            return Err(Error::bad(
                shown(&file.path),
                None,
                Fault::ImageSize {
                    found: [found[1], found[0]],
                    expected: [size.width, size.height],
                },
            ));
        }
        Ok(pixels.resized(size, Filter::Box))
    }
}

/// The pixels of a file within its corners.
fn whole(file: &ImageFile, color: Option<Color>, limits: &Limits) -> Result<Pixels, Error> {
    let pixels = decode_file(&file.path, color, limits)?;
    let Some(corners) = file.corners else {
        return Ok(pixels);
    };
    let [left, top, right, bottom] = corners.map(|it| it.round().max(0.0) as usize);
    if left >= right || top >= bottom || right > pixels.width || bottom > pixels.height {
        return Err(Error::bad(
            shown(&file.path),
            None,
            Fault::Box {
                corners,
                image: [pixels.width as u32, pixels.height as u32],
            },
        ));
    }
    Ok(pixels.cropped([left, top, right, bottom]))
}

/// What the first image that can be decoded says about size and color, where the settings say nothing.
pub(crate) fn first_alike(
    files: &[ImageFile],
    size: Option<Size>,
    color: Option<Color>,
    dark_ink: bool,
    place: &str,
    limits: &Limits,
    sink: &mut dyn Sink,
) -> Result<Alike, Error> {
    let resize = size.is_some();
    if let (Some(size), Some(color)) = (size, color) {
        return Ok(Alike {
            size,
            color,
            dark_ink,
            resize,
        });
    }
    for file in files {
        match whole(file, color, limits) {
            Ok(pixels) => {
                return Ok(Alike {
                    size: size.unwrap_or(Size {
                        height: pixels.height,
                        width: pixels.width,
                    }),
                    color: color.unwrap_or(match pixels.channels {
                        1 => Color::Gray,
                        _ => Color::Rgb,
                    }),
                    dark_ink,
                    resize,
                });
            }
            Err(error) => sink.take(error)?,
        }
    }
    Err(Error::bad(
        place,
        None,
        Fault::Empty {
            wanted: "images that can be decoded",
        },
    ))
}

impl Dataset for ImageFiles {
    fn labels(&self) -> &[u32] {
        &self.labels
    }

    fn sample(&self, index: u32) -> Result<Sample, Error> {
        let Some(kept) = self.decoded.get(index as usize) else {
            let pixels = self.pixels(index)?;
            return Ok(Sample::of(to_image(
                &pixels.bytes,
                self.shape(),
                &self.levels,
            )));
        };
        // Two threads may decode one file at once, to the same bytes.
        let bytes = match kept.get() {
            Some(bytes) => bytes,
            None => {
                let pixels = self.pixels(index)?;
                kept.get_or_init(|| pixels.bytes.into())
            }
        };
        Ok(Sample::of(to_image(bytes, self.shape(), &self.levels)))
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }

    fn describe(&self, index: u32) -> String {
        shown(&self.files[index as usize].path)
    }

    fn thumbnail(&self, index: u32) -> Option<Thumbnail> {
        self.pixels(index).ok().map(Pixels::thumbnail)
    }
}
