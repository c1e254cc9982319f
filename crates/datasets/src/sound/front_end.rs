//! Log-mel frames of a sound.

use std::{fmt, sync::Arc};

use realfft::{RealFftPlanner, RealToComplex};

use super::{Frames, Leveling, Log, LogMel, MelNorm, MelScale, Padding, Sound, Taper, resample};
use crate::{Error, error::SoundFault};

/// Makes log-mel frames of sounds, with everything at hand that all of them need.
///
/// Inside it counts in double precision, so that quiet bands beside loud ones are right.
///
/// ```
/// use nearfar_datasets::{FrontEnd, LogMel, Sound};
///
/// let front_end = FrontEnd::new(&LogMel::default())?;
/// let second = Sound { rate: 16_000, samples: vec![0.5; 16_000] };
/// let frames = front_end.frames(&second)?;
/// assert_eq!((frames.count, frames.width), (97, 40)); // 1 + (16,000 − 512) / 160
/// # Ok::<(), nearfar_datasets::Error>(())
/// ```
pub struct FrontEnd {
    settings: LogMel,
    /// As long as the transform, with zeros around the window.
    taper: Vec<f64>,
    filters: Vec<Filter>,
    transform: Arc<dyn RealToComplex<f64>>,
}

/// The frequencies of a band that count, from `first` on.
#[derive(Debug)]
struct Filter {
    first: usize,
    weights: Vec<f64>,
}

impl FrontEnd {
    /// A front end of these settings.
    ///
    /// # Errors
    /// [`Error::Settings`] for settings out of range.
    pub fn new(settings: &LogMel) -> Result<Self, Error> {
        settings.check()?;
        Ok(Self {
            taper: taper(settings),
            filters: filters(settings),
            transform: RealFftPlanner::new().plan_fft_forward(settings.fft),
            settings: settings.clone(),
        })
    }

    /// Its settings.
    pub fn settings(&self) -> &LogMel {
        &self.settings
    }

    /// The frames of a sound, at least one; of another rate it is resampled first.
    ///
    /// # Errors
    /// For a sample that is NaN or infinite, which the logarithm would take for silence.
    pub fn frames(&self, sound: &Sound) -> Result<Frames, Error> {
        if sound.rate == self.settings.rate {
            return self.frames_of(&sound.samples);
        }
        self.frames_of(&resample(&sound.samples, sound.rate, self.settings.rate))
    }

    /// The frames of samples at the rate of the settings.
    pub(crate) fn frames_of(&self, samples: &[f32]) -> Result<Frames, Error> {
        if let Some(at) = samples.iter().position(|it| !it.is_finite()) {
            let at = at as u64;
            return Err(Error::sound("a sound", SoundFault::NotFinite { at }));
        }
        let mut values = self.mel(samples);
        self.lift(samples, &mut values);
        self.logarithm(&mut values);
        let width = self.settings.mels;
        level(&mut values, width, self.settings.leveling);
        Ok(Frames {
            count: values.len() / width,
            width,
            values: values.into_iter().map(|it| it as f32).collect(),
        })
    }

    /// What the bands would hold of a sound that is as loud as it must be.
    fn lift(&self, samples: &[f32], values: &mut [f64]) {
        let Some(decibels) = self.settings.loudness else {
            return;
        };
        let squares = samples.iter().map(|&it| f64::from(it).powi(2));
        let power = squares.sum::<f64>() / samples.len().max(1) as f64;
        let wanted = 10f64.powf(decibels.get() / 10.0);
        if power > 0.0 && power < wanted {
            let factor = (wanted / power).powf(self.settings.power.get() / 2.0);
            values.iter_mut().for_each(|x| *x *= factor);
        }
    }

    /// What is in each band, frame by frame.
    fn mel(&self, samples: &[f32]) -> Vec<f64> {
        let LogMel { fft, hop, .. } = self.settings;
        let padded = self.padded(samples);
        let mut count = 1 + (padded.len() - fft) / hop;
        if self.settings.drop_last && count > 1 {
            count -= 1;
        }
        let mut frame = self.transform.make_input_vec();
        let mut spectrum = self.transform.make_output_vec();
        let mut scratch = self.transform.make_scratch_vec();
        let mut magnitudes = vec![0.0; spectrum.len()];
        let mut values = Vec::with_capacity(count * self.filters.len());
        let power = self.settings.power.get();
        for start in (0..count).map(|index| index * hop) {
            for ((value, sample), taper) in frame.iter_mut().zip(&padded[start..]).zip(&self.taper)
            {
                *value = sample * taper;
            }
            self.transform
                .process_with_scratch(&mut frame, &mut spectrum, &mut scratch)
                .expect("the transform made these vectors");
            for (magnitude, number) in magnitudes.iter_mut().zip(&spectrum) {
                let square = number.norm_sqr();
                *magnitude = if power == 2.0 {
                    square
                } else {
                    square.powf(power / 2.0)
                };
            }
            values.extend(self.filters.iter().map(|filter| {
                let pairs = magnitudes[filter.first..].iter().zip(&filter.weights);
                pairs
                    .map(|(magnitude, weight)| magnitude * weight)
                    .sum::<f64>()
            }));
        }
        values
    }

