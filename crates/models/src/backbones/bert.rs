//! A transformer over the words of a sentence.

use std::path::Path;

use candle_core::{DType, Result, Tensor};
use nearfar_core::{Error, Fraction, Input, Mode, NonNegative, Positive, name_matches};
use serde::{Deserialize, Serialize};

use crate::input_shape::size;
use crate::layers::{
    Activation, AttentionMask, Embedding, LayerNorm, Linear, attend_by_heads, dropout,
    dropout_rate, heads_divide,
};
use crate::tower::{Backbone, Features, Head, Pooling, Tower};
use crate::weights_file::Place;
use crate::{Init, InputShape, Params};

/// BERT: a transformer that reads a sentence in both directions; by default of the size of MiniLM-L6, the encoder of
/// sentence-transformers' `all-MiniLM-L6-v2`.
///
/// ```text
/// x_t = norm(word(id_t) + position(t) + type(0))
/// layers ×:  x ← norm(x + W_o heads(x) + b_o),   x ← norm(x + W_2 activation(W_1 x + b_1) + b_2)
/// mean of the valid x_t, or x_0 ─▶ linear, if the width differs, and what bends ─▶ length 1
/// ```
///
/// Reads sequences of tokens, `(b, t)`, up to their true lengths, which `positions` limits; padding changes nothing. The states
/// are `(b, t, hidden)`, the embeddings `(b, width)`. There is one sentence in a row, so all tokens are of type 0, and there is no
/// `pooler`. Without trained weights it starts as BERT does: weights normal with a deviation of 0.02, biases at 0. A folder of
/// sentence-transformers gives settings and weights: [`SentenceFolder`](crate::SentenceFolder).
///
/// Names are those of Hugging Face's `BertModel`: `embeddings.word_embeddings.weight`, `embeddings.position_embeddings.weight`,
/// `embeddings.token_type_embeddings.weight`, `embeddings.LayerNorm.weight`, `encoder.layer.0.attention.self.query.weight` (`key`,
/// `value`), `encoder.layer.0.attention.output.dense.weight`, `encoder.layer.0.attention.output.LayerNorm.weight`,
/// `encoder.layer.0.intermediate.dense.weight`, `encoder.layer.0.output.dense.weight`, `encoder.layer.0.output.LayerNorm.weight`,
/// a `bias` beside each but the embeddings; and `head.weight`, `head.bias` where the width differs or there is a `head_activation`.
///
/// Source: Devlin, Chang, Lee, Toutanova, "BERT: Pre-training of deep bidirectional transformers for language understanding",
/// 2018, <https://arxiv.org/abs/1810.04805>; the size from Wang et al., "MiniLM", 2020, <https://arxiv.org/abs/2002.10957>; one
/// vector for a sentence from Reimers, Gurevych, "Sentence-BERT", EMNLP 2019, <https://arxiv.org/abs/1908.10084>.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Bert {
    /// Numbers in an embedding: `hidden` where nothing is said, else a linear layer leads there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub width: Option<usize>,
    /// What bends the numbers of the linear layer that leads to the width, which then is there though the width is `hidden`: a module
    /// `Dense` of sentence-transformers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub head_activation: Option<Activation>,
    /// Numbers in the state of a token.
    pub hidden: usize,
    /// Layers on top of one another.
    pub layers: usize,
    /// Heads of the attention; they divide `hidden`.
    pub heads: usize,
    /// Numbers between the two linear maps of a layer.
    pub intermediate: usize,
    /// Tokens of a sequence at most: a vector is learned for each place.
    pub positions: usize,
    /// Types of tokens that have a vector. Only the first is used here; published weights have two.
    pub types: usize,
    /// Of the layer normalizations.
    pub eps: Positive,
    /// What bends between the linear maps.
    pub activation: Activation,
    /// Probability with which each number of a state or branch is dropped in training, less than 1.
    pub dropout: Fraction,
    /// The same for each weight of the attention.
    pub attention_dropout: Fraction,
    /// What becomes the embedding: `"mean"` the mean of the valid states, or `"cls"` the first state.
    pub pooling: BertPooling,
    /// Whether embeddings have length 1.
    pub normalize: bool,
}

