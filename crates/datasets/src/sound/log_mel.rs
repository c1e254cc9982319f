//! What is done to make log-mel frames, and how others do it.

use nearfar_core::{Finite, Positive};
use serde::{Deserialize, Serialize};

use super::RATES;
use crate::Error;

/// The settings, and the same as they are written over a preset.
macro_rules! settings_over_presets {
    ($(#[$doc:meta])* $name:ident, $written:ident { $($(#[$field_doc:meta])* $field:ident: $type:ty,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(try_from = "Written")]
        pub struct $name {
            $($(#[$field_doc])* pub $field: $type,)*
        }

        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct $written {
            preset: Option<MelPreset>,
            $($field: Option<$type>,)*
        }

        impl $written {
            fn over(self, base: $name) -> $name {
                $name { $($field: self.$field.unwrap_or(base.$field),)* }
            }
        }
    };
}

settings_over_presets! {
    /// How a sound becomes log-mel frames: a short Fourier transform, the power in bands that are even on the mel scale, its
    /// logarithm.
    ///
    /// ```text
    /// X[t, k] = Σ_i taper[i] · x[t · hop + i] · e^(−2πi·k·i / fft)       0 ≤ k ≤ fft / 2
    /// M[t, m] = Σ_k filter[m, k] · |X[t, k]|^power                       0 ≤ m < mels
    /// y[t, m] = log M[t, m],  then leveled
    /// ```
    ///
    /// The filters are triangles between `mels + 2` places that are even on the mel scale from `low` to `high`. A band that is
    /// narrower than the distance of two frequencies of the transform can be without any, and is then always at the floor of the
    /// logarithm: have fewer bands or a longer `fft`.
    ///
    /// In a run file a preset is taken and changed: `log_mel = { preset = "whisper", mels = 40 }`. Without a preset it is `"speech"`.
    ///
    /// ```
    /// use nearfar_datasets::{LogMel, MelPreset};
    ///
    /// let log_mel: LogMel = toml::from_str("preset = \"librosa\"\nmels = 64")?;
    /// assert_eq!(log_mel, LogMel { mels: 64, ..LogMel::of(MelPreset::Librosa) });
    ///
    /// let error = toml::from_str::<LogMel>("rate = 8000\nhigh = 5000.0").unwrap_err();
    /// assert!(error.to_string().contains("half of the rate"), "{error}");
    /// # Ok::<(), toml::de::Error>(())
    /// ```
    LogMel, Written {
        /// Samples a second; sounds of another rate are resampled.
        rate: u32,
        /// Samples that are transformed at a time.
        fft: usize,
        /// Samples of those that the taper leaves, in the middle; `fft` at most.
        window: usize,
        /// Samples from one frame to the next.
        hop: usize,
        /// Shape of the window.
        taper: Taper,
        /// What is put before and behind the sound.
        padding: Padding,
        /// Exponent of the magnitudes: 2 for power, 1 for the magnitudes themselves.
        power: Positive,
        /// Bands, the numbers in a frame.
        mels: usize,
        /// The mel scale.
        scale: MelScale,
        /// How bands are weighted.
        norm: MelNorm,
        /// Lower end of the lowest band, in Hz.
        low: f64,
        /// Upper end of the highest band, in Hz; half of the rate at most, and so much where nothing is said.
        high: f64,
        /// The logarithm.
        log: Log,
        /// Whether the last frame is left out, where there are several.
        drop_last: bool,
        /// How the frames of a sound are put on one level.
        leveling: Leveling,
        /// The least loudness, the root mean square of all samples in dB of full scale: a softer sound is made as loud. Where nothing
        /// is said sounds stay as they are.
        loudness: Option<Finite>,
    }
}

/// A shape of windows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Taper {
    /// Hann, as one period of a periodic function: `½ − ½·cos(2πi / n)`. What spectra are taken with.
    Hann,
    /// Hann with equal ends: `½ − ½·cos(2πi / (n − 1))`.
    HannSymmetric,
}

/// What is put before and behind a sound.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Padding {
    /// Nothing: frames lie within the sound, `1 + ⌊(n − fft) / hop⌋` of them. Only a sound that is shorter than `fft` is filled up with
    /// silence behind.
    None,
    /// `fft / 2` samples, so that frame t is centered at sample `t · hop`: silence. `1 + ⌊n / hop⌋` frames for an even `fft`.
    Zeros,
    /// The same, with the sound mirrored about its first and last sample, several times over where it is short.
    Reflect,
}

/// A mel scale.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MelScale {
    /// `2595 · log10(1 + f / 700)` (O'Shaughnessy 1987; HTK).
    Htk,
    /// Linear below 1000 Hz, 200/3 Hz a mel, and logarithmic above, 27 mels for a factor of 6.4 (Slaney's Auditory Toolbox 1998).
    Slaney,
}

