//! A transformer over patches of an image.

use candle_core::{Result, Tensor};
use nearfar_core::{Error, Finite, Fraction, Input, Mode, Positive};
use serde::{Deserialize, Serialize};

use crate::input_shape::size;
use crate::layers::{
    self, Activation, AttentionMask, AttentionSettings, Conv, Convolution2d, LayerNorm, LayerScale,
    MultiHeadAttention, drop_path, dropout_rate,
};
use crate::tower::{Backbone, Features, Head, Pooling, Tower};
use crate::{Init, InputShape, Params, Weight};

/// A vision transformer (ViT), and DINOv2's variant of it, with timm's and DINOv2's names and starting values.
///
/// ```text
/// image ─▶ patches ─▶ linear ─▶ [class token, patches] + positions ─▶ blocks ─▶ norm ─▶ class token, or mean of patches ─▶ linear
/// block: x ← x + ls1 · attn(norm1(x)),   x ← x + ls2 · fc2(gelu(fc1(norm2(x)))),   fc1 to 4 times as many numbers
/// ```
///
/// Reads images of any number of channels whose sides are multiples of `patch`, all of one size: there is a learned position
/// for each patch of the images that the tower is built for. Weights of another size have positions of another shape, which
/// loading refuses; they are not interpolated.
///
/// DINOv2 (small) is `patch = 14, channels = 384, heads = 6, blocks = 12, layer_scale = 1e-5`, with `registers = 4` if it has
/// registers: tokens between the class token and the patches, without positions, to which nothing is read off.
///
/// Names: `cls_token`, `pos_embed` `(1, 1 + patches, channels)`, `register_tokens`, `patch_embed.proj.weight`,
/// `blocks.0.norm1.weight`, `blocks.0.attn.qkv.weight`, `blocks.0.attn.proj.weight`, `blocks.0.ls1.gamma`,
/// `blocks.0.norm2.weight`, `blocks.0.mlp.fc1.weight`, `blocks.0.mlp.fc2.weight`, `blocks.0.ls2.gamma`, …, `norm.weight`; and
/// `head.weight`, `head.bias` of the linear layer, which is there if the width is not that of the tokens. Without registers
/// timm's names are the same; with them, it has other positions under another name. Hugging Face's are read too
/// ([`Pretrained`](crate::Pretrained)). Matrices start normal with deviation 0.02,
/// `cls_token` and `register_tokens` with 1e−6, biases at 0; `patch_embed.proj` is a convolution and starts as torch's does.
///
/// With `pooling = "mean"` patches are normalized by `norm` before their mean is taken. (timm takes the mean first and
/// normalizes it, under the name `fc_norm`.)
///
/// Source: Dosovitskiy et al., "An image is worth 16x16 words", ICLR 2021, <https://arxiv.org/abs/2010.11929>; Oquab et al.,
/// "DINOv2", 2023, <https://arxiv.org/abs/2304.07193>; registers after Darcet et al., "Vision transformers need registers",
/// ICLR 2024, <https://arxiv.org/abs/2309.16588>.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Vit {
    /// Numbers in an embedding.
    pub width: usize,
    /// Side of a patch in pixels; it divides both sides of the images.
    pub patch: usize,
    /// Numbers of a token.
    pub channels: usize,
    /// Heads of the attention; they divide `channels`.
    pub heads: usize,
    /// Number of blocks.
    pub blocks: usize,
    /// Tokens beside the class token that belong to no patch.
    pub registers: usize,
    /// What the factors of what a branch adds start at; without it there are none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub layer_scale: Option<Finite>,
    /// Of the normalizations, as of timm and DINOv2 where nothing is said; `ViTModel` of Hugging Face has 1e-12.
    pub eps: Positive,
    /// Probability with which a row goes around a branch of the last block in training; it rises to it in even steps, from 0
    /// at the first.
    pub drop_path: Fraction,
    /// What of the tokens becomes the vector: `"token"` or `"mean"`.
    pub pooling: VitPooling,
    /// Whether embeddings have length 1.
    pub normalize: bool,
}

/// What of the tokens of a [`Vit`] becomes one vector.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VitPooling {
    /// The class token.
    #[default]
    Token,
    /// The mean of the patches.
    Mean,
}

impl Default for Vit {
    /// A small network for small images, with unit rows.
    fn default() -> Self {
        Self {
            width: 128,
            patch: 8,
            channels: 192,
            heads: 3,
            blocks: 6,
            registers: 0,
            layer_scale: None,
            eps: Positive::literal(1e-6),
            drop_path: Fraction::literal(0.0),
            pooling: VitPooling::Token,
            normalize: true,
        }
    }
}

/// Of the starting values of matrices. (timm cuts the normal off at ±2, which is a hundred deviations away.)
const DEVIATION: f64 = 0.02;

const fn normal(deviation: f64) -> Init {
    Init::Normal {
        mean: 0.0,
        deviation,
    }
}