/// How the states of a sentence become one vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BertPooling {
    /// The mean over the valid tokens.
    Mean,
    /// The state of the first token, which tokenizers of BERT make `[CLS]`.
    Cls,
}

impl BertPooling {
    /// Of the features that the network gives.
    fn pooling(self) -> Pooling {
        match self {
            Self::Mean => Pooling::Mean,
            Self::Cls => Pooling::Flatten, // There is one state only.
        }
    }
}

impl Default for Bert {
    /// MiniLM-L6 with the mean and length 1 of `all-MiniLM-L6-v2`.
    fn default() -> Self {
        Self {
            width: None,
            head_activation: None,
            hidden: 384,
            layers: 6,
            heads: 12,
            intermediate: 1536,
            positions: 512,
            types: 2,
            eps: Positive::literal(1e-12),
            activation: Activation::Gelu,
            dropout: Fraction::literal(0.1),
            attention_dropout: Fraction::literal(0.1),
            pooling: BertPooling::Mean,
            normalize: true,
        }
    }
}

/// What all weights start with: their deviation.
const DEVIATION: f64 = 0.02;

#[derive(Debug)]
struct Network {
    words: Embedding,
    positions: Embedding,
    types: Embedding,
    norm: LayerNorm,
    layers: Vec<Layer>,
    settings: Bert,
    /// The layer behind the pooling, where something bends behind it.
    dense: Option<(Linear, Activation)>,
}

impl Bert {
    /// A tower of these settings whose parameters are made in `params`.
    ///
    /// # Errors
    /// [`Error::Settings`] for data that are no sequences of tokens, and sizes out of range.
    pub fn build(&self, input: &InputShape, params: &Params) -> Result<Tower> {
        let &InputShape::Tokens { vocabulary } = input else {
            return Err(input.refused("bert", "sequences of tokens"));
        };
        let hidden = size("bert", "hidden", self.hidden)?;
        let width = size("bert", "width", self.outputs())?;
        for (name, value) in [
            ("layers", self.layers),
            ("intermediate", self.intermediate),
            ("positions", self.positions),
            ("types", self.types),
        ] {
            size("bert", name, value)?;
        }
        heads_divide("bert", self.heads, "hidden", hidden)?;
        dropout_rate("bert", self.dropout)?;
        dropout_rate("bert", self.attention_dropout)?;
        let embeddings = params.at("embeddings");
        let vectors = |name: &str, count: usize| {
            let deviation = NonNegative::literal(DEVIATION);
            Embedding::new(&embeddings.at(name), count, hidden, deviation)
        };
        let network = Network {
            words: vectors("word_embeddings", vocabulary)?,
            positions: vectors("position_embeddings", self.positions)?,
            types: vectors("token_type_embeddings", self.types)?,
            norm: self.norm(&embeddings)?,
            layers: (0..self.layers)
                .map(|layer| Layer::new(&params.at("encoder.layer").at(layer), self))
                .collect::<Result<_>>()?,
            settings: self.clone(),
            dense: match self.head_activation {
                Some(activation) => Some((
                    Linear::new(&params.at("head"), hidden, width, true)?,
                    activation,
                )),
                None => None,
            },
        };
        let head = Head {
            pooling: match self.head_activation {
                Some(_) => Pooling::Flatten, // There is one vector already.
                None => self.pooling.pooling(),
            },
            projection: match self.head_activation {
                Some(_) => None,
                None => Linear::fitting(&params.at("head"), hidden, width)?,
            },
            normalize: self.normalize,
        };
        Ok(Tower::new(
            "bert",
            input.clone(),
            Box::new(network),
            head,
            width,
            params,
        ))
    }

