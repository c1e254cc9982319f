//! Residual networks.

use candle_core::{D, Result, Tensor};
use nearfar_core::{Error, Input, Mode, Positive};
use serde::{Deserialize, Serialize};

use crate::input_shape::size;
use crate::layers::{
    self, AttentiveStatistics, BasicBlock, Bottleneck, ConvNorm, Gem, Normalization, Slide,
    Statistics, Valid, kept, max_pool, statistics_pool,
};
use crate::tower::{Backbone, Features, Head, Pooling, Tower, mean_of_valid};
use crate::{InputShape, Params};

/// ResNet-18, ResNet-34 or ResNet-50, with torchvision's names and starting values: weights trained on ImageNet can be loaded.
///
/// ```text
/// image ─▶ conv 7×7 by 2 ─▶ batch norm ─▶ ReLU ─▶ max 3×3 by 2 ─▶ 4 stages of residual blocks, by 1, 2, 2, 2 ─▶ pool ─▶ linear
/// ```
///
/// Reads images of any number of channels and any size; a map is 1/32 of the image on each side, rounded up. With
/// `stem = "small"`, for images of some 32 × 32, a 3 × 3 convolution by 1 takes the place of the first convolution and the first
/// pooling, and a map is 1/8. The stages have 64, 128, 256 and 512 channels; in ResNet-50 ([`Bottleneck`]) four times as many
/// come out of each.
///
/// Reads sequences of frames too, as images of one channel, `(time, numbers of a frame)`, of their own lengths: `"statistics"` and
/// `"attentive_statistics"` pool over time what the last map has in each channel at each height, so that low and high bands stay
/// apart. Padding changes nothing, but that in training it is counted by batch statistics. With `stem = "small"`, `depth = 34`,
/// `channels = 32` and `pooling = "statistics"` it is the network of r-vectors.
///
/// Names: `conv1.weight`, `bn1.weight`, …, `layer1.0.conv1.weight`, `layer1.0.bn1.weight`, …, `layer2.0.downsample.0.weight`,
/// `layer2.0.downsample.1.weight`, … as torchvision's; `pool.p` of GeM pooling, `pool.hidden.weight`, `pool.hidden.bias`,
/// `pool.score.weight` of attention, and `head.weight`, `head.bias` of the linear
/// layer, which is there if the width is not that of the last map (torchvision's `fc` is a classifier, and not read).
///
/// Source: He, Zhang, Ren, Sun, "Deep residual learning for image recognition", CVPR 2016, <https://arxiv.org/abs/1512.03385>;
/// the stride of ResNet-50 is where torchvision has it. GeM: see [`Gem`]. The small stem is that of Chen et al., "A simple
/// framework for contrastive learning of visual representations", ICML 2020, <https://arxiv.org/abs/2002.05709>, appendix B.9.
/// Over frames: Zeinali, Wang, Silnova, Matějka, Plchot, "BUT system description to VoxCeleb speaker recognition challenge 2019",
/// <https://arxiv.org/abs/1910.12592>, after the x-vectors that [`statistics_pool`] names; attention: see [`AttentiveStatistics`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Resnet {
    /// Numbers in an embedding.
    pub width: usize,
    /// Layers with weights: 18, 34 or 50.
    pub depth: usize,
    /// How an image becomes the first map: `"imagenet"` or `"small"`.
    pub stem: ResnetStem,
    /// Channels of the first stage; 64 in published weights, fewer for a narrow network.
    pub channels: usize,
    /// How the last map becomes one vector: `"mean"`, of images also `"gem"`, of frames also `"statistics"` or
    /// `"attentive_statistics"`.
    pub pooling: ResnetPooling,
    /// Numbers with which attention looks at each place in time, where it is asked for.
    pub attention: usize,
    /// By which statistics the normalizations go in training: `"batch"` or `"frozen"`.
    pub statistics: Statistics,
    /// Whether embeddings have length 1.
    pub normalize: bool,
}

/// The first layers of a [`Resnet`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ResnetStem {
    /// A 7 × 7 convolution with stride 2, and 3 × 3 max-pooling with stride 2.
    #[default]
    Imagenet,
    /// A 3 × 3 convolution with stride 1, and no pooling.
    Small,
}

/// How the last map of a [`Resnet`] becomes one vector.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ResnetPooling {
    /// The mean over all places.
    #[default]
    Mean,
    /// The generalized mean with a learned power, which starts at 3: [`Gem`].
    Gem,
    /// Means and deviations over time: [`statistics_pool`].
    Statistics,
    /// The same with learned weights of places: [`AttentiveStatistics`].
    AttentiveStatistics,
}

