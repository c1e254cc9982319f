//! A convolutional network with the plan of a transformer.

use candle_core::{Result, Tensor};
use nearfar_core::{Error, Finite, Fraction, Input, Mode, Positive};
use serde::{Deserialize, Serialize};

use crate::input_shape::size;
use crate::layers::{
    self, Activation, Conv, Convolution2d, LayerNorm, LayerScale, drop_path, dropout_rate,
};
use crate::tower::{Backbone, Features, Head, Pooling, Tower};
use crate::{Init, InputShape, Params};

/// ConvNeXt, by default of the size Tiny, with timm's names and starting values: its published weights can be loaded,
/// Hugging Face's too ([`Pretrained`](crate::Pretrained)).
///
/// ```text
/// image ─▶ conv 4×4 by 4 ─▶ norm ─▶ 4 stages of blocks, with norm ─▶ conv 2×2 by 2 before all but the first ─▶ mean ─▶ norm ─▶ linear
/// block: y = x + gamma · fc2(gelu(fc1(norm(conv_dw(x))))),   conv_dw 7×7, each channel by itself; fc1 to 4 times as many numbers
/// ```
///
/// Reads images of any number of channels, of at least 32 × 32 (4 × 4 for one stage, and twice as much for each further one); a map is 1/32 of
/// the image, rounded down at each step. Normalizations are over the channels of each place. There are no statistics of batches,
/// so batches may be small.
///
/// Names: `stem.0.weight` (convolution), `stem.1.weight` (normalization), `stages.0.blocks.0.conv_dw.weight`, `….norm.weight`,
/// `….mlp.fc1.weight`, `….mlp.fc2.weight`, `….gamma`, …, `stages.1.downsample.0.weight` (normalization),
/// `stages.1.downsample.1.weight` (convolution), …, `head.norm.weight` as timm's; and `head.weight`, `head.bias` of the linear
/// layer, which is there if the width is not that of the last map (timm's `head.fc` is a classifier, and not read). Weights of
/// convolutions and maps start normal with deviation 0.02, biases at 0.
///
/// Source: Liu et al., "A ConvNet for the 2020s", CVPR 2022, <https://arxiv.org/abs/2201.03545>.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Convnext {
    /// Numbers in an embedding.
    pub width: usize,
    /// Blocks of each stage: `[3, 3, 9, 3]` is Tiny, `[3, 3, 27, 3]` is Small.
    pub depths: Vec<usize>,
    /// Channels of each stage; as many stages as `depths` has.
    pub channels: Vec<usize>,
    /// What `gamma` starts at.
    pub layer_scale: Finite,
    /// Probability with which a row goes around the last block in training; it rises to it in even steps, from 0 at the first.
    pub drop_path: Fraction,
    /// Whether embeddings have length 1.
    pub normalize: bool,
}

impl Default for Convnext {
    /// Tiny, as in the paper, with unit rows.
    fn default() -> Self {
        Self {
            width: 128,
            depths: vec![3, 3, 9, 3],
            channels: vec![96, 192, 384, 768],
            layer_scale: Finite::literal(1e-6),
            drop_path: Fraction::literal(0.1),
            normalize: true,
        }
    }
}

/// Of every normalization, as published.
const EPS: Positive = Positive::literal(1e-6);
/// Of the weights of convolutions and maps. (timm cuts the normal off at ±2, which is a hundred deviations away.)
const WEIGHT: Init = Init::Normal {
    mean: 0.0,
    deviation: 0.02,
};
const ZERO: Init = Init::Constant(0.0);

#[derive(Debug)]
struct Network {
    stem: (Convolution2d, LayerNorm),
    stages: Vec<Stage>,
    norm: LayerNorm,
}

#[derive(Debug)]
struct Stage {
    /// What halves the map before the blocks.
    down: Option<(LayerNorm, Convolution2d)>,
    blocks: Vec<Block>,
}

#[derive(Debug)]
struct Block {
    conv: Convolution2d,
    norm: LayerNorm,
    maps: (layers::Linear, layers::Linear),
    scale: LayerScale,
    drop_path: Fraction,
}

