//! Convolutions that keep the resolution.

use std::collections::BTreeMap;

use candle_core::{Device, Result, Tensor};
use nearfar_core::{Input, Mode};
use serde::{Deserialize, Serialize};

use crate::input_shape::size;
use crate::layers::{ConvBlock, ConvSettings, Statistics};
use crate::tower::{Backbone, Features, Head, Pooling, Tower};
use crate::{InputShape, Params};

/// Convolutions that keep the resolution: an embedding for each pixel, for losses of masks.
///
/// ```text
/// image, and where each pixel is ─▶ layers × [conv 3×3, channels ─▶ batch norm ─▶ ReLU] ─▶ conv 1×1, width
/// ```
///
/// Reads images of any size and number of channels. The pixels' embeddings are the map `dense`, `(b, width, height, width)`, which
/// losses of masks look for; the embedding of an image is their mean. A pixel sees `2 · layers + 1` pixels in each direction.
/// Convolutions do not know where they are, so that two instances that look the same would be at one place: with `coordinates` two
/// more channels hold the row and column of each pixel, from −1 to 1.
///
/// Names: `blocks.0.conv.weight`, `blocks.0.norm.weight`, …, `head.conv.weight`, `head.conv.bias`.
///
/// Source of the coordinates: Liu et al., "An intriguing failing of convolutional neural networks and the CoordConv solution",
/// NeurIPS 2018, <https://arxiv.org/abs/1807.03247>.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DenseConv {
    /// Numbers in the embedding of a pixel.
    pub width: usize,
    /// Channels of each layer.
    pub channels: usize,
    /// Number of layers before the last.
    pub layers: usize,
    /// Whether pixels know where they are.
    pub coordinates: bool,
    /// By which statistics the normalizations go in training: `"batch"` or `"frozen"`.
    pub statistics: Statistics,
}

impl Default for DenseConv {
    /// A small one: ours.
    fn default() -> Self {
        Self {
            width: 8,
            channels: 32,
            layers: 4,
            coordinates: true,
            statistics: Statistics::Batch,
        }
    }
}

#[derive(Debug)]
struct Network {
    blocks: Vec<ConvBlock>,
    head: ConvBlock,
    coordinates: bool,
}

impl DenseConv {
    /// A tower of these settings whose parameters are made in `params`.
    ///
    /// # Errors
    /// [`Error::Settings`](nearfar_core::Error::Settings) for data that are no images, and sizes out of range.
    pub fn build(&self, input: &InputShape, params: &Params) -> Result<Tower> {
        let &InputShape::Image { channels, .. } = input else {
            return Err(input.refused("dense_conv", "images"));
        };
        size("dense_conv", "channels", self.channels)?;
        let width = size("dense_conv", "width", self.width)?;
        size("dense_conv", "layers", self.layers)?;
        let block = ConvSettings::usual(self.statistics, 1);
        let seen = channels + if self.coordinates { 2 } else { 0 };
        let places = params.at("blocks");
        let blocks = ConvBlock::stack(&places, self.layers, seen, self.channels, block)?;
        let network = Box::new(Network {
            blocks,
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
            "dense_conv",
            input.clone(),
            network,
            head,
            width,
            params,
        ))
    }
}

impl Backbone for Network {
    fn features(&self, input: &Input, mode: &mut Mode<'_>) -> Result<Features> {
        let image = input.dense("dense_conv")?;
        let image = match self.coordinates {
            true => Tensor::cat(&[image, &coordinates(image)?], 1)?,
            false => image.clone(),
        };
        let maps = self
            .blocks
            .iter()
            .try_fold(image, |x, block| block.forward(&x, mode))?;
        self.head.forward(&maps, mode).map(Features::Maps)
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

/// Row and column of each pixel, from −1 to 1: `(b, 2, h, w)`. Of one row or column it is 0.
pub(super) fn coordinates(image: &Tensor) -> Result<Tensor> {
    let (b, _, height, width) = image.dims4()?;
    let place = |at: usize, of: usize| match of {
        1 => 0.0,
        _ => 2.0 * at as f64 / (of - 1) as f64 - 1.0,
    };
    let pixels = || (0..height).flat_map(|y| (0..width).map(move |x| (y, x)));
    let rows = pixels().map(|(y, _)| place(y, height));
    let columns = pixels().map(|(_, x)| place(x, width));
    Tensor::from_vec(
        rows.chain(columns).collect::<Vec<f64>>(),
        (1, 2, height, width),
        &Device::Cpu,
    )?
    .to_dtype(image.dtype())?
    .to_device(image.device())?
    .broadcast_as((b, 2, height, width))?
    .contiguous()
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::DType;
    use nearfar_core::{Encoder, Seed};

    #[test]
    fn each_pixel_has_an_embedding_and_an_image_their_mean() -> Result<()> {
        let params = Params::new(Seed(1), DType::F64, &Device::Cpu)?;
        let input = InputShape::Image {
            channels: 1,
            height: 3,
            width: 5,
        };
        let settings = DenseConv {
            width: 2,
            channels: 4,
            layers: 2,
            ..DenseConv::default()
        };
        let tower = settings.build(&input, &params)?;
        let image = Input::Dense(Tensor::zeros((2, 1, 3, 5), DType::F64, &Device::Cpu)?);
        let encoded = tower.encode(&image, Mode::Eval)?;
        let dense = &encoded.extra["dense"];
        assert_eq!(dense.dims(), [2, 2, 3, 5]);
        let off = (dense.mean((2, 3))? - &encoded.embedding)?
            .abs()?
            .max_all()?;
        assert!(off.to_scalar::<f64>()? < 1e-12);
        // Of a blank image the pixels differ by where they are alone.
        let pixels = dense.get(0)?.get(0)?.flatten_all()?.to_vec1::<f64>()?;
        assert!(pixels.iter().any(|it| (it - pixels[0]).abs() > 1e-6));
        Ok(())
    }

    #[test]
    fn places_are_from_minus_one_to_one() -> Result<()> {
        let image = Tensor::zeros((1, 3, 1, 3), DType::F32, &Device::Cpu)?;
        let places = coordinates(&image)?.flatten_all()?.to_vec1::<f32>()?;
        assert_eq!(places, [0.0, 0.0, 0.0, -1.0, 0.0, 1.0]);
        Ok(())
    }
}
