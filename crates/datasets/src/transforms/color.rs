//! Light and colors.

use nearfar_core::{Fraction, Rng};
use serde::{Deserialize, Serialize};

use super::{Transform, image};
use crate::{Error, Image, Value};

/// Changes the light and the colors of an image, each by an amount that is uniform within its bounds, in this order:
///
/// ```text
/// brightness   x · b                                   b from 1 − brightness to 1 + brightness
/// contrast     m + c · (x − m)                         m the mean gray of the image
/// saturation   g + s · (x − g)                         g the gray of the pixel, 0.2126 R + 0.7152 G + 0.0722 B
/// hue          turned about the circle of hues         by a part of it, from −hue to hue
/// ```
///
/// Each result is cut to 0 … 1; of an image that goes beyond, such as a normalized one, to what it has. Saturation and hue leave images of one channel alone, and those of other than three channels are
/// refused. A strength of 0 changes nothing.
///
/// After torchvision's `ColorJitter`, where the order is random and grays have the older weights of ITU-R BT.601.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ColorChange {
    /// Largest change of brightness.
    pub brightness: Fraction,
    /// Largest change of contrast.
    pub contrast: Fraction,
    /// Largest change of saturation.
    pub saturation: Fraction,
    /// Largest turn of hues, as a part of the circle.
    pub hue: Fraction,
}

impl Default for ColorChange {
    fn default() -> Self {
        Self {
            brightness: Fraction::literal(0.3),
            contrast: Fraction::literal(0.3),
            saturation: Fraction::literal(0.3),
            hue: Fraction::literal(0.05),
        }
    }
}

impl Transform for ColorChange {
    fn apply(&self, value: Value, rng: &mut Rng) -> Result<Value, Error> {
        let mut image = image(value, "color")?;
        if ![1, 3].contains(&image.channels) {
            return Err(Error::Settings(format!(
                "`color` changes images of 1 or 3 channels, but these have {}",
                image.channels
            )));
        }
        // All four are drawn whatever their strength is, so that one setting does not move the others.
        let mut within = |bound: Fraction| rng.uniform_between(-bound.get(), bound.get());
        let brightness = 1.0 + within(self.brightness);
        let contrast = 1.0 + within(self.contrast);
        let saturation = 1.0 + within(self.saturation);
        let hue = within(self.hue);
        let ends = image.values.iter().fold([0f64, 1.0], |[low, high], &it| {
            [low.min(f64::from(it)), high.max(f64::from(it))]
        });
        if self.brightness.get() > 0.0 {
            blend(&mut image, ends, brightness, |_| 0.0);
        }
        if self.contrast.get() > 0.0 {
            let grays = image.values.len() / image.channels;
            let mean = (0..grays).map(|at| gray(&image, at)).sum::<f64>() / grays.max(1) as f64;
            blend(&mut image, ends, contrast, |_| mean);
        }
        if image.channels == 3 && self.saturation.get() > 0.0 {
            let grays: Vec<f64> = (0..image.values.len() / 3)
                .map(|at| gray(&image, at))
                .collect();
            blend(&mut image, ends, saturation, |at| grays[at]);
        }
        if image.channels == 3 && self.hue.get() > 0.0 {
            let area = image.height * image.width;
            for at in 0..area {
                let pixel = [0, 1, 2].map(|channel| f64::from(image.values[channel * area + at]));
                for (channel, value) in turned(pixel, hue).into_iter().enumerate() {
                    image.values[channel * area + at] = value as f32;
                }
            }
        }
        Ok(Value::Image(image))
    }
}

/// The gray of a pixel.
fn gray(image: &Image, at: usize) -> f64 {
    let area = image.height * image.width;
    let value = |channel: usize| f64::from(image.values[channel * area + at]);
    match image.channels {
        1 => value(0),
        _ => 0.2126 * value(0) + 0.7152 * value(1) + 0.0722 * value(2),
    }
}

/// Every value so many times as far from another one, which each pixel has, and between two ends.
fn blend(image: &mut Image, [low, high]: [f64; 2], factor: f64, from: impl Fn(usize) -> f64) {
    let area = (image.height * image.width).max(1);
    for plane in image.values.chunks_exact_mut(area) {
        for (at, value) in plane.iter_mut().enumerate() {
            let from = from(at);
            *value = (from + factor * (f64::from(*value) - from)).clamp(low, high) as f32;
        }
    }
}

