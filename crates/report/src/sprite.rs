//! Many small pictures in one.

use std::io::Cursor;

use base64::Engine;
use image::codecs::jpeg::JpegEncoder;
use image::imageops::{self, FilterType};
use image::{DynamicImage, GrayImage, ImageFormat, RgbImage};
use nearfar_eval::{Item, Picture};

/// A picture of cells in rows, each with one item's picture in its middle.
#[derive(Debug)]
pub(crate) struct Sprite {
    /// The picture as a `data:` URL.
    pub(crate) url: String,
    /// Cells in a row, and rows.
    pub(crate) columns: u32,
    pub(crate) rows: u32,
    /// Pixels of a cell's side.
    pub(crate) cell: u32,
    /// Which cell each of the given items has, by its number in the report.
    pub(crate) cells: std::collections::BTreeMap<u32, u32>,
    /// Items that have a picture, but no cell because there was no room.
    pub(crate) left_out: usize,
}

/// The largest side of a cell.
const LARGEST: u32 = 56;

/// Puts the pictures of the wanted items into one whose encoded size is at most `budget` bytes: those wanted first come
/// first. None if there are no pictures.
pub(crate) fn sprite(items: &[Item], wanted: &[u32], budget: usize) -> Option<Sprite> {
    let picture = |item: u32| {
        let picture = items.get(item as usize)?.picture.as_ref()?;
        picture.is_whole().then_some((item, picture))
    };
    let all: Vec<(u32, &Picture)> = wanted.iter().filter_map(|&item| picture(item)).collect();
    let largest = all
        .iter()
        .map(|(_, picture)| picture.width.max(picture.height))
        .max()?;
    let cell = largest.min(LARGEST);
    let gray = all.iter().all(|(_, picture)| picture.channels == 1);
    let mut count = all.len();
    loop {
        let shown = &all[..count];
        let columns = (count as f64).sqrt().ceil() as u32;
        let rows = (count as u32).div_ceil(columns);
        let bytes = encode(shown, gray, cell, columns, rows)?;
        if bytes.len() <= budget || count == 1 {
            let kind = if gray { "png" } else { "jpeg" };
            let text = base64::engine::general_purpose::STANDARD.encode(bytes);
            return Some(Sprite {
                url: format!("data:image/{kind};base64,{text}"),
                columns,
                rows,
                cell,
                cells: (0..)
                    .zip(shown)
                    .map(|(cell, (item, _))| (*item, cell))
                    .collect(),
                left_out: all.len() - count,
            });
        }
        // A little less than the share that would fit, because the next try costs as much again.
        count = ((count as f64 * budget as f64 / bytes.len() as f64 * 0.95) as usize)
            .clamp(1, count - 1);
    }
}

fn encode(
    shown: &[(u32, &Picture)],
    gray: bool,
    cell: u32,
    columns: u32,
    rows: u32,
) -> Option<Vec<u8>> {
    let (width, height) = (columns * cell, rows * cell);
    // Where pictures do not fill their cell, the sprite is of the color of their border in the page: white.
    let mut sheet = if gray {
        DynamicImage::ImageLuma8(GrayImage::new(width, height))
    } else {
        DynamicImage::ImageRgb8(RgbImage::new(width, height))
    };
    for (place, (_, picture)) in (0..).zip(shown) {
        let mut picture = decoded(picture)?;
        if picture.width().max(picture.height()) > cell {
            picture = picture.resize(cell, cell, FilterType::Triangle);
        }
        let x = (place % columns) * cell + (cell - picture.width()) / 2;
        let y = (place / columns) * cell + (cell - picture.height()) / 2;
        let picture = if gray {
            DynamicImage::ImageLuma8(picture.to_luma8())
        } else {
            DynamicImage::ImageRgb8(picture.to_rgb8())
        };
        match (&mut sheet, &picture) {
            (DynamicImage::ImageLuma8(sheet), DynamicImage::ImageLuma8(picture)) => {
                imageops::replace(sheet, picture, x.into(), y.into());
            }
            (DynamicImage::ImageRgb8(sheet), DynamicImage::ImageRgb8(picture)) => {
                imageops::replace(sheet, picture, x.into(), y.into());
            }
            _ => {}
        }
    }
    let mut bytes = Cursor::new(Vec::new());
    if gray {
        sheet.write_to(&mut bytes, ImageFormat::Png).ok()?;
    } else {
        // Photographs are several times larger as PNG.
        sheet
            .write_with_encoder(JpegEncoder::new_with_quality(&mut bytes, 82))
            .ok()?;
    }
    Some(bytes.into_inner())
}

fn decoded(picture: &Picture) -> Option<DynamicImage> {
    if !picture.is_whole() {
        return None;
    }
    let Picture {
        width,
        height,
        channels,
        pixels,
    } = picture.clone();
    match channels {
        1 => GrayImage::from_raw(width, height, pixels).map(DynamicImage::ImageLuma8),
        _ => RgbImage::from_raw(width, height, pixels).map(DynamicImage::ImageRgb8),
    }
}

/// One picture as PNG; none if it is not whole.
pub(crate) fn png(picture: &Picture) -> Option<Vec<u8>> {
    let mut bytes = Cursor::new(Vec::new());
    decoded(picture)?
        .write_to(&mut bytes, ImageFormat::Png)
        .ok()?;
    Some(bytes.into_inner())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(channels: u8, side: u32, noise: u32) -> Item {
        let size = side * side * u32::from(channels);
        let pixels = (0..size)
            .map(|i| ((i + 1).wrapping_mul(noise.wrapping_mul(2_654_435_761)) >> 13) as u8)
            .collect();
        Item {
            picture: Some(Picture {
                width: side,
                height: side,
                channels,
                pixels,
            }),
            ..Item::default()
        }
    }

    #[test]
    fn pictures_get_cells_in_the_order_they_are_wanted() {
        let items = [item(1, 8, 1), Item::default(), item(1, 4, 2), item(1, 8, 3)];
        let sprite = sprite(&items, &[3, 1, 0, 9], 1 << 20).unwrap();
        assert_eq!(sprite.cells, [(3, 0), (0, 1)].into());
        assert_eq!(
            (sprite.columns, sprite.rows, sprite.cell, sprite.left_out),
            (2, 1, 8, 0)
        );
        assert!(sprite.url.starts_with("data:image/png;base64,iVBOR"));
    }

    #[test]
    fn a_budget_is_kept_and_large_pictures_become_small() {
        let items: Vec<Item> = (1..40).map(|noise| item(3, 200, noise)).collect();
        let wanted: Vec<u32> = (0..39).collect();
        let sprite = sprite(&items, &wanted, 20_000).unwrap();
        assert!(
            sprite.url.len() < 20_000 * 4 / 3 + 100,
            "{}",
            sprite.url.len()
        );
        assert_eq!(sprite.cell, LARGEST);
        assert!(sprite.left_out > 0 && sprite.cells.contains_key(&0));
        assert_eq!(sprite.left_out + sprite.cells.len(), 39);
    }

    #[test]
    fn no_pictures_no_sprite() {
        assert!(sprite(&[Item::default()], &[0], 1000).is_none());
        let broken = Picture {
            width: 100,
            height: 100,
            channels: 1,
            pixels: vec![0],
        };
        assert!(
            sprite(
                &[Item {
                    picture: Some(broken),
                    ..Item::default()
                }],
                &[0],
                1000
            )
            .is_none()
        );
    }
}
