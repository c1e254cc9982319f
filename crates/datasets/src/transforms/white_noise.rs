//! Noise in a sound.

use nearfar_core::{Finite, Fraction, Rng};
use serde::{Deserialize, Serialize};

use super::{Transform, decibels, sound};
use crate::{Error, Value};

/// Adds white noise to a sound, now and then: normal numbers, so loud that the power of the sound is a number of dB above theirs, which
/// is uniform between `low` and `high`. (10 dB are a voice in a loud room, 40 dB are hardly heard.) A sound of zeros has no power and
/// stays as it is. Both ends are from -200 to 200 dB.
///
/// It changes sounds, before frames are made of them; for frames there is `noise`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WhiteNoise {
    /// How often there is noise.
    pub probability: Fraction,
    /// One end of the signal-to-noise ratio, in dB.
    pub low: Finite,
    /// The other end.
    pub high: Finite,
}

impl Default for WhiteNoise {
    fn default() -> Self {
        Self {
            probability: Fraction::literal(0.5),
            low: Finite::literal(10.0),
            high: Finite::literal(40.0),
        }
    }
}

impl Transform for WhiteNoise {
    fn apply(&self, value: Value, rng: &mut Rng) -> Result<Value, Error> {
        let mut sound = sound(value, "white_noise")?;
        let is_noisy = rng.chance(self.probability.get());
        let low = decibels("white_noise.low", self.low.get())?;
        let high = decibels("white_noise.high", self.high.get())?;
        let ratio = rng.uniform_between(low, high);
        if is_noisy {
            let squares = sound.samples.iter().map(|&it| f64::from(it).powi(2));
            let power = squares.sum::<f64>() / sound.samples.len().max(1) as f64;
            let deviation = (power / 10f64.powf(ratio / 10.0)).sqrt();
            for sample in &mut sound.samples {
                *sample += (deviation * rng.normal()) as f32;
            }
        }
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

    fn noisy(noise: &WhiteNoise, samples: &[f32], position: u64) -> Vec<f32> {
        let sound = Sound {
            rate: 8_000,
            samples: samples.to_vec(),
        };
        let mut rng = Seed(1).rng(Purpose::Augmentation, position);
        match noise.apply(Value::Sound(sound), &mut rng) {
            Ok(Value::Sound(sound)) => sound.samples,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn noise_is_as_far_below_the_sound_as_it_says() {
        let sound: Vec<f32> = (0..20_000)
            .map(|it| 0.3 * (it as f32 * 0.1).sin())
            .collect();
        for ratio in [-5.0, 20.0] {
            let noise = WhiteNoise {
                probability: Fraction::literal(1.0),
                low: Finite::literal(ratio),
                high: Finite::literal(ratio),
            };
            let power =
                |it: &mut dyn Iterator<Item = f32>| it.map(|x| f64::from(x).powi(2)).sum::<f64>();
            let with = noisy(&noise, &sound, 0);
            let difference = power(&mut with.iter().zip(&sound).map(|(a, b)| a - b));
            let found = 10.0 * (power(&mut sound.iter().copied()) / difference).log10();
            assert!((found - ratio).abs() < 0.2, "{found} {ratio}"); // Four standard errors.
        }
    }

    #[test]
    fn it_is_added_as_often_as_it_says_and_never_to_silence() {
        let noise = WhiteNoise::default();
        let changed = (0..200)
            .filter(|&it| noisy(&noise, &[0.5, -0.5], it) != [0.5, -0.5])
            .count();
        assert!((70..130).contains(&changed), "{changed}"); // Four standard errors.
        assert_eq!(noisy(&noise, &[0.0; 5], 1), [0.0; 5]);
        let never = WhiteNoise {
            probability: Fraction::literal(0.0),
            ..noise
        };
        assert_eq!(noisy(&never, &[0.5, -0.5], 1), [0.5, -0.5]);
        let wild = WhiteNoise {
            low: Finite::literal(-1e6),
            ..WhiteNoise::default()
        };
        let sound = Sound {
            rate: 8_000,
            samples: vec![0.5],
        };
        let mut rng = Seed(1).rng(Purpose::Augmentation, 0);
        let error = wild
            .apply(Value::Sound(sound), &mut rng)
            .expect_err("too loud");
        assert!(
            error
                .to_string()
                .contains("`white_noise.low` is -1000000 dB"),
            "{error}"
        );
    }
}
