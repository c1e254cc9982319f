//! Samples as they are, and changed by each augmentation on its own: a sheet to look at.
//!
//! ```console
//! $ cargo run --release -p nearfar-datasets --example augmented -- run.toml sheet.png
//! ```
//!
//! Of a run file `data` and `augmentation` are read. A row is a sample, and all of its changes together at the end; of sounds the
//! frames are drawn, high bands above.

use std::{error::Error, path::Path};

use image::{Rgb, RgbImage};
use nearfar_core::{Purpose, Seed};
use nearfar_datasets::{DataConfig, Dataset, Frames, Image, Transform, TransformConfig, Value};

#[derive(serde::Deserialize)]
struct Run {
    data: DataConfig,
    #[serde(default)]
    augmentation: Vec<TransformConfig>,
}

/// Samples on the sheet, pixels of a number, and pixels between two pictures.
const SAMPLES: u32 = 4;
const SCALE: usize = 2;
const GAP: usize = 6;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(run), Some(sheet)) = (arguments.next(), arguments.next()) else {
        return Err("give a run file and the PNG to write".into());
    };
    let run: Run = toml::from_str(&std::fs::read_to_string(run)?)?;
    let root = std::env::var_os("NEARFAR_DATASETS").unwrap_or_else(|| "data".into());
    let data = run.data.load(Path::new(&root), Seed(7))?;
    let mut rows = Vec::new();
    for number in 0..SAMPLES.min(data.train.len() as u32) {
        let index = number * data.train.len() as u32 / SAMPLES;
        let alone = run.augmentation.chunks(1);
        let together = (run.augmentation.len() > 1).then_some(run.augmentation.as_slice());
        let lists = std::iter::once(&[][..]).chain(alone).chain(together);
        let pictures: Result<Vec<_>, _> = lists
            .map(|list| changed(&*data.train, index, list).and_then(picture))
            .collect();
        rows.push(pictures?);
    }
    drawn(&rows).save(sheet)?;
    Ok(())
}

/// A sample after these changes, as a loader makes them.
fn changed(
    dataset: &dyn Dataset,
    index: u32,
    augmentation: &[TransformConfig],
) -> Result<Value, Box<dyn Error>> {
    let mut rng = Seed(7).rng(Purpose::Augmentation, u64::from(index));
    let mut value = dataset.sample(index)?.inputs.swap_remove(0);
    let mut front_end = None;
    if augmentation.iter().any(|it| it.changes_sounds())
        && let Some((sound, of_sound)) = dataset.sound(index)?
    {
        (value, front_end) = (Value::Sound(sound), Some(of_sound));
    }
    let frames = |value| -> Result<Value, Box<dyn Error>> {
        Ok(match (value, front_end) {
            (Value::Sound(sound), Some(front_end)) => Value::Frames(front_end.frames(&sound)?),
            (value, _) => value,
        })
    };
    for transform in augmentation {
        if !transform.changes_sounds() {
            value = frames(value)?;
        }
        value = transform.apply(value, &mut rng)?;
    }
    frames(value)
}

/// A value as pixels.
fn picture(value: Value) -> Result<RgbImage, Box<dyn Error>> {
    let image = match value {
        Value::Image(image) => image,
        Value::Frames(frames) => spectrogram(&frames),
        _ => return Err("images and sounds can be drawn".into()),
    };
    let size = |it: usize| (it * SCALE) as u32;
    Ok(RgbImage::from_fn(
        size(image.width),
        size(image.height),
        |x, y| {
            let (x, y) = (x as usize / SCALE, y as usize / SCALE);
            Rgb([0, 1, 2].map(|channel| {
                let row = channel % image.channels * image.height + y;
                (image.values[row * image.width + x].clamp(0.0, 1.0) * 255.0).round() as u8
            }))
        },
    ))
}

/// Frames from left to right, high bands above, the loudest white.
fn spectrogram(frames: &Frames) -> Image {
    let all = || frames.values.iter().copied();
    let (low, high) = (
        all().fold(f32::MAX, f32::min),
        all().fold(f32::MIN, f32::max),
    );
    let mut image = Image::filled(1, frames.width, frames.count, 0.0);
    for (x, frame) in frames.values.chunks_exact(frames.width).enumerate() {
        for (y, value) in frame.iter().rev().enumerate() {
            image.values[y * frames.count + x] =
                (value - low) / (high - low).max(f32::MIN_POSITIVE);
        }
    }
    image
}

/// All pictures on one, row by row.
fn drawn(rows: &[Vec<RgbImage>]) -> RgbImage {
    let pictures = || rows.iter().flatten();
    let width = pictures().map(RgbImage::width).max().unwrap_or(1) + GAP as u32;
    let height = pictures().map(RgbImage::height).max().unwrap_or(1) + GAP as u32;
    let columns = rows.iter().map(Vec::len).max().unwrap_or(1) as u32;
    let gap = GAP as u32;
    let size = (columns * width + gap, rows.len() as u32 * height + gap);
    let mut sheet = RgbImage::from_pixel(size.0, size.1, Rgb([255; 3]));
    for (y, row) in (0u32..).zip(rows) {
        for (x, picture) in (0u32..).zip(row) {
            let place = (x * width + gap, y * height + gap);
            image::imageops::replace(&mut sheet, picture, place.0.into(), place.1.into());
        }
    }
    sheet
}
