//! Small turns, moves and changes of scale.

use nearfar_core::{Fraction, NonNegative, Rng};
use serde::{Deserialize, Serialize};

use super::{Transform, image};
use crate::{Error, Image, Value};

/// Turns, scales and moves an image about its center, each by an amount that is uniform within its bounds; the new
/// pixels are interpolated linearly.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Affine {
    /// Largest turn to either side, in radians.
    pub angle: NonNegative,
    /// Largest move in each direction, as a part of the image's side.
    pub shift: Fraction,
    /// Largest change of scale: 0.1 is from 0.9 to 1.1.
    pub scale: Fraction,
    /// Largest shear, as a part of the height.
    pub shear: Fraction,
    /// What lies outside of the image.
    pub fill: f32,
}

impl Default for Affine {
    fn default() -> Self {
        Self {
            angle: NonNegative::literal(0.17),
            shift: Fraction::literal(0.1),
            scale: Fraction::literal(0.0),
            shear: Fraction::literal(0.0),
            fill: 0.0,
        }
    }
}

impl Transform for Affine {
    fn apply(&self, value: Value, rng: &mut Rng) -> Result<Value, Error> {
        let image = image(value, "affine")?;
        let mut within = |bound: f64| rng.uniform_between(-bound, bound);
        let angle = within(self.angle.get());
        let shift = [
            within(self.shift.get()) * image.width as f64,
            within(self.shift.get()) * image.height as f64,
        ];
        // A scale of 0 would divide by it; the smallest image is a hundredth.
        let scale = (1.0 + within(self.scale.get())).max(0.01);
        let shear = within(self.shear.get());
        Ok(Value::Image(warped(
            &image, angle, shift, scale, shear, self.fill,
        )))
    }
}

/// Every new pixel asks where it was before: moved back, turned back, sheared back, scaled back.
fn warped(
    image: &Image,
    angle: f64,
    [right, down]: [f64; 2],
    scale: f64,
    shear: f64,
    fill: f32,
) -> Image {
    let (sin, cos) = angle.sin_cos();
    let (middle_x, middle_y) = (
        (image.width as f64 - 1.0) / 2.0,
        (image.height as f64 - 1.0) / 2.0,
    );
    let mut changed = Image::filled(image.channels, image.height, image.width, fill);
    let area = image.height * image.width;
    for y in 0..image.height {
        for x in 0..image.width {
            let (dx, dy) = (x as f64 - middle_x - right, y as f64 - middle_y - down);
            let (turned_x, turned_y) = (cos * dx + sin * dy, cos * dy - sin * dx);
            let from_x = (turned_x - shear * turned_y) / scale + middle_x;
            let from_y = turned_y / scale + middle_y;
            for channel in 0..image.channels {
                let plane = &image.values[channel * area..][..area];
                changed.values[channel * area + y * image.width + x] =
                    at(plane, [image.height, image.width], from_x, from_y, fill);
            }
        }
    }
    changed
}

/// The value at a place between pixels.
pub(super) fn at(plane: &[f32], [height, width]: [usize; 2], x: f64, y: f64, fill: f32) -> f32 {
    let (left, top) = (x.floor(), y.floor());
    let (along, below) = ((x - left) as f32, (y - top) as f32);
    let pixel = |column: f64, row: f64| {
        if column < 0.0 || row < 0.0 || column >= width as f64 || row >= height as f64 {
            fill
        } else {
            plane[row as usize * width + column as usize]
        }
    };
    let mix = |a: f32, b: f32, part: f32| a + (b - a) * part;
    mix(
        mix(pixel(left, top), pixel(left + 1.0, top), along),
        mix(pixel(left, top + 1.0), pixel(left + 1.0, top + 1.0), along),
        below,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::f64::consts::FRAC_PI_2;

    fn small() -> Image {
        Image {
            channels: 1,
            height: 3,
            width: 3,
            values: vec![1., 2., 3., 4., 5., 6., 7., 8., 9.],
        }
    }

    fn assert_near(image: &Image, expected: &[f32]) {
        for (found, expected) in image.values.iter().zip(expected) {
            assert!((found - expected).abs() < 1e-5, "{:?}", image.values);
        }
    }

    #[test]
    fn an_image_is_moved_turned_and_scaled_about_its_center() {
        assert_near(
            &warped(&small(), 0.0, [0.0; 2], 1.0, 0.0, 0.0),
            &small().values,
        );
        assert_near(
            &warped(&small(), 0.0, [1.0, 0.0], 1.0, 0.0, 0.0),
            &[0., 1., 2., 0., 4., 5., 0., 7., 8.],
        );
        assert_near(
            &warped(&small(), 0.0, [0.0, 0.5], 1.0, 0.0, 0.0),
            &[0.5, 1.0, 1.5, 2.5, 3.5, 4.5, 5.5, 6.5, 7.5],
        );
        // What was at the top is now at the right.
        assert_near(
            &warped(&small(), FRAC_PI_2, [0.0; 2], 1.0, 0.0, 0.0),
            &[7., 4., 1., 8., 5., 2., 9., 6., 3.],
        );
        assert_near(
            &warped(&small(), 0.0, [0.0; 2], 2.0, 0.0, 0.0),
            &[3., 3.5, 4., 4.5, 5., 5.5, 6., 6.5, 7.],
        );
    }

    #[test]
    fn what_lies_outside_is_filled() {
        let moved = warped(&small(), 0.0, [-5.0, 0.0], 1.0, 0.0, 0.25);
        assert_eq!(moved.values, [0.25; 9]);
    }
}
