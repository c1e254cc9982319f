//! Gated recurrent units.

use candle_core::{D, Result, Tensor};
use nearfar_core::{Error, Fraction, Mode};
use nearfar_kernels::{Direction, GruWeights, gru};

use super::{dropout, dropout_rate};
use crate::input_shape::size;
use crate::{Features, Init, Params, Weight};

/// The shape of a [`Gru`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GruSettings {
    /// Numbers in a state, for each direction.
    pub hidden: usize,
    /// Layers on top of one another.
    pub layers: usize,
    /// Whether each layer reads the sequence in both directions, and gives both states side by side.
    pub bidirectional: bool,
    /// Probability with which each number between two layers is dropped in training.
    pub dropout: Fraction,
}

/// A recurrent network of gated units over sequences of different lengths, as torch's `GRU`
/// ([`nearfar_kernels::gru`] has the formula).
///
/// Each row is read up to its true length, backwards from there; what follows changes nothing and gets gradient zero.
///
/// Its tensors are torch's: for layer `l` `weight_ih_l` `(3h, inputs)`, `weight_hh_l` `(3h, h)`, `bias_ih_l` and `bias_hh_l`
/// `(3h)`, and the same with `_reverse`. All start uniform in `±1/√h`.
///
/// Source: Cho et al., "Learning phrase representations using RNN encoder–decoder", EMNLP 2014,
/// <https://arxiv.org/abs/1406.1078>.
#[derive(Clone, Debug)]
pub struct Gru {
    /// For each layer, its walks in one or both directions.
    layers: Vec<Vec<Walk>>,
    hidden: usize,
    dropout: Fraction,
}

#[derive(Clone, Debug)]
struct Walk {
    input: Weight,
    hidden: Weight,
    input_bias: Weight,
    hidden_bias: Weight,
    direction: Direction,
}

impl Walk {
    fn new(
        params: &Params,
        (inputs, hidden): (usize, usize),
        layer: usize,
        direction: Direction,
    ) -> Result<Self> {
        let suffix = match direction {
            Direction::Forward => "",
            Direction::Backward => "_reverse",
        };
        let init = Init::fan_in(hidden);
        let name = |kind: &str| format!("{kind}_l{layer}{suffix}");
        Ok(Self {
            input: params.weight(&name("weight_ih"), (3 * hidden, inputs), init)?,
            hidden: params.weight(&name("weight_hh"), (3 * hidden, hidden), init)?,
            input_bias: params.weight(&name("bias_ih"), 3 * hidden, init)?,
            hidden_bias: params.weight(&name("bias_hh"), 3 * hidden, init)?,
            direction,
        })
    }

    /// States `(b, t, h)`, and that after the last step, `(b, h)`.
    fn forward(
        &self,
        x: &Tensor,
        lengths: &[u32],
        first: Option<&Tensor>,
        mode: &Mode<'_>,
    ) -> Result<(Tensor, Tensor)> {
        let weights = GruWeights {
            input: self.input.tensor(mode),
            hidden: self.hidden.tensor(mode),
            input_bias: self.input_bias.tensor(mode),
            hidden_bias: self.hidden_bias.tensor(mode),
        };
        let states = gru(x, lengths, &weights, first, self.direction)?;
        let last = match self.direction {
            Direction::Forward => x.dim(1)? - 1, // A state is held beyond the true length.
            Direction::Backward => 0,
        };
        let last = states.narrow(1, last, 1)?.squeeze(1)?;
        Ok((states, last))
    }
}

