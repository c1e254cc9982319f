//! Long short-term memory.

use candle_core::{Result, Tensor};
use nearfar_core::{Finite, Fraction, Mode};
use nearfar_kernels::{Direction, lstm, lstm_parameters};

use super::dropout;
use crate::input_shape::size;
use crate::{Features, Init, Params, Weight};

/// The shape of an [`Lstm`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LstmSettings {
    /// Numbers in a state, for each direction.
    pub hidden: usize,
    /// Layers on top of one another.
    pub layers: usize,
    /// Whether each layer reads the sequence in both directions, and gives both states side by side.
    pub bidirectional: bool,
    /// Probability with which each number between two layers is dropped in training.
    pub dropout: Fraction,
    /// What the bias of the forget gate starts at.
    pub forget_bias: Finite,
}

/// A recurrent network over sequences of different lengths.
///
/// ```text
/// i, f, g, o = W_ih x + W_hh h + b        σ, σ, tanh, σ of them
/// c = f c + i g,   h = o tanh c           from h = c = 0
/// ```
///
/// Each row is read up to its true length, backwards from there; what follows changes nothing and gets gradient zero.
///
/// Its tensors are, for layer `l`, `weight_ih_l` `(4h, inputs)`, `weight_hh_l` `(4h, h)` and `bias_l` `(4h)`, and the
/// same with `_reverse`: gates in torch's order, with one bias where torch adds two. Like torch's they start uniform in
/// `±1/√h`: at the usual sizes this is what the recurrence needs to neither fade nor burst within a sentence, and it
/// makes runs comparable with torch's (orthogonal starts help sequences of many hundred steps). The forget gate's bias
/// is the exception, and starts at a constant, so that the memory is kept until there is a reason to lose it.
///
/// Source: Hochreiter, Schmidhuber, "Long Short-Term Memory", Neural Computation 1997; forget gates after Gers,
/// Schmidhuber, Cummins 2000.
#[derive(Clone, Debug)]
pub struct Lstm {
    /// For each layer, its walks in one or both directions.
    layers: Vec<Vec<Walk>>,
    dropout: Fraction,
}

#[derive(Clone, Debug)]
struct Walk {
    input: Weight,
    hidden: Weight,
    bias: Weight,
    direction: Direction,
}

impl Walk {
    fn new(
        params: &Params,
        inputs: usize,
        layer: usize,
        direction: Direction,
        settings: &LstmSettings,
    ) -> Result<Self> {
        let hidden = settings.hidden;
        let suffix = match direction {
            Direction::Forward => "",
            Direction::Backward => "_reverse",
        };
        let init = Init::fan_in(hidden);
        let bias = Init::Gates {
            bound: 1.0 / (hidden as f64).sqrt(),
            forget: settings.forget_bias.get(),
        };
        let name = |kind: &str| format!("{kind}_l{layer}{suffix}");
        Ok(Self {
            input: params.weight(&name("weight_ih"), (4 * hidden, inputs), init)?,
            hidden: params.weight(&name("weight_hh"), (4 * hidden, hidden), init)?,
            bias: params.weight(&name("bias"), 4 * hidden, bias)?,
            direction,
        })
    }

    /// States `(b, t, h)`, and that after the last step, `(b, h)`.
    fn forward(&self, x: &Tensor, lengths: &[u32], mode: &Mode<'_>) -> Result<(Tensor, Tensor)> {
        let hidden = self.hidden.tensor(mode);
        let size = hidden.dim(1)?;
        let parameters =
            lstm_parameters(&self.input.tensor(mode), &hidden, &self.bias.tensor(mode))?;
        let states = lstm(x, lengths, &parameters, size, self.direction)?;
        let last = match self.direction {
            Direction::Forward => x.dim(1)? - 1, // A state is held beyond the true length.
            Direction::Backward => 0,
        };
        let last = states.narrow(1, last, 1)?.squeeze(1)?;
        Ok((states, last))
    }
}

impl Lstm {
    /// A network that reads `inputs` numbers at each place.
    ///
    /// # Errors
    /// For settings out of range, and those of [`Params::weight`].
    pub fn new(params: &Params, inputs: usize, settings: &LstmSettings) -> Result<Self> {
        size("lstm", "inputs", inputs)?;
        size("lstm", "layers", settings.layers)?;
        let hidden = size("lstm", "hidden", settings.hidden)?;
        let directions = match settings.bidirectional {
            false => &[Direction::Forward][..],
            true => &[Direction::Forward, Direction::Backward],
        };
        let layers = (0..settings.layers)
            .map(|layer| {
                let inputs = if layer == 0 {
                    inputs
                } else {
                    directions.len() * hidden
                };
                directions
                    .iter()
                    .map(|&direction| Walk::new(params, inputs, layer, direction, settings))
                    .collect()
            })
            .collect::<Result<_>>()?;
        Ok(Self {
            layers,
            dropout: settings.dropout,
        })
    }

    /// `(b, t, inputs)` with true lengths, at least 1 each, to [`Features::States`] of the last layer. The last state of
    /// a bidirectional network is that of the forward direction after its last valid place beside that of the backward
    /// direction after the first place, as in torch's `h_n`.
    ///
    /// # Errors
    /// For inputs of another size, and lengths out of range.
    pub fn forward(&self, x: &Tensor, lengths: &[u32], mode: &mut Mode<'_>) -> Result<Features> {
        let (mut all, mut last) = (x.clone(), None);
        for (index, layer) in self.layers.iter().enumerate() {
            if index > 0 {
                all = dropout(&all, self.dropout, mode)?;
            }
            let both = layer
                .iter()
                .map(|walk| walk.forward(&all, lengths, mode))
                .collect::<Result<Vec<_>>>()?;
            let (states, ends): (Vec<_>, Vec<_>) = both.into_iter().unzip();
            all = beside(states)?;
            last = Some(ends);
        }
        Ok(Features::States {
            all,
            last: beside(last.expect("an Lstm has at least one layer"))?,
            lengths: lengths.to_vec(),
        })
    }
}

/// Along the last dimension.
fn beside(mut tensors: Vec<Tensor>) -> Result<Tensor> {
    match tensors.len() {
        1 => Ok(tensors.remove(0)),
        _ => Tensor::cat(&tensors, candle_core::D::Minus1),
    }
}
