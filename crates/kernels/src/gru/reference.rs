//! The readable version, in candle operations: one step after the other.

use candle_core::{Result, Tensor};

use super::{GruWeights, started, within};
use crate::{Direction, sigmoid};

/// [`gru`](crate::gru) in candle operations.
///
/// # Errors
///
/// Those of [`gru`](crate::gru).
pub fn reference(
    input: &Tensor,
    lengths: &[u32],
    weights: &GruWeights,
    first: Option<&Tensor>,
    direction: Direction,
) -> Result<Tensor> {
    started(input, lengths, weights, first, |start| {
        walk(input, lengths, weights, start, direction)
    })
}

/// All steps from a first state. Nothing is empty.
pub(super) fn walk(
    input: &Tensor,
    lengths: &[u32],
    weights: &GruWeights,
    start: &Tensor,
    direction: Direction,
) -> Result<Tensor> {
    let (batch, steps, features) = input.dims3()?;
    let size = start.dim(1)?;
    let (input, within) = within(input, lengths)?;
    let from_input = input
        .reshape((batch * steps, features))?
        .matmul(&weights.input.t()?)?
        .broadcast_add(&weights.input_bias)?
        .reshape((batch, steps, 3 * size))?;

    let turned = weights.hidden.t()?;
    let mut state = start.clone();
    let mut states = Vec::with_capacity(steps);
    for order in 0..steps {
        let step = match direction {
            Direction::Forward => order,
            Direction::Backward => steps - 1 - order,
        };
        let from_input = from_input.narrow(1, step, 1)?.squeeze(1)?;
        let from_state = state.matmul(&turned)?.broadcast_add(&weights.hidden_bias)?;
        let both = (from_input.narrow(1, 0, 2 * size)? + from_state.narrow(1, 0, 2 * size)?)?;
        let gates = sigmoid(&both)?;
        let (reset, keep) = (gates.narrow(1, 0, size)?, gates.narrow(1, size, size)?);
        let recalled = (reset * from_state.narrow(1, 2 * size, size)?)?;
        let new = (from_input.narrow(1, 2 * size, size)? + recalled)?.tanh()?;
        let moved = (&new + (keep * (&state - &new)?)?)?;
        let within = within
            .narrow(1, step, 1)?
            .squeeze(1)?
            .broadcast_as((batch, size))?;
        state = within.where_cond(&moved, &state)?;
        states.push(state.clone());
    }
    if direction == Direction::Backward {
        states.reverse();
    }
    Tensor::stack(&states, 1)
}
