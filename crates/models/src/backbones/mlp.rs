//! Full layers.

use std::collections::BTreeMap;

use candle_core::{Result, Tensor};
use nearfar_core::{Fraction, Input, Mode};
use nearfar_kernels::relu;
use serde::{Deserialize, Serialize};

use crate::input_shape::size;
use crate::layers::{self, BatchNorm, Normalization, Statistics, dropout};
use crate::tower::{Backbone, Features, Head, Pooling, Tower};
use crate::{InputShape, Params};

/// Full layers with ReLU: for tables, for features that another network made, and for small images.
///
/// ```text
/// vector ─▶ for each hidden size [full ─▶ batch norm, if set ─▶ ReLU ─▶ dropout] ─▶ linear width
/// ```
///
/// Reads vectors, and images as their pixels in row-major order. Columns of a table should be of one scale:
/// standardize them, or let `batch_norm` do it behind the first layer.
///
/// Names: `layers.0.weight`, `layers.0.bias` (none under a normalization, which would take it away again),
/// `norms.0.weight`, …, `head.weight`, `head.bias`.
///
/// With `hidden_heads` each hidden layer is mapped to `width` numbers by a layer of its own, `hidden.0.weight`: vectors `hidden.0`, …
/// for the setting `deep_supervision` of a loss. They are trained only if a loss asks for them, and embeddings do not depend on them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Mlp {
    /// Numbers in an embedding.
    pub width: usize,
    /// Sizes of the hidden layers; an empty list leaves a linear map.
    pub hidden: Vec<usize>,
    /// Probability with which each hidden number is dropped in training, less than 1.
    pub dropout: Fraction,
    /// Whether each hidden layer has vectors of its own, for losses of hidden layers.
    pub hidden_heads: bool,
    /// Whether hidden layers are normalized over the batch.
    pub batch_norm: bool,
    /// By which statistics they are in training: `"batch"` or `"frozen"`.
    pub statistics: Statistics,
    /// Whether embeddings have length 1.
    pub normalize: bool,
}

impl Default for Mlp {
    fn default() -> Self {
        Self {
            width: 64,
            hidden: vec![256, 256],
            dropout: Fraction::literal(0.0),
            hidden_heads: false,
            batch_norm: false,
            statistics: Statistics::Batch,
            normalize: true,
        }
    }
}

#[derive(Debug)]
struct Network {
    layers: Vec<(layers::Linear, Option<BatchNorm>)>,
    dropout: Fraction,
    /// Of the hidden layers; empty if nobody asks.
    hidden: Vec<Head>,
}

