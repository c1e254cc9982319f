//! Down to small maps, and up again.

use std::collections::BTreeMap;

use candle_core::{Result, Tensor};
use nearfar_core::{Error, Input, Mode};
use serde::{Deserialize, Serialize};

use super::dense_conv::coordinates;
use crate::input_shape::size;
use crate::layers::{ConvBlock, ConvSettings, Slide, Statistics, UpConvolution, max_pool};
use crate::tower::{Backbone, Features, Head, Pooling, Tower};
use crate::{InputShape, Params};

/// U-Net: an embedding for each pixel, which sees what is near in full and what is far in small.
///
/// ```text
/// image, and where each pixel is ─▶ two convs, c ──────────────────────────────▶ beside ─▶ two convs, c ─▶ conv 1×1, width
///                                        └─ max 2×2 ─▶ two convs, 2c ─▶ beside ─▶ … ─▶ up 2×2, c ─┘
///                                                          └─ max 2×2 ─▶ two convs, 4c ─▶ up 2×2, 2c ─┘
/// ```
///
/// Each conv is 3×3 with batch normalization and ReLU. `levels` says how often the map is halved, and its channels doubled: a pixel of the
/// smallest map stands for `2^levels` along each side, which must be there. Where a side is odd, what comes up is a pixel short of what
/// stands beside it, and has a row or column of zeros added behind.
///
/// Reads images of any number of channels, of at least `2^levels` pixels along each side. The pixels' embeddings are the map `dense`,
/// `(b, width, height, width)`, which losses of masks look for; the embedding of an image is their mean. With `coordinates` two more
/// channels hold the row and column of each pixel, from −1 to 1, as in `dense_conv`.
///
/// Names: `down.0.0.conv.weight`, `down.0.0.norm.weight`, …, `up.0.grow.weight`, `up.0.grow.bias`, `up.0.0.conv.weight`, …,
/// `head.conv.weight`, `head.conv.bias`; `up.0` is the last one, of the size of the image.
///
/// Source: Ronneberger, Fischer, Brox, "U-Net: Convolutional Networks for Biomedical Image Segmentation", MICCAI 2015,
/// <https://arxiv.org/abs/1505.04597>, with 64 channels and 4 levels. There convolutions have no padding and no normalization, so that maps
/// lose their borders; here they keep their size.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Unet {
    /// Numbers in the embedding of a pixel.
    pub width: usize,
    /// Channels of the largest maps.
    pub channels: usize,
    /// How often the maps are halved.
    pub levels: usize,
    /// Whether pixels know where they are.
    pub coordinates: bool,
    /// By which statistics the normalizations go in training: `"batch"` or `"frozen"`.
    pub statistics: Statistics,
}

impl Default for Unet {
    /// A small one, ours: the paper has 64 channels and 4 levels.
    fn default() -> Self {
        Self {
            width: 8,
            channels: 16,
            levels: 2,
            coordinates: true,
            statistics: Statistics::Batch,
        }
    }
}

#[derive(Debug)]
struct Network {
    /// From the largest maps to the smallest.
    down: Vec<[ConvBlock; 2]>,
    /// From the largest maps to the smallest but one: they are gone through from behind.
    up: Vec<(UpConvolution, [ConvBlock; 2])>,
    head: ConvBlock,
    coordinates: bool,
}

impl Unet {
    /// A tower of these settings whose parameters are made in `params`.
    ///
    /// # Errors
    /// [`Error::Settings`] for data that are no images or too small, and sizes out of range.
    pub fn build(&self, input: &InputShape, params: &Params) -> Result<Tower> {
        let &InputShape::Image {
            channels,
            height,
            width: columns,
        } = input
        else {
            return Err(input.refused("unet", "images"));
        };
        let width = size("unet", "width", self.width)?;
        size("unet", "channels", self.channels)?;
        size("unet", "levels", self.levels)?;
        let levels = u32::try_from(self.levels).unwrap_or(u32::MAX);
        let least = height.min(columns);
        if least.checked_shr(levels).unwrap_or(0) == 0 {
            Err(Error::Settings(format!(
                "unet: images of {height} × {columns} cannot be halved {} times; set fewer `levels`, or resize them",
                self.levels
            )))?;
        }
        // A level more than the sides have bits is refused above, so that this does not overflow for sizes in range.
        size("unet", "channels of the smallest map", self.at(self.levels))?;
        let block = ConvSettings::usual(self.statistics, 1);
        let two = |place: &Params, inputs: usize, outputs: usize| -> Result<[ConvBlock; 2]> {
            Ok([
                ConvBlock::new(&place.at(0), inputs, outputs, block)?,
                ConvBlock::new(&place.at(1), outputs, outputs, block)?,
            ])
        };
        let seen = channels + if self.coordinates { 2 } else { 0 };
        let (places_down, places_up) = (params.at("down"), params.at("up"));
        let down = (0..=self.levels)
            .map(|level| {
                let inputs = match level {
                    0 => seen,
                    level => self.at(level - 1),
                };
                two(&places_down.at(level), inputs, self.at(level))
            })
            .collect::<Result<_>>()?;
        let up = (0..self.levels)
            .map(|level| {
                let (place, outputs) = (places_up.at(level), self.at(level));
                let grow = UpConvolution::new(&place.at("grow"), self.at(level + 1), outputs, 2)?;
                Ok((grow, two(&place, 2 * outputs, outputs)?))
            })
            .collect::<Result<_>>()?;
        let network = Box::new(Network {
            down,
            up,
            head: ConvBlock::new(
                &params.at("head"),
                self.channels,
                width,
                ConvSettings::PIXELS,
            )?,
            coordinates: self.coordinates,
        });
        let head = Head {
            pooling: Pooling::Mean,
            projection: None,
            normalize: false,
        };
        Ok(Tower::new(
            "unet",
            input.clone(),
            network,
            head,
            width,
            params,
        ))
    }

