//! The readable version, in candle operations: one step after the other.

use candle_core::{Result, Tensor};

use super::{Direction, LstmStates, check};
use crate::sigmoid;

/// [`lstm_last`](crate::lstm_last) in candle operations.
pub fn last(
    input: &Tensor,
    lengths: &[u32],
    parameters: &Tensor,
    hidden: usize,
    direction: Direction,
) -> Result<Tensor> {
    let (batch, steps, _) = input.dims3()?;
    if batch * steps * hidden == 0 {
        return Tensor::zeros((batch, hidden), input.dtype(), input.device());
    }
    let states = reference(input, lengths, parameters, hidden, direction)?;
    let at = match direction {
        Direction::Forward => steps - 1, // A state is held beyond the true length.
        Direction::Backward => 0,
    };
    states.narrow(1, at, 1)?.squeeze(1)
}

/// [`lstm`](crate::lstm) in candle operations.
pub fn reference(
    input: &Tensor,
    lengths: &[u32],
    parameters: &Tensor,
    hidden: usize,
    direction: Direction,
) -> Result<Tensor> {
    check(input, lengths, parameters, hidden)?;
    Ok(walk(input, lengths, parameters, hidden, direction, None)?.states)
}

/// All steps, from a first state and cell; zeros where there are none.
pub(super) fn walk(
    input: &Tensor,
    lengths: &[u32],
    parameters: &Tensor,
    hidden: usize,
    direction: Direction,
    first: Option<(&Tensor, &Tensor)>,
) -> Result<LstmStates> {
    let (batch, steps, features) = input.dims3()?;
    let (mut state, mut cell) = match first {
        Some((state, cell)) => (state.clone(), cell.clone()),
        None => {
            let nothing = Tensor::zeros((batch, hidden), input.dtype(), input.device())?;
            (nothing.clone(), nothing)
        }
    };
    if batch == 0 || steps == 0 || hidden == 0 {
        let states = Tensor::zeros((batch, steps, hidden), input.dtype(), input.device())?;
        return Ok(LstmStates { states, cell });
    }
    let (to_input, to_hidden) = (4 * hidden * features, 4 * hidden * hidden);
    let input_weight = parameters
        .narrow(0, 0, to_input)?
        .reshape((4 * hidden, features))?;
    let hidden_weight = parameters
        .narrow(0, to_input, to_hidden)?
        .reshape((4 * hidden, hidden))?;
    let bias = parameters.narrow(0, to_input + to_hidden, 4 * hidden)?;

    // What lies beyond a row's length is cut off before it is multiplied: it may be anything.
    let within: Vec<u8> = lengths
        .iter()
        .flat_map(|&length| (0..steps).map(move |step| u8::from(step < length as usize)))
        .collect();
    let within = Tensor::from_vec(within, (batch, steps, 1), input.device())?;
    let input = within
        .broadcast_as(input.shape())?
        .where_cond(input, &input.zeros_like()?)?;
    let sums = input
        .reshape((batch * steps, features))?
        .matmul(&input_weight.t()?)?
        .broadcast_add(&bias)?;
    let sums = sums.reshape((batch, steps, 4 * hidden))?;

    let mut states = Vec::with_capacity(steps);
    for order in 0..steps {
        let step = if direction == Direction::Backward {
            steps - 1 - order
        } else {
            order
        };
        let sums = (sums.narrow(1, step, 1)?.squeeze(1)? + state.matmul(&hidden_weight.t()?)?)?;
        let gate = |q: usize| sums.narrow(1, q * hidden, hidden);
        let (i, f) = (
            sigmoid::reference(&gate(0)?)?,
            sigmoid::reference(&gate(1)?)?,
        );
        let (g, o) = (gate(2)?.tanh()?, sigmoid::reference(&gate(3)?)?);
        let new_cell = ((f * &cell)? + (i * g)?)?;
        let new_state = (o * new_cell.tanh()?)?;
        let within = within
            .narrow(1, step, 1)?
            .squeeze(1)?
            .broadcast_as((batch, hidden))?;
        cell = within.where_cond(&new_cell, &cell)?;
        state = within.where_cond(&new_state, &state)?;
        states.push(state.clone());
    }
    if direction == Direction::Backward {
        states.reverse();
    }
    Ok(LstmStates {
        states: Tensor::stack(&states, 1)?,
        cell,
    })
}