#[derive(Debug)]
struct Network {
    patches: Convolution2d,
    class: Weight,
    registers: Option<Weight>,
    positions: Weight,
    blocks: Vec<Block>,
    norm: LayerNorm,
    pooling: VitPooling,
}

#[derive(Debug)]
struct Block {
    attention: MultiHeadAttention,
    maps: (layers::Linear, layers::Linear),
    norms: (LayerNorm, LayerNorm),
    scales: Option<(LayerScale, LayerScale)>,
    drop_path: Fraction,
}

impl Vit {
    /// A tower of these settings whose parameters are made in `params`.
    ///
    /// # Errors
    /// [`Error::Settings`] for data that are no images or do not consist of patches, heads that do not divide the channels, a
    /// `drop_path` of 1, and sizes out of range.
    pub fn build(&self, input: &InputShape, params: &Params) -> Result<Tower> {
        let &InputShape::Image {
            channels: colors,
            height,
            width,
        } = input
        else {
            return Err(input.refused("vit", "images"));
        };
        let embedding = size("vit", "width", self.width)?;
        let channels = size("vit", "channels", self.channels)?;
        let patch = size("vit", "patch", self.patch)?;
        let count = size("vit", "blocks", self.blocks)?;
        let rate = dropout_rate("vit", self.drop_path)?.get();
        let whole = height.is_multiple_of(patch) && width.is_multiple_of(patch);
        if !whole || height == 0 || width == 0 {
            Err(Error::Settings(format!(
                "vit: images of {height} × {width} do not consist of patches of {patch} × {patch}; resize them, or set `patch` \
                 to a divisor of both sides"
            )))?;
        }
        let patches = (height / patch).saturating_mul(width / patch);
        let patches = size("vit", "patches", patches)?;
        let settings = Conv {
            stride: [patch; 2],
            ..Conv::default()
        };
        let (place, sizes) = (params.at("patch_embed.proj"), (colors, channels));
        let embed = Convolution2d::new(&place, sizes, [patch; 2], settings, true)?;
        let token = |name: &str, count, deviation| {
            params.weight(name, (1, count, channels), normal(deviation))
        };
        let registers = match self.registers {
            0 => None,
            count => Some(token(
                "register_tokens",
                size("vit", "registers", count)?,
                1e-6,
            )?),
        };
        let places = params.at("blocks");
        let blocks = (0..count)
            .map(|index| {
                let rate = rate * index as f64 / (count - 1).max(1) as f64;
                self.block(&places.at(index), Fraction::new(rate)?)
            })
            .collect::<Result<_>>()?;
        let head = Head {
            pooling: Pooling::Flatten,
            projection: layers::Linear::fitting(&params.at("head"), channels, embedding)?,
            normalize: self.normalize,
        };
        let network = Box::new(Network {
            patches: embed,
            class: token("cls_token", 1, 1e-6)?,
            registers,
            positions: token("pos_embed", 1 + patches, DEVIATION)?,
            blocks,
            norm: LayerNorm::new(&params.at("norm"), &[channels], self.eps, true)?,
            pooling: self.pooling,
        });
        Ok(Tower::new(
            "vit",
            input.clone(),
            network,
            head,
            embedding,
            params,
        ))
    }

    fn block(&self, params: &Params, drop_path: Fraction) -> Result<Block> {
        let channels = self.channels;
        let settings = AttentionSettings {
            heads: self.heads,
            bias: true,
            dropout: Fraction::literal(0.0),
        };
        let norm = |name: &str| LayerNorm::new(&params.at(name), &[channels], self.eps, true);
        let map = |name: &str, inputs, outputs| {
            let (weight, bias) = (normal(DEVIATION), Some(Init::Constant(0.0)));
            layers::Linear::starting(&params.at(name), inputs, outputs, weight, bias)
        };
        let scale = |name: &str, start| LayerScale::new(&params.at(name), channels, start);
        let hidden = channels.saturating_mul(4);
        Ok(Block {
            attention: MultiHeadAttention::of_images(
                &params.at("attn"),
                channels,
                settings,
                DEVIATION,
            )?,
            maps: (
                map("mlp.fc1", channels, hidden)?,
                map("mlp.fc2", hidden, channels)?,
            ),
            norms: (norm("norm1")?, norm("norm2")?),
            scales: match self.layer_scale {
                None => None,
                Some(start) => Some((scale("ls1", start)?, scale("ls2", start)?)),
            },
            drop_path,
        })
    }
}

impl Block {
    /// `(b, t, c)` to the same shape.
    fn forward(&self, x: &Tensor, mode: &mut Mode<'_>) -> Result<Tensor> {
        let (first, second) = match &self.scales {
            None => (None, None),
            Some((first, second)) => (Some(first), Some(second)),
        };
        let all = AttentionMask::all();
        let read = self.norms.0.forward(x, mode)?;
        let y = self.attention.forward(&read, &all, None, mode)?;
        let x = self.add(x, y, first, mode)?;
        let read = self.norms.1.forward(&x, mode)?;
        let y = Activation::Gelu.forward(&self.maps.0.forward(&read, mode)?)?;
        let y = self.maps.1.forward(&y, mode)?;
        self.add(&x, y, second, mode)
    }