    /// Channels of the maps of a level.
    fn at(&self, level: usize) -> usize {
        self.channels
            .saturating_mul(1usize.checked_shl(level as u32).unwrap_or(usize::MAX))
    }
}

impl Backbone for Network {
    fn features(&self, input: &Input, mode: &mut Mode<'_>) -> Result<Features> {
        let image = input.dense("unet")?;
        let mut x = match self.coordinates {
            true => Tensor::cat(&[image, &coordinates(image)?], 1)?,
            false => image.clone(),
        };
        let mut beside = Vec::with_capacity(self.up.len());
        for (level, blocks) in self.down.iter().enumerate() {
            if level > 0 {
                beside.push(x.clone());
                x = max_pool(&x, &[Slide::over(2); 2])?;
            }
            x = twice(&x, blocks, mode)?;
        }
        for ((grow, blocks), beside) in self.up.iter().zip(&beside).rev() {
            let grown = fitted(&grow.forward(&x, mode)?, beside)?;
            x = twice(&Tensor::cat(&[beside, &grown], 1)?, blocks, mode)?;
        }
        self.head.forward(&x, mode).map(Features::Maps)
    }

    fn outputs(
        &self,
        input: &Input,
        mode: &mut Mode<'_>,
    ) -> Result<(Features, BTreeMap<String, Tensor>)> {
        let features = self.features(input, mode)?;
        let dense = match &features {
            Features::Maps(maps) => [("dense".to_owned(), maps.clone())].into(),
            _ => BTreeMap::new(),
        };
        Ok((features, dense))
    }
}

fn twice(x: &Tensor, [first, second]: &[ConvBlock; 2], mode: &mut Mode<'_>) -> Result<Tensor> {
    second.forward(&first.forward(x, mode)?, mode)
}

/// With zeros behind, to the rows and columns of another map.
fn fitted(x: &Tensor, like: &Tensor) -> Result<Tensor> {
    let mut fitted = x.clone();
    for axis in [2, 3] {
        let short = like.dim(axis)?.saturating_sub(fitted.dim(axis)?);
        if short > 0 {
            fitted = fitted.pad_with_zeros(axis, 0, short)?;
        }
    }
    Ok(fitted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{DType, Device};
    use nearfar_core::{Encoder, Seed};
    use nearfar_kernels::test_util::noise;

    fn build(settings: &Unet, height: usize, width: usize) -> Result<Tower> {
        let input = InputShape::Image {
            channels: 1,
            height,
            width,
        };
        settings.build(&input, &Params::new(Seed(1), DType::F64, &Device::Cpu)?)
    }

    #[test]
    fn each_pixel_of_an_image_of_any_size_has_an_embedding() -> Result<()> {
        for (height, width) in [(4, 4), (5, 7), (9, 6)] {
            let tower = build(&Unet::default(), height, width)?;
            let image = Input::Dense(noise((2, 1, height, width), 3)?);
            let encoded = tower.encode(&image, Mode::Eval)?;
            let dense = &encoded.extra["dense"];
            assert_eq!(dense.dims(), [2, 8, height, width]);
            let off = (dense.mean((2, 3))? - &encoded.embedding)?;
            assert!(off.abs()?.max_all()?.to_scalar::<f64>()? < 1e-12);
        }
        Ok(())
    }

    /// A far pixel is seen only through the small maps: without them a pixel sees 4 to each side, with them about 20.
    #[test]
    fn small_maps_see_far() -> Result<()> {
        let settings = Unet {
            coordinates: false,
            ..Unet::default()
        };
        let tower = build(&settings, 64, 64)?;
        let mut moved = vec![0f64; 64 * 64];
        moved[32 * 64 + 32] = 5.0;
        let dense = |values: Vec<f64>| -> Result<Tensor> {
            let image = Tensor::from_vec(values, (1, 1, 64, 64), &Device::Cpu)?;
            let encoded = tower.encode(&Input::Dense(image), Mode::Eval)?;
            Ok(encoded.extra["dense"].clone())
        };
        let change = (dense(moved)? - dense(vec![0.0; 64 * 64])?)?
            .abs()?
            .max(1)?;
        let change = change.squeeze(0)?.to_vec2::<f64>()?;
        assert!(change[32][42] > 0.0 && change[32][32] > 0.0);
        assert_eq!(change[0][0], 0.0);
        Ok(())
    }

    #[test]
    fn the_papers_has_its_channels_and_small_images_are_refused() -> Result<()> {
        let paper = Unet {
            channels: 64,
            levels: 4,
            ..Unet::default()
        };
        assert_eq!(paper.at(4), 1024);
        let error = build(&paper, 16, 15).expect_err("too small").to_string();
        assert_eq!(
            error,
            "unet: images of 16 × 15 cannot be halved 4 times; set fewer `levels`, or resize them"
        );
        let endless = Unet {
            levels: 1 << 20,
            ..Unet::default()
        };
        assert!(build(&endless, 32, 32).is_err());
        Ok(())
    }
}
