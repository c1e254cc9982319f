//! The four-block network of few-shot learning.

use std::collections::BTreeMap;

use candle_core::{Result, Tensor};
use nearfar_core::{Error, Input, Mode};
use serde::{Deserialize, Serialize};

use crate::input_shape::size;
use crate::layers::{self, ConvBlock, ConvSettings, Statistics};
use crate::scorers::MAPS;
use crate::tower::{Backbone, Features, Head, Pooling, Tower};
use crate::{InputShape, Params};

/// Four blocks of convolution, batch normalization, ReLU and pooling: the usual network for Omniglot and miniImageNet.
///
/// ```text
/// image ─▶ 4 × [conv 3×3, channels ─▶ batch norm ─▶ ReLU ─▶ max 2×2] ─▶ flatten ─▶ linear, if the width differs
/// ```
///
/// Reads images of any number of channels, of at least 16 × 16 (2 to the power of `blocks`). 28 × 28 become 1 × 1 × 64,
/// which is the default width, so there is no linear layer; 84 × 84 become 5 × 5 × 64 = 1600. Convolutions have no
/// bias, which the normalization would take away again.
///
/// Names: `blocks.0.conv.weight`, `blocks.0.norm.weight`, `blocks.0.norm.bias`, `blocks.0.norm.running_mean`,
/// `blocks.0.norm.running_var`, … and `head.weight`, `head.bias` of the linear layer.
///
/// With `parts` the map of the last block is cut into so many stripes from top to bottom (stripe `p` of `P` has the rows from
/// `⌊p h/P⌋` to below `⌈(p + 1) h/P⌉`), and each is averaged and mapped to `width` numbers by a layer of its own, `parts.0.weight`:
/// vectors `part.0`, `part.1`, … for the setting `parts` of a loss. With `hidden_heads` the same is done with the whole map of each
/// block but the last: vectors `hidden.0`, … for `deep_supervision`. With `maps` the last map is given beside the embeddings, for
/// `scorer.cross_input`. The layers of parts and hidden blocks are trained only if a loss asks for them, and embeddings
/// do not depend on these layers.
///
/// Source: Vinyals et al., "Matching Networks for One Shot Learning", NeurIPS 2016, <https://arxiv.org/abs/1606.04080>,
/// section 4.1; Snell et al., "Prototypical Networks for Few-shot Learning", 2017, <https://arxiv.org/abs/1703.05175>.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Conv4 {
    /// Numbers in an embedding.
    pub width: usize,
    /// Channels of each block.
    pub channels: usize,
    /// Number of blocks: four in the papers, fewer for images of under 16 pixels.
    pub blocks: usize,
    /// Stripes of the last map that have a vector each, for losses of parts.
    pub parts: usize,
    /// Whether all blocks but the last have a vector each, for losses of hidden layers.
    pub hidden_heads: bool,
    /// Whether the last map is given beside the embeddings, for scorers of pairs that compare maps.
    pub maps: bool,
    /// By which statistics the normalizations go in training: `"batch"` or `"frozen"`.
    pub statistics: Statistics,
    /// Whether embeddings have length 1.
    pub normalize: bool,
}

impl Default for Conv4 {
    /// As in the papers, but for unit rows.
    fn default() -> Self {
        Self {
            width: 64,
            channels: 64,
            blocks: 4,
            parts: 0,
            hidden_heads: false,
            maps: false,
            statistics: Statistics::Batch,
            normalize: true,
        }
    }
}

#[derive(Debug)]
struct Network {
    blocks: Vec<ConvBlock>,
    /// Of the stripes of the last map.
    parts: Vec<Head>,
    /// Of the maps before the last; empty if nobody asks.
    hidden: Vec<Head>,
    /// Whether the last map is given too.
    maps: bool,
}

