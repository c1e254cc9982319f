//! A recurrent network over words or frames.

use candle_core::Result;
use nearfar_core::{Error, Finite, Fraction, Input, Mode, NonNegative};
use serde::{Deserialize, Serialize};

use crate::input_shape::size;
use crate::layers::{self, Embedding, LstmSettings, dropout};
use crate::tower::{Backbone, Features, Head, Pooling, Tower};
use crate::{InputShape, Params};

/// Word vectors and an LSTM: one half of the Manhattan LSTM (MaLSTM), and a network for sound.
///
/// ```text
/// token ids ─▶ word vectors ─▶ dropout ─▶ LSTM ─▶ last valid state (or mean of the valid ones) ─▶ linear, if the width differs
/// frames ────────────────────▶ dropout ─▶ LSTM ─▶ …
/// ```
///
/// Reads sequences of tokens or of frames, each up to its true length; padding changes nothing. Embeddings are not
/// normalized unless it is asked for: MaLSTM compares states by their Manhattan distance as they are.
///
/// Names: `words.weight`, `lstm.weight_ih_l0`, `lstm.weight_hh_l0`, `lstm.bias_l0` (`…_reverse`), `head.weight`,
/// `head.bias`. Word vectors from elsewhere are put in by [`Params::set`], and kept as they are by
/// [`Params::freeze`].
///
/// Source: Mueller, Thyagarajan, "Siamese Recurrent Architectures for Learning Sentence Similarity", AAAI 2016: a state
/// of 50, a forget bias of 2.5. There the other weights start small and normal; here they start as torch's do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Lstm {
    /// Numbers in an embedding.
    pub width: usize,
    /// The vectors of words; frames have none.
    pub words: Words,
    /// Numbers in a state of one direction. Where it is not given the width is made of states: `width`, or half of it in
    /// each direction. Otherwise a linear layer leads from the states to the width where they differ.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hidden: Option<usize>,
    /// Layers on top of one another.
    pub layers: usize,
    /// Whether sequences are read in both directions.
    pub bidirectional: bool,
    /// What becomes the embedding: `"last"` the last valid state (of each direction), or `"mean"` the mean of the valid
    /// ones.
    pub pooling: Pooling,
    /// Probability with which each number that a layer reads is dropped in training, less than 1.
    pub dropout: Fraction,
    /// What the bias of the forget gate starts at; large, so that the beginning of a sentence is not lost.
    pub forget_bias: Finite,
    /// Whether embeddings have length 1.
    pub normalize: bool,
}

/// The vectors of words.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Words {
    /// Numbers in a vector.
    pub dim: usize,
    /// Standard deviation of the numbers at the start.
    pub deviation: NonNegative,
}

impl Default for Words {
    /// Small like published word vectors: with torch's deviation of 1 the states of two sentences start so far apart that
    /// MaLSTM's similarity `e^−d`, and with it the gradient, is about nothing.
    fn default() -> Self {
        Self {
            dim: 100,
            deviation: NonNegative::literal(0.1),
        }
    }
}

impl Default for Lstm {
    /// MaLSTM, with words of 100 numbers that are learned (the paper has 300 that are given).
    fn default() -> Self {
        Self {
            width: 50,
            words: Words::default(),
            hidden: None,
            layers: 1,
            bidirectional: false,
            pooling: Pooling::Last,
            dropout: Fraction::literal(0.0),
            forget_bias: Finite::literal(2.5),
            normalize: false,
        }
    }
}

#[derive(Debug)]
struct Network {
    words: Option<Embedding>,
    lstm: layers::Lstm,
    dropout: Fraction,
    /// Whether nobody looks at states before the last ones.
    only_last: bool,
}