    /// Reads a `model.safetensors` of Hugging Face's `BertModel` into what [`build`](Self::build) made in `params`. Names may
    /// begin with `bert.`; `pooler` and `embeddings.position_ids`, which embeddings do not depend on, are not looked at. All else
    /// must be there in its shape, but for `head`, which published files do not have: it stays as it is.
    ///
    /// # Errors
    /// Those of [`Params::load`], with what is missing, unexpected or of another shape.
    pub fn load_published(params: &Params, path: impl AsRef<Path>) -> Result<()> {
        let renamed = |name: &str| {
            let name = Self::own_name(name);
            let unused = Self::NOT_READ.iter().any(|it| name_matches(it, name));
            (!unused).then(|| Place::from(name))
        };
        let head = |name: &str| name.starts_with("head.");
        let file = params.compared(path.as_ref(), &renamed, &head)?;
        file.check("")?;
        file.take()
    }

    /// Numbers in an embedding.
    pub(crate) fn outputs(&self) -> usize {
        self.width.unwrap_or(self.hidden)
    }

    /// Whether a linear layer leads there.
    /// What bends the head; none where it is as straight as without a word.
    pub(crate) fn bends(&self) -> Option<Activation> {
        let straight = self.outputs() != self.hidden;
        let said = self.head_activation;
        said.filter(|it| !(straight && *it == Activation::Identity))
    }

    pub(crate) fn has_head(&self) -> bool {
        self.outputs() != self.hidden || self.head_activation.is_some()
    }

    /// Patterns of published tensors that embeddings do not depend on.
    pub(crate) const NOT_READ: &[&str] = &["pooler.*", "embeddings.position_ids"];

    /// The name here of a published tensor.
    pub(crate) fn own_name(name: &str) -> &str {
        name.strip_prefix("bert.").unwrap_or(name)
    }

    fn linear(&self, params: &Params, inputs: usize, outputs: usize) -> Result<Linear> {
        let weight = Init::Normal {
            mean: 0.0,
            deviation: DEVIATION,
        };
        Linear::starting(params, inputs, outputs, weight, Some(Init::Constant(0.0)))
    }

    fn norm(&self, params: &Params) -> Result<LayerNorm> {
        LayerNorm::new(&params.at("LayerNorm"), &[self.hidden], self.eps, true)
    }
}

impl Backbone for Network {
    fn features(&self, input: &Input, mode: &mut Mode<'_>) -> Result<Features> {
        let (ids, lengths) = input.sequence("bert")?;
        let settings = &self.settings;
        // What all rows have as padding is not computed.
        let places = lengths.iter().max().map_or(0, |&longest| longest as usize);
        if places > settings.positions {
            Err(Error::Input(format!(
                "bert: a sequence has {places} tokens, but there are vectors for {} positions; cut texts to that length, or \
                 raise `positions`",
                settings.positions
            )))?;
        }
        let ids = ids.narrow(1, 0, places)?.contiguous()?;
        let device = ids.device();
        let at = Tensor::arange(0u32, places as u32, device)?;
        let kind = Tensor::zeros(1, DType::U32, device)?;
        let added = self
            .positions
            .forward(&at, mode)?
            .broadcast_add(&self.types.forward(&kind, mode)?)?; // (t, hidden)
        let x = self.words.forward(&ids, mode)?.broadcast_add(&added)?; // (b, t, hidden)
        let mut x = dropout(&self.norm.forward(&x, mode)?, settings.dropout, mode)?;
        let mask = if lengths.iter().all(|&length| length as usize == places) {
            AttentionMask::all()
        } else {
            AttentionMask::lengths(lengths, places, device)?
        };
        for layer in &self.layers {
            x = layer.forward(&x, &mask, settings, mode)?;
        }
        let features = match settings.pooling {
            BertPooling::Cls => Features::Vectors(x.narrow(1, 0, 1)?.squeeze(1)?),
            BertPooling::Mean => Features::States {
                // The mean reads no last state; the first one is at hand.
                last: x.narrow(1, 0, 1)?.squeeze(1)?,
                all: x,
                lengths: lengths.to_vec(),
            },
        };
        let Some((linear, activation)) = &self.dense else {
            return Ok(features);
        };
        let pooled = settings.pooling.pooling().pool(features)?;
        let dense = activation.forward(&linear.forward(&pooled, mode)?)?;
        Ok(Features::Vectors(dense))
    }
}