    /// The samples with what is before and behind them; at least as many as are transformed at a time.
    fn padded(&self, samples: &[f32]) -> Vec<f64> {
        let LogMel { fft, padding, .. } = self.settings;
        let side = match padding {
            Padding::None => 0,
            Padding::Zeros | Padding::Reflect => (fft / 2) as i64,
        };
        let count = samples.len() as i64;
        let at = |place: i64| match padding {
            Padding::Reflect => mirrored(samples, place),
            _ => usize::try_from(place)
                .ok()
                .and_then(|it| samples.get(it))
                .copied()
                .unwrap_or(0.0),
        };
        let mut padded: Vec<f64> = (-side..count + side)
            .map(|place| f64::from(at(place)))
            .collect();
        padded.resize(padded.len().max(fft), 0.0);
        padded
    }

    fn logarithm(&self, values: &mut [f64]) {
        let floored = |floor: f64| move |x: f64| x.max(floor).log10();
        // Lifts what lies too far below the largest.
        let lift = |values: &mut [f64], range: f64| {
            let largest = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            values.iter_mut().for_each(|y| *y = y.max(largest - range));
        };
        match self.settings.log {
            Log::None {} => {}
            Log::Natural { floor } => {
                values.iter_mut().for_each(|x| *x = x.max(floor.get()).ln());
            }
            Log::Log10 { floor } => {
                let log = floored(floor.get());
                values.iter_mut().for_each(|x| *x = log(*x));
            }
            Log::Decibels { floor, range } => {
                let log = floored(floor.get());
                let factor = 20.0 / self.settings.power.get();
                values.iter_mut().for_each(|x| *x = factor * log(*x));
                if let Some(range) = range {
                    lift(values, range.get());
                }
            }
            Log::Whisper {} => {
                let log = floored(1e-10);
                values.iter_mut().for_each(|x| *x = log(*x));
                lift(values, 8.0);
                values.iter_mut().for_each(|y| *y = (*y + 4.0) / 4.0);
            }
        }
    }
}

impl fmt::Debug for FrontEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("FrontEnd").field(&self.settings).finish()
    }
}

/// The sample at a place of a sound that is mirrored about its first and last sample without end.
fn mirrored(samples: &[f32], place: i64) -> f32 {
    let last = samples.len() as i64 - 1;
    let place = match last {
        ..=0 => 0,
        last => {
            let turn = place.rem_euclid(2 * last);
            turn.min(2 * last - turn)
        }
    };
    samples.get(place as usize).copied().unwrap_or(0.0)
}

fn taper(settings: &LogMel) -> Vec<f64> {
    let LogMel { fft, window, .. } = *settings;
    let period = match settings.taper {
        Taper::Hann => window,
        Taper::HannSymmetric => window - 1,
    };
    let mut taper = vec![0.0; fft];
    for (place, value) in taper[(fft - window) / 2..][..window].iter_mut().enumerate() {
        *value = 0.5 - 0.5 * (std::f64::consts::TAU * place as f64 / period as f64).cos();
    }
    taper
}

fn filters(settings: &LogMel) -> Vec<Filter> {
    let LogMel {
        rate,
        fft,
        mels,
        scale,
        ..
    } = *settings;
    let (low, high) = (to_mel(scale, settings.low), to_mel(scale, settings.high));
    let place = |index: usize| to_hz(scale, low + (high - low) * index as f64 / (mels + 1) as f64);
    let frequency = |bin: usize| bin as f64 * f64::from(rate) / fft as f64;
    (0..mels)
        .map(|band| {
            let (lower, middle, upper) = (place(band), place(band + 1), place(band + 2));
            let height = match settings.norm {
                MelNorm::None => 1.0,
                MelNorm::Slaney => 2.0 / (upper - lower),
            };
            let weight = |bin: usize| {
                let f = frequency(bin);
                let (rise, fall) = (
                    (f - lower) / (middle - lower),
                    (upper - f) / (upper - middle),
                );
                height * rise.min(fall)
            };
            let all = 0..fft / 2 + 1;
            let first = all
                .clone()
                .find(|&bin| weight(bin) > 0.0)
                .unwrap_or(all.end);
            Filter {
                first,
                weights: (first..all.end)
                    .map(weight)
                    .take_while(|&it| it > 0.0)
                    .collect(),
            }
        })
        .collect()
}

/// Hz a mel of Slaney's scale below its knee at 1000 Hz, and the factor of a mel above.
const SLANEY_STEP: f64 = 200.0 / 3.0;
const SLANEY_KNEE: f64 = 1_000.0;

fn slaney_factor() -> f64 {
    6.4f64.ln() / 27.0
}

fn to_mel(scale: MelScale, hz: f64) -> f64 {
    match scale {
        MelScale::Htk => 2_595.0 * (1.0 + hz / 700.0).log10(),
        MelScale::Slaney if hz < SLANEY_KNEE => hz / SLANEY_STEP,
        MelScale::Slaney => SLANEY_KNEE / SLANEY_STEP + (hz / SLANEY_KNEE).ln() / slaney_factor(),
    }
}

