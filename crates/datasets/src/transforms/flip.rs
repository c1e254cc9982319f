//! Mirror images.

use nearfar_core::{Fraction, Rng};
use serde::{Deserialize, Serialize};

use super::{Transform, image};
use crate::{Error, Value};

/// Swaps left and right, or top and bottom, at random.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Flip {
    /// How often left and right are swapped.
    pub horizontal: Fraction,
    /// How often top and bottom are swapped.
    pub vertical: Fraction,
}

impl Default for Flip {
    fn default() -> Self {
        Self {
            horizontal: Fraction::literal(0.5),
            vertical: Fraction::literal(0.0),
        }
    }
}

impl Transform for Flip {
    fn apply(&self, value: Value, rng: &mut Rng) -> Result<Value, Error> {
        let mut image = image(value, "flip")?;
        let (horizontal, vertical) = (
            rng.chance(self.horizontal.get()),
            rng.chance(self.vertical.get()),
        );
        let (width, area) = (image.width.max(1), (image.height * image.width).max(1));
        if horizontal {
            image
                .values
                .chunks_exact_mut(width)
                .for_each(<[f32]>::reverse);
        }
        if vertical {
            for plane in image.values.chunks_exact_mut(area) {
                // Backwards as a whole, then each row again, leaves the rows in reverse.
                plane.reverse();
                plane.chunks_exact_mut(width).for_each(<[f32]>::reverse);
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
    fn left_and_right_or_top_and_bottom_are_swapped() -> Result<(), Error> {
        let flipped = |horizontal, vertical| {
            let flip = Flip {
                horizontal: Fraction::literal(horizontal),
                vertical: Fraction::literal(vertical),
            };
            let image = Image {
                channels: 2,
                height: 2,
                width: 2,
                values: vec![1., 2., 3., 4., 5., 6., 7., 8.],
            };
            match flip.apply(image.into(), &mut Seed(1).rng(Purpose::Augmentation, 0)) {
                Ok(Value::Image(image)) => image.values,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(flipped(0.0, 0.0), [1., 2., 3., 4., 5., 6., 7., 8.]);
        assert_eq!(flipped(1.0, 0.0), [2., 1., 4., 3., 6., 5., 8., 7.]);
        assert_eq!(flipped(0.0, 1.0), [3., 4., 1., 2., 7., 8., 5., 6.]);
        Ok(())
    }
}
