//! Changes of a sample: what is done to all, and what is drawn anew each time.

use nearfar_core::Rng;
use serde::{Deserialize, Serialize};

use crate::{Error, Frames, Image, Sound, Value};

mod affine;
mod color;
mod crop;
mod elastic;
mod erase;
mod flip;
mod frequency_mask;
mod gain;
mod noise;
mod normalize;
mod resize;
mod time_mask;
mod white_noise;
mod word_dropout;
mod word_swap;

pub use affine::Affine;
pub use color::ColorChange;
pub use crop::Crop;
pub use elastic::Elastic;
pub use erase::Erase;
pub use flip::Flip;
pub use frequency_mask::FrequencyMask;
pub use gain::Gain;
pub use noise::Noise;
pub use normalize::Normalize;
pub use resize::Resize;
pub use time_mask::TimeMask;
pub use white_noise::WhiteNoise;
pub use word_dropout::WordDropout;
pub use word_swap::WordSwap;

/// A change of one input of a sample. What it draws, it draws from the generator it is given, which is a function of the
/// run's seed and the row's id.
///
/// ```
/// use nearfar_core::{Purpose, Seed};
/// use nearfar_datasets::{Image, Transform, TransformConfig, Value};
///
/// #[derive(serde::Deserialize)]
/// struct Run {
///     augmentation: Vec<TransformConfig>,
/// }
///
/// let run: Run = toml::from_str("augmentation = [{ affine = { angle = 0.17, shift = 0.1 } }, { noise = { deviation = 0.05 } }]")?;
/// let mut value = Value::Image(Image::filled(1, 8, 8, 0.5));
/// for transform in &run.augmentation {
///     value = transform.apply(value, &mut Seed(7).rng(Purpose::Augmentation, 0))?;
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait Transform: Send + Sync {
    /// The changed input.
    ///
    /// # Errors
    /// When the input is not of the kind it changes.
    fn apply(&self, value: Value, rng: &mut Rng) -> Result<Value, Error>;

    /// Whether it changes [sounds](Value::Sound), before frames are made of them. By default it does not.
    fn changes_sounds(&self) -> bool {
        false
    }
}

