//! What a model is to read.

use std::fmt;

use candle_core::Result;
use nearfar_core::{Error, Input};
use serde::{Deserialize, Serialize};

/// What one sample of the data is: a model is built for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum InputShape {
    /// `Input::Dense` of `(b, channels, height, width)`.
    Image {
        /// 1 for gray, 3 for color.
        channels: usize,
        /// Rows.
        height: usize,
        /// Columns.
        width: usize,
    },
    /// `Input::Dense` of `(b, channels, depth, height, width)`.
    Volume {
        /// Numbers at each place: 1 for voxels that are filled or not.
        channels: usize,
        /// Slices.
        depth: usize,
        /// Rows.
        height: usize,
        /// Columns.
        width: usize,
    },
    /// `Input::Dense` of `(b, views, channels, height, width)`: several images of one thing.
    Views {
        /// Images of each thing.
        views: usize,
        /// 1 for gray, 3 for color.
        channels: usize,
        /// Rows.
        height: usize,
        /// Columns.
        width: usize,
    },
    /// `Input::Dense` of `(b, features)`.
    Features(usize),
    /// `Input::Sequence` of token ids `(b, length)`.
    Tokens {
        /// Ids are below it.
        vocabulary: usize,
    },
    /// `Input::Parsed` of token ids `(b, length)`.
    Parsed {
        /// Ids are below it.
        vocabulary: usize,
    },
    /// `Input::Sequence` of `(b, length, features)`.
    Frames {
        /// Numbers in a frame.
        features: usize,
    },
}

impl fmt::Display for InputShape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Image {
                channels,
                height,
                width,
            } => write!(f, "images of {channels} × {height} × {width}"),
            Self::Volume {
                channels,
                depth,
                height,
                width,
            } => write!(f, "volumes of {channels} × {depth} × {height} × {width}"),
            Self::Views {
                views,
                channels,
                height,
                width,
            } => write!(f, "{views} views of {channels} × {height} × {width}"),
            Self::Features(features) => write!(f, "vectors of {features} features"),
            Self::Tokens { vocabulary } => {
                write!(f, "sequences of tokens from a vocabulary of {vocabulary}")
            }
            Self::Parsed { vocabulary } => {
                write!(f, "parsed sentences with a vocabulary of {vocabulary}")
            }
            Self::Frames { features } => write!(f, "sequences of frames of {features} features"),
        }
    }
}

impl InputShape {
    /// Numbers in one image or vector; none for all else, and when they are too many to count.
    pub(crate) fn numbers(&self) -> Option<usize> {
        match *self {
            Self::Image {
                channels,
                height,
                width,
            } => channels.checked_mul(height)?.checked_mul(width),
            Self::Features(features) => Some(features),
            Self::Volume { .. }
            | Self::Views { .. }
            | Self::Tokens { .. }
            | Self::Parsed { .. }
            | Self::Frames { .. } => None,
        }
    }

    /// The error of a model that cannot read this.
    pub(crate) fn refused(&self, model: &str, reads: &str) -> candle_core::Error {
        Error::Settings(format!("`{model}` reads {reads}, but the data are {self}")).into()
    }

    /// Whether a batch is of this kind and size.
    ///
    /// # Errors
    /// [`Error::Input`] for another kind, [`Error::Shape`] for another size; `place` is the model that asks.
    pub fn check(&self, place: &str, input: &Input) -> Result<()> {
        let dense = |wanted: &[usize]| -> Result<_> {
            let dims = input.dense(place)?.dims();
            Ok((dims, !dims.is_empty() && dims[1..] == *wanted))
        };
        let (dims, fits) = match *self {
            Self::Image {
                channels,
                height,
                width,
            } => dense(&[channels, height, width])?,
            Self::Volume {
                channels,
                depth,
                height,
                width,
            } => dense(&[channels, depth, height, width])?,
            Self::Views {
                views,
                channels,
                height,
                width,
            } => dense(&[views, channels, height, width])?,
            Self::Features(features) => dense(&[features])?,
            Self::Tokens { .. } => {
                let dims = input.sequence(place)?.0.dims();
                (dims, dims.len() == 2)
            }
            Self::Parsed { .. } => {
                let dims = input.parsed(place)?.0.dims();
                (dims, dims.len() == 2)
            }
            Self::Frames { features } => {
                let dims = input.sequence(place)?.0.dims();
                (dims, dims.len() == 3 && dims[2] == features)
            }
        };
        if !fits {
            Err(Error::Shape(format!(
                "{place}: the batch has shape {dims:?}, but the model was built for {self}"
            )))?;
        }
        Ok(())
    }
}

/// A size of a model: at least 1, and at most what keeps products of sizes countable.
pub(crate) fn size(place: &str, name: &str, value: usize) -> Result<usize> {
    const LARGEST: usize = 1 << 24;
    if value == 0 || value > LARGEST {
        Err(Error::Settings(format!(
            "{place}: `{name}` is {value}; from 1 to {LARGEST} is possible"
        )))?;
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{DType, Device, Tensor};

    #[test]
    fn a_batch_of_another_size_is_told_with_both() {
        let shape = InputShape::Image {
            channels: 1,
            height: 28,
            width: 28,
        };
        let dense = |dims: &[usize]| {
            Input::Dense(Tensor::zeros(dims, DType::F32, &Device::Cpu).expect("small"))
        };
        assert!(shape.check("conv4", &dense(&[2, 1, 28, 28])).is_ok());
        let error = shape
            .check("conv4", &dense(&[2, 3, 28, 28]))
            .expect_err("color");
        assert_eq!(
            error.to_string(),
            "conv4: the batch has shape [2, 3, 28, 28], but the model was built for images of 1 × 28 × 28"
        );
        assert!(
            InputShape::Features(3)
                .check("mlp", &dense(&[2, 3, 1, 1]))
                .is_err()
        );
        assert!(
            InputShape::Tokens { vocabulary: 3 }
                .check("lstm", &dense(&[2, 3]))
                .is_err()
        );
        assert!(size("mlp", "width", 0).is_err() && size("mlp", "width", usize::MAX).is_err());
    }
}
