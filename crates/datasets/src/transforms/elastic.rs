//! Bends, as a hand makes them.

use nearfar_core::{NonNegative, Positive, Rng};
use serde::{Deserialize, Serialize};

use super::{Transform, affine::at, image};
use crate::{Error, Image, Value};

/// Bends an image: every pixel is moved a little, and its neighbors nearly the same way, as the strokes of a character differ from
/// hand to hand.
///
/// Two fields of numbers that are uniform from −1 to 1 are smoothed by a normal curve of deviation `sigma` and multiplied by `alpha`:
/// how far each pixel looks to the side and down, in pixels. That is about `0.16 · alpha / sigma` on average (the root of the mean
/// square), 1.4 pixels for the defaults. New pixels are interpolated linearly; what lies outside is `fill`.
///
/// Source: Simard, Steinkraus, Platt, "Best practices for convolutional neural networks applied to visual document analysis", ICDAR
/// 2003, whose `alpha = 34` and `sigma = 4` are for digits of 29 by 29. At another size multiply both by the ratio of the sides, and
/// `alpha` by it once more.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Elastic {
    /// Strength; 0 changes nothing.
    pub alpha: NonNegative,
    /// How far moves are alike, in pixels.
    pub sigma: Positive,
    /// What lies outside of the image.
    pub fill: f32,
}

impl Default for Elastic {
    fn default() -> Self {
        Self {
            alpha: NonNegative::literal(34.0),
            sigma: Positive::literal(4.0),
            fill: 0.0,
        }
    }
}

impl Transform for Elastic {
    fn apply(&self, value: Value, rng: &mut Rng) -> Result<Value, Error> {
        let image = image(value, "elastic")?;
        let longest = image.height.max(image.width);
        if self.sigma.get() > longest as f64 {
            return Err(Error::Settings(format!(
                "`elastic.sigma` is {}, more than the longest side of an image, {longest}; all of it would be moved alike, for which \
                 there is `affine`",
                self.sigma.get()
            )));
        }
        if self.alpha.get() == 0.0 {
            return Ok(Value::Image(image));
        }
        let across = self.field([image.height, image.width], rng);
        let down = self.field([image.height, image.width], rng);
        let area = (image.height * image.width).max(1);
        let mut bent = Image::filled(image.channels, image.height, image.width, self.fill);
        for (new, old) in bent
            .values
            .chunks_exact_mut(area)
            .zip(image.values.chunks_exact(area))
        {
            for (place, value) in new.iter_mut().enumerate() {
                let (x, y) = ((place % image.width) as f64, (place / image.width) as f64);
                let (x, y) = (x + across[place], y + down[place]);
                *value = at(old, [image.height, image.width], x, y, self.fill);
            }
        }
        Ok(Value::Image(bent))
    }
}

impl Elastic {
    /// A smooth field of moves.
    fn field(&self, [height, width]: [usize; 2], rng: &mut Rng) -> Vec<f64> {
        let sigma = self.sigma.get();
        let radius = (3.0 * sigma).ceil() as usize;
        let mut curve: Vec<f64> = (0..=2 * radius)
            .map(|place| (-0.5 * ((place as f64 - radius as f64) / sigma).powi(2)).exp())
            .collect();
        let sum: f64 = curve.iter().sum();
        curve.iter_mut().for_each(|it| *it /= sum);
        // Numbers all around, so that moves at the border are as large as those in the middle.
        let (tall, wide) = (height + 2 * radius, width + 2 * radius);
        let drawn: Vec<f64> = (0..tall * wide)
            .map(|_| rng.uniform_between(-1.0, 1.0))
            .collect();
        // The numbers from a place on, so many places apart.
        let smooth = |values: &[f64], apart: usize| -> f64 {
            let pairs = values.iter().step_by(apart).zip(&curve);
            pairs.map(|(value, weight)| value * weight).sum()
        };
        let mut rows = Vec::with_capacity(tall * width);
        for row in drawn.chunks_exact(wide) {
            rows.extend((0..width).map(|x| smooth(&row[x..], 1)));
        }
        let mut field = Vec::with_capacity(height * width);
        for y in 0..height {
            field.extend(
                (0..width).map(|x| self.alpha.get() * smooth(&rows[y * width + x..], width)),
            );
        }
        field
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nearfar_core::{Purpose, Seed};

    #[test]
    fn moves_are_smooth_and_as_large_as_promised() {
        let elastic = Elastic::default();
        let (mut square, mut step) = (0.0, 0.0);
        for position in 0..40 {
            let field = elastic.field([28, 28], &mut Seed(1).rng(Purpose::Augmentation, position));
            square += field.iter().map(|it| it * it).sum::<f64>() / (40.0 * 784.0);
            let steps = field.chunks(28).flat_map(|row| row.windows(2));
            step += steps.map(|pair| (pair[1] - pair[0]).powi(2)).sum::<f64>() / (40.0 * 756.0);
        }
        // α / √3 · 1 / (2 √π σ)
        let expected = 34.0 / 3f64.sqrt() / (2.0 * std::f64::consts::PI.sqrt() * 4.0);
        assert!(
            (square.sqrt() - expected).abs() < 0.1,
            "{} {expected}",
            square.sqrt()
        );
        // The mean square of a step is that of the move times 1 / (2 σ²).
        assert!(
            (step.sqrt() - expected / 32f64.sqrt()).abs() < 0.03,
            "{}",
            step.sqrt()
        );
    }

    #[test]
    fn without_strength_nothing_moves_and_an_even_image_stays_even() -> Result<(), Error> {
        let image = Image {
            channels: 2,
            height: 5,
            width: 6,
            values: (0..60).map(|it| it as f32).collect(),
        };
        let rng = || Seed(1).rng(Purpose::Augmentation, 3);
        let apply = |alpha: f64, sigma: f64, fill: f32, image: &Image| {
            let elastic = Elastic {
                alpha: NonNegative::literal(alpha),
                sigma: Positive::literal(sigma),
                fill,
            };
            elastic.apply(image.clone().into(), &mut rng())
        };
        assert_eq!(apply(0.0, 4.0, 0.0, &image)?, Value::Image(image.clone()));
        let even = Image::filled(1, 9, 9, 0.5);
        assert_eq!(apply(34.0, 4.0, 0.5, &even)?, Value::Image(even));
        assert_ne!(apply(34.0, 4.0, 0.0, &image)?, Value::Image(image.clone()));
        let error = apply(1.0, 6.5, 0.0, &image)
            .expect_err("too smooth")
            .to_string();
        assert!(error.contains("`elastic.sigma` is 6.5"), "{error}");
        Ok(())
    }
}
