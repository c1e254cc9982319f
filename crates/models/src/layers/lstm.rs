//! Long short-term memory.

use candle_core::{Result, Tensor};
use nearfar_core::{Error, Finite, Fraction, Mode};
use nearfar_kernels::{Direction, LstmStates, lstm, lstm_from, lstm_last, lstm_parameters};

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

/// The states and cells of all walks of an [`Lstm`], `(layers · directions, b, hidden)` each, in torch's order.
#[derive(Clone, Debug)]
pub struct LstmState {
    /// What the gates read.
    pub hidden: Tensor,
    /// What they keep.
    pub cell: Tensor,
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

    /// Its parameters as the operation wants them, and the numbers in a state.
    fn parameters(&self, mode: &Mode<'_>) -> Result<(Tensor, usize)> {
        let hidden = self.hidden.tensor(mode);
        let parameters =
            lstm_parameters(&self.input.tensor(mode), &hidden, &self.bias.tensor(mode))?;
        Ok((parameters, hidden.dim(1)?))
    }

    /// States `(b, t, h)`, and that after the last step, `(b, h)`.
    fn forward(&self, x: &Tensor, lengths: &[u32], mode: &Mode<'_>) -> Result<(Tensor, Tensor)> {
        let (parameters, size) = self.parameters(mode)?;
        let states = lstm(x, lengths, &parameters, size, self.direction)?;
        let last = self.last(&states)?;
        Ok((states, last))
    }

    /// The state after the last step alone.
    fn end(&self, x: &Tensor, lengths: &[u32], mode: &Mode<'_>) -> Result<Tensor> {
        let (parameters, size) = self.parameters(mode)?;
        lstm_last(x, lengths, &parameters, size, self.direction)
    }