fn to_hz(scale: MelScale, mel: f64) -> f64 {
    let knee = SLANEY_KNEE / SLANEY_STEP;
    match scale {
        MelScale::Htk => 700.0 * (10f64.powf(mel / 2_595.0) - 1.0),
        MelScale::Slaney if mel < knee => mel * SLANEY_STEP,
        MelScale::Slaney => SLANEY_KNEE * ((mel - knee) * slaney_factor()).exp(),
    }
}

fn level(values: &mut [f64], width: usize, leveling: Leveling) {
    if leveling == Leveling::None {
        return;
    }
    let count = (values.len() / width) as f64;
    for band in 0..width {
        let of_band = || values.iter().skip(band).step_by(width);
        let mean = of_band().sum::<f64>() / count;
        let deviation = match leveling {
            Leveling::MeanAndDeviation => {
                let variance = of_band().map(|y| (y - mean).powi(2)).sum::<f64>() / count;
                variance.max(1e-5).sqrt()
            }
            Leveling::None | Leveling::Mean => 1.0,
        };
        for value in values.iter_mut().skip(band).step_by(width) {
            *value = (*value - mean) / deviation;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nearfar_core::{Finite, Positive};

    #[test]
    fn samples_that_are_no_numbers_are_refused() -> Result<(), Error> {
        let front_end = FrontEnd::new(&LogMel::speech(8_000))?;
        for (rate, wrong) in [
            (8_000, f32::NAN),
            (8_000, f32::INFINITY),
            (16_000, f32::NAN),
        ] {
            let mut samples = vec![0.25; 3_000];
            samples[1_000] = wrong;
            let error = front_end
                .frames(&Sound { rate, samples })
                .expect_err("no number");
            assert!(error.to_string().contains("a sound: sample "), "{error}");
        }
        Ok(())
    }

    #[test]
    fn each_band_is_leveled_by_itself() {
        // Two bands, three frames; the second does not change.
        let frames = [1.0, 7.0, 3.0, 7.0, 5.0, 7.0];
        let leveled = |leveling| {
            let mut values = frames;
            level(&mut values, 2, leveling);
            values
        };
        assert_eq!(leveled(Leveling::None), frames);
        assert_eq!(leveled(Leveling::Mean), [-2.0, 0.0, 0.0, 0.0, 2.0, 0.0]);
        let scale = (8.0f64 / 3.0).sqrt(); // The variance has the number of frames below it.
        let expected = [-2.0 / scale, 0.0, 0.0, 0.0, 2.0 / scale, 0.0];
        assert_eq!(leveled(Leveling::MeanAndDeviation), expected);
    }

    #[test]
    fn what_is_far_below_the_loudest_is_lifted() -> Result<(), Error> {
        let settings = |log| LogMel {
            log,
            ..LogMel::speech(8_000)
        };
        let floor = Positive::literal(1e-10);
        let range = Some(Positive::literal(30.0));
        for (log, input, expected) in [
            (Log::Whisper {}, [1.0, 1e-3, 1e-9], [1.0, 0.25, -1.0]),
            (
                Log::Decibels { floor, range },
                [1.0, 1e-2, 1e-9],
                [0.0, -20.0, -30.0],
            ),
            (
                Log::Decibels { floor, range: None },
                [1.0, 1e-9, 0.0],
                [0.0, -90.0, -100.0],
            ),
            (Log::None {}, [1.0, 0.5, 0.0], [1.0, 0.5, 0.0]),
        ] {
            let mut values = input;
            FrontEnd::new(&settings(log))?.logarithm(&mut values);
            for (found, expected) in values.iter().zip(expected) {
                assert!((found - expected).abs() < 1e-12, "{log:?}: {values:?}");
            }
        }
        Ok(())
    }

    #[test]
    fn soft_sounds_are_as_loud_as_they_must_be_and_loud_ones_stay() -> Result<(), Error> {
        let front_end = |loudness| {
            FrontEnd::new(&LogMel {
                log: Log::None {},
                leveling: Leveling::None,
                loudness,
                ..LogMel::speech(8_000)
            })
        };
        let sound = |peak: f32| Sound {
            rate: 8_000,
            samples: (0..800).map(|it| peak * (it as f32 * 0.3).sin()).collect(),
        };
        let level = Some(Finite::literal(-20.0)); // A root mean square of 0.1.
        let first = |peak, loudness| -> Result<f64, Error> {
            let frames = front_end(loudness)?.frames(&sound(peak))?;
            Ok(frames.values.iter().map(|&it| f64::from(it)).sum())
        };
        let (soft, lifted) = (first(0.01, level)?, first(0.01, None)?);
        let ratio = (0.1f64 / 0.01).powi(2) * 2.0; // A sine has half of the power of its peak.
        assert!(
            (soft / lifted / ratio - 1.0).abs() < 0.01,
            "{soft} {lifted}"
        );
        assert_eq!(first(0.5, level)?, first(0.5, None)?);
        let silence = Sound {
            rate: 8_000,
            samples: vec![0.0; 800],
        };
        assert_eq!(front_end(level)?.frames(&silence)?.mean(), 0.0);
        Ok(())
    }
}
