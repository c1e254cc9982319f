//! A network over volumes.

use candle_core::{Result, Tensor};
use nearfar_core::{Error, Fraction, Input, Mode};
use nearfar_kernels::{leaky_relu, relu};
use serde::{Deserialize, Serialize};

use crate::input_shape::size;
use crate::layers::{self, Conv, Convolution3d, Slide, dropout, max_pool};
use crate::tower::{Backbone, Features, Head, Pooling, Tower};
use crate::{InputShape, Params};

/// VoxNet: two convolutions in three dimensions, and a full layer.
///
/// ```text
/// volume ─▶ conv 5×5×5, stride 2 ─▶ leaky ReLU 0.1 ─▶ dropout 0.2
///        ─▶ conv 3×3×3           ─▶ leaky ReLU 0.1 ─▶ max 2×2×2 ─▶ dropout 0.3
///        ─▶ full hidden ─▶ ReLU ─▶ dropout 0.4 ─▶ linear width
/// ```
///
/// Reads volumes of any number of channels, of at least 11 numbers along each side: a side of `s` becomes `⌊(s − 5)/2⌋ + 1`, two less, and
/// half of that, so that 32 × 32 × 32 become 6 × 6 × 6 with `channels` numbers each. What is filled should be 1 and what is empty 0, or −1.
/// The paper has as many classes as the last layer has numbers; here it has those of an embedding. Where a thing may be turned, turn it when
/// it is trained on, or show it turned.
///
/// Names: `conv1.weight`, `conv1.bias`, `conv2.weight`, `conv2.bias`, `full.weight`, `full.bias`, `head.weight`, `head.bias`.
///
/// Source: Maturana, Scherer, "VoxNet: A 3D Convolutional Neural Network for Real-Time Object Recognition", IROS 2015, section III-B.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Voxnet {
    /// Numbers in an embedding.
    pub width: usize,
    /// Channels of each convolution.
    pub channels: usize,
    /// Numbers of the full layer.
    pub hidden: usize,
    /// Probabilities with which a number is dropped in training, behind the first convolution, the pooling and the full layer; each less
    /// than 1.
    pub dropout: [Fraction; 3],
    /// Whether embeddings have length 1.
    pub normalize: bool,
}

impl Default for Voxnet {
    /// As in the paper, but for an embedding of 64 numbers and unit rows.
    fn default() -> Self {
        Self {
            width: 64,
            channels: 32,
            hidden: 128,
            dropout: [0.2, 0.3, 0.4].map(Fraction::literal),
            normalize: true,
        }
    }
}

#[derive(Debug)]
struct Network {
    first: Convolution3d,
    second: Convolution3d,
    full: layers::Linear,
    dropout: [Fraction; 3],
}

/// Of the leaky ReLU.
const SLOPE: f64 = 0.1;

impl Voxnet {
    /// A tower of these settings whose parameters are made in `params`.
    ///
    /// # Errors
    /// [`Error::Settings`] for data that are no volumes or too small, and sizes out of range.
    pub fn build(&self, input: &InputShape, params: &Params) -> Result<Tower> {
        let &InputShape::Volume {
            channels,
            depth,
            height,
            width,
        } = input
        else {
            return Err(input.refused("voxnet", "volumes"));
        };
        size("voxnet", "channels", self.channels)?;
        size("voxnet", "hidden", self.hidden)?;
        let embedding = size("voxnet", "width", self.width)?;
        for rate in self.dropout {
            layers::dropout_rate("voxnet", rate)?;
        }
        let left = |side: usize| Some((side.checked_sub(5)? / 2 + 1).checked_sub(2)? / 2);
        let sides = [depth, height, width].map(|side| left(side).unwrap_or(0));
        let flat = sides
            .iter()
            .fold(self.channels, |all, &side| all.saturating_mul(side));
        if flat == 0 {
            Err(Error::Settings(format!(
                "voxnet: volumes of {depth} × {height} × {width} are too small; from 11 along each side are wanted"
            )))?;
        }
        let flat = size("voxnet", "depth × height × width × channels", flat)?;
        let strided = Conv {
            stride: [2; 3],
            ..Conv::default()
        };
        let network = Network {
            first: Convolution3d::new(
                &params.at("conv1"),
                (channels, self.channels),
                [5; 3],
                strided,
                true,
            )?,
            second: Convolution3d::new(
                &params.at("conv2"),
                (self.channels, self.channels),
                [3; 3],
                Conv::default(),
                true,
            )?,
            full: layers::Linear::new(&params.at("full"), flat, self.hidden, true)?,
            dropout: self.dropout,
        };
        let head = Head {
            pooling: Pooling::Flatten,
            projection: Some(layers::Linear::new(
                &params.at("head"),
                self.hidden,
                embedding,
                true,
            )?),
            normalize: self.normalize,
        };
        Ok(Tower::new(
            "voxnet",
            input.clone(),
            Box::new(network),
            head,
            embedding,
            params,
        ))
    }
}

impl Backbone for Network {
    fn features(&self, input: &Input, mode: &mut Mode<'_>) -> Result<Features> {
        let volumes = input.dense("voxnet")?;
        let bent = |x: Tensor| leaky_relu(&x, SLOPE);
        let x = bent(self.first.forward(volumes, mode)?)?;
        let x = dropout(&x, self.dropout[0], mode)?;
        let x = bent(self.second.forward(&x, mode)?)?;
        let x = dropout(&max_pool(&x, &[Slide::over(2); 3])?, self.dropout[1], mode)?;
        let x = relu(&self.full.forward(&x.flatten_from(1)?, mode)?)?;
        Ok(Features::Vectors(dropout(&x, self.dropout[2], mode)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{DType, Device};
    use nearfar_core::{Encoder, Seed};

    fn build(side: usize) -> Result<Tower> {
        let params = Params::new(Seed(1), DType::F32, &Device::Cpu)?;
        let input = InputShape::Volume {
            channels: 1,
            depth: side,
            height: side,
            width: side,
        };
        Voxnet::default().build(&input, &params)
    }

    #[test]
    fn the_paper_has_as_many_weights() -> Result<()> {
        let tower = build(32)?;
        let count = |it: &nearfar_core::Parameter| it.var.elem_count();
        let found: usize = tower.parameters().iter().map(count).sum();
        let convolutions = (32 * 125 + 32) + (32 * 32 * 27 + 32);
        assert_eq!(
            found,
            convolutions + (6 * 6 * 6 * 32 * 128 + 128) + (128 * 64 + 64)
        );
        Ok(())
    }

    #[test]
    fn volumes_that_the_kernels_would_use_up_are_refused() -> Result<()> {
        let blank = Tensor::zeros((2, 1, 11, 11, 11), DType::F32, &Device::Cpu)?;
        let encoded = build(11)?.encode(&Input::Dense(blank), Mode::Eval)?;
        assert_eq!(encoded.embedding.dims(), [2, 64]);
        let error = build(10).expect_err("too small").to_string();
        assert_eq!(
            error,
            "voxnet: volumes of 10 × 10 × 10 are too small; from 11 along each side are wanted"
        );
        Ok(())
    }
}
