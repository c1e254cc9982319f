//! Images as bytes: decoding within limits, and resizing.

use std::{
    fs::File,
    io::{BufRead, BufReader, Cursor, Seek},
    path::Path,
};

use image::{DynamicImage, ImageDecoder, ImageReader};
use serde::{Deserialize, Serialize};

use crate::{
    Error, Image, Thumbnail,
    error::{Fault, shown},
};

mod resize;

pub use resize::Filter;
pub(crate) use resize::{resize_bytes, resize_values};

/// How much of a file is believed before it is taken for a mistake or an attack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Longest side of an image.
    pub image_side: u32,
    /// Bytes of an image's pixels, and of what the decoder needs beside them.
    pub image_bytes: u64,
    /// Bytes of a file that is read as a whole: a table or a list.
    pub file_bytes: u64,
    /// Bytes of decoded images that a data set keeps in memory.
    pub memory_bytes: u64,
    /// Files that are looked at in a folder and those below it.
    pub files: usize,
}

impl Limits {
    /// Sides of 16,384; 256 MiB an image; 2 GiB a table; 2 GiB of images in memory; 10 million files.
    pub const DEFAULT: Self = Self {
        image_side: 16_384,
        image_bytes: 256 << 20,
        file_bytes: 2 << 30,
        memory_bytes: 2 << 30,
        files: 10_000_000,
    };
}

impl Default for Limits {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// How many numbers a pixel becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Color {
    /// One: luma as in ITU-R BT.709.
    Gray,
    /// Three.
    Rgb,
}

impl Color {
    /// Numbers a pixel.
    pub fn channels(self) -> usize {
        match self {
            Self::Gray => 1,
            Self::Rgb => 3,
        }
    }
}

/// Height and width. In a run file `size = 28` for both, or `size = [112, 92]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "OneOrTwo", into = "OneOrTwo")]
pub struct Size {
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
}

impl Size {
    /// As many rows as columns.
    pub const fn square(side: usize) -> Self {
        Self {
            height: side,
            width: side,
        }
    }

    pub(crate) fn check(self, setting: &str) -> Result<Self, Error> {
        let side = Limits::DEFAULT.image_side as usize;
        if self.height == 0 || self.width == 0 || self.height.max(self.width) > side {
            return Err(Error::Settings(format!(
                "`{setting}` is {} by {}; sides from 1 to {side} are possible",
                self.height, self.width
            )));
        }
        Ok(self)
    }
}

#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(untagged, expecting = "a side, or `[height, width]`")]
enum OneOrTwo {
    One(usize),
    Two([usize; 2]),
}

impl From<OneOrTwo> for Size {
    fn from(written: OneOrTwo) -> Self {
        match written {
            OneOrTwo::One(side) => Self::square(side),
            OneOrTwo::Two([height, width]) => Self { height, width },
        }
    }
}

impl From<Size> for OneOrTwo {
    fn from(size: Size) -> Self {
        if size.height == size.width {
            Self::One(size.height)
        } else {
            Self::Two([size.height, size.width])
        }
    }
}

/// Pixels of 8 bits, pixel by pixel, row by row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pixels {
    pub(crate) channels: usize,
    pub(crate) height: usize,
    pub(crate) width: usize,
    pub(crate) bytes: Vec<u8>,
}

impl Pixels {
    /// This size, by area where it shrinks.
    pub(crate) fn resized(self, size: Size, filter: Filter) -> Self {
        if (self.height, self.width) == (size.height, size.width) {
            return self;
        }
        let bytes = resize_bytes(
            &self.bytes,
            [self.height, self.width],
            self.channels,
            [size.height, size.width],
            filter,
        );
        Self {
            height: size.height,
            width: size.width,
            bytes,
            ..self
        }
    }

    /// The part inside of these corners.
    pub(crate) fn cropped(&self, [left, top, right, bottom]: [usize; 4]) -> Self {
        let mut bytes = Vec::with_capacity((right - left) * (bottom - top) * self.channels);
        for y in top..bottom {
            let row = &self.bytes[(y * self.width) * self.channels..][..self.width * self.channels];
            bytes.extend_from_slice(&row[left * self.channels..right * self.channels]);
        }
        Self {
            channels: self.channels,
            height: bottom - top,
            width: right - left,
            bytes,
        }
    }

    /// A picture with sides of 64 at most.
    pub(crate) fn thumbnail(self) -> Thumbnail {
        const SIDE: usize = 64;
        let longest = self.height.max(self.width);
        let small = if longest > SIDE {
            let side = |it: usize| (it * SIDE).div_ceil(longest).max(1);
            let size = Size {
                height: side(self.height),
                width: side(self.width),
            };
            self.resized(size, Filter::Box)
        } else {
            self
        };
        Thumbnail {
            width: small.width,
            height: small.height,
            channels: small.channels,
            pixels: small.bytes,
        }
    }
}