macro_rules! transforms {
    ($($(#[$doc:meta])* $name:literal = $kind:ident),* $(,)?) => {
        /// The random transforms by name, as a run file lists them: `augmentation = [{ affine = { angle = 0.17 } }]`. They keep
        /// the shape of what they change (but for texts, which may become shorter), and are for samples that are trained on. ([`Resize`] and [`Normalize`] are not among
        /// them: what is done to all samples alike belongs to the data, or to [`Loader::transforms`](crate::Loader::transforms).)
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[non_exhaustive]
        pub enum TransformConfig {
            $($(#[$doc])* #[serde(rename = $name)] $kind($kind),)*
        }

        impl TransformConfig {
            /// Every transform with its defaults.
            pub fn all() -> Vec<Self> {
                vec![$(Self::$kind($kind::default()),)*]
            }

            /// Its name in a run file.
            pub fn name(&self) -> &'static str {
                match self {
                    $(Self::$kind(_) => $name,)*
                }
            }

            /// What its source says of it.
            pub fn doc(&self) -> String {
                match self {
                    $(Self::$kind(_) => nearfar_core::doc_of(include_str!(concat!($name, ".rs")), stringify!($kind)),)*
                }
            }
        }

        impl Transform for TransformConfig {
            fn apply(&self, value: Value, rng: &mut Rng) -> Result<Value, Error> {
                match self {
                    $(Self::$kind(transform) => transform.apply(value, rng),)*
                }
            }

            fn changes_sounds(&self) -> bool {
                match self {
                    $(Self::$kind(transform) => transform.changes_sounds(),)*
                }
            }
        }
    };
}

transforms! {
    /// Turns, moves and scales an image a little.
    "affine" = Affine,
    /// Adds noise to an image, to features or to frames of a sound.
    "noise" = Noise,
    /// Cuts a part of the size of the image out of a larger one, with a margin all around.
    "crop" = Crop,
    /// Swaps left and right, or top and bottom.
    "flip" = Flip,
    /// Paints over a rectangle.
    "erase" = Erase,
    /// Changes light and colors.
    "color" = ColorChange,
    /// Bends an image, as a hand does.
    "elastic" = Elastic,
    /// Makes a sound louder or softer.
    "gain" = Gain,
    /// Adds noise to a sound.
    "white_noise" = WhiteNoise,
    /// Paints over moments of a sound's frames.
    "time_mask" = TimeMask,
    /// Paints over bands of a sound's frames.
    "frequency_mask" = FrequencyMask,
    /// Leaves words of a text out.
    "word_dropout" = WordDropout,
    /// Lets words of a text change places.
    "word_swap" = WordSwap,
}

/// The image that a transform of images was given.
fn image(value: Value, transform: &str) -> Result<Image, Error> {
    match value {
        Value::Image(image) => Ok(image),
        other => Err(refused(transform, "images", &other)),
    }
}

/// The sound that a transform of sounds was given.
fn sound(value: Value, transform: &str) -> Result<Sound, Error> {
    match value {
        Value::Sound(sound) => Ok(sound),
        Value::Frames(_) => Err(Error::Settings(format!(
            "`{transform}` changes sounds before frames are made of them; put it in front of what changes frames"
        ))),
        other => Err(refused(transform, "sounds", &other)),
    }
}

/// A number of dB between silence and what 32 bits can hold; beyond, samples become infinite or nothing.
fn decibels(setting: &str, value: f64) -> Result<f64, Error> {
    const MOST: f64 = 200.0;
    if value.abs() > MOST {
        return Err(Error::Settings(format!(
            "`{setting}` is {value} dB; from -{MOST} to {MOST} are possible"
        )));
    }
    Ok(value)
}

/// The frames that a transform of frames was given.
fn frames(value: Value, transform: &str) -> Result<Frames, Error> {
    match value {
        Value::Frames(frames) => Ok(frames),
        other => Err(refused(transform, "frames of sounds", &other)),
    }
}

/// The words that a transform of texts was given.
fn words(value: Value, transform: &str) -> Result<Vec<u32>, Error> {
    match value {
        Value::Tokens(words) => Ok(words),
        other => Err(refused(transform, "texts", &other)),
    }
}

/// A stretch of `count` places, `longest` at most: its start and its end.
fn stretch(longest: usize, count: usize, rng: &mut Rng) -> (usize, usize) {
    let length = rng.below(longest.min(count) + 1);
    let start = rng.below(count - length + 1);
    (start, start + length)
}

/// What a transform says of a value of another kind.
fn refused(transform: &str, changes: &str, value: &Value) -> Error {
    Error::Settings(format!(
        "`{transform}` changes {changes}, but the data are {}",
        value.kind()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Array;
    use nearfar_core::{Purpose, Seed};

    /// A value of each kind.
    fn values() -> [Value; 7] {
        let numbers =
            |count: usize| -> Vec<f32> { (0..count).map(|it| it as f32 / count as f32).collect() };
        [
            Value::Image(Image {
                channels: 3,
                height: 5,
                width: 7,
                values: numbers(105),
            }),
            Value::Array(Array {
                shape: vec![1, 2, 3, 4],
                values: numbers(24),
            }),
            Value::Features(numbers(9)),
            Value::Tokens((1..20).collect()),
            Value::Parsed {
                words: (1..20).collect(),
                parse: nearfar_core::Parse::chain(19),
            },
            Value::Sound(Sound {
                rate: 8_000,
                samples: numbers(100),
            }),
            Value::Frames(Frames {
                count: 30,
                width: 12,
                values: numbers(360),
            }),
        ]
    }

    /// The kinds that a transform changes.
    fn kinds(name: &str) -> &'static [&'static str] {
        match name {
            "noise" => &["images", "features", "frames of sounds", "volumes or views"],
            "gain" | "white_noise" => &["sounds"],
            "time_mask" | "frequency_mask" => &["frames of sounds"],
            "word_dropout" | "word_swap" => &["texts"],
            _ => &["images"],
        }
    }

    fn shape(value: &Value) -> Vec<usize> {
        match value {
            Value::Image(image) => {
                assert_eq!(
                    image.values.len(),
                    image.channels * image.height * image.width
                );
                vec![image.channels, image.height, image.width]
            }
            Value::Features(features) => vec![features.len()],
            Value::Array(array) => {
                assert_eq!(array.values.len(), array.shape.iter().product::<usize>());
                array.shape.clone()
            }
            // Words may be left out.
            Value::Tokens(words) => vec![usize::from(words.is_empty())],
            Value::Parsed { words, parse } => vec![words.len(), parse.len()],
            Value::Sound(sound) => vec![sound.rate as usize, sound.samples.len()],
            Value::Frames(frames) => {
                assert_eq!(frames.values.len(), frames.count * frames.width);
                vec![frames.count, frames.width]
            }
        }
    }

    #[test]
    fn every_transform_keeps_the_shape_and_repeats_itself_and_refuses_other_kinds() {
        let random = TransformConfig::all()
            .into_iter()
            .map(|it| (it.name(), Box::new(it) as Box<dyn Transform>));
        let plain: [(&str, Box<dyn Transform>); 2] = [
            ("resize", Box::new(Resize::default())),
            ("normalize", Box::new(Normalize::default())),
        ];
        for (name, transform) in random.chain(plain) {
            let is_random = !["resize", "normalize"].contains(&name);
            for value in values() {
                let apply = |seed, position| {
                    transform.apply(
                        value.clone(),
                        &mut Seed(seed).rng(Purpose::Augmentation, position),
                    )
                };
                if !kinds(name).contains(&value.kind()) {
                    let error = apply(1, 0).expect_err("another kind").to_string();
                    assert!(error.contains(&format!("`{name}` changes ")), "{error}");
                    continue;
                }
                let changed = apply(1, 0).expect("its kind");
                if name != "resize" {
                    assert_eq!(shape(&changed), shape(&value), "{name}");
                }
                assert_eq!(changed.kind(), value.kind(), "{name}");
                assert_eq!(apply(1, 0).expect("its kind"), changed, "{name}");
                // Another sample and another seed are changed another way, now and then.
                let differs = |at: &dyn Fn(u64) -> (u64, u64)| {
                    (1..20)
                        .map(at)
                        .any(|(seed, position)| apply(seed, position).expect("its kind") != changed)
                };
                assert_eq!(differs(&|it| (1, it)), is_random, "{name}");
                assert_eq!(differs(&|it| (1 + it, 0)), is_random, "{name}");
            }
        }
    }

    #[test]
    fn what_changes_sounds_says_so_and_wants_to_be_first() {
        for transform in TransformConfig::all() {
            let is_of_sounds = kinds(transform.name()) == ["sounds"];
            assert_eq!(
                transform.changes_sounds(),
                is_of_sounds,
                "{}",
                transform.name()
            );
        }
        let [.., frames] = values();
        let mut rng = Seed(1).rng(Purpose::Augmentation, 0);
        let error = Gain::default()
            .apply(frames, &mut rng)
            .expect_err("frames")
            .to_string();
        assert!(
            error.contains("put it in front of what changes frames"),
            "{error}"
        );
    }

    #[test]
    fn names_are_those_of_the_run_file() {
        for transform in TransformConfig::all() {
            let written = serde_json::to_string(&transform).expect("plain values");
            assert!(
                written.starts_with(&format!("{{\"{}\":", transform.name())),
                "{written}"
            );
            assert_eq!(
                serde_json::from_str::<TransformConfig>(&written).expect("written"),
                transform
            );
        }
    }
}