/// How bands are weighted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MelNorm {
    /// All triangles have the height 1.
    None,
    /// All triangles have the area 1 over Hz: `2 / (upper − lower)`.
    Slaney,
}

/// A logarithm of what is in a band.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Log {
    /// None: what is in a band as it is.
    None {},
    /// `ln max(x, floor)`.
    Natural {
        /// Where silence ends.
        floor: Positive,
    },
    /// `log10 max(x, floor)`.
    Log10 {
        /// Where silence ends.
        floor: Positive,
    },
    /// `20 / power · log10 max(x, floor)`, so that it is in dB for powers and for magnitudes; what is more than `range` below the
    /// loudest number of the sound is lifted to there.
    Decibels {
        /// Where silence ends.
        floor: Positive,
        /// How far down it goes, in dB; everything where nothing is said.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        range: Option<Positive>,
    },
    /// Whisper's: `y = log10 max(x, 1e−10)`, lifted to 8 below the largest of the sound, then `(y + 4) / 4`.
    Whisper {},
}

/// How the frames of a sound are put on one level, each band by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Leveling {
    /// They are not.
    None,
    /// The mean over the sound is taken.
    Mean,
    /// The mean is taken, and the result divided by `√max(variance, 1e−5)`. The variance has the number of frames below it.
    MeanAndDeviation,
}

/// How others make log-mel frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MelPreset {
    /// Ours for speech: 16 kHz, 25 ms every 10 ms within the sound, 40 bands of HTK from 20 Hz, natural logarithm, leveled by mean and
    /// deviation. At another `rate` windows last as long, and `fft` is the next power of two.
    Speech,
    /// `librosa.power_to_db(librosa.feature.melspectrogram(y))`: 22,050 Hz, 2048 samples every 512, 128 bands of Slaney, 80 dB.
    Librosa,
    /// `torchaudio.transforms.MelSpectrogram()` and `AmplitudeToDB()`: 16 kHz, 400 samples every 200, 128 bands of HTK. (So many bands
    /// are more than 400 samples can fill: the lowest ones are partly without a frequency, there as here.)
    Torchaudio,
    /// `whisper.log_mel_spectrogram(audio)`: 16 kHz, 400 samples every 160, 80 bands of Slaney (`mels = 128` for large-v3). Sounds keep
    /// their length; Whisper itself puts silence behind them up to 30 s.
    Whisper,
}

impl LogMel {
    /// The settings of a preset, at its own rate.
    pub fn of(preset: MelPreset) -> Self {
        let rate = match preset {
            MelPreset::Librosa => 22_050,
            _ => 16_000,
        };
        Self::at(preset, rate)
    }

    /// Ours for speech at another rate.
    pub fn speech(rate: u32) -> Self {
        Self::at(MelPreset::Speech, rate)
    }

    fn at(preset: MelPreset, rate: u32) -> Self {
        let samples = |milliseconds: u64| (u64::from(rate) * milliseconds / 1_000).max(1) as usize;
        let speech = Self {
            rate,
            fft: samples(25).next_power_of_two(),
            window: samples(25),
            hop: samples(10),
            taper: Taper::Hann,
            padding: Padding::None,
            power: Positive::literal(2.0),
            mels: 40,
            scale: MelScale::Htk,
            norm: MelNorm::None,
            low: 20.0,
            high: f64::from(rate) / 2.0,
            // About the power that the rounding to 16 bits puts at one frequency.
            log: Log::Natural {
                floor: Positive::literal(1e-8),
            },
            drop_last: false,
            leveling: Leveling::MeanAndDeviation,
            loudness: None,
        };
        // What the three others share.
        let centered = Self {
            fft: 400,
            window: 400,
            padding: Padding::Reflect,
            low: 0.0,
            leveling: Leveling::None,
            ..speech.clone()
        };
        let floor = Positive::literal(1e-10);
        match preset {
            MelPreset::Speech => speech,
            MelPreset::Librosa => Self {
                fft: 2_048,
                window: 2_048,
                hop: 512,
                padding: Padding::Zeros,
                mels: 128,
                scale: MelScale::Slaney,
                norm: MelNorm::Slaney,
                log: Log::Decibels {
                    floor,
                    range: Some(Positive::literal(80.0)),
                },
                ..centered
            },
            MelPreset::Torchaudio => Self {
                hop: 200,
                mels: 128,
                log: Log::Decibels { floor, range: None },
                ..centered
            },
            MelPreset::Whisper => Self {
                hop: 160,
                mels: 80,
                scale: MelScale::Slaney,
                norm: MelNorm::Slaney,
                log: Log::Whisper {},
                drop_last: true,
                ..centered
            },
        }
    }

