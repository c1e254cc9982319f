//! Moments that are not heard.

use nearfar_core::{Fraction, Rng};
use serde::{Deserialize, Serialize};

use super::{Transform, frames, stretch};
use crate::{Error, Value};

/// Paints over stretches of the frames of a sound with the mean of all their numbers, so that no single moment decides. Each stretch
/// has a length that is uniform from 0 to the least of `frames` and `part` of the sound, and begins at a place that is uniform among
/// those where it fits; stretches may overlap.
///
/// Source: Park et al., "SpecAugment: a simple data augmentation method for automatic speech recognition", Interspeech 2019, time
/// masking with T = `frames` and p = `part` (there 100 frames of 10 ms twice, for whole sentences).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TimeMask {
    /// Stretches that are painted over.
    pub masks: usize,
    /// Frames of a stretch at most.
    pub frames: usize,
    /// Part of the sound that a stretch is at most.
    pub part: Fraction,
}

impl Default for TimeMask {
    fn default() -> Self {
        Self {
            masks: 2,
            frames: 20,
            part: Fraction::literal(0.2),
        }
    }
}

impl Transform for TimeMask {
    fn apply(&self, value: Value, rng: &mut Rng) -> Result<Value, Error> {
        let mut frames = frames(value, "time_mask")?;
        let mean = frames.mean();
        let longest = self
            .frames
            .min((self.part.get() * frames.count as f64) as usize);
        for _ in 0..self.masks {
            let (start, end) = stretch(longest, frames.count, rng);
            frames.values[start * frames.width..end * frames.width].fill(mean);
        }
        Ok(Value::Frames(frames))
    }
}