impl Convnext {
    /// A tower of these settings whose parameters are made in `params`.
    ///
    /// # Errors
    /// [`Error::Settings`] for data that are no images or too small, stages whose blocks and channels do not match, a
    /// `drop_path` of 1, and sizes out of range.
    pub fn build(&self, input: &InputShape, params: &Params) -> Result<Tower> {
        let &InputShape::Image {
            channels: colors,
            height,
            width,
        } = input
        else {
            return Err(input.refused("convnext", "images"));
        };
        let embedding = size("convnext", "width", self.width)?;
        let rate = dropout_rate("convnext", self.drop_path)?.get();
        if self.depths.len() != self.channels.len() {
            Err(Error::Settings(format!(
                "convnext: `depths` has {} numbers and `channels` {}; each stage wants one of both",
                self.depths.len(),
                self.channels.len()
            )))?;
        }
        for (&depth, &channels) in self.depths.iter().zip(&self.channels) {
            size("convnext", "depths", depth)?;
            size("convnext", "channels", channels)?;
        }
        let (Some(&first), Some(&last)) = (self.channels.first(), self.channels.last()) else {
            return Err(Error::Settings(
                "convnext: `depths` and `channels` are empty; at least one stage is wanted".into(),
            )
            .into());
        };
        let mut side = height.min(width) / 4;
        for _ in 1..self.depths.len() {
            side /= 2;
        }
        if side == 0 {
            Err(Error::Settings(format!(
                "convnext: images of {height} × {width} are too small for a map of a quarter, halved {} times; resize them, or \
                 give `depths` and `channels` fewer stages",
                self.depths.len() - 1
            )))?;
        }
        let stem = params.at("stem");
        let stem = (
            patches(&stem.at(0), (colors, first), 4)?,
            LayerNorm::new(&stem.at(1), &[first], EPS, true)?,
        );
        let last_block = (self.depths.iter().sum::<usize>() - 1).max(1);
        let (mut stages, mut index, mut inputs) = (Vec::new(), 0, first);
        for (number, (&depth, &channels)) in self.depths.iter().zip(&self.channels).enumerate() {
            let places = params.at("stages").at(number);
            let down = (number > 0).then(|| -> Result<_> {
                let place = places.at("downsample");
                let norm = LayerNorm::new(&place.at(0), &[inputs], EPS, true)?;
                Ok((norm, patches(&place.at(1), (inputs, channels), 2)?))
            });
            let down = down.transpose()?;
            let mut blocks = Vec::new();
            for at in 0..depth {
                let rate = rate * index as f64 / last_block as f64;
                let rate = Fraction::new(rate)?;
                let place = places.at("blocks").at(at);
                blocks.push(Block::new(&place, channels, self.layer_scale, rate)?);
                index += 1;
            }
            stages.push(Stage { down, blocks });
            inputs = channels;
        }
        let head = Head {
            pooling: Pooling::Flatten,
            projection: layers::Linear::fitting(&params.at("head"), last, embedding)?,
            normalize: self.normalize,
        };
        let network = Box::new(Network {
            stem,
            stages,
            norm: LayerNorm::new(&params.at("head.norm"), &[last], EPS, true)?,
        });
        Ok(Tower::new(
            "convnext",
            input.clone(),
            network,
            head,
            embedding,
            params,
        ))
    }
}

/// A convolution over windows side by side.
fn patches(params: &Params, channels: (usize, usize), side: usize) -> Result<Convolution2d> {
    let settings = Conv {
        stride: [side; 2],
        ..Conv::default()
    };
    Convolution2d::starting(params, channels, [side; 2], settings, WEIGHT, Some(ZERO))
}

impl Block {
    fn new(params: &Params, channels: usize, scale: Finite, drop_path: Fraction) -> Result<Self> {
        let each = Conv {
            padding: [3; 2],
            groups: channels,
            ..Conv::default()
        };
        let conv = params.at("conv_dw");
        let (same, kernel) = ((channels, channels), [7; 2]);
        let hidden = channels.saturating_mul(4);
        let map = |name: &str, inputs, outputs| {
            layers::Linear::starting(&params.at(name), inputs, outputs, WEIGHT, Some(ZERO))
        };
        Ok(Self {
            conv: Convolution2d::starting(&conv, same, kernel, each, WEIGHT, Some(ZERO))?,
            norm: LayerNorm::new(&params.at("norm"), &[channels], EPS, true)?,
            maps: (
                map("mlp.fc1", channels, hidden)?,
                map("mlp.fc2", hidden, channels)?,
            ),
            scale: LayerScale::new(params, channels, scale)?,
            drop_path,
        })
    }