impl Lstm {
    /// A tower of these settings whose parameters are made in `params`.
    ///
    /// # Errors
    /// [`Error::Settings`] for data that are no sequences, and sizes out of range.
    pub fn build(&self, input: &InputShape, params: &Params) -> Result<Tower> {
        let width = size("lstm", "width", self.width)?;
        let (words, inputs) = match *input {
            InputShape::Tokens { vocabulary } | InputShape::Parsed { vocabulary } => {
                let dim = size("lstm", "words.dim", self.words.dim)?;
                (
                    Some(Embedding::new(
                        &params.at("words"),
                        vocabulary,
                        dim,
                        self.words.deviation,
                    )?),
                    dim,
                )
            }
            InputShape::Frames { features } => (None, features),
            _ => return Err(input.refused("lstm", "sequences of tokens or frames")),
        };
        if self.pooling == Pooling::Flatten {
            Err(Error::Settings(
                "lstm: `pooling` is \"flatten\", but sequences have different lengths; \"last\" and \"mean\" are possible"
                    .into(),
            ))?;
        }
        let directions = if self.bidirectional { 2 } else { 1 };
        let hidden = match self.hidden {
            Some(hidden) => size("lstm", "hidden", hidden)?,
            None if width % directions == 0 => width / directions,
            None => Err(Error::Settings(format!(
                "lstm: `width` is {width}, which two directions cannot share; make it even, or set `hidden`"
            )))?,
        };
        let settings = LstmSettings {
            hidden,
            layers: self.layers,
            bidirectional: self.bidirectional,
            dropout: layers::dropout_rate("lstm", self.dropout)?,
            forget_bias: self.forget_bias,
        };
        let network = Network {
            words,
            lstm: layers::Lstm::new(&params.at("lstm"), inputs, &settings)?,
            dropout: self.dropout,
            only_last: self.pooling == Pooling::Last,
        };
        let head = Head {
            pooling: match self.pooling {
                Pooling::Last => Pooling::Flatten, // That is all there is.
                other => other,
            },
            projection: layers::Linear::fitting(&params.at("head"), directions * hidden, width)?,
            normalize: self.normalize,
        };
        Ok(Tower::new(
            "lstm",
            input.clone(),
            Box::new(network),
            head,
            width,
            params,
        ))
    }
}

