//! Bands that are not heard.

use nearfar_core::Rng;
use serde::{Deserialize, Serialize};

use super::{Transform, frames, stretch};
use crate::{Error, Value};

/// Paints over ranges of bands, in all frames of a sound, with the mean of all their numbers, so that no single band decides. Each
/// range has a width that is uniform from 0 to `bands`, and begins at a place that is uniform among those where it fits; ranges may
/// overlap.
///
/// Source: Park et al., "SpecAugment: a simple data augmentation method for automatic speech recognition", Interspeech 2019, frequency
/// masking with F = `bands` (there 27 of 80 bands, once or twice).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FrequencyMask {
    /// Ranges that are painted over.
    pub masks: usize,
    /// Bands of a range at most.
    pub bands: usize,
}

impl Default for FrequencyMask {
    fn default() -> Self {
        Self { masks: 2, bands: 8 }
    }
}

impl Transform for FrequencyMask {
    fn apply(&self, value: Value, rng: &mut Rng) -> Result<Value, Error> {
        let mut frames = frames(value, "frequency_mask")?;
        let mean = frames.mean();
        let width = frames.width;
        for _ in 0..self.masks {
            let (start, end) = stretch(self.bands, width, rng);
            for frame in frames.values.chunks_exact_mut(width.max(1)) {
                frame[start..end].fill(mean);
            }
        }
        Ok(Value::Frames(frames))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Frames, TimeMask};
    use nearfar_core::{Fraction, Purpose, Seed};

    /// Frames that are 1 and 3 in turns, and which of their numbers were painted over.
    fn painted(mask: &dyn Transform, count: usize, width: usize, position: u64) -> Vec<bool> {
        let values: Vec<f32> = (0..count * width).map(|it| [1.0, 3.0][it % 2]).collect();
        let frames = Frames {
            count,
            width,
            values,
        };
        let mut rng = Seed(1).rng(Purpose::Augmentation, position);
        match mask.apply(Value::Frames(frames), &mut rng) {
            Ok(Value::Frames(frames)) => {
                assert_eq!((frames.count, frames.width), (count, width));
                frames.values.iter().map(|&it| it == 2.0).collect()
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn ranges_of_bands_and_stretches_of_time_are_painted_over() {
        let (mut bands, mut times) = (0, 0);
        for position in 0..200 {
            let mask = FrequencyMask { masks: 1, bands: 3 };
            let found = painted(&mask, 4, 10, position);
            let first = &found[..10];
            assert!(
                found.chunks(10).all(|frame| frame == first),
                "all frames alike"
            );
            assert!(first.iter().filter(|it| **it).count() <= 3);
            assert!(
                first.windows(2).filter(|pair| pair[0] != pair[1]).count() <= 2,
                "one range"
            );
            bands += first.iter().filter(|it| **it).count();

            let mask = TimeMask {
                masks: 1,
                frames: 9,
                part: Fraction::literal(0.2),
            };
            let found: Vec<bool> = painted(&mask, 20, 2, position)
                .chunks(2)
                .map(|frame| frame[0] && frame[1])
                .collect();
            let count = found.iter().filter(|it| **it).count();
            assert!(
                count <= 4
                    && painted(&mask, 20, 2, position)
                        .iter()
                        .filter(|it| **it)
                        .count()
                        == 2 * count
            );
            times += count;
        }
        // Means of 1.5 and 2 of each.
        assert!(
            (240..360).contains(&bands) && (320..480).contains(&times),
            "{bands} {times}"
        );
    }

    #[test]
    fn masks_without_width_or_wider_than_the_frames_are_fine() {
        let none = FrequencyMask { masks: 3, bands: 0 };
        assert!(!painted(&none, 3, 4, 0).contains(&true));
        let still = TimeMask {
            masks: 0,
            ..TimeMask::default()
        };
        assert!(!painted(&still, 3, 4, 0).contains(&true));
        let wide = FrequencyMask {
            masks: 20,
            bands: 99,
        };
        assert!(painted(&wide, 3, 4, 0).contains(&true));
        let short = TimeMask {
            masks: 20,
            frames: 99,
            part: Fraction::literal(1.0),
        };
        assert!(painted(&short, 1, 4, 0).contains(&true));
    }
}
