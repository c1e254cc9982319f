//! The convolutional Siamese network of one-shot recognition.

use candle_core::Result;
use nearfar_core::{Error, Input, Mode};
use nearfar_kernels::sigmoid;
use serde::{Deserialize, Serialize};

use crate::input_shape::size;
use crate::layers::{self, ConvBlock, ConvSettings};
use crate::tower::{Backbone, Features, Head, Pooling, Tower};
use crate::{InputShape, Params};

/// Four convolutions and one wide layer of logistic units: one half of the Siamese network that recognizes characters from
/// one example.
///
/// ```text
/// image ─▶ conv 10×10, 64 ─▶ ReLU ─▶ max 2×2 ─▶ conv 7×7, 128 ─▶ ReLU ─▶ max 2×2
///       ─▶ conv 4×4, 128 ─▶ ReLU ─▶ max 2×2 ─▶ conv 4×4, 256 ─▶ ReLU ─▶ full width ─▶ σ
/// ```
///
/// Reads images of at least 65 × 65, of any number of channels; the paper's are 105 × 105, which become 6 × 6 before the full
/// layer. With them and the paper's sizes it has 38.9 million parameters.
///
/// The paper compares two embeddings by a weighted sum of the distances of their coordinates, for which `normalize` is off.
///
/// Names: `conv1.conv.weight`, `conv1.conv.bias`, …, `conv4.conv.bias`, `full.weight`, `full.bias`. They start as torch's do: with
/// the paper's deviation of 0.2 the units of the full layer would be at their ends from the start.
///
/// Source: Koch, Zemel, Salakhutdinov, "Siamese Neural Networks for One-shot Image Recognition", ICML Deep Learning Workshop 2015.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Koch {
    /// Numbers in an embedding.
    pub width: usize,
    /// Maps that the first convolution makes; the second and third make twice as many, the fourth four times.
    pub channels: usize,
    /// Whether embeddings have length 1.
    pub normalize: bool,
}

impl Default for Koch {
    fn default() -> Self {
        Self {
            width: 4096,
            channels: 64,
            normalize: false,
        }
    }
}

/// Kernel, multiple of the channels, and pooling of each convolution.
const BLOCKS: [(usize, usize, usize); 4] = [(10, 1, 2), (7, 2, 2), (4, 2, 2), (4, 4, 1)];
/// The smallest side of an image of which something is left.
const SMALLEST: usize = 65;

const fn settings(kernel: usize, pool: usize) -> ConvSettings {
    ConvSettings {
        kernel,
        padding: 0,
        norm: None,
        relu: true,
        pool,
    }
}

#[derive(Debug)]
struct Network {
    blocks: Vec<ConvBlock>,
    full: layers::Linear,
}

impl Koch {
    /// A tower of these settings whose parameters are made in `params`.
    ///
    /// # Errors
    /// [`Error::Settings`] for data that are no images or too small, and sizes out of range.
    pub fn build(&self, input: &InputShape, params: &Params) -> Result<Tower> {
        let &InputShape::Image {
            channels,
            height,
            width,
        } = input
        else {
            return Err(input.refused("koch", "images"));
        };
        let embedding = size("koch", "width", self.width)?;
        let mut sides = Some((height, width));
        let (mut inputs, mut blocks) = (channels, Vec::new());
        let multiple = size("koch", "channels", self.channels)?;
        for (index, (kernel, times, pool)) in BLOCKS.into_iter().enumerate() {
            let (block, outputs) = (settings(kernel, pool), times * multiple);
            sides = sides
                .and_then(|(rows, columns)| Some((block.output(rows)?, block.output(columns)?)));
            let place = params.at(format!("conv{}", index + 1));
            blocks.push(ConvBlock::new(&place, inputs, outputs, block)?);
            inputs = outputs;
        }
        let Some((rows, columns)) = sides else {
            return Err(Error::Settings(format!(
                "koch: images of {height} × {width} are too small; its convolutions need {SMALLEST} × {SMALLEST}; resize them, or \
                 take `conv4`"
            ))
            .into());
        };
        let places = size("koch", "height × width", rows.saturating_mul(columns))?;
        let numbers = places.saturating_mul(inputs);
        let network = Network {
            blocks,
            full: layers::Linear::new(&params.at("full"), numbers, embedding, true)?,
        };
        let head = Head {
            pooling: Pooling::Flatten,
            projection: None,
            normalize: self.normalize,
        };
        let network = Box::new(network);
        Ok(Tower::new(
            "koch",
            input.clone(),
            network,
            head,
            embedding,
            params,
        ))
    }
}

impl Backbone for Network {
    fn features(&self, input: &Input, mode: &mut Mode<'_>) -> Result<Features> {
        let mut x = input.dense("koch")?.clone();
        for block in &self.blocks {
            x = block.forward(&x, mode)?;
        }
        let x = self.full.forward(&x.flatten_from(1)?, mode)?;
        Ok(Features::Vectors(sigmoid(&x)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{DType, Device};
    use nearfar_core::{Encoder, Seed};

    fn build(width: usize, side: usize) -> Result<Tower> {
        let params = Params::new(Seed(1), DType::F32, &Device::Cpu)?;
        let input = InputShape::Image {
            channels: 1,
            height: side,
            width: side,
        };
        let settings = Koch {
            width,
            ..Koch::default()
        };
        settings.build(&input, &params)
    }

    #[test]
    fn its_parameters_are_those_of_the_paper() -> Result<()> {
        let count: usize = build(4096, 105)?
            .parameters()
            .iter()
            .map(|it| it.var.elem_count())
            .sum();
        let convolutions = (64 * 100 + 64)
            + (128 * 64 * 49 + 128)
            + (128 * 128 * 16 + 128)
            + (256 * 128 * 16 + 256);
        assert_eq!(count, convolutions + 6 * 6 * 256 * 4096 + 4096);
        Ok(())
    }

    #[test]
    fn the_smallest_image_is_the_one_it_names() {
        assert!(build(3, SMALLEST).is_ok());
        let error = build(3, SMALLEST - 1).expect_err("too small").to_string();
        assert!(
            error.starts_with("koch: images of 64 × 64 are too small"),
            "{error}"
        );
    }
}
