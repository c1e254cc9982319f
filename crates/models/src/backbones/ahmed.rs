//! The convolutions of a network that compares two images place by place.

use std::collections::BTreeMap;

use candle_core::{Result, Tensor};
use nearfar_core::{Error, Input, Mode};
use serde::{Deserialize, Serialize};

use crate::input_shape::size;
use crate::layers::{self, ConvBlock, ConvSettings};
use crate::scorers::MAPS;
use crate::tower::{Backbone, Features, Head, Pooling, Tower};
use crate::{InputShape, Params};

/// Two convolutions, shared by both images of a pair, whose maps `scorer.cross_input` compares: the first half of the network for
/// persons seen by two cameras.
///
/// ```text
/// image ─▶ conv 5×5, 20 ─▶ ReLU ─▶ max 2×2 ─▶ conv 5×5, 25 ─▶ ReLU ─▶ max 2×2 = maps ─▶ mean of each, or all to width numbers
/// ```
///
/// Reads images of any number of channels, of at least 28 × 28 for the scorer, which needs 4 × 4 places; the paper's of 160 × 60 become
/// 37 × 12. Beside the embeddings it gives `maps`.
///
/// The paper has no embedding. Here it is the mean of each map, without weights of its own, so that the network can be trained by a scorer
/// alone; it finds the neighbors that the scorer then orders. With `width` it is a linear map of all numbers of the maps, `head.weight`,
/// which is trained only if a loss of embeddings stands beside that of the scorer.
///
/// Names: `conv1.conv.weight`, `conv1.conv.bias`, `conv2.conv.weight`, `conv2.conv.bias`, and `head.weight`, `head.bias`.
///
/// Source: Ahmed, Jones, Marks, "An Improved Deep Learning Architecture for Person Re-Identification", CVPR 2015, section 3.1.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Ahmed {
    /// Numbers in an embedding; the mean of each map where it is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub width: Option<usize>,
    /// Channels of the first convolution.
    pub channels: usize,
    /// Channels of the second: maps to be compared.
    pub maps: usize,
    /// Whether embeddings have length 1.
    pub normalize: bool,
}

impl Default for Ahmed {
    /// As in the paper, with means of length 1.
    fn default() -> Self {
        Self {
            width: None,
            channels: 20,
            maps: 25,
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

#[derive(Debug)]
struct Network([ConvBlock; 2]);

impl Ahmed {
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
            return Err(input.refused("ahmed", "images"));
        };
        let first = size("ahmed", "channels", self.channels)?;
        let maps = size("ahmed", "maps", self.maps)?;
        let side = |pixels| BLOCK.output(BLOCK.output(pixels)?);
        let (Some(rows), Some(columns)) = (side(height), side(width)) else {
            return Err(Error::Settings(format!(
                "ahmed: images of {height} × {width} are too small; its convolutions need 16 × 16, and its scorer 28 × 28"
            ))
            .into());
        };
        let network = Network([
            ConvBlock::new(&params.at("conv1"), channels, first, BLOCK)?,
            ConvBlock::new(&params.at("conv2"), first, maps, BLOCK)?,
        ]);
        let flat = rows.saturating_mul(columns).saturating_mul(maps);
        let flat = size("ahmed", "height × width × maps", flat)?;
        let (pooling, projection, embedding) = match self.width {
            None => (Pooling::Mean, None, maps),
            Some(width) => {
                let width = size("ahmed", "width", width)?;
                let map = layers::Linear::new(&params.at("head"), flat, width, true)?;
                (Pooling::Flatten, Some(map), width)
            }
        };
        let head = Head {
            pooling,
            projection,
            normalize: self.normalize,
        };
        let network = Box::new(network);
        Ok(Tower::new(
            "ahmed",
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
        Ok(self.outputs(input, mode)?.0)
    }

    fn outputs(
        &self,
        input: &Input,
        mode: &mut Mode<'_>,
    ) -> Result<(Features, BTreeMap<String, Tensor>)> {
        let mut maps = input.dense("ahmed")?.clone();
        for block in &self.0 {
            maps = block.forward(&maps, mode)?;
        }
        let beside = BTreeMap::from([(MAPS.to_owned(), maps.clone())]);
        Ok((Features::Maps(maps), beside))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{DType, Device};
    use nearfar_core::{Encoder, Seed};

    fn build(settings: &Ahmed, height: usize, width: usize) -> Result<Tower> {
        let params = Params::new(Seed(1), DType::F32, &Device::Cpu)?;
        let input = InputShape::Image {
            channels: 3,
            height,
            width,
        };
        settings.build(&input, &params)
    }

    #[test]
    fn its_maps_are_those_of_the_paper() -> Result<()> {
        let tower = build(&Ahmed::default(), 160, 60)?;
        let count: usize = tower
            .parameters()
            .iter()
            .map(|it| it.var.elem_count())
            .sum();
        assert_eq!(count, (20 * 3 * 25 + 20) + (25 * 20 * 25 + 25));
        let images = Tensor::ones((2, 3, 160, 60), DType::F32, &Device::Cpu)?;
        let encoded = tower.encode(&Input::Dense(images), Mode::Eval)?;
        assert_eq!(encoded.extra[MAPS].dims(), [2, 25, 37, 12]);
        assert_eq!(
            (encoded.embedding.dims(), tower.width()),
            (&[2, 25][..], 25)
        );
        let wide = Ahmed {
            width: Some(7),
            ..Ahmed::default()
        };
        assert_eq!(build(&wide, 28, 28)?.width(), 7);
        Ok(())
    }

    #[test]
    fn small_images_are_refused() {
        assert!(build(&Ahmed::default(), 16, 16).is_ok());
        let error = build(&Ahmed::default(), 15, 16).expect_err("too small");
        assert!(
            error
                .to_string()
                .contains("images of 15 × 16 are too small")
        );
    }
}
