//! The convolutional network of the first Siamese experiments.

use candle_core::Result;
use nearfar_core::{Error, Input, Mode};
use nearfar_kernels::relu;
use serde::{Deserialize, Serialize};

use crate::input_shape::size;
use crate::layers::{self, ConvBlock, ConvSettings};
use crate::tower::{Backbone, Features, Head, Pooling, Tower};
use crate::{InputShape, Params};

/// Two convolutions and two full layers in the style of LeNet: one half of a Siamese network for digits.
///
/// ```text
/// image ─▶ conv 5×5, 32 ─▶ ReLU ─▶ max 2×2 ─▶ conv 5×5, 64 ─▶ ReLU ─▶ max 2×2 ─▶ full 256 ─▶ ReLU ─▶ full width
/// ```
///
/// Reads images of at least 16 × 16, of any number of channels. Without padding, as LeNet: 28 × 28 become 4 × 4 before
/// the full layers. 0.33 million parameters for them.
///
/// Names: `conv1.conv.weight`, `conv1.conv.bias`, `conv2.…`, `full.weight`, `full.bias`, `head.weight`, `head.bias`.
///
/// Source: the network of Hadsell, Chopra, LeCun, "Dimensionality Reduction by Learning an Invariant Mapping", CVPR
/// 2006, in the sizes that are usual today. For a plot take `width = 2` and `normalize = false`, with the contrastive
/// loss at margin 1.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MnistTwin {
    /// Numbers in an embedding.
    pub width: usize,
    /// Whether embeddings have length 1.
    pub normalize: bool,
}

impl Default for MnistTwin {
    fn default() -> Self {
        Self {
            width: 64,
            normalize: true,
        }
    }
}

const BLOCK: ConvSettings = ConvSettings {
    kernel: 5,
    padding: 0,
    norm: None,
    relu: true,
    pool: 2,
};
const FULL: usize = 256;

#[derive(Debug)]
struct Network {
    conv1: ConvBlock,
    conv2: ConvBlock,
    full: layers::Linear,
}

impl MnistTwin {
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
            return Err(input.refused("mnist_twin", "images"));
        };
        let embedding = size("mnist_twin", "width", self.width)?;
        let side = |pixels| BLOCK.output(pixels).and_then(|half| BLOCK.output(half));
        let (Some(rows), Some(columns)) = (side(height), side(width)) else {
            return Err(Error::Settings(format!(
                "mnist_twin: images of {height} × {width} are too small; two convolutions by 5 and two poolings by 2 \
                 need 16 × 16; resize them, or take `mlp`"
            ))
            .into());
        };
        let places = size("mnist_twin", "height × width", rows.saturating_mul(columns))?;
        let network = Network {
            conv1: ConvBlock::new(&params.at("conv1"), channels, 32, BLOCK)?,
            conv2: ConvBlock::new(&params.at("conv2"), 32, 64, BLOCK)?,
            full: layers::Linear::new(&params.at("full"), 64 * places, FULL, true)?,
        };
        let head = Head {
            pooling: Pooling::Flatten,
            projection: Some(layers::Linear::new(
                &params.at("head"),
                FULL,
                embedding,
                true,
            )?),
            normalize: self.normalize,
        };
        let network = Box::new(network);
        Ok(Tower::new(
            "mnist_twin",
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
        let x = self.conv1.forward(input.dense("mnist_twin")?, mode)?;
        let x = self.conv2.forward(&x, mode)?.flatten_from(1)?;
        Ok(Features::Vectors(relu(&self.full.forward(&x, mode)?)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{DType, Device};
    use nearfar_core::{Encoder, Seed};

    fn build(height: usize, width: usize) -> Result<Tower> {
        let params = Params::new(Seed(1), DType::F32, &Device::Cpu)?;
        let input = InputShape::Image {
            channels: 1,
            height,
            width,
        };
        MnistTwin::default().build(&input, &params)
    }

    #[test]
    fn its_parameters_are_those_of_the_drawing() -> Result<()> {
        let count: usize = build(28, 28)?
            .parameters()
            .iter()
            .map(|it| it.var.elem_count())
            .sum();
        let convolutions = (32 * 25 + 32) + (64 * 32 * 25 + 64);
        assert_eq!(count, convolutions + (1024 * 256 + 256) + (256 * 64 + 64));
        Ok(())
    }

    #[test]
    fn sixteen_pixels_are_enough() {
        assert!(build(16, 17).is_ok());
        let error = build(15, 28).expect_err("too small").to_string();
        assert!(
            error.starts_with("mnist_twin: images of 15 × 28 are too small"),
            "{error}"
        );
    }
}