    fn add(
        &self,
        x: &Tensor,
        y: Tensor,
        scale: Option<&LayerScale>,
        mode: &mut Mode<'_>,
    ) -> Result<Tensor> {
        let y = match scale {
            Some(scale) => scale.forward(&y, mode)?,
            None => y,
        };
        x + drop_path(&y, self.drop_path, mode)?
    }
}

impl Backbone for Network {
    fn features(&self, input: &Input, mode: &mut Mode<'_>) -> Result<Features> {
        let maps = self.patches.forward(input.dense("vit")?, mode)?; // (b, c, rows, columns)
        let patches = maps.flatten_from(2)?.transpose(1, 2)?.contiguous()?; // (b, patches, c)
        let (rows, count, channels) = patches.dims3()?;
        let for_all = |token: Tensor| -> Result<Tensor> {
            let tokens = token.dim(1)?;
            token.broadcast_as((rows, tokens, channels))?.contiguous()
        };
        let class = for_all(self.class.tensor(mode))?;
        let tokens = Tensor::cat(&[&class, &patches], 1)?;
        let mut tokens = tokens.broadcast_add(&self.positions.tensor(mode))?;
        if let Some(registers) = &self.registers {
            let class = tokens.narrow(1, 0, 1)?;
            let patches = tokens.narrow(1, 1, count)?;
            tokens = Tensor::cat(&[&class, &for_all(registers.tensor(mode))?, &patches], 1)?;
        }
        for block in &self.blocks {
            tokens = block.forward(&tokens, mode)?;
        }
        // Rows are normalized by themselves, so only those that are read have to be.
        Ok(Features::Vectors(match self.pooling {
            VitPooling::Token => {
                let class = tokens.narrow(1, 0, 1)?.squeeze(1)?.contiguous()?;
                self.norm.forward(&class, mode)?
            }
            VitPooling::Mean => {
                let first = tokens.dim(1)? - count;
                let patches = tokens.narrow(1, first, count)?.contiguous()?;
                self.norm.forward(&patches, mode)?.mean(1)?
            }
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{DType, Device};
    use nearfar_core::{Encoder, Seed};

    fn image(height: usize, width: usize) -> InputShape {
        InputShape::Image {
            channels: 3,
            height,
            width,
        }
    }

    fn params() -> Params {
        Params::new(Seed(7), DType::F32, &Device::Cpu).expect("f32")
    }

    #[test]
    fn dinov2_has_its_names_and_its_size() -> Result<()> {
        let settings = Vit {
            width: 384,
            patch: 14,
            channels: 384,
            heads: 6,
            blocks: 12,
            registers: 4,
            layer_scale: Some(Finite::literal(1e-5)),
            ..Vit::default()
        };
        let tower = settings.build(&image(518, 518), &params())?;
        let parameters = tower.parameters();
        let count: usize = parameters.iter().map(|it| it.var.elem_count()).sum();
        // The published 22,056,576 have no registers, and a `mask_token` that only pretraining needs.
        assert_eq!(count, 22_056_576 + 4 * 384 - 384);
        let mut names: Vec<String> = ["cls_token", "pos_embed", "register_tokens"]
            .map(String::from)
            .to_vec();
        let mut both = |place: String| {
            names.push(format!("{place}.weight"));
            names.push(format!("{place}.bias"));
        };
        both("patch_embed.proj".to_owned());
        both("norm".to_owned());
        for block in 0..12 {
            for part in [
                "norm1",
                "attn.qkv",
                "attn.proj",
                "norm2",
                "mlp.fc1",
                "mlp.fc2",
            ] {
                both(format!("blocks.{block}.{part}"));
            }
        }
        for block in 0..12 {
            names.extend(["ls1", "ls2"].map(|part| format!("blocks.{block}.{part}.gamma")));
        }
        names.sort();
        let found: Vec<_> = parameters.into_iter().map(|it| it.name).collect();
        assert_eq!(found, names);
        Ok(())
    }

    #[test]
    fn images_that_are_no_patches_are_refused() {
        let error = Vit::default().build(&image(16, 20), &params());
        let error = error.expect_err("20 is no multiple of 8").to_string();
        assert!(
            error.contains("16 × 20 do not consist of patches of 8 × 8"),
            "{error}"
        );
        let heads = Vit {
            heads: 5,
            ..Vit::default()
        };
        assert!(heads.build(&image(16, 16), &params()).is_err());
        assert!(
            Vit::default()
                .build(&InputShape::Features(3), &params())
                .is_err()
        );
    }
}
