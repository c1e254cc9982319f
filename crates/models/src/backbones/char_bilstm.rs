//! A recurrent network over characters.

use candle_core::Result;
use nearfar_core::{Finite, Fraction, Input, Mode, NonNegative};
use serde::{Deserialize, Serialize};

use crate::input_shape::size;
use crate::layers::{self, Embedding, LstmSettings, dropout};
use crate::tower::{Backbone, Features, Head, Pooling, Tower};
use crate::{InputShape, Params};

/// Characters and a deep bidirectional LSTM, for short texts that are written in many ways: names, titles, addresses.
///
/// ```text
/// character ids ─▶ vectors ─▶ LSTM in both directions, layers × ─▶ mean of the valid states ─▶ linear ─▶ tanh
/// ```
///
/// Reads sequences of tokens, which `unit = "characters"` in the table of the data makes of texts; padding changes nothing. The
/// loss of the paper is `neculoiu`, on cosines.
///
/// Names: `characters.weight`, `lstm.weight_ih_l0`, `lstm.weight_hh_l0`, `lstm.bias_l0`, `lstm.weight_ih_l0_reverse`, …,
/// `lstm.weight_ih_l1`, …, and `dense.weight`, `dense.bias` of the linear layer.
///
/// Source: Neculoiu, Versteegh, Rotaru, "Learning text similarity with Siamese recurrent networks", RepL4NLP 2016: four layers
/// of 64, the mean over time, a full layer of 128 with tanh. It drops out with probability 0.2 on what the network reads and 0.4
/// between layers (`dropout` is of both here). How characters become vectors is not said there; here they are learned.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CharBilstm {
    /// Numbers in an embedding.
    pub width: usize,
    /// Numbers in the vector of a character.
    pub dim: usize,
    /// Their standard deviation at the start.
    pub deviation: NonNegative,
    /// Numbers in a state of one direction.
    pub hidden: usize,
    /// Layers on top of one another.
    pub layers: usize,
    /// Probability with which each number that a layer reads is dropped in training, less than 1.
    pub dropout: Fraction,
    /// What the bias of the forget gate starts at.
    pub forget_bias: Finite,
    /// Whether embeddings have length 1.
    pub normalize: bool,
}

impl Default for CharBilstm {
    /// The sizes of the paper. Nothing is dropped, and forget gates start half open, as torch's do.
    fn default() -> Self {
        Self {
            width: 128,
            dim: 32,
            deviation: NonNegative::literal(1.0),
            hidden: 64,
            layers: 4,
            dropout: Fraction::literal(0.0),
            forget_bias: Finite::literal(0.0),
            normalize: false,
        }
    }
}

#[derive(Debug)]
struct Network {
    characters: Embedding,
    lstm: layers::Lstm,
    dense: layers::Linear,
    dropout: Fraction,
}

impl CharBilstm {
    /// A tower of these settings whose parameters are made in `params`.
    ///
    /// # Errors
    /// [`Error::Settings`] for data that are no sequences of tokens, and sizes out of range.
    pub fn build(&self, input: &InputShape, params: &Params) -> Result<Tower> {
        let InputShape::Tokens { vocabulary } = *input else {
            return Err(input.refused("char_bilstm", "sequences of tokens"));
        };
        let width = size("char_bilstm", "width", self.width)?;
        let dim = size("char_bilstm", "dim", self.dim)?;
        let hidden = size("char_bilstm", "hidden", self.hidden)?;
        let settings = LstmSettings {
            hidden,
            layers: self.layers,
            bidirectional: true,
            dropout: layers::dropout_rate("char_bilstm", self.dropout)?,
            forget_bias: self.forget_bias,
        };
        let places = params.at("characters");
        let network = Network {
            characters: Embedding::new(&places, vocabulary, dim, self.deviation)?,
            lstm: layers::Lstm::new(&params.at("lstm"), dim, &settings)?,
            dense: layers::Linear::new(&params.at("dense"), 2 * hidden, width, true)?,
            dropout: self.dropout,
        };
        let head = Head {
            pooling: Pooling::Flatten,
            projection: None,
            normalize: self.normalize,
        };
        Ok(Tower::new(
            "char_bilstm",
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
        let (ids, lengths) = input.sequence("char_bilstm")?;
        let x = self.characters.forward(ids, mode)?;
        let x = dropout(&x, self.dropout, mode)?;
        let states = self.lstm.forward(&x, lengths, mode)?; // (b, t, 2 · hidden)
        let mean = Pooling::Mean.pool(states)?;
        Ok(Features::Vectors(self.dense.forward(&mean, mode)?.tanh()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{DType, Device, Tensor};
    use nearfar_core::{Encoder, Seed};

    fn params() -> Params {
        Params::new(Seed(1), DType::F32, &Device::Cpu).expect("f32")
    }

    #[test]
    fn the_sizes_are_those_of_the_paper_and_padding_changes_nothing() -> Result<()> {
        let params = params();
        let tower = CharBilstm::default().build(&InputShape::Tokens { vocabulary: 30 }, &params)?;
        let layers = params.parameters();
        let layers = layers.iter().filter(|it| it.name.contains("weight_hh"));
        let shapes: Vec<_> = layers.map(|it| it.var.dims().to_vec()).collect();
        assert_eq!(shapes, vec![vec![256, 64]; 8]); // Four gates; four layers in two directions.
        let embed = |ids: &[u32], lengths: Vec<u32>| -> Result<Vec<Vec<f32>>> {
            let rows = lengths.len();
            let values = Tensor::new(ids, &Device::Cpu)?.reshape((rows, ids.len() / rows))?;
            let input = Input::Sequence { values, lengths };
            tower.encode(&input, Mode::Eval)?.embedding.to_vec2()
        };
        let rows = embed(&[1, 2, 7, 3, 4, 5], vec![2, 3])?;
        assert_eq!(rows, embed(&[1, 2, 0, 3, 4, 5], vec![2, 3])?);
        for (a, b) in embed(&[1, 2], vec![2])?[0].iter().zip(&rows[0]) {
            assert!((a - b).abs() < 1e-6, "{a} {b}"); // Another batch may add up in another order.
        }
        assert!(rows.iter().flatten().all(|x| x.abs() < 1.0), "tanh");
        assert_eq!(rows[0].len(), 128);
        Ok(())
    }

    #[test]
    fn what_cannot_be_built_is_told() {
        let error = |settings: CharBilstm, input| {
            let built = settings.build(&input, &params());
            built.expect_err("cannot be").to_string()
        };
        assert!(
            error(CharBilstm::default(), InputShape::Frames { features: 3 }).contains("tokens")
        );
        let tokens = InputShape::Tokens { vocabulary: 3 };
        let none = CharBilstm {
            layers: 0,
            ..CharBilstm::default()
        };
        assert!(error(none, tokens).contains("layers"));
    }
}