/// Attention and two linear maps, each followed by the sum with what it read and a normalization.
#[derive(Debug)]
struct Layer {
    query: Linear,
    key: Linear,
    value: Linear,
    attended: Sum,
    intermediate: Linear,
    output: Sum,
}

/// `norm(x + dropout(dense(branch)))`
#[derive(Debug)]
struct Sum {
    dense: Linear,
    norm: LayerNorm,
}

impl Layer {
    fn new(params: &Params, settings: &Bert) -> Result<Self> {
        let Bert {
            hidden,
            intermediate,
            ..
        } = *settings;
        let sum = |params: &Params, inputs: usize| -> Result<Sum> {
            Ok(Sum {
                dense: settings.linear(&params.at("dense"), inputs, hidden)?,
                norm: settings.norm(params)?,
            })
        };
        let attention = params.at("attention");
        let own = attention.at("self");
        let map = |name: &str| settings.linear(&own.at(name), hidden, hidden);
        Ok(Self {
            query: map("query")?,
            key: map("key")?,
            value: map("value")?,
            attended: sum(&attention.at("output"), hidden)?,
            intermediate: settings.linear(
                &params.at("intermediate.dense"),
                hidden,
                intermediate,
            )?,
            output: sum(&params.at("output"), intermediate)?,
        })
    }

    fn forward(
        &self,
        x: &Tensor,
        mask: &AttentionMask,
        settings: &Bert,
        mode: &mut Mode<'_>,
    ) -> Result<Tensor> {
        let (q, k, v) = (
            self.query.forward(x, mode)?,
            self.key.forward(x, mode)?,
            self.value.forward(x, mode)?,
        );
        let rate = settings.attention_dropout;
        let heads = attend_by_heads((&q, &k, &v), settings.heads, mask, None, rate, mode)?;
        let x = self.attended.forward(x, &heads, settings.dropout, mode)?;
        let between = self.intermediate.forward(&x, mode)?;
        let between = settings.activation.forward(&between)?;
        self.output.forward(&x, &between, settings.dropout, mode)
    }
}