    /// Of all states that after the last step.
    fn last(&self, states: &Tensor) -> Result<Tensor> {
        let last = match self.direction {
            Direction::Forward => states.dim(1)? - 1, // A state is held beyond the true length.
            Direction::Backward => 0,
        };
        states.narrow(1, last, 1)?.squeeze(1)
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
    /// For inputs of another size, and lengths out of range; [`Error::Shape`] for sequences of no places.
    pub fn forward(&self, x: &Tensor, lengths: &[u32], mode: &mut Mode<'_>) -> Result<Features> {
        let (x, top) = self.below(x, lengths, mode)?;
        let both = top
            .iter()
            .map(|walk| walk.forward(&x, lengths, mode))
            .collect::<Result<Vec<_>>>()?;
        let (states, ends): (Vec<_>, Vec<_>) = both.into_iter().unzip();
        Ok(Features::States {
            all: beside(states)?,
            last: beside(ends)?,
            lengths: lengths.to_vec(),
        })
    }

    /// The states of [`forward`](Self::forward) at all places alone, `(b, t, d)`; beyond the true length they are anything finite.
    ///
    /// # Errors
    /// Those of [`forward`](Self::forward).
    pub fn all(&self, x: &Tensor, lengths: &[u32], mode: &mut Mode<'_>) -> Result<Tensor> {
        let (x, top) = self.below(x, lengths, mode)?;
        let states = top
            .iter()
            .map(|walk| Ok(walk.forward(&x, lengths, mode)?.0));
        beside(states.collect::<Result<_>>()?)
    }

    /// The last states of [`forward`](Self::forward) alone, `(b, d)`: faster, and in less memory.
    ///
    /// # Errors
    /// Those of [`forward`](Self::forward).
    pub fn last(&self, x: &Tensor, lengths: &[u32], mode: &mut Mode<'_>) -> Result<Tensor> {
        let (x, top) = self.below(x, lengths, mode)?;
        let ends = top.iter().map(|walk| walk.end(&x, lengths, mode));
        beside(ends.collect::<Result<_>>()?)
    }

    /// What the last layer reads, and that layer.
    fn below(&self, x: &Tensor, lengths: &[u32], mode: &mut Mode<'_>) -> Result<(Tensor, &[Walk])> {
        at_least_one_place(x)?;
        let mut x = x.clone();
        let mut top: &[Walk] = &[];
        for (index, layer) in self.layers.iter().enumerate() {
            if index > 0 {
                let states = top
                    .iter()
                    .map(|walk| Ok(walk.forward(&x, lengths, mode)?.0));
                let states = beside(states.collect::<Result<_>>()?)?;
                x = dropout(&states, self.dropout, mode)?;
            }
            top = layer;
        }
        Ok((x, top))
    }
}

impl Lstm {
    /// The same from first states and cells: the states of the last layer, as in [`forward`](Self::forward), and the last
    /// states and cells of all layers. It goes step by step; what begins with zeros and needs no cells is faster there.
    ///
    /// # Errors
    /// Those of [`forward`](Self::forward); [`Error::Shape`] for first states of another shape.
    pub fn forward_from(
        &self,
        x: &Tensor,
        lengths: &[u32],
        first: Option<&LstmState>,
        mode: &mut Mode<'_>,
    ) -> Result<(Tensor, LstmState)> {
        at_least_one_place(x)?;
        let walks = self.layers.iter().map(Vec::len).sum::<usize>();
        if let Some(LstmState { hidden, cell }) = first
            && (hidden.rank() != 3 || hidden.dim(0)? != walks || cell.dims() != hidden.dims())
        {
            Err(Error::Shape(format!(
                "lstm: the first states have shape {:?}, the first cells {:?}; ({walks}, b, hidden) is wanted of both",
                hidden.dims(),
                cell.dims()
            )))?;
        }
        let mut all = x.clone();
        let (mut ends, mut cells) = (Vec::with_capacity(walks), Vec::with_capacity(walks));
        for (index, layer) in self.layers.iter().enumerate() {
            if index > 0 {
                all = dropout(&all, self.dropout, mode)?;
            }
            let mut both = Vec::with_capacity(layer.len());
            for walk in layer {
                let at = ends.len();
                let first = first
                    .map(|it| -> Result<_> { Ok((it.hidden.get(at)?, it.cell.get(at)?)) })
                    .transpose()?;
                let first = first.as_ref().map(|(state, cell)| (state, cell));
                let (parameters, size) = walk.parameters(mode)?;
                let LstmStates { states, cell } =
                    lstm_from(&all, lengths, &parameters, size, walk.direction, first)?;
                ends.push(walk.last(&states)?);
                cells.push(cell);
                both.push(states);
            }
            all = beside(both)?;
        }
        let last = LstmState {
            hidden: Tensor::stack(&ends, 0)?,
            cell: Tensor::stack(&cells, 0)?,
        };
        Ok((all, last))
    }
}

/// A sequence of no places has no state after its last one.
fn at_least_one_place(x: &Tensor) -> Result<()> {
    if x.rank() != 3 || x.dim(1)? == 0 {
        Err(Error::Shape(format!(
            "lstm: the input has shape {:?}; (b, t, inputs) with at least one place is wanted",
            x.dims()
        )))?;
    }
    Ok(())
}

/// Along the last dimension.
fn beside(mut tensors: Vec<Tensor>) -> Result<Tensor> {
    match tensors.len() {
        1 => Ok(tensors.remove(0)),
        _ => Tensor::cat(&tensors, candle_core::D::Minus1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{DType, Device};
    use nearfar_core::Seed;
    use nearfar_kernels::test_util::noise;

    fn net(bidirectional: bool) -> Result<Lstm> {
        let settings = LstmSettings {
            hidden: 3,
            layers: 2,
            bidirectional,
            dropout: Fraction::literal(0.0),
            forget_bias: Finite::literal(1.0),
        };
        let params = Params::new(Seed(1), DType::F64, &Device::Cpu)?;
        Lstm::new(&params, 2, &settings)
    }

    fn apart(a: &Tensor, b: &Tensor) -> Result<f64> {
        (a - b)?.abs()?.max_all()?.to_scalar()
    }

    #[test]
    fn a_sequence_in_two_pieces_is_one_sequence() -> Result<()> {
        let (net, x) = (net(false)?, noise((2, 5, 2), 1)?);
        let (whole, last) = net.forward_from(&x, &[5, 5], None, &mut Mode::Eval)?;
        let (_, between) = net.forward_from(&x.narrow(1, 0, 2)?, &[2, 2], None, &mut Mode::Eval)?;
        let rest = x.narrow(1, 2, 3)?;
        let (rest, end) = net.forward_from(&rest, &[3, 3], Some(&between), &mut Mode::Eval)?;
        assert!(apart(&whole.narrow(1, 2, 3)?, &rest)? < 1e-14);
        assert!(apart(&last.hidden, &end.hidden)? < 1e-14 && apart(&last.cell, &end.cell)? < 1e-14);
        Ok(())
    }

    #[test]
    fn no_place_is_refused_in_one_way() -> Result<()> {
        for bidirectional in [false, true] {
            let (net, mode) = (net(bidirectional)?, &mut Mode::Eval);
            let x = Tensor::zeros((2, 0, 2), DType::F64, &Device::Cpu)?;
            let errors = [
                net.forward(&x, &[0, 0], mode).map(drop),
                net.last(&x, &[0, 0], mode).map(drop),
                net.forward_from(&x, &[0, 0], None, mode).map(drop),
            ];
            for error in errors {
                assert_eq!(
                    error.expect_err("nothing to read").to_string(),
                    "lstm: the input has shape [2, 0, 2]; (b, t, inputs) with at least one place is wanted"
                );
            }
        }
        Ok(())
    }

    #[test]
    fn from_nothing_it_is_the_same() -> Result<()> {
        let (net, x) = (net(true)?, noise((2, 4, 2), 1)?);
        let (states, ends) = net.forward_from(&x, &[4, 2], None, &mut Mode::Eval)?;
        let Features::States { all, last, .. } = net.forward(&x, &[4, 2], &mut Mode::Eval)? else {
            panic!("an LSTM gives states");
        };
        assert_eq!(apart(&all, &states)?, 0.0);
        let ends = ends
            .hidden
            .narrow(0, 2, 2)?
            .transpose(0, 1)?
            .flatten_from(1)?;
        assert_eq!(apart(&last, &ends)?, 0.0);
        let alone = net.last(&x, &[4, 2], &mut Mode::Eval)?;
        assert_eq!(apart(&last, &alone)?, 0.0);
        let first = LstmState {
            hidden: noise((3, 2, 3), 2)?,
            cell: noise((3, 2, 3), 3)?,
        };
        let error = net.forward_from(&x, &[4, 2], Some(&first), &mut Mode::Eval);
        let error = error.expect_err("four are wanted").to_string();
        assert!(
            error.contains("[3, 2, 3]") && error.contains("(4, b, hidden)"),
            "{error}"
        );
        Ok(())
    }
}