impl Backbone for Network {
    fn features(&self, input: &Input, mode: &mut Mode<'_>) -> Result<Features> {
        let (values, lengths) = input.sequence("lstm")?;
        let x = match &self.words {
            Some(words) => words.forward(values, mode)?,
            None => values.clone(),
        };
        let x = dropout(&x, self.dropout, mode)?;
        if self.only_last {
            return Ok(Features::Vectors(self.lstm.last(&x, lengths, mode)?));
        }
        self.lstm.forward(&x, lengths, mode)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{DType, Device, Tensor};
    use nearfar_core::{Encoder, Seed};

    const TOKENS: InputShape = InputShape::Tokens { vocabulary: 9 };

    fn params() -> Params {
        Params::new(Seed(1), DType::F32, &Device::Cpu).expect("f32")
    }

    fn sentences(ids: &[[u32; 4]], lengths: &[u32]) -> Result<Input> {
        Ok(Input::Sequence {
            values: Tensor::from_vec(ids.concat(), (ids.len(), 4), &Device::Cpu)?,
            lengths: lengths.to_vec(),
        })
    }

    #[test]
    fn padding_changes_nothing() -> Result<()> {
        for pooling in [Pooling::Last, Pooling::Mean] {
            let settings = Lstm {
                pooling,
                layers: 2,
                bidirectional: true,
                ..Lstm::default()
            };
            let tower = settings.build(&TOKENS, &params())?;
            let embed = |input: Input| -> Result<Vec<Vec<f32>>> {
                tower.encode(&input, Mode::Eval)?.embedding.to_vec2()
            };
            let zeros = embed(sentences(&[[1, 2, 0, 0], [1, 2, 3, 4]], &[2, 4])?)?;
            let noise = embed(sentences(&[[1, 2, 7, 8], [1, 2, 3, 4]], &[2, 4])?)?;
            assert_eq!(zeros, noise);
            let short = Input::Sequence {
                values: Tensor::new(&[[1u32, 2]], &Device::Cpu)?,
                lengths: vec![2],
            };
            for (a, b) in embed(short)?[0].iter().zip(&zeros[0]) {
                assert!((a - b).abs() < 1e-6, "{a} {b}"); // Another batch may add up in another order.
            }
            assert_ne!(zeros[0], zeros[1]);
        }
        Ok(())
    }

    #[test]
    fn sentences_start_near_enough_to_be_learned_from() -> Result<()> {
        let similarity = |deviation: f64| -> Result<f64> {
            let settings = Lstm {
                words: Words {
                    deviation: NonNegative::new(deviation)?,
                    ..Words::default()
                },
                ..Lstm::default()
            };
            let tower = settings.build(&InputShape::Tokens { vocabulary: 40 }, &params())?;
            let ids: Vec<u32> = (0..40).collect();
            let input = Input::Sequence {
                values: Tensor::from_vec(ids, (4, 10), &Device::Cpu)?,
                lengths: vec![10; 4],
            };
            let rows = tower
                .encode(&input, Mode::Eval)?
                .embedding
                .to_vec2::<f32>()?;
            let distance =
                |a: &[f32], b: &[f32]| -> f32 { a.iter().zip(b).map(|(a, b)| (a - b).abs()).sum() };
            Ok((-f64::from(distance(&rows[0], &rows[1]))).exp())
        };
        let (small, large) = (similarity(0.1)?, similarity(1.0)?);
        assert!(small > 0.05 && large < 1e-3, "{small} {large}");
        Ok(())
    }

    #[test]
    fn the_width_is_made_of_states_or_projected_to() -> Result<()> {
        let names = |settings: Lstm| -> Result<Vec<String>> {
            let tower = settings.build(&TOKENS, &params())?;
            let embedding = tower
                .encode(&sentences(&[[1, 2, 3, 4]], &[4])?, Mode::Eval)?
                .embedding;
            assert_eq!(embedding.dims(), [1, tower.width()]);
            Ok(tower.parameters().into_iter().map(|it| it.name).collect())
        };
        let plain = names(Lstm::default())?;
        assert_eq!(
            plain,
            [
                "lstm.bias_l0",
                "lstm.weight_hh_l0",
                "lstm.weight_ih_l0",
                "words.weight"
            ]
        );
        let both = Lstm {
            bidirectional: true,
            ..Lstm::default()
        };
        assert_eq!(names(both.clone())?.len(), 7);
        let projected = Lstm {
            hidden: Some(16),
            ..both.clone()
        };
        assert_eq!(names(projected)?[..2], ["head.bias", "head.weight"]);
        let odd = Lstm { width: 51, ..both };
        assert!(odd.build(&TOKENS, &params()).is_err());
        let flat = Lstm {
            pooling: Pooling::Flatten,
            ..Lstm::default()
        };
        assert!(flat.build(&TOKENS, &params()).is_err());
        Ok(())
    }

    #[test]
    fn frames_need_no_words() -> Result<()> {
        let shape = InputShape::Frames { features: 3 };
        let tower = Lstm::default().build(&shape, &params())?;
        assert_eq!(tower.parameters().len(), 3);
        let input = Input::Sequence {
            values: Tensor::ones((2, 5, 3), DType::F32, &Device::Cpu)?,
            lengths: vec![5, 1],
        };
        assert_eq!(tower.encode(&input, Mode::Eval)?.embedding.dims(), [2, 50]);
        let error = tower.encode(&sentences(&[[1, 2, 3, 4]], &[4])?, Mode::Eval);
        assert!(
            error
                .expect_err("tokens")
                .to_string()
                .contains("built for sequences of frames")
        );
        assert!(
            Lstm::default()
                .build(&InputShape::Features(3), &params())
                .is_err()
        );
        Ok(())
    }
}
