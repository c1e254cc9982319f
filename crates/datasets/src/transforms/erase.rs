//! A part that is not seen.

use nearfar_core::{Fraction, Rng};
use serde::{Deserialize, Serialize};

use super::{Transform, image};
use crate::{Error, Value};

/// Paints over a random rectangle, now and then, so that no single part of an image decides. After Zhong et al., "Random
/// erasing data augmentation", AAAI 2020, with sides uniform up to a bound.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Erase {
    /// How often.
    pub probability: Fraction,
    /// Longest side of the rectangle, as a part of the image's side.
    pub size: Fraction,
    /// What it is painted with.
    pub fill: f32,
}

impl Default for Erase {
    fn default() -> Self {
        Self {
            probability: Fraction::literal(0.5),
            size: Fraction::literal(0.4),
            fill: 0.0,
        }
    }
}

impl Transform for Erase {
    fn apply(&self, value: Value, rng: &mut Rng) -> Result<Value, Error> {
        let mut image = image(value, "erase")?;
        if !rng.chance(self.probability.get()) {
            return Ok(Value::Image(image));
        }
        let mut span = |side: usize| {
            let length = (self.size.get() * rng.uniform() * side as f64).round() as usize;
            let start = rng.below(side - length.min(side) + 1);
            start..start + length.min(side)
        };
        let (columns, rows) = (span(image.width), span(image.height));
        let (width, area) = (image.width, image.height * image.width);
        for channel in 0..image.channels {
            for row in rows.clone() {
                image.values[channel * area + row * width..][columns.clone()].fill(self.fill);
            }
        }
        Ok(Value::Image(image))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Image;
    use nearfar_core::{Purpose, Seed};

    #[test]
    fn a_rectangle_within_bounds_is_painted() -> Result<(), Error> {
        let erase = Erase {
            probability: Fraction::literal(1.0),
            ..Erase::default()
        };
        let mut painted = 0;
        for position in 0..50 {
            let mut rng = Seed(2).rng(Purpose::Augmentation, position);
            let image = Image::filled(1, 10, 10, 1.0);
            let Value::Image(image) = erase.apply(image.into(), &mut rng)? else {
                panic!("images stay images")
            };
            let count = image.values.iter().filter(|&&x| x == 0.0).count();
            assert!(count <= 16, "{count}");
            painted += usize::from(count > 0);
        }
        assert!(painted > 20, "{painted}");
        Ok(())
    }
}
