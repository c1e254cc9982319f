//! A digest of what is in an archive, whatever way it is packed.
//!
//! A zip archive that somebody packed again has other bytes and another SHA-256, though every file in it may be the
//! same; and a PNG that was compressed again has other bytes, though every pixel is the same. The content digest is the
//! SHA-256 over one line for each member, sorted by path as bytes:
//!
//! ```text
//! path NUL kind NUL sha256(decoded) LF
//! ```
//!
//! where `path` is the member's [normalized](crate::archive::normalize) name, less the leading folders that
//! [`Content::strip`] takes off; folders have no line; and the hash is written as 64 lowercase hexadecimal digits.
//! `kind` and `decoded` are
//!
//! - for a name that ends in `.png`, `.bmp`, `.pbm`, `.pgm`, `.ppm` or `.pnm` (in upper or lower case): `image`, and
//!   width, height and channels, each as four bytes, least significant first; then the samples, row by row from the top
//!   left, the channels of a pixel side by side. Channels are 1 (gray), 2 (gray, alpha), 3 (red, green, blue) or 4 (with
//!   alpha), as the file stores them; a palette counts as the colors in it. A sample is one byte, gray of 1, 2 and 4 bits
//!   being spread over 0 to 255; where the file has 16 bits it is two bytes, least significant first.
//! - for everything else: `bytes`, and the bytes of the member. That holds for JPEG and WebP too: a lossy image has no
//!   pixels on which all decoders agree.

use std::{collections::BTreeMap, io::Cursor, path::Path};

use image::{DynamicImage, ImageFormat, ImageReader};
use sha2::Digest as _;

use crate::{
    Content, Error, Sha256, Template,
    archive::{self, Limits},
};

/// The content digest of a zip or tar.gz archive, over the members that `content` covers.
///
/// # Errors
/// The archive cannot be read, or an image in it cannot be decoded.
pub fn digest(path: &Path, content: &Content) -> Result<Sha256, Error> {
    digest_members(path, &content.members, content.strip)
}

/// The content digest over the members whose name, less `strip` leading folders, has one of the forms; over all where
/// no form is given.
///
/// # Errors
/// As [`digest`].
pub fn digest_members(path: &Path, forms: &[Template], strip: usize) -> Result<Sha256, Error> {
    let mut lines = BTreeMap::new();
    archive::read(
        path,
        &Limits::default(),
        |name| covered(name, forms, strip).is_some(),
        |name, bytes| {
            let Some(short) = covered(name, forms, strip) else {
                return Ok(());
            };
            let line = member(path, name, &bytes)?;
            // Two folders may hold one name once they are taken off.
            if lines.insert(short.to_owned(), line).is_some() {
                let (archive, name) = (path.display().to_string(), short.to_owned());
                return Err(Error::Archive(archive::Error::Duplicate { archive, name }));
            }
            Ok(())
        },
    )?;
    let mut hasher = sha2::Sha256::new();
    for (name, (kind, hash)) in &lines {
        hasher.update(format!("{name}\0{kind}\0{hash}\n"));
    }
    Ok(Sha256(hasher.finalize().into()))
}

/// The name by which a member counts; `None` if it does not.
pub(crate) fn covered<'a>(name: &'a str, forms: &[Template], strip: usize) -> Option<&'a str> {
    let mut short = name;
    for _ in 0..strip {
        short = short.split_once('/')?.1;
    }
    (forms.is_empty() || forms.iter().any(|it| it.matches(short))).then_some(short)
}

/// Kind of a member, and hash of it decoded.
fn member(path: &Path, name: &str, bytes: &[u8]) -> Result<(&'static str, Sha256), Error> {
    let Some(format) = format(name) else {
        return Ok(("bytes", Sha256::of(bytes)));
    };
    let invalid = |source| Error::Image {
        archive: path.display().to_string(),
        name: name.to_owned(),
        source,
    };
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    let mut limits = image::Limits::default();
    limits.max_image_width = Some(16_384);
    limits.max_image_height = Some(16_384);
    limits.max_alloc = Some(256 << 20);
    reader.limits(limits);
    Ok((
        "image",
        Sha256::of(&decoded(&reader.decode().map_err(invalid)?)),
    ))
}

fn format(name: &str) -> Option<ImageFormat> {
    let extension = name.rsplit_once('.')?.1.to_ascii_lowercase();
    match extension.as_str() {
        "png" => Some(ImageFormat::Png),
        "bmp" => Some(ImageFormat::Bmp),
        "pbm" | "pgm" | "ppm" | "pnm" => Some(ImageFormat::Pnm),
        _ => None,
    }
}

/// Width, height, channels and samples, as the digest takes them.
fn decoded(image: &DynamicImage) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(12 + image.as_bytes().len());
    bytes.extend(image.width().to_le_bytes());
    bytes.extend(image.height().to_le_bytes());
    bytes.extend(u32::from(image.color().channel_count()).to_le_bytes());
    let wide =
        |samples: &[u16]| -> Vec<u8> { samples.iter().flat_map(|it| it.to_le_bytes()).collect() };
    match image {
        DynamicImage::ImageLuma16(it) => bytes.extend(wide(it)),
        DynamicImage::ImageLumaA16(it) => bytes.extend(wide(it)),
        DynamicImage::ImageRgb16(it) => bytes.extend(wide(it)),
        DynamicImage::ImageRgba16(it) => bytes.extend(wide(it)),
        // One byte a sample. None of the formats above is decoded to floating point.
        other => bytes.extend(other.as_bytes()),
    }
    bytes
}

