//! Values on one scale.

use nearfar_core::{Positive, Rng};
use serde::{Deserialize, Serialize};

use super::{Transform, image};
use crate::{Error, Value};

/// Takes a mean and divides by a deviation. One number serves all channels, or there is one for each.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Normalize {
    /// What is taken.
    pub mean: Vec<f64>,
    /// What is divided by.
    pub deviation: Vec<Positive>,
}

impl Default for Normalize {
    /// From 0…1 to −1…1.
    fn default() -> Self {
        Self {
            mean: vec![0.5],
            deviation: vec![Positive::literal(0.5)],
        }
    }
}

impl Transform for Normalize {
    fn apply(&self, value: Value, _: &mut Rng) -> Result<Value, Error> {
        let mut image = image(value, "normalize")?;
        let fits = |count: usize| count == 1 || count == image.channels;
        if !fits(self.mean.len()) || !fits(self.deviation.len()) {
            return Err(Error::Settings(format!(
                "`normalize` has {} means and {} deviations; give one of each, or one for each of the {} channels",
                self.mean.len(),
                self.deviation.len(),
                image.channels
            )));
        }
        let area = (image.height * image.width).max(1);
        for (channel, plane) in image.values.chunks_exact_mut(area).enumerate() {
            let mean = self.mean[channel % self.mean.len()];
            let deviation = self.deviation[channel % self.deviation.len()].get();
            plane
                .iter_mut()
                .for_each(|x| *x = ((f64::from(*x) - mean) / deviation) as f32);
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
    fn channels_have_their_own_mean_or_share_one() {
        let apply = |mean: &[f64]| {
            let normalize = Normalize {
                mean: mean.to_vec(),
                ..Normalize::default()
            };
            normalize.apply(
                Image::filled(2, 1, 1, 1.0).into(),
                &mut Seed(0).rng(Purpose::Augmentation, 0),
            )
        };
        let values = |mean: &[f64]| match apply(mean) {
            Ok(Value::Image(image)) => image.values,
            other => panic!("{other:?}"),
        };
        assert_eq!(values(&[0.5]), [1.0, 1.0]);
        assert_eq!(values(&[0.5, 1.0]), [1.0, 0.0]);
        assert!(
            apply(&[0.0; 3])
                .unwrap_err()
                .to_string()
                .contains("3 means and 1 deviations")
        );
    }
}