    /// What is out of range, in words.
    pub(super) fn check(&self) -> Result<(), Error> {
        /// Samples of a window; four seconds of the best recordings.
        const LONGEST: usize = 1 << 18;
        const MOST_MELS: usize = 4_096;
        let half = f64::from(self.rate) / 2.0;
        let wrong = |text: String| Err(Error::Settings(format!("log_mel: {text}")));
        if !RATES.contains(&self.rate) {
            return wrong(format!(
                "`rate` is {}; from {} to {} samples a second are possible",
                self.rate,
                RATES.start(),
                RATES.end()
            ));
        }
        if !(2..=LONGEST).contains(&self.fft) {
            return wrong(format!(
                "`fft` is {}; from 2 to {LONGEST} samples are possible",
                self.fft
            ));
        }
        if !(2..=self.fft).contains(&self.window) {
            return wrong(format!(
                "`window` is {}; from 2 to {} samples are possible, as many as `fft` has",
                self.window, self.fft
            ));
        }
        if self.hop == 0 {
            return wrong("`hop` is 0; 1 sample or more is possible".into());
        }
        if !(1..=MOST_MELS).contains(&self.mels) {
            return wrong(format!(
                "`mels` is {}; from 1 to {MOST_MELS} bands are possible",
                self.mels
            ));
        }
        if let Some(loudness) = self.loudness
            && !(-200.0..=200.0).contains(&loudness.get())
        {
            return wrong(format!(
                "`loudness` is {} dB; from -200 to 200 are possible, and full scale is at 0",
                loudness.get()
            ));
        }
        let ordered = 0.0 <= self.low && self.low < self.high && self.high <= half;
        if !ordered {
            return wrong(format!(
                "bands are from {} to {} Hz; `low` must be less than `high`, and that not above {half}, half of the rate",
                self.low, self.high
            ));
        }
        Ok(())
    }
}

impl Default for LogMel {
    fn default() -> Self {
        Self::of(MelPreset::Speech)
    }
}

impl TryFrom<Written> for LogMel {
    type Error = Error;

    fn try_from(written: Written) -> Result<Self, Error> {
        let preset = written.preset.unwrap_or(MelPreset::Speech);
        let base = match written.rate {
            Some(rate) => Self::at(preset, rate),
            None => Self::of(preset),
        };
        let log_mel = written.over(base);
        log_mel.check()?;
        Ok(log_mel)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRESETS: [MelPreset; 4] = [
        MelPreset::Speech,
        MelPreset::Librosa,
        MelPreset::Torchaudio,
        MelPreset::Whisper,
    ];

    #[test]
    fn what_is_written_over_a_preset_wins_and_is_written_out_without_it()
    -> Result<(), toml::de::Error> {
        for preset in PRESETS {
            let resolved = toml::to_string(&LogMel::of(preset)).expect("plain settings");
            assert!(!resolved.contains("preset"), "{resolved}");
            assert_eq!(toml::from_str::<LogMel>(&resolved)?, LogMel::of(preset));
        }
        let narrow: LogMel = toml::from_str(
            "preset = \"whisper\"\nmels = 40\nlog = { natural = { floor = 1e-5 } }",
        )?;
        assert_eq!(
            (narrow.mels, narrow.hop, narrow.norm),
            (40, 160, MelNorm::Slaney)
        );
        let lifted = LogMel {
            loudness: Some(Finite::literal(-30.0)),
            log: Log::None {},
            ..LogMel::default()
        };
        let resolved = toml::to_string(&lifted).expect("plain settings");
        assert_eq!(toml::from_str::<LogMel>(&resolved)?, lifted);
        let telephone: LogMel = toml::from_str("rate = 8000")?;
        assert_eq!(telephone, LogMel::speech(8_000));
        let in_samples = (
            telephone.window,
            telephone.hop,
            telephone.fft,
            telephone.high,
        );
        assert_eq!(in_samples, (200, 80, 256, 4_000.0));
        Ok(())
    }

    #[test]
    fn what_is_out_of_range_is_named() {
        for (text, word) in [
            ("rate = 10", "`rate` is 10"),
            ("fft = 1", "`fft` is 1"),
            ("window = 600", "`window` is 600"),
            ("hop = 0", "`hop` is 0"),
            ("mels = 0", "`mels` is 0"),
            ("low = -1.0", "from -1 to 8000 Hz"),
            ("low = 8000.0", "from 8000 to 8000 Hz"),
            ("high = nan", "from 20 to NaN Hz"),
            ("power = 0.0", "greater than 0"),
            ("loudness = nan", "finite"),
            ("loudness = 300.0", "`loudness` is 300"),
            ("mel = 3", "unknown field `mel`"),
        ] {
            let error = toml::from_str::<LogMel>(text).expect_err(text).to_string();
            assert!(error.contains(word), "{text}: {error}");
        }
    }
}
