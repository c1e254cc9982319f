//! One sample, decoded.

use nearfar_core::Parse;

use crate::{Frames, Sound};

/// What a data set gives for one index: one input, or the two sides of a pair. What is known of it (its class or score)
/// is asked of the data set, which knows it without decoding.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// One value for each input.
    pub inputs: Vec<Value>,
}

impl Sample {
    /// A sample of one input.
    pub fn of(value: impl Into<Value>) -> Self {
        Self {
            inputs: vec![value.into()],
        }
    }
}

/// One input of a sample.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// An image.
    Image(Image),
    /// A vector of numbers.
    Features(Vec<f32>),
    /// Words as numbers; never empty.
    Tokens(Vec<u32>),
    /// A sentence: words as numbers, never none, and how they depend on one another.
    Parsed {
        /// The words.
        words: Vec<u32>,
        /// The tree of as many.
        parse: Parse,
    },
    /// A sound, before frames are made of it.
    Sound(Sound),
    /// Frames of a sound, or the points of a set.
    Frames(Frames),
    /// A volume, or the views of a thing.
    Array(Array),
}

impl Value {
    /// What it is, in words.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Image(_) => "images",
            Self::Features(_) => "features",
            Self::Tokens(_) => "texts",
            Self::Parsed { .. } => "parsed sentences",
            Self::Sound(_) => "sounds",
            Self::Frames(_) => "frames of sounds",
            Self::Array(_) => "volumes or views",
        }
    }
}

impl From<Image> for Value {
    fn from(image: Image) -> Self {
        Self::Image(image)
    }
}

/// An image of real numbers, usually from 0 to 1.
#[derive(Clone, Debug, PartialEq)]
pub struct Image {
    /// 1 for gray, 3 for red, green and blue.
    pub channels: usize,
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
    /// Channel by channel, row by row: `channels · height · width`.
    pub values: Vec<f32>,
}

impl Image {
    /// An image of one value.
    pub fn filled(channels: usize, height: usize, width: usize, value: f32) -> Self {
        Self {
            channels,
            height,
            width,
            values: vec![value; channels * height * width],
        }
    }
}

/// Numbers of any shape: a volume `(channels, depth, height, width)`, or the views of a thing `(views, channels, height, width)`.
#[derive(Clone, Debug, PartialEq)]
pub struct Array {
    /// How many there are along each dimension.
    pub shape: Vec<usize>,
    /// In the order of rows: as many as the product of the shape.
    pub values: Vec<f32>,
}

/// The instance that each pixel of an image is of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mask {
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
    /// Row by row: 0 for the background, another number for each instance.
    pub instances: Vec<u32>,
}

/// A small picture of a sample, for reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Thumbnail {
    /// Columns.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// 1 for gray, 3 for red, green and blue.
    pub channels: usize,
    /// Pixel by pixel, row by row: `height · width · channels`.
    pub pixels: Vec<u8>,
}