/// A color with its hue turned by a part of the circle; its largest and smallest channel keep their values (HSV).
fn turned([red, green, blue]: [f64; 3], turn: f64) -> [f64; 3] {
    let (high, low) = (red.max(green).max(blue), red.min(green).min(blue));
    let range = high - low;
    if range <= 0.0 {
        return [red, green, blue];
    }
    let sixth = if high == red {
        (green - blue) / range
    } else if high == green {
        2.0 + (blue - red) / range
    } else {
        4.0 + (red - green) / range
    };
    let sixth = sixth + 6.0 * turn;
    // How near each channel is to the largest: 1 within a sixth of its own hue, 0 beyond two.
    [0.0, 2.0, 4.0].map(|own| {
        let apart = (sixth - own).rem_euclid(6.0);
        let apart = apart.min(6.0 - apart);
        low + range * (2.0 - apart).clamp(0.0, 1.0)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use nearfar_core::{Purpose, Seed};

    const NONE: Fraction = Fraction::literal(0.0);
    const STILL: ColorChange = ColorChange {
        brightness: NONE,
        contrast: NONE,
        saturation: NONE,
        hue: NONE,
    };

    fn changed(color: &ColorChange, values: &[f32], channels: usize, position: u64) -> Vec<f32> {
        let image = Image {
            channels,
            height: 1,
            width: values.len() / channels,
            values: values.to_vec(),
        };
        let mut rng = Seed(1).rng(Purpose::Augmentation, position);
        match color.apply(image.into(), &mut rng) {
            Ok(Value::Image(image)) => image.values,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_strength_of_zero_changes_nothing() {
        let odd = [-0.5, 0.25, 1.5];
        assert_eq!(changed(&STILL, &odd, 3, 0), odd); // Nor is anything cut.
        assert_eq!(changed(&STILL, &odd, 1, 0), odd);
    }

    #[test]
    fn normalized_images_keep_what_is_below_zero() {
        let strength = Fraction::literal(0.3);
        let darker = ColorChange {
            brightness: strength,
            ..STILL
        };
        for position in 0..20 {
            let found = changed(&darker, &[-2.0, 0.5, 2.5], 1, position);
            let factor = found[1] / 0.5;
            assert!(
                (found[0] - (-2.0 * factor).max(-2.0)).abs() < 1e-6,
                "{found:?}"
            );
            assert!(
                (found[2] - (2.5 * factor).min(2.5)).abs() < 1e-6,
                "{found:?}"
            );
        }
    }

    #[test]
    fn hues_go_around_the_circle() {
        let near = |found: [f64; 3], expected: [f64; 3]| {
            for (a, b) in found.iter().zip(&expected) {
                assert!((a - b).abs() < 1e-12, "{found:?} {expected:?}");
            }
        };
        near(turned([1.0, 0.0, 0.0], 1.0 / 3.0), [0.0, 1.0, 0.0]);
        near(turned([0.8, 0.2, 0.2], -1.0 / 3.0), [0.2, 0.2, 0.8]);
        near(turned([1.0, 0.0, 0.0], 1.0 / 6.0), [1.0, 1.0, 0.0]);
        near(turned([0.3, 0.7, 0.5], 1.0), [0.3, 0.7, 0.5]);
        near(turned([0.4, 0.4, 0.4], 0.2), [0.4, 0.4, 0.4]);
    }

    #[test]
    fn light_is_changed_within_its_bounds_and_what_a_change_keeps_is_kept() {
        let values = [0.2f32, 0.4, 0.3, 0.3, 0.1, 0.5]; // Two pixels of three channels.
        let strength = Fraction::literal(0.3);
        for position in 0..50 {
            let of = |color: ColorChange| changed(&color, &values, 3, position);
            let ratio = of(ColorChange {
                brightness: strength,
                ..STILL
            })[0]
                / 0.2;
            assert!((0.699..1.301).contains(&ratio), "{ratio}");
            let gray = |values: &[f32], at: usize| {
                0.2126 * values[at] + 0.7152 * values[2 + at] + 0.0722 * values[4 + at]
            };
            let contrasted = of(ColorChange {
                contrast: strength,
                ..STILL
            });
            let mean = |values: &[f32]| (gray(values, 0) + gray(values, 1)) / 2.0;
            assert!((mean(&contrasted) - mean(&values)).abs() < 1e-6);
            let saturated = of(ColorChange {
                saturation: strength,
                ..STILL
            });
            assert!((gray(&saturated, 1) - gray(&values, 1)).abs() < 1e-6);
            let hued = of(ColorChange {
                hue: strength,
                ..STILL
            });
            let largest = |values: &[f32]| values[1].max(values[3]).max(values[5]);
            assert!((largest(&hued) - largest(&values)).abs() < 1e-6);
            let bright = changed(
                &ColorChange {
                    brightness: strength,
                    ..STILL
                },
                &[0.9],
                1,
                position,
            );
            assert!((0.0..=1.0).contains(&bright[0]));
        }
    }

    #[test]
    fn other_numbers_of_channels_are_refused() {
        let image = Image::filled(2, 2, 2, 0.5);
        let mut rng = Seed(1).rng(Purpose::Augmentation, 0);
        let error = ColorChange::default()
            .apply(image.into(), &mut rng)
            .expect_err("two channels");
        assert!(error.to_string().contains("these have 2"), "{error}");
    }
}
