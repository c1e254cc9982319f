//! Changes of a sample: what is done to all, and what is drawn anew each time.

use nearfar_core::Rng;
use serde::{Deserialize, Serialize};

use crate::{Error, Image, Value};

mod affine;
mod crop;
mod erase;
mod flip;
mod noise;
mod normalize;
mod resize;

pub use affine::Affine;
pub use crop::Crop;
pub use erase::Erase;
pub use flip::Flip;
pub use noise::Noise;
pub use normalize::Normalize;
pub use resize::Resize;

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
        /// the shape of what they change, and are for samples that are trained on. ([`Resize`] and [`Normalize`] are not among
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
    /// Adds noise to an image or to features.
    "noise" = Noise,
    /// Cuts a part of the size of the image out of a larger one, with a margin all around.
    "crop" = Crop,
    /// Swaps left and right, or top and bottom.
    "flip" = Flip,
    /// Paints over a rectangle.
    "erase" = Erase,
}

/// The image that a transform of images was given.
fn image(value: Value, transform: &str) -> Result<Image, Error> {
    match value {
        Value::Image(image) => Ok(image),
        other => Err(refused(transform, "images", &other)),
    }
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
    use nearfar_core::{Purpose, Seed};

    #[test]
    fn every_transform_keeps_the_shape_and_repeats_itself_and_refuses_texts() {
        let random = TransformConfig::all()
            .into_iter()
            .map(|it| (it.name(), Box::new(it) as Box<dyn Transform>));
        let plain: [(&str, Box<dyn Transform>); 2] = [
            ("resize", Box::new(Resize::default())),
            ("normalize", Box::new(Normalize::default())),
        ];
        for (name, transform) in random.chain(plain) {
            let image = Image {
                channels: 3,
                height: 5,
                width: 7,
                values: (0..105).map(|i| i as f32 / 105.0).collect(),
            };
            let rng = |position| Seed(1).rng(Purpose::Augmentation, position);
            let apply = |position| {
                transform
                    .apply(Value::Image(image.clone()), &mut rng(position))
                    .expect("an image")
            };
            let Value::Image(changed) = apply(0) else {
                panic!("no image")
            };
            if name != "resize" {
                assert_eq!(
                    (changed.channels, changed.height, changed.width),
                    (3, 5, 7),
                    "{name}"
                );
            }
            assert_eq!(
                changed.values.len(),
                changed.channels * changed.height * changed.width
            );
            assert_eq!(apply(0), Value::Image(changed), "{name}");
            let error = transform
                .apply(Value::Tokens(vec![1]), &mut rng(0))
                .expect_err("no image");
            assert!(error.to_string().contains(name), "{error}");
        }
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
