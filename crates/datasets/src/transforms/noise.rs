//! Noise.

use nearfar_core::{NonNegative, Rng};
use serde::{Deserialize, Serialize};

use super::{Transform, refused};
use crate::{Error, Value};

/// Adds normal noise to each number of an image, a vector of features or the frames of a sound. (For the sound itself there is
/// `white_noise`.)
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Noise {
    /// Its deviation.
    pub deviation: NonNegative,
}

impl Default for Noise {
    fn default() -> Self {
        Self {
            deviation: NonNegative::literal(0.05),
        }
    }
}

impl Transform for Noise {
    fn apply(&self, mut value: Value, rng: &mut Rng) -> Result<Value, Error> {
        let values = match &mut value {
            Value::Image(image) => &mut image.values,
            Value::Features(features) => features,
            Value::Frames(frames) => &mut frames.values,
            Value::Array(array) => &mut array.values,
            other @ (Value::Tokens(_) | Value::Parsed { .. } | Value::Sound(_)) => {
                return Err(refused(
                    "noise",
                    "images, features, frames of sounds, volumes and views",
                    other,
                ));
            }
        };
        let deviation = self.deviation.get();
        values
            .iter_mut()
            .for_each(|x| *x += (deviation * rng.normal()) as f32);
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nearfar_core::{Purpose, Seed};

    #[test]
    fn noise_has_its_deviation() -> Result<(), Error> {
        let noise = Noise {
            deviation: NonNegative::literal(0.5),
        };
        let mut rng = Seed(1).rng(Purpose::Augmentation, 0);
        let Value::Features(x) = noise.apply(Value::Features(vec![3.0; 10_000]), &mut rng)? else {
            panic!("features stay features")
        };
        let variance = x.iter().map(|x| (x - 3.0).powi(2)).sum::<f32>() / x.len() as f32;
        assert!((variance - 0.25).abs() < 0.02, "{variance}"); // Five standard errors.
        Ok(())
    }
}