    /// `(b, c, h, w)` to the same shape.
    fn forward(&self, x: &Tensor, mode: &mut Mode<'_>) -> Result<Tensor> {
        let y = self.conv.forward(x, mode)?;
        // Channels last, so that a place is a row.
        let y = y.permute((0, 2, 3, 1))?.contiguous()?; // (b, h, w, c)
        let y = self.maps.0.forward(&self.norm.forward(&y, mode)?, mode)?;
        let y = self.maps.1.forward(&Activation::Gelu.forward(&y)?, mode)?;
        let y = self.scale.forward(&y, mode)?;
        let y = y.permute((0, 3, 1, 2))?.contiguous()?;
        x + drop_path(&y, self.drop_path, mode)?
    }
}

impl Backbone for Network {
    fn features(&self, input: &Input, mode: &mut Mode<'_>) -> Result<Features> {
        let maps = self.stem.0.forward(input.dense("convnext")?, mode)?;
        let mut maps = self.stem.1.forward_channels(&maps, mode)?;
        for stage in &self.stages {
            if let Some((norm, conv)) = &stage.down {
                maps = conv.forward(&norm.forward_channels(&maps, mode)?, mode)?;
            }
            for block in &stage.blocks {
                maps = block.forward(&maps, mode)?;
            }
        }
        let means = maps.flatten_from(2)?.mean(2)?; // (b, c)
        Ok(Features::Vectors(self.norm.forward(&means, mode)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{DType, Device};
    use nearfar_core::{Encoder, Seed};

    const COLORS: InputShape = InputShape::Image {
        channels: 3,
        height: 35,
        width: 32,
    };

    fn params() -> Params {
        Params::new(Seed(7), DType::F32, &Device::Cpu).expect("f32")
    }

    #[test]
    fn tiny_has_the_names_and_the_size_of_timm() -> Result<()> {
        let settings = Convnext {
            width: 768,
            ..Convnext::default()
        };
        let tower = settings.build(&COLORS, &params())?;
        let parameters = tower.parameters();
        let count: usize = parameters.iter().map(|it| it.var.elem_count()).sum();
        assert_eq!(count, 27_820_128);
        let mut names = Vec::new();
        let mut both = |place: String| {
            names.push(format!("{place}.weight"));
            names.push(format!("{place}.bias"));
        };
        for part in ["stem.0", "stem.1", "head.norm"] {
            both(part.to_owned());
        }
        for (stage, depth) in [3, 3, 9, 3].into_iter().enumerate() {
            for part in 0..2 * stage.min(1) {
                both(format!("stages.{stage}.downsample.{part}"));
            }
            for block in 0..depth {
                for part in ["conv_dw", "norm", "mlp.fc1", "mlp.fc2"] {
                    both(format!("stages.{stage}.blocks.{block}.{part}"));
                }
            }
        }
        for (stage, depth) in [3, 3, 9, 3].into_iter().enumerate() {
            let gamma = |block| format!("stages.{stage}.blocks.{block}.gamma");
            names.extend((0..depth).map(gamma));
        }
        names.sort();
        let found: Vec<_> = parameters.into_iter().map(|it| it.name).collect();
        assert_eq!(found, names);
        Ok(())
    }

    #[test]
    fn what_does_not_fit_is_told() {
        let error = |settings: Convnext, input: &InputShape| {
            let result = settings.build(input, &params());
            result.expect_err("it does not fit").to_string()
        };
        let small = InputShape::Image {
            channels: 3,
            height: 31,
            width: 64,
        };
        let told = error(Convnext::default(), &small);
        assert!(told.contains("31 × 64 are too small"), "{told}");
        let uneven = Convnext {
            depths: vec![1],
            ..Convnext::default()
        };
        let told = error(uneven, &COLORS);
        assert!(
            told.contains("`depths` has 1 numbers and `channels` 4"),
            "{told}"
        );
        let empty = Convnext {
            depths: vec![],
            channels: vec![],
            ..Convnext::default()
        };
        assert!(error(empty, &COLORS).contains("are empty"));
        assert!(error(Convnext::default(), &InputShape::Features(3)).contains("reads images"));
    }
}