impl Default for Resnet {
    /// ResNet-18 for images of ImageNet's size, and unit rows.
    fn default() -> Self {
        Self {
            width: 128,
            depth: 18,
            stem: ResnetStem::Imagenet,
            channels: 64,
            pooling: ResnetPooling::Mean,
            attention: 128,
            statistics: Statistics::Batch,
            normalize: true,
        }
    }
}

#[derive(Debug)]
enum Block {
    Basic(Box<BasicBlock>),
    Bottleneck(Box<Bottleneck>),
}

#[derive(Debug)]
struct Network {
    first: ConvNorm,
    /// Rows that the first convolution goes by.
    first_stride: usize,
    /// Of the first map, if it is pooled.
    first_pool: Option<[Slide; 2]>,
    /// And the rows that each goes by.
    blocks: Vec<(Block, usize)>,
    pool: Pool,
}

/// How the last map becomes one vector.
#[derive(Debug)]
enum Pool {
    Mean,
    Gem(Gem),
    Statistics,
    Attentive(AttentiveStatistics),
}

impl Resnet {
    /// A tower of these settings whose parameters are made in `params`.
    ///
    /// # Errors
    /// [`Error::Settings`] for data that are no images and no frames, a pooling that is not for them, a depth that is none of the three, and sizes out of range.
    pub fn build(&self, input: &InputShape, params: &Params) -> Result<Tower> {
        let (colors, mut bands) = match *input {
            InputShape::Image { channels, .. } => (channels, None),
            InputShape::Frames { features } => (1, Some(features)),
            _ => return Err(input.refused("resnet", "images and sequences of frames")),
        };
        let (counts, bottleneck) = match self.depth {
            18 => ([2, 2, 2, 2], false),
            34 => ([3, 4, 6, 3], false),
            50 => ([3, 4, 6, 3], true),
            depth => Err(Error::Settings(format!(
                "resnet: `depth` is {depth}; 18, 34 or 50 is wanted"
            )))?,
        };
        let channels = size("resnet", "channels", self.channels)?;
        let embedding = size("resnet", "width", self.width)?;
        let norm = Normalization {
            statistics: self.statistics,
            ..Normalization::default()
        };
        let (kernel, stride, pool) = match self.stem {
            ResnetStem::Imagenet => {
                let slide = Slide {
                    kernel: 3,
                    stride: 2,
                    padding: 1,
                    partial: false,
                };
                (7, 2, Some([slide; 2]))
            }
            ResnetStem::Small => (3, 1, None),
        };
        let places = [params.at("conv1"), params.at("bn1")];
        let first = ConvNorm::new(&places, (colors, channels), kernel, stride, norm, true)?;
        let mut blocks = Vec::new();
        let mut inputs = channels;
        for (stage, count) in counts.into_iter().enumerate() {
            let places = params.at(format_args!("layer{}", stage + 1));
            let middle = size(
                "resnet",
                "channels × 8",
                channels.saturating_mul(1 << stage),
            )?;
            for index in 0..count {
                let stride = if stage > 0 && index == 0 { 2 } else { 1 };
                let (place, sizes) = (places.at(index), (inputs, middle));
                if bottleneck {
                    let block = Bottleneck::new(&place, sizes, stride, norm)?;
                    blocks.push((Block::Bottleneck(Box::new(block)), stride));
                    inputs = middle * Bottleneck::WIDER;
                } else {
                    let block = BasicBlock::new(&place, sizes, stride, norm)?;
                    blocks.push((Block::Basic(Box::new(block)), stride));
                    inputs = middle;
                }
            }
        }
        let strides = blocks.iter().map(|(_, stride)| *stride);
        let by: usize = strides.product::<usize>() * stride * pool.map_or(1, |it| it[0].stride);
        // Rounding up at each step is rounding up once.
        bands = bands.map(|it: usize| it.div_ceil(by));
        let places = params.at("pool");
        let pooled = |bands: Option<usize>| bands.map(|it| it * inputs);
        let (last, outputs) = match (self.pooling, pooled(bands)) {
            (ResnetPooling::Mean, _) => (Pool::Mean, inputs),
            (ResnetPooling::Gem, None) => {
                let (power, eps) = (Positive::literal(3.0), Positive::literal(1e-6));
                (Pool::Gem(Gem::new(&places, power, eps)?), inputs)
            }
            (ResnetPooling::Statistics, Some(numbers)) => (Pool::Statistics, 2 * numbers),
            (ResnetPooling::AttentiveStatistics, Some(numbers)) => {
                let attention = size("resnet", "attention", self.attention)?;
                let layer = AttentiveStatistics::new(&places, numbers, attention)?;
                (Pool::Attentive(layer), 2 * numbers)
            }
            (ResnetPooling::Gem, Some(_)) => Err(Error::Settings(
                "resnet: `pooling` is \"gem\", which is for images; \"mean\", \"statistics\" and \"attentive_statistics\" pool frames".into(),
            ))?,
            (_, None) => Err(Error::Settings(
                "resnet: statistics are pooled over time, which images do not have; `pooling` can be \"mean\" or \"gem\"".into(),
            ))?,
        };
        let head = Head {
            pooling: Pooling::Flatten,
            projection: layers::Linear::fitting(&params.at("head"), outputs, embedding)?,
            normalize: self.normalize,
        };
        let network = Box::new(Network {
            first,
            first_stride: stride,
            first_pool: pool,
            blocks,
            pool: last,
        });
        Ok(Tower::new(
            "resnet",
            input.clone(),
            network,
            head,
            embedding,
            params,
        ))
    }
}