impl Conv4 {
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
            return Err(input.refused("conv4", "images"));
        };
        size("conv4", "blocks", self.blocks)?;
        size("conv4", "channels", self.channels)?;
        let embedding = size("conv4", "width", self.width)?;
        let block = ConvSettings::usual(self.statistics, 2);
        // Padding keeps the size, so that only pooling makes an image smaller.
        let halved =
            |pixels: usize| (0..self.blocks).try_fold(pixels, |pixels, _| block.output(pixels));
        let (Some(rows), Some(columns)) = (halved(height), halved(width)) else {
            let possible = height.min(width).checked_ilog2().unwrap_or(0);
            let advice = match possible {
                0 => "take `mlp`".to_owned(),
                _ => format!("resize them, set `blocks` to {possible} or fewer, or take `mlp`"),
            };
            return Err(Error::Settings(format!(
                "conv4: images of {height} × {width} are too small for {} poolings by 2; {advice}",
                self.blocks
            ))
            .into());
        };
        let flat = rows.saturating_mul(columns).saturating_mul(self.channels);
        let flat = size("conv4", "height × width × channels", flat)?;
        let places = params.at("blocks");
        let blocks = ConvBlock::stack(&places, self.blocks, channels, self.channels, block)?;
        let head = Head {
            pooling: Pooling::Flatten,
            projection: layers::Linear::fitting(&params.at("head"), flat, embedding)?,
            normalize: self.normalize,
        };
        if self.parts > rows {
            return Err(Error::Settings(format!(
                "conv4: the last map has {rows} row{}, of which `parts` = {} stripes cannot be made; set fewer `parts`, or fewer \
                 `blocks`",
                if rows == 1 { "" } else { "s" },
                self.parts
            ))
            .into());
        }
        let heads = |place: &str, count: usize| -> Result<Vec<Head>> {
            let places = params.at(place);
            let head = |index| {
                let map = layers::Linear::new(&places.at(index), self.channels, embedding, true)?;
                Ok(Head {
                    pooling: Pooling::Mean,
                    projection: Some(map),
                    normalize: self.normalize,
                })
            };
            (0..count).map(head).collect()
        };
        let hidden = if self.hidden_heads {
            self.blocks - 1
        } else {
            0
        };
        let network = Box::new(Network {
            blocks,
            parts: heads("parts", self.parts)?,
            hidden: heads("hidden", hidden)?,
            maps: self.maps,
        });
        Ok(Tower::new(
            "conv4",
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
        let mut extra = BTreeMap::new();
        let mut maps = input.dense("conv4")?.clone();
        for (index, block) in self.blocks.iter().enumerate() {
            maps = block.forward(&maps, mode)?;
            if index + 1 < self.blocks.len()
                && let Some(head) = self.hidden.get(index)
            {
                let vectors = head.embed(Features::Maps(maps.clone()), mode)?;
                extra.insert(format!("hidden.{index}"), vectors);
            }
        }
        let (rows, count) = (maps.dim(2)?, self.parts.len());
        for (index, head) in self.parts.iter().enumerate() {
            let (start, end) = (index * rows / count, ((index + 1) * rows).div_ceil(count));
            let stripe = maps.narrow(2, start, end - start)?;
            let vectors = head.embed(Features::Maps(stripe), mode)?;
            extra.insert(format!("part.{index}"), vectors);
        }
        if self.maps {
            extra.insert(MAPS.into(), maps.clone());
        }
        Ok((Features::Maps(maps), extra))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{DType, Device};
    use nearfar_core::{Encoder, Seed};

    fn build(settings: &Conv4, pixels: usize) -> Result<Tower> {
        let params = Params::new(Seed(1), DType::F32, &Device::Cpu)?;
        let input = InputShape::Image {
            channels: 1,
            height: pixels,
            width: pixels,
        };
        settings.build(&input, &params)
    }

    fn count(tower: &Tower) -> usize {
        tower
            .parameters()
            .iter()
            .filter(|it| it.trained)
            .map(|it| it.var.elem_count())
            .sum()
    }

    #[test]
    fn there_is_a_linear_layer_only_where_the_width_differs() -> Result<()> {
        let convolutions = 64 * 9 + 3 * 64 * 64 * 9 + 4 * 2 * 64;
        assert_eq!(count(&build(&Conv4::default(), 28)?), convolutions);
        let projected = build(&Conv4::default(), 84)?;
        assert_eq!(count(&projected), convolutions + 1600 * 64 + 64);
        assert_eq!(projected.width(), 64);
        Ok(())
    }

    #[test]
    fn stripes_and_hidden_layers_have_vectors_of_their_own() -> Result<()> {
        let settings = Conv4 {
            width: 5,
            blocks: 2,
            parts: 3,
            hidden_heads: true,
            ..Conv4::default()
        };
        let input = |value: f32| Tensor::full(value, (2, 1, 28, 28), &candle_core::Device::Cpu);
        let tower = build(&settings, 28)?;
        let encoded = tower.encode(&Input::Dense(input(1.0)?), Mode::Eval)?;
        let names: Vec<&str> = encoded.extra.keys().map(String::as_str).collect();
        assert_eq!(names, ["hidden.0", "part.0", "part.1", "part.2"]);
        for vectors in encoded.extra.values() {
            assert_eq!(vectors.dims(), [2, 5]);
            let length = vectors.sqr()?.sum(1)?.to_vec1::<f32>()?[0];
            assert!((length - 1.0).abs() < 1e-5);
        }
        // Embeddings are those of a network without them.
        let plain = Conv4 {
            parts: 0,
            hidden_heads: false,
            ..settings.clone()
        };
        let embedding = build(&plain, 28)?.encode(&Input::Dense(input(1.0)?), Mode::Eval)?;
        assert_eq!(
            embedding.embedding.to_vec2::<f32>()?,
            encoded.embedding.to_vec2::<f32>()?
        );
        assert!(embedding.extra.is_empty());
        let error = build(
            &Conv4 {
                blocks: 4,
                ..settings
            },
            28,
        );
        let error = error.expect_err("one row").to_string();
        assert!(
            error.contains("the last map has 1 row, of which `parts` = 3"),
            "{error}"
        );
        Ok(())
    }

    #[test]
    fn images_that_pooling_would_use_up_are_refused() -> Result<()> {
        let error = build(&Conv4::default(), 8)
            .expect_err("too small")
            .to_string();
        assert_eq!(
            error,
            "conv4: images of 8 × 8 are too small for 4 poolings by 2; resize them, set `blocks` to 3 or fewer, or \
             take `mlp`"
        );
        let fewer = Conv4 {
            blocks: 3,
            ..Conv4::default()
        };
        assert_eq!(build(&fewer, 8)?.width(), 64);
        assert!(build(&Conv4::default(), 0).is_err() && build(&Conv4::default(), 1).is_err());
        Ok(())
    }
}