/// Bytes of pixels to numbers, channel by channel; `levels` says what each byte becomes.
pub(crate) fn to_image(
    bytes: &[u8],
    [channels, height, width]: [usize; 3],
    levels: &[f32; 256],
) -> Image {
    let mut values = Vec::with_capacity(bytes.len());
    for channel in 0..channels {
        values.extend(
            bytes
                .iter()
                .skip(channel)
                .step_by(channels)
                .map(|&byte| levels[byte as usize]),
        );
    }
    Image {
        channels,
        height,
        width,
        values,
    }
}

/// What each byte becomes: 0 to 1 up to `full`, or 1 to 0 where ink is dark.
pub(crate) fn levels(full: u8, dark_ink: bool) -> Box<[f32; 256]> {
    let mut levels = Box::new([0.0; 256]);
    for (byte, level) in levels.iter_mut().enumerate() {
        let light = byte as f32 / f32::from(full);
        *level = if dark_ink { 1.0 - light } else { light };
    }
    levels
}

/// Decodes an image that lies in memory; `label` names it in messages. Without a color it keeps its own.
pub(crate) fn decode(
    bytes: &[u8],
    label: &str,
    color: Option<Color>,
    limits: &Limits,
) -> Result<Pixels, Error> {
    decode_from(Cursor::new(bytes), label, color, limits)
}

/// Decodes an image file.
pub(crate) fn decode_file(
    path: &Path,
    color: Option<Color>,
    limits: &Limits,
) -> Result<Pixels, Error> {
    let file = File::open(path).map_err(|source| Error::read(path, source))?;
    decode_from(BufReader::new(file), &shown(path), color, limits)
}

fn decode_from(
    reader: impl BufRead + Seek,
    label: &str,
    color: Option<Color>,
    limits: &Limits,
) -> Result<Pixels, Error> {
    let fail = |source: image::ImageError| Error::Image {
        path: label.to_owned(),
        source,
    };
    let mut reader = ImageReader::new(reader)
        .with_guessed_format()
        .map_err(|source| Error::Read {
            path: label.to_owned(),
            source,
        })?;
    let mut bounds = image::Limits::no_limits();
    bounds.max_alloc = Some(limits.image_bytes);
    reader.limits(bounds);
    let mut decoder = reader.into_decoder().map_err(fail)?;
    let (width, height) = decoder.dimensions();
    let too_large = width.max(height) > limits.image_side
        || decoder.total_bytes() > limits.image_bytes
        // What is made of it next: three bytes a pixel.
        || u64::from(width) * u64::from(height) * 3 > limits.image_bytes;
    if too_large || width == 0 || height == 0 {
        return Err(Error::bad(
            label,
            None,
            Fault::ImageTooLarge {
                width,
                height,
                side: limits.image_side,
                bytes: limits.image_bytes,
            },
        ));
    }
    let orientation = decoder.orientation().map_err(fail)?;
    let mut image = DynamicImage::from_decoder(decoder).map_err(fail)?;
    image.apply_orientation(orientation);

    let gray = !image.color().has_color();
    let color = color.unwrap_or(if gray { Color::Gray } else { Color::Rgb });
    if image.color().has_alpha() {
        image = on_white(&image);
    }
    let (width, height) = (image.width() as usize, image.height() as usize);
    let bytes = match color {
        Color::Gray => image.into_luma8().into_raw(),
        Color::Rgb => image.into_rgb8().into_raw(),
    };
    Ok(Pixels {
        channels: color.channels(),
        height,
        width,
        bytes,
    })
}