impl Block {
    fn forward(
        &self,
        x: &Tensor,
        [before, after]: [Option<&Valid>; 2],
        mode: &mut Mode<'_>,
    ) -> Result<Tensor> {
        match self {
            Self::Basic(block) => block.within(x, after, mode),
            Self::Bottleneck(block) => block.within(x, [before, after], mode),
        }
    }
}

impl Network {
    /// The last maps, and which of their rows are valid where that is not all.
    fn maps(&self, input: &Input, mode: &mut Mode<'_>) -> Result<(Tensor, Option<Valid>)> {
        let (x, mut valid) = match input {
            Input::Dense(images) => (images.clone(), None),
            Input::Sequence { values, lengths }
            | Input::Parsed {
                values, lengths, ..
            } => (values.unsqueeze(1)?, Some(Valid::new(lengths))),
        };
        let x = kept(x, valid.as_ref())?;
        valid = valid.map(|it| it.by(self.first_stride));
        let mut maps = kept(self.first.forward(&x, mode)?, valid.as_ref())?;
        if let Some(slides) = &self.first_pool {
            valid = valid.map(|it| it.by(slides[0].stride));
            // What it takes the largest of is not below the zeros of the padding.
            maps = kept(max_pool(&maps, slides)?, valid.as_ref())?;
        }
        for (block, stride) in &self.blocks {
            let after = valid.as_ref().map(|it| it.by(*stride));
            maps = block.forward(&maps, [valid.as_ref(), after.as_ref()], mode)?;
            valid = after;
        }
        Ok((maps, valid))
    }
}