impl Gru {
    /// A network that reads `inputs` numbers at each place.
    ///
    /// # Errors
    /// For settings out of range, and those of [`Params::weight`].
    pub fn new(params: &Params, inputs: usize, settings: &GruSettings) -> Result<Self> {
        size("gru", "inputs", inputs)?;
        size("gru", "layers", settings.layers)?;
        let hidden = size("gru", "hidden", settings.hidden)?;
        dropout_rate("gru", settings.dropout)?;
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
                    .map(|&direction| Walk::new(params, (inputs, hidden), layer, direction))
                    .collect()
            })
            .collect::<Result<_>>()?;
        Ok(Self {
            layers,
            hidden,
            dropout: settings.dropout,
        })
    }

    /// `(b, t, inputs)` with true lengths, at least 1 each, to [`Features::States`] of the last layer. The last state of
    /// a bidirectional network is that of the forward direction after its last valid place beside that of the backward
    /// direction after the first place.
    ///
    /// # Errors
    /// For inputs of another size, and sequences of no places.
    pub fn forward(&self, x: &Tensor, lengths: &[u32], mode: &mut Mode<'_>) -> Result<Features> {
        let (all, last) = self.forward_from(x, lengths, None, mode)?;
        let directions = self.layers.last().map_or(1, Vec::len);
        let of_last_layer = last.narrow(0, last.dim(0)? - directions, directions)?;
        let last = of_last_layer.transpose(0, 1)?.flatten_from(1)?; // (b, directions · h)
        Ok(Features::States {
            all,
            last,
            lengths: lengths.to_vec(),
        })
    }

    /// The same from a first state `(layers · directions, b, h)`: the states of the last layer, and the last states of all
    /// in the order of the first ones, which is torch's.
    ///
    /// # Errors
    /// Those of [`forward`](Self::forward), and for a first state of another shape.
    pub fn forward_from(
        &self,
        x: &Tensor,
        lengths: &[u32],
        first: Option<&Tensor>,
        mode: &mut Mode<'_>,
    ) -> Result<(Tensor, Tensor)> {
        let walks = self.layers.iter().map(Vec::len).sum::<usize>();
        if x.rank() != 3 || x.dim(1)? == 0 {
            Err(Error::Shape(format!(
                "gru: the input has shape {:?}; (b, t, inputs) with at least one place is wanted",
                x.dims()
            )))?;
        }
        if let Some(first) = first
            && first.dims() != [walks, x.dim(0)?, self.hidden]
        {
            Err(Error::Shape(format!(
                "gru: the first state has shape {:?}; {:?} is wanted",
                first.dims(),
                [walks, x.dim(0)?, self.hidden]
            )))?;
        }
        let (mut all, mut ends) = (x.clone(), Vec::with_capacity(walks));
        for (index, layer) in self.layers.iter().enumerate() {
            if index > 0 {
                all = dropout(&all, self.dropout, mode)?;
            }
            let mut both = Vec::with_capacity(layer.len());
            for walk in layer {
                let first = first.map(|first| first.get(ends.len())).transpose()?;
                let (states, last) = walk.forward(&all, lengths, first.as_ref(), mode)?;
                both.push(states);
                ends.push(last);
            }
            all = match both.len() {
                1 => both.remove(0),
                _ => Tensor::cat(&both, D::Minus1)?,
            };
        }
        Ok((all, Tensor::stack(&ends, 0)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{DType, Device};
    use nearfar_core::Seed;
    use nearfar_kernels::test_util::noise;

    fn net(layers: usize, bidirectional: bool) -> Result<Gru> {
        let settings = GruSettings {
            hidden: 3,
            layers,
            bidirectional,
            dropout: Fraction::literal(0.0),
        };
        let params = Params::new(Seed(1), DType::F64, &Device::Cpu)?;
        Gru::new(&params, 2, &settings)
    }

    #[test]
    fn a_sequence_in_two_pieces_is_one_sequence() -> Result<()> {
        let (net, x) = (net(2, false)?, noise((2, 5, 2), 1)?);
        let (whole, last) = net.forward_from(&x, &[5, 5], None, &mut Mode::Eval)?;
        let (_, between) = net.forward_from(&x.narrow(1, 0, 2)?, &[2, 2], None, &mut Mode::Eval)?;
        let rest = x.narrow(1, 2, 3)?;
        let (rest, end) = net.forward_from(&rest, &[3, 3], Some(&between), &mut Mode::Eval)?;
        let apart = |a: Tensor, b: Tensor| (a - b)?.abs()?.max_all()?.to_scalar::<f64>();
        assert!(apart(whole.narrow(1, 2, 3)?, rest)? < 1e-14);
        assert!(apart(last, end)? < 1e-14);
        Ok(())
    }

    #[test]
    fn the_last_state_is_that_of_both_directions() -> Result<()> {
        let (net, x) = (net(1, true)?, noise((2, 4, 2), 1)?);
        let Features::States { all, last, .. } = net.forward(&x, &[4, 2], &mut Mode::Eval)? else {
            panic!("a GRU gives states");
        };
        let (all, last) = (all.to_vec3::<f64>()?, last.to_vec2::<f64>()?);
        for (row, length) in [(0, 4), (1, 2)] {
            assert_eq!(last[row][..3], all[row][length - 1][..3]);
            assert_eq!(last[row][3..], all[row][0][3..]);
        }
        Ok(())
    }

    #[test]
    fn first_states_that_do_not_fit_are_told() -> Result<()> {
        let (net, x) = (net(2, true)?, noise((2, 4, 2), 1)?);
        let first = noise((2, 2, 3), 2)?;
        let error = net.forward_from(&x, &[4, 4], Some(&first), &mut Mode::Eval);
        let error = error.expect_err("four are wanted").to_string();
        assert!(
            error.contains("[2, 2, 3]") && error.contains("[4, 2, 3]"),
            "{error}"
        );
        let error = net.forward(&noise((2, 0, 2), 3)?, &[0, 0], &mut Mode::Eval);
        assert!(
            error
                .expect_err("no places")
                .to_string()
                .contains("[2, 0, 2]")
        );
        Ok(())
    }
}
