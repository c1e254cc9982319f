//! A random part.

use nearfar_core::Rng;
use serde::{Deserialize, Serialize};

use super::{Transform, image};
use crate::{Error, Image, Value};

/// Puts a margin around an image and takes a part of its own size out of that, at a random place.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Crop {
    /// Pixels of the margin on each side.
    pub margin: usize,
    /// What the margin is filled with.
    pub fill: f32,
}

impl Default for Crop {
    fn default() -> Self {
        Self {
            margin: 2,
            fill: 0.0,
        }
    }
}

impl Transform for Crop {
    fn apply(&self, value: Value, rng: &mut Rng) -> Result<Value, Error> {
        let image = image(value, "crop")?;
        // A margin as wide as the image already lets nothing of it be left.
        let mut place = |side: usize| {
            let margin = self.margin.min(side);
            rng.below(2 * margin + 1) as isize - margin as isize
        };
        let (right, down) = (place(image.width), place(image.height));
        Ok(Value::Image(moved(&image, right, down, self.fill)))
    }
}

fn moved(image: &Image, right: isize, down: isize, fill: f32) -> Image {
    let mut changed = Image::filled(image.channels, image.height, image.width, fill);
    let area = image.height * image.width;
    for channel in 0..image.channels {
        for y in 0..image.height {
            for x in 0..image.width {
                let from = (y.checked_add_signed(-down), x.checked_add_signed(-right));
                if let (Some(row), Some(column)) = from
                    && row < image.height
                    && column < image.width
                {
                    changed.values[channel * area + y * image.width + x] =
                        image.values[channel * area + row * image.width + column];
                }
            }
        }
    }
    changed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_moved_out_is_lost_and_what_comes_in_is_filled() {
        let image = Image {
            channels: 1,
            height: 2,
            width: 2,
            values: vec![1., 2., 3., 4.],
        };
        assert_eq!(moved(&image, 1, 0, 9.0).values, [9., 1., 9., 3.]);
        assert_eq!(moved(&image, 0, -1, 9.0).values, [3., 4., 9., 9.]);
        assert_eq!(moved(&image, -2, 0, 9.0).values, [9.; 4]);
    }
}