impl Backbone for Network {
    fn features(&self, input: &Input, mode: &mut Mode<'_>) -> Result<Features> {
        let (maps, valid) = self.maps(input, mode)?;
        let Some(valid) = valid else {
            return Ok(Features::Vectors(match &self.pool {
                Pool::Gem(gem) => gem.forward(&maps, mode)?,
                _ => maps.flatten_from(2)?.mean(D::Minus1)?,
            }));
        };
        let lengths = valid.lengths();
        // Each channel at each height is a number of its own at a time.
        let over_time = || -> Result<Tensor> {
            let (b, c, t, bands) = maps.dims4()?;
            maps.transpose(2, 3)?.reshape((b, c * bands, t))
        };
        Ok(Features::Vectors(match &self.pool {
            Pool::Statistics => statistics_pool(&over_time()?, lengths)?,
            Pool::Attentive(layer) => layer.forward(&over_time()?, lengths, mode)?,
            Pool::Mean | Pool::Gem(_) => {
                mean_of_valid(&maps.mean(D::Minus1)?.transpose(1, 2)?, lengths)?
            }
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{DType, Device};
    use nearfar_core::{Encoder, Seed};

    const COLORS: InputShape = InputShape::Image {
        channels: 3,
        height: 33,
        width: 30,
    };

    fn params() -> Params {
        Params::new(Seed(7), DType::F32, &Device::Cpu).expect("f32")
    }

    /// All names of one depth, as torchvision's code makes them.
    fn names(counts: [usize; 4], convolutions: usize, first_shortcut: usize) -> Vec<String> {
        let mut names = vec!["conv1.weight".to_owned()];
        let norm = |place: String| {
            ["weight", "bias", "running_mean", "running_var"].map(|it| format!("{place}.{it}"))
        };
        names.extend(norm("bn1".to_owned()));
        for (stage, count) in (1..).zip(counts) {
            for block in 0..count {
                let place = format!("layer{stage}.{block}");
                for index in 1..=convolutions {
                    names.push(format!("{place}.conv{index}.weight"));
                    names.extend(norm(format!("{place}.bn{index}")));
                }
                if block == 0 && stage >= first_shortcut {
                    names.push(format!("{place}.downsample.0.weight"));
                    names.extend(norm(format!("{place}.downsample.1")));
                }
            }
        }
        names.sort();
        names
    }

    #[test]
    fn names_and_sizes_are_those_of_torchvision() -> Result<()> {
        for (depth, width, count, names) in [
            (18, 512, 11_176_512, names([2, 2, 2, 2], 2, 2)),
            (34, 512, 21_284_672, names([3, 4, 6, 3], 2, 2)),
            (50, 2048, 23_508_032, names([3, 4, 6, 3], 3, 1)),
        ] {
            let settings = Resnet {
                depth,
                width,
                ..Resnet::default()
            };
            let tower = settings.build(&COLORS, &params())?;
            let parameters = tower.parameters();
            let trained = parameters.iter().filter(|it| it.trained);
            assert_eq!(trained.map(|it| it.var.elem_count()).sum::<usize>(), count);
            let found: Vec<_> = parameters.into_iter().map(|it| it.name).collect();
            assert_eq!(found, names, "{depth}");
        }
        Ok(())
    }

    #[test]
    fn stems_and_poolings_give_vectors_of_the_width() -> Result<()> {
        let images = Input::Dense(Tensor::ones((2, 3, 33, 30), DType::F32, &Device::Cpu)?);
        for stem in [ResnetStem::Imagenet, ResnetStem::Small] {
            for pooling in [ResnetPooling::Mean, ResnetPooling::Gem] {
                let settings = Resnet {
                    width: 5,
                    channels: 2,
                    stem,
                    pooling,
                    ..Resnet::default()
                };
                let params = params();
                let tower = settings.build(&COLORS, &params)?;
                let embedding = tower.encode(&images, Mode::Eval)?.embedding;
                assert_eq!(embedding.dims(), [2, 5]);
                assert_eq!(
                    params.find("pool.p").is_some(),
                    pooling == ResnetPooling::Gem
                );
                let side = if stem == ResnetStem::Small { 3 } else { 7 };
                let weight = params.find("conv1.weight").expect("made with the tower");
                assert_eq!(weight.var().dims(), [2, 3, side, side]);
            }
        }
        Ok(())
    }

    #[test]
    fn frames_of_any_length_are_read_and_padding_changes_nothing() -> Result<()> {
        let shape = InputShape::Frames { features: 19 };
        let frames = nearfar_kernels::test_util::noise((1, 45, 19), 1)?;
        for (depth, stem) in [(18, ResnetStem::Small), (50, ResnetStem::Imagenet)] {
            for (pooling, inputs) in [
                (ResnetPooling::Mean, 1),
                (
                    ResnetPooling::Statistics,
                    2 * 19usize.div_ceil(if depth == 18 { 8 } else { 32 }),
                ),
                (
                    ResnetPooling::AttentiveStatistics,
                    2 * 19usize.div_ceil(if depth == 18 { 8 } else { 32 }),
                ),
            ] {
                let settings = Resnet {
                    width: 5,
                    channels: 2,
                    attention: 3,
                    depth,
                    stem,
                    pooling,
                    ..Resnet::default()
                };
                let params = Params::new(Seed(7), DType::F64, &Device::Cpu)?;
                let tower = settings.build(&shape, &params)?;
                let head = params.find("head.weight").expect("the width is another");
                let last = if depth == 18 { 16 } else { 64 };
                assert_eq!(head.var().dims(), [5, inputs * last]);
                // Shifts, so that padding would be seen.
                for parameter in tower.parameters() {
                    if parameter.name.ends_with("bias") && parameter.name.contains("bn") {
                        parameter.var.set(&parameter.var.ones_like()?)?;
                    }
                }
                for length in [1usize, 2, 31, 32, 33] {
                    let embed = |values: Tensor| -> Result<Tensor> {
                        let lengths = vec![length as u32];
                        let input = Input::Sequence { values, lengths };
                        Ok(tower.encode(&input, Mode::Eval)?.embedding)
                    };
                    let alone = embed(frames.narrow(1, 0, length)?)?;
                    let apart = (alone - embed(frames.clone())?)?.abs()?.max_all()?;
                    let apart = apart.to_scalar::<f64>()?;
                    assert!(apart < 1e-12, "{depth} {pooling:?} {length}: {apart}");
                }
            }
        }
        let refused = |pooling, shape: &InputShape| {
            let settings = Resnet {
                pooling,
                ..Resnet::default()
            };
            let error = settings.build(shape, &params()).expect_err("not for these");
            error.to_string()
        };
        assert!(refused(ResnetPooling::Gem, &shape).contains("which is for images"));
        assert!(refused(ResnetPooling::Statistics, &COLORS).contains("over time"));
        Ok(())
    }

    #[test]
    fn other_depths_are_refused() {
        let settings = Resnet {
            depth: 20,
            ..Resnet::default()
        };
        let error = settings
            .build(&COLORS, &params())
            .expect_err("not one of three");
        assert!(
            error.to_string().contains("`depth` is 20; 18, 34 or 50"),
            "{error}"
        );
        let error = Resnet::default().build(&InputShape::Features(3), &params());
        assert!(error.is_err());
    }
}