impl Sum {
    fn forward(
        &self,
        x: &Tensor,
        branch: &Tensor,
        rate: Fraction,
        mode: &mut Mode<'_>,
    ) -> Result<Tensor> {
        let added = dropout(&self.dense.forward(branch, mode)?, rate, mode)?;
        self.norm.forward(&(x + added)?, mode)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;
    use nearfar_core::{Encoder, Seed};

    const TOKENS: InputShape = InputShape::Tokens { vocabulary: 9 };

    fn params() -> Params {
        Params::new(Seed(1), DType::F32, &Device::Cpu).expect("f32")
    }

    fn small() -> Bert {
        Bert {
            hidden: 8,
            layers: 2,
            heads: 2,
            intermediate: 12,
            positions: 6,
            ..Bert::default()
        }
    }

    fn sentences(ids: &[[u32; 4]], lengths: &[u32]) -> Result<Input> {
        Ok(Input::Sequence {
            values: Tensor::from_vec(ids.concat(), (ids.len(), 4), &Device::Cpu)?,
            lengths: lengths.to_vec(),
        })
    }

    fn embed(tower: &Tower, input: &Input) -> Result<Vec<Vec<f32>>> {
        tower.encode(input, Mode::Eval)?.embedding.to_vec2()
    }

    #[test]
    fn padding_changes_nothing() -> Result<()> {
        for pooling in [BertPooling::Mean, BertPooling::Cls] {
            let settings = Bert { pooling, ..small() };
            let tower = settings.build(&TOKENS, &params())?;
            let zeros = sentences(&[[1, 2, 0, 0], [1, 2, 3, 4]], &[2, 4])?;
            let noise = sentences(&[[1, 2, 7, 8], [1, 2, 3, 4]], &[2, 4])?;
            let (zeros, noise) = (embed(&tower, &zeros)?, embed(&tower, &noise)?);
            assert_eq!(zeros, noise);
            let alone = Input::Sequence {
                values: Tensor::new(&[[1u32, 2]], &Device::Cpu)?,
                lengths: vec![2],
            };
            // Places that are padding in all rows.
            let padded = sentences(&[[1, 2, 5, 5]], &[2])?;
            assert_eq!(embed(&tower, &alone)?, embed(&tower, &padded)?);
            for (a, b) in embed(&tower, &alone)?[0].iter().zip(&zeros[0]) {
                assert!((a - b).abs() < 1e-5, "{a} {b}"); // Another batch may add up in another order.
            }
            assert_ne!(zeros[0], zeros[1]);
            let length: f32 = zeros[0].iter().map(|x| x * x).sum();
            assert!((length - 1.0).abs() < 1e-5);
        }
        Ok(())
    }

    #[test]
    fn places_and_the_choice_of_states_matter() -> Result<()> {
        let embedded = |pooling, ids| -> Result<Vec<Vec<f32>>> {
            let settings = Bert { pooling, ..small() };
            let tower = settings.build(&TOKENS, &params())?;
            embed(&tower, &sentences(&[ids], &[4])?)
        };
        let mean = embedded(BertPooling::Mean, [1, 2, 3, 4])?;
        assert_ne!(mean, embedded(BertPooling::Mean, [1, 3, 2, 4])?);
        assert_ne!(mean, embedded(BertPooling::Cls, [1, 2, 3, 4])?);
        Ok(())
    }

    #[test]
    fn names_are_those_of_hugging_face() -> Result<()> {
        let settings = Bert {
            layers: 1,
            ..small()
        };
        let tower = settings.build(&TOKENS, &params())?;
        let names: Vec<_> = tower.parameters().into_iter().map(|it| it.name).collect();
        let layer = "encoder.layer.0.";
        let mut wanted: Vec<String> = [
            "attention.output.LayerNorm",
            "attention.output.dense",
            "attention.self.key",
            "attention.self.query",
            "attention.self.value",
            "intermediate.dense",
            "output.LayerNorm",
            "output.dense",
        ]
        .iter()
        .flat_map(|name| ["bias", "weight"].map(|part| format!("{layer}{name}.{part}")))
        .collect();
        wanted.extend(
            [
                "embeddings.LayerNorm.bias",
                "embeddings.LayerNorm.weight",
                "embeddings.position_embeddings.weight",
                "embeddings.token_type_embeddings.weight",
                "embeddings.word_embeddings.weight",
            ]
            .map(String::from),
        );
        wanted.sort();
        assert_eq!(names, wanted);

        let mapped = Bert {
            width: Some(3),
            ..settings
        };
        let tower = mapped.build(&TOKENS, &params())?;
        assert_eq!((tower.width(), tower.parameters().len()), (3, 23));
        Ok(())
    }

    #[test]
    fn what_does_not_fit_is_told_with_both_numbers() -> Result<()> {
        let short = Bert {
            positions: 3,
            ..small()
        };
        let tower = short.build(&TOKENS, &params())?;
        let error = tower.encode(&sentences(&[[1, 2, 3, 4]], &[4])?, Mode::Eval);
        let error = error.expect_err("four of three").to_string();
        assert!(
            error.contains("4 tokens") && error.contains("3 positions"),
            "{error}"
        );
        // What counts is the true length.
        assert!(
            tower
                .encode(&sentences(&[[1, 2, 3, 0]], &[3])?, Mode::Eval)
                .is_ok()
        );
        let error = Bert {
            heads: 3,
            ..small()
        };
        let error = error.build(&TOKENS, &params()).expect_err("8 / 3");
        assert_eq!(
            error.to_string(),
            "bert: `heads` is 3 and `hidden` 8; heads must divide hidden"
        );
        assert!(
            Bert {
                layers: 0,
                ..small()
            }
            .build(&TOKENS, &params())
            .is_err()
        );
        Ok(())
    }
}
