//! A small recurrent network over frames of speech.

use candle_core::Result;
use nearfar_core::{Finite, Fraction, Input, Mode};
use serde::{Deserialize, Serialize};

use crate::input_shape::size;
use crate::layers::{Linear, Lstm, LstmSettings};
use crate::tower::{Backbone, Features, Head, Pooling, Tower, mean_of_valid};
use crate::{InputShape, Params};

/// TristouNet: a bidirectional LSTM, the mean of its states over time, and two full layers, for short pieces of speech.
///
/// ```text
/// frames ─▶ bidirectional LSTM ─▶ mean of the valid states ─▶ dense, tanh ─▶ dense, tanh ─▶ unit length
/// ```
///
/// Reads sequences of frames, each up to its true length; padding changes nothing. Embeddings have length 1; triplets with a margin of
/// 0.2 on their distance are what the paper trains it with.
///
/// Names: `lstm.weight_ih_l0`, `lstm.weight_hh_l0`, `lstm.bias_l0`, the same with `_reverse`; `dense.0.weight`, `dense.0.bias`,
/// `dense.1.weight`, `dense.1.bias`.
///
/// Source: Bredin, "TristouNet: triplet loss for speaker turn embedding", ICASSP 2017, <https://arxiv.org/abs/1609.04301>: 16 states
/// in each direction and layers of 16. There frames are 35 numbers made of MFCC and their slopes; any frames are read here.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Tristounet {
    /// Numbers in an embedding.
    pub width: usize,
    /// Numbers in a state of one direction.
    pub hidden: usize,
    /// Numbers between the two full layers.
    pub dense: usize,
    /// What the bias of the forget gate starts at.
    pub forget_bias: Finite,
}

impl Default for Tristounet {
    fn default() -> Self {
        Self {
            width: 16,
            hidden: 16,
            dense: 16,
            forget_bias: Finite::literal(1.0),
        }
    }
}

#[derive(Debug)]
struct Network {
    lstm: Lstm,
    dense: [Linear; 2],
}

impl Tristounet {
    /// A tower of these settings whose parameters are made in `params`.
    ///
    /// # Errors
    /// [`Error::Settings`](nearfar_core::Error::Settings) for data that are no frames, and sizes out of range.
    pub fn build(&self, input: &InputShape, params: &Params) -> Result<Tower> {
        let &InputShape::Frames { features } = input else {
            return Err(input.refused("tristounet", "sequences of frames"));
        };
        let width = size("tristounet", "width", self.width)?;
        let hidden = size("tristounet", "hidden", self.hidden)?;
        let dense = size("tristounet", "dense", self.dense)?;
        let settings = LstmSettings {
            hidden,
            layers: 1,
            bidirectional: true,
            dropout: Fraction::literal(0.0),
            forget_bias: self.forget_bias,
        };
        let places = params.at("dense");
        let network = Network {
            lstm: Lstm::new(&params.at("lstm"), features, &settings)?,
            dense: [
                Linear::new(&places.at(0), 2 * hidden, dense, true)?,
                Linear::new(&places.at(1), dense, width, true)?,
            ],
        };
        let head = Head {
            pooling: Pooling::Flatten,
            projection: None,
            normalize: true,
        };
        let (input, network) = (input.clone(), Box::new(network));
        Ok(Tower::new(
            "tristounet",
            input,
            network,
            head,
            width,
            params,
        ))
    }
}

impl Backbone for Network {
    fn features(&self, input: &Input, mode: &mut Mode<'_>) -> Result<Features> {
        let (frames, lengths) = input.sequence("tristounet")?;
        let states = self.lstm.all(frames, lengths, mode)?;
        let mut x = mean_of_valid(&states, lengths)?;
        for layer in &self.dense {
            x = layer.forward(&x, mode)?.tanh()?;
        }
        Ok(Features::Vectors(x))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{DType, Device, Tensor};
    use nearfar_core::{Encoder, Seed};
    use nearfar_kernels::test_util::noise;

    #[test]
    fn padding_changes_nothing_and_sizes_are_those_of_the_paper() -> Result<()> {
        let params = Params::new(Seed(1), DType::F64, &Device::Cpu)?;
        let shape = InputShape::Frames { features: 35 };
        let tower = Tristounet::default().build(&shape, &params)?;
        // Two directions of 4 · 16 gates, and two layers.
        let numbers = |it: &nearfar_core::Parameter| it.var.elem_count();
        let count: usize = tower.parameters().iter().map(numbers).sum();
        assert_eq!(count, 2 * 64 * (35 + 16 + 1) + 16 * 33 + 16 * 17);
        let frames = noise((1, 6, 35), 1)?;
        let embed = |values: Tensor, length: u32| {
            let lengths = vec![length];
            tower.encode(&Input::Sequence { values, lengths }, Mode::Eval)
        };
        let short = embed(frames.narrow(1, 0, 4)?, 4)?.embedding;
        let padded = embed(frames, 4)?.embedding;
        assert!((short - &padded)?.abs()?.max_all()?.to_scalar::<f64>()? < 1e-14);
        assert!((padded.sqr()?.sum_all()?.to_scalar::<f64>()? - 1.0).abs() < 1e-12);
        let features = InputShape::Features(3);
        assert!(
            Tristounet::default()
                .build(&features, &params.at("x"))
                .is_err()
        );
        Ok(())
    }
}