/// What is transparent shows white paper below it.
fn on_white(image: &DynamicImage) -> DynamicImage {
    let blend = |value: u8, alpha: u8| {
        let (value, alpha) = (u32::from(value), u32::from(alpha));
        ((value * alpha + 255 * (255 - alpha) + 127) / 255) as u8
    };
    let mut rgb = image::RgbImage::new(image.width(), image.height());
    for (to, from) in rgb.pixels_mut().zip(image.to_rgba8().pixels()) {
        let [r, g, b, alpha] = from.0;
        to.0 = [blend(r, alpha), blend(g, alpha), blend(b, alpha)];
    }
    DynamicImage::ImageRgb8(rgb)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn png(width: u32, height: u32, color: image::ExtendedColorType, bytes: &[u8]) -> Vec<u8> {
        let mut file = Vec::new();
        image::ImageEncoder::write_image(
            image::codecs::png::PngEncoder::new(&mut file),
            bytes,
            width,
            height,
            color,
        )
        .expect("in memory");
        file
    }

    #[test]
    fn images_are_decoded_to_the_color_that_is_asked_for() -> Result<(), Error> {
        let file = png(
            2,
            1,
            image::ExtendedColorType::Rgb8,
            &[255, 0, 0, 10, 10, 10],
        );
        let as_it_is = decode(&file, "a.png", None, &Limits::DEFAULT)?;
        assert_eq!(
            (as_it_is.channels, as_it_is.bytes),
            (3, vec![255, 0, 0, 10, 10, 10])
        );
        let gray = decode(&file, "a.png", Some(Color::Gray), &Limits::DEFAULT)?;
        assert_eq!((gray.channels, gray.bytes), (1, vec![54, 10])); // 0.2126 · 255
        let image = to_image(&[1, 2, 3, 4, 5, 6], [3, 1, 2], &levels(1, false));
        assert_eq!(image.values, [1., 4., 2., 5., 3., 6.]);
        Ok(())
    }

    #[test]
    fn what_is_transparent_is_white() -> Result<(), Error> {
        let file = png(3, 1, image::ExtendedColorType::La8, &[0, 0, 0, 255, 0, 51]);
        let pixels = decode(&file, "a.png", None, &Limits::DEFAULT)?;
        assert_eq!((pixels.channels, pixels.bytes), (1, vec![255, 0, 204]));
        Ok(())
    }

    #[test]
    fn a_png_that_claims_huge_sides_is_refused_at_once() {
        // A whole header of 65,536 by 65,536 pixels of 16 bits, with the right checksum, and no data.
        let mut file = b"\x89PNG\r\n\x1a\n\0\0\0\x0d".to_vec();
        let header = b"IHDR\0\x01\0\0\0\x01\0\0\x10\x06\0\0\0";
        file.extend_from_slice(header);
        let mut crc = flate2::Crc::new();
        crc.update(header);
        file.extend_from_slice(&crc.sum().to_be_bytes());
        file.extend_from_slice(b"\0\0\0\0IDAT\x35\xaf\x06\x1e");
        let start = std::time::Instant::now();
        let error = decode(&file, "bomb.png", None, &Limits::DEFAULT).expect_err("too large");
        assert!(
            matches!(
                error,
                Error::Bad {
                    fault: Fault::ImageTooLarge { width: 65_536, .. },
                    ..
                } | Error::Image { .. }
            ),
            "{error}"
        );
        assert!(start.elapsed().as_millis() < 100);
    }

    #[test]
    fn truncated_and_other_files_are_no_images() {
        let noise: Vec<u8> = (0..64 * 64u32).map(|i| (i * 7919 % 251) as u8).collect();
        let file = png(64, 64, image::ExtendedColorType::L8, &noise);
        assert!(decode(&file, "a.png", None, &Limits::DEFAULT).is_ok());
        for bytes in [&file[..file.len() / 2], b"text", b""] {
            let error = decode(bytes, "a.png", None, &Limits::DEFAULT).expect_err("not whole");
            assert!(
                error.to_string().starts_with("a.png cannot be decoded"),
                "{error}"
            );
        }
    }

    proptest! {
        #[test]
        fn damaged_files_are_answered(at in 0usize..400, byte: u8, cut in 0usize..400) {
            let noise: Vec<u8> = (0..16 * 16u32).map(|i| (i * 7919 % 251) as u8).collect();
            let file = png(16, 16, image::ExtendedColorType::L8, &noise);
            let mut damaged = file.clone();
            let place = at % file.len();
            damaged[place] = byte;
            let _ = decode(&damaged, "a.png", None, &Limits::DEFAULT);
            damaged.truncate(cut);
            let _ = decode(&damaged, "a.png", Some(Color::Rgb), &Limits::DEFAULT);
        }
    }

    #[test]
    fn a_size_is_one_number_or_two() {
        #[derive(Deserialize, Debug)]
        struct Settings {
            size: Size,
        }
        let read = |text| toml::from_str::<Settings>(text).map(|it| it.size);
        assert_eq!(read("size = 28"), Ok(Size::square(28)));
        assert_eq!(
            read("size = [112, 92]"),
            Ok(Size {
                height: 112,
                width: 92
            })
        );
        assert!(
            read("size = \"x\"")
                .unwrap_err()
                .to_string()
                .contains("a side, or `[height, width]`")
        );
        assert!(Size::square(0).check("size").is_err());
    }
}