#[cfg(test)]
mod tests {
    use image::{ColorType, ImageEncoder, codecs::png};

    use super::*;

    /// A square PNG of gray pixels under one of the encoder's settings.
    fn png(pixels: &[u8], compression: png::CompressionType, filter: png::FilterType) -> Vec<u8> {
        let mut bytes = Vec::new();
        let encoder = png::PngEncoder::new_with_quality(&mut bytes, compression, filter);
        let side = pixels.len().isqrt() as u32;
        encoder
            .write_image(pixels, side, side, ColorType::L8.into())
            .expect("it fits");
        bytes
    }

    fn of(members: &[(&str, &[u8])], forms: &[&str], strip: usize) -> Result<Sha256, Error> {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.zip");
        let members: Vec<_> = members
            .iter()
            .map(|(name, bytes)| ((*name).to_owned(), bytes.to_vec()))
            .collect();
        archive::write_zip(std::fs::File::create(&path).expect("a file"), &members)
            .expect("written");
        let forms: Vec<Template> = forms
            .iter()
            .map(|it| it.parse().expect("a template"))
            .collect();
        digest_members(&path, &forms, strip)
    }

    #[test]
    fn the_digest_is_the_one_that_is_written_down() -> Result<(), Error> {
        let pixels = png(
            &[0, 85, 170, 255],
            png::CompressionType::Best,
            png::FilterType::Paeth,
        );
        // The lines, by hand.
        let image = [2, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 0, 85, 170, 255];
        let lines = format!(
            "a/x.PNG\0image\0{}\nb.txt\0bytes\0{}\n",
            Sha256::of(&image),
            Sha256::of(b"hello")
        );
        assert_eq!(
            of(&[("b.txt", b"hello"), ("a/x.PNG", &pixels)], &[], 0)?,
            Sha256::of(lines.as_bytes())
        );
        assert_eq!(of(&[], &[], 0)?, Sha256::of(b""));
        Ok(())
    }

    #[test]
    fn an_image_counts_by_its_pixels_and_not_by_its_bytes() -> Result<(), Error> {
        let pixels: Vec<u8> = (0..256).map(|it: usize| (it * it % 251) as u8).collect();
        let one = png(&pixels, png::CompressionType::Best, png::FilterType::Sub);
        let two = png(
            &pixels,
            png::CompressionType::Uncompressed,
            png::FilterType::NoFilter,
        );
        let changed: Vec<u8> = pixels
            .iter()
            .enumerate()
            .map(|(at, it)| if at == 77 { it ^ 1 } else { *it })
            .collect();
        let other = png(&changed, png::CompressionType::Best, png::FilterType::Sub);
        assert_ne!(one, two);
        assert_eq!(
            of(&[("x.png", &one)], &[], 0)?,
            of(&[("x.png", &two)], &[], 0)?
        );
        assert_ne!(
            of(&[("x.png", &one)], &[], 0)?,
            of(&[("x.png", &other)], &[], 0)?
        );
        assert_ne!(
            of(&[("x.png", &one)], &[], 0)?,
            of(&[("y.png", &one)], &[], 0)?
        );
        // A graymap says the same as a PNG, but for its name.
        let graymap = [b"P5 2 2 255\n".as_slice(), &[0, 85, 170, 255]].concat();
        let commented = [b"P5\n# by hand\n2 2\n255\n".as_slice(), &[0, 85, 170, 255]].concat();
        assert_eq!(
            of(&[("x.pgm", &graymap)], &[], 0)?,
            of(&[("x.pgm", &commented)], &[], 0)?
        );
        Ok(())
    }

    #[test]
    fn sixteen_bits_are_two_bytes_least_significant_first() {
        let image = DynamicImage::ImageLuma16(
            image::ImageBuffer::from_raw(1, 1, vec![0x0102]).expect("it fits"),
        );
        assert_eq!(decoded(&image), [1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 2, 1]);
    }

    #[test]
    fn order_other_members_and_leading_folders_do_not_count() -> Result<(), Error> {
        let plain = of(
            &[("r/1.wav", b"one"), ("r/2.wav", b"two")],
            &["r/{n}.wav"],
            0,
        )?;
        assert_eq!(
            of(
                &[("r/2.wav", b"two"), ("README", b"!"), ("r/1.wav", b"one")],
                &["r/{n}.wav"],
                0
            )?,
            plain
        );
        assert_eq!(
            of(
                &[("x-1/r/1.wav", b"one"), ("x-1/r/2.wav", b"two")],
                &["r/{n}.wav"],
                1
            )?,
            plain
        );
        let twice = of(
            &[("x/r/1.wav", b"one"), ("y/r/1.wav", b"two")],
            &["r/{n}.wav"],
            1,
        );
        assert!(
            matches!(twice, Err(Error::Archive(archive::Error::Duplicate { .. }))),
            "{twice:?}"
        );
        Ok(())
    }

    #[test]
    fn a_broken_image_is_named() {
        match of(&[("x/y.png", b"no image")], &[], 0) {
            Err(Error::Image { name, .. }) => assert_eq!(name, "x/y.png"),
            other => panic!("{other:?}"),
        }
    }
}
