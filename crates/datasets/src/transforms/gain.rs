//! Loudness.

use nearfar_core::{NonNegative, Rng};
use serde::{Deserialize, Serialize};

use super::{Transform, decibels, sound};
use crate::{Error, Value};

/// Makes a sound louder or softer, by an amount in dB that is uniform within its bounds: samples times `10^(dB / 20)`. They may go
/// beyond full scale, since nothing is cut off. More than 200 dB are refused.
///
/// It changes sounds, before frames are made of them. Frames that are leveled by their mean take it away again, but for what lies at
/// the floor of the logarithm.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Gain {
    /// Largest change to either side, in dB.
    pub decibels: NonNegative,
}

impl Default for Gain {
    fn default() -> Self {
        Self {
            decibels: NonNegative::literal(6.0),
        }
    }
}

impl Transform for Gain {
    fn apply(&self, value: Value, rng: &mut Rng) -> Result<Value, Error> {
        let mut sound = sound(value, "gain")?;
        let bound = decibels("gain.decibels", self.decibels.get())?;
        let factor = 10f64.powf(rng.uniform_between(-bound, bound) / 20.0) as f32;
        sound.samples.iter_mut().for_each(|it| *it *= factor);
        Ok(Value::Sound(sound))
    }

    fn changes_sounds(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Sound;
    use nearfar_core::{Purpose, Seed};

    #[test]
    fn loudness_stays_within_its_bounds_and_uses_them() -> Result<(), Error> {
        let factor = |decibels: f64, position: u64| {
            let gain = Gain {
                decibels: NonNegative::literal(decibels),
            };
            let sound = Sound {
                rate: 8_000,
                samples: vec![0.5, -0.25],
            };
            let mut rng = Seed(1).rng(Purpose::Augmentation, position);
            match gain.apply(Value::Sound(sound), &mut rng)? {
                Value::Sound(sound) if sound.samples[0] == -2.0 * sound.samples[1] => {
                    Ok::<f32, Error>(sound.samples[0] / 0.5)
                }
                other => panic!("{other:?}"),
            }
        };
        let mut all = Vec::new();
        for position in 0..100 {
            all.push(factor(20.0, position)?);
            assert_eq!(factor(0.0, position)?, 1.0);
        }
        let least = all.iter().copied().fold(f32::INFINITY, f32::min);
        let most = all.iter().copied().fold(0.0, f32::max);
        assert!(
            (0.1..0.13).contains(&least) && (8.0..=10.0).contains(&most),
            "{least} {most}"
        );
        let error = factor(201.0, 0).expect_err("too loud").to_string();
        assert!(error.contains("`gain.decibels` is 201 dB"), "{error}");
        Ok(())
    }
}