impl Mlp {
    /// A tower of these settings whose parameters are made in `params`.
    ///
    /// # Errors
    /// [`Error::Settings`](nearfar_core::Error::Settings) for data that are sequences, and sizes out of range.
    pub fn build(&self, input: &InputShape, params: &Params) -> Result<Tower> {
        let Some(mut inputs) = input.numbers() else {
            return Err(input.refused("mlp", "vectors or images"));
        };
        let embedding = size("mlp", "width", self.width)?;
        let (maps, norms) = (params.at("layers"), params.at("norms"));
        let mut network = Network {
            layers: Vec::new(),
            dropout: layers::dropout_rate("mlp", self.dropout)?,
            hidden: Vec::new(),
        };
        let heads = params.at("hidden");
        for (index, &outputs) in self.hidden.iter().enumerate() {
            size("mlp", "hidden", outputs)?;
            let map = layers::Linear::new(&maps.at(index), inputs, outputs, !self.batch_norm)?;
            let settings = Normalization {
                statistics: self.statistics,
                ..Normalization::default()
            };
            let norm = self
                .batch_norm
                .then(|| BatchNorm::new(&norms.at(index), outputs, settings))
                .transpose()?;
            network.layers.push((map, norm));
            if self.hidden_heads {
                let map = layers::Linear::new(&heads.at(index), outputs, embedding, true)?;
                network.hidden.push(Head {
                    pooling: Pooling::Flatten,
                    projection: Some(map),
                    normalize: self.normalize,
                });
            }
            inputs = outputs;
        }
        let head = Head {
            pooling: Pooling::Flatten,
            projection: Some(layers::Linear::new(
                &params.at("head"),
                inputs,
                embedding,
                true,
            )?),
            normalize: self.normalize,
        };
        Ok(Tower::new(
            "mlp",
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
        Ok(self.outputs(input, mode)?.0)
    }

    fn outputs(
        &self,
        input: &Input,
        mode: &mut Mode<'_>,
    ) -> Result<(Features, BTreeMap<String, Tensor>)> {
        let mut extra = BTreeMap::new();
        let mut x = input.dense("mlp")?.flatten_from(1)?;
        for (index, (map, norm)) in self.layers.iter().enumerate() {
            x = map.forward(&x, mode)?;
            if let Some(norm) = norm {
                x = norm.forward(&x, mode)?;
            }
            x = dropout(&relu(&x)?, self.dropout, mode)?;
            if let Some(head) = self.hidden.get(index) {
                let vectors = head.embed(Features::Vectors(x.clone()), mode)?;
                extra.insert(format!("hidden.{index}"), vectors);
            }
        }
        Ok((Features::Vectors(x), extra))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{DType, Device, Tensor};
    use nearfar_core::{Encoder, Purpose, Seed};

    fn build(settings: &Mlp, input: &InputShape) -> Result<Tower> {
        settings.build(input, &Params::new(Seed(1), DType::F32, &Device::Cpu)?)
    }

    #[test]
    fn images_are_read_as_their_pixels() -> Result<()> {
        let image = InputShape::Image {
            channels: 1,
            height: 2,
            width: 3,
        };
        let pixels = Tensor::arange(0f32, 12.0, &Device::Cpu)?;
        let embed = |shape: &InputShape, dims: &[usize]| -> Result<Vec<Vec<f32>>> {
            let input = Input::Dense(pixels.reshape(dims)?);
            build(&Mlp::default(), shape)?
                .encode(&input, Mode::Eval)?
                .embedding
                .to_vec2()
        };
        let rows = embed(&InputShape::Features(6), &[2, 6])?;
        assert_eq!(embed(&image, &[2, 1, 2, 3])?, rows);
        assert!(
            rows.iter()
                .all(|row| { (row.iter().map(|x| x * x).sum::<f32>() - 1.0).abs() < 1e-5 })
        );
        Ok(())
    }

    #[test]
    fn sequences_are_refused_with_both_kinds_named() {
        let error = build(&Mlp::default(), &InputShape::Tokens { vocabulary: 9 });
        assert_eq!(
            error.expect_err("tokens are no numbers").to_string(),
            "`mlp` reads vectors or images, but the data are sequences of tokens from a vocabulary of 9"
        );
    }

    #[test]
    fn dropout_is_for_training_and_repeats_with_its_stream() -> Result<()> {
        let settings = Mlp {
            dropout: Fraction::literal(0.5),
            ..Mlp::default()
        };
        let tower = build(&settings, &InputShape::Features(3))?;
        let x = Input::Dense(Tensor::ones((2, 3), DType::F32, &Device::Cpu)?);
        let train = |step| -> Result<Vec<Vec<f32>>> {
            let mut rng = Seed(1).rng(Purpose::Dropout, step);
            tower.encode(&x, Mode::Train(&mut rng))?.embedding.to_vec2()
        };
        assert_eq!(train(0)?, train(0)?);
        assert_ne!(train(0)?, train(1)?);
        let rows = tower.encode(&x, Mode::Eval)?.embedding.to_vec2::<f32>()?;
        assert_eq!(rows[0], rows[1]);
        let all = Mlp {
            dropout: Fraction::literal(1.0),
            ..Mlp::default()
        };
        assert!(build(&all, &InputShape::Features(3)).is_err());
        Ok(())
    }
}
