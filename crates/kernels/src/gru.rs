//! A layer of gated recurrent units.

use candle_core::{Result, Tensor, bail};

use crate::{Direction, sigmoid};

/// The parameters of a layer of gated recurrent units, with the gates in torch's order r, z, n.
#[derive(Clone, Debug)]
pub struct GruWeights {
    /// `(3h, f)`.
    pub input: Tensor,
    /// `(3h, h)`.
    pub hidden: Tensor,
    /// `(3h)`.
    pub input_bias: Tensor,
    /// `(3h)`. It cannot be added to the other, as the reset gate closes only what comes from the state.
    pub hidden_bias: Tensor,
}

/// A layer of gated recurrent units over all steps of a batch: its hidden states, `(b, t, f) → (b, t, h)`.
///
/// ```text
/// r = σ(W_ir x + b_ir + W_hr h + b_hr)
/// z = σ(W_iz x + b_iz + W_hz h + b_hz)
/// n = tanh(W_in x + b_in + r · (W_hn h + b_hn))
/// h = (1 − z) · n + z · h
/// ```
///
/// The state begins as `first`, `(b, h)`, or as 0. `lengths` holds the true length of each row; a longer one than `t`
/// counts as `t`. What lies beyond a row's length is not read. Walking forward, the state of a row is held beyond its
/// length, so the last step of the result is each row's last state. Walking backward, a row begins at its last true step,
/// so the first step of the result is its last state, and the states beyond its length are the first one.
///
/// Agrees with torch's `GRU` on packed sequences; torch gives 0 beyond the length in both directions.
///
/// Source: Cho et al., "Learning phrase representations using RNN encoder–decoder", EMNLP 2014,
/// <https://arxiv.org/abs/1406.1078>, with the reset gate behind the product, as in torch and cuDNN.
///
/// # Errors
///
/// If a shape does not fit the others.
pub fn gru(
    input: &Tensor,
    lengths: &[u32],
    weights: &GruWeights,
    first: Option<&Tensor>,
    direction: Direction,
) -> Result<Tensor> {
    let (batch, steps, features) = input.dims3()?;
    let size = check(input, lengths, weights, first)?;
    let start = match first {
        Some(first) => first.clone(),
        None => Tensor::zeros((batch, size), input.dtype(), input.device())?,
    };
    if batch == 0 || steps == 0 {
        return Tensor::zeros((batch, steps, size), input.dtype(), input.device());
    }
    // What lies beyond a row's length is cut off before it is multiplied: it may be anything.
    let within: Vec<u8> = lengths
        .iter()
        .flat_map(|&length| (0..steps).map(move |step| u8::from(step < length as usize)))
        .collect();
    let within = Tensor::from_vec(within, (batch, steps, 1), input.device())?;
    let input = within
        .broadcast_as(input.shape())?
        .where_cond(input, &input.zeros_like()?)?;
    let from_input = input
        .reshape((batch * steps, features))?
        .matmul(&weights.input.t()?)?
        .broadcast_add(&weights.input_bias)?
        .reshape((batch, steps, 3 * size))?;

    let turned = weights.hidden.t()?;
    let mut state = start;
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

/// The number of hidden units.
fn check(
    input: &Tensor,
    lengths: &[u32],
    weights: &GruWeights,
    first: Option<&Tensor>,
) -> Result<usize> {
    let (batch, _, features) = input.dims3()?;
    if lengths.len() != batch {
        bail!(
            "gru: `input` has {batch} rows and there are {} `lengths`; they must agree",
            lengths.len()
        );
    }
    let (rows, size) = weights.hidden.dims2()?;
    let fits = rows == 3 * size
        && weights.input.dims() == [rows, features]
        && weights.input_bias.dims() == [rows]
        && weights.hidden_bias.dims() == [rows];
    if !fits {
        bail!(
            "gru: the input has {features} features; the weights have shapes {:?}, {:?}, {:?} and {:?}; (3h, f), (3h, h), \
             (3h), (3h) are wanted",
            weights.input.dims(),
            weights.hidden.dims(),
            weights.input_bias.dims(),
            weights.hidden_bias.dims()
        );
    }
    if let Some(first) = first
        && first.dims() != [batch, size]
    {
        bail!(
            "gru: the first state has shape {:?}; ({batch}, {size}) is wanted",
            first.dims()
        );
    }
    Ok(size)
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};

    use super::*;

    /// One unit that reads one number, with these parameters for r, z and n.
    fn one_unit(input: [f64; 3], hidden: [f64; 3], bias: [f64; 3]) -> Result<GruWeights> {
        let tensor = |values: [f64; 3]| Tensor::new(&values, &Device::Cpu);
        Ok(GruWeights {
            input: tensor(input)?.unsqueeze(1)?,
            hidden: tensor(hidden)?.unsqueeze(1)?,
            input_bias: tensor(bias)?,
            hidden_bias: Tensor::zeros(3, DType::F64, &Device::Cpu)?,
        })
    }

    #[test]
    fn a_kept_gate_keeps_the_first_state() -> Result<()> {
        let weights = one_unit([0.0; 3], [0.0; 3], [0.0, 1e3, 7.0])?;
        let x = Tensor::zeros((1, 3, 1), DType::F64, &Device::Cpu)?;
        let first = Tensor::new(&[[0.25f64]], &Device::Cpu)?;
        for direction in [Direction::Forward, Direction::Backward] {
            let states = gru(&x, &[2], &weights, Some(&first), direction)?;
            assert_eq!(states.flatten_all()?.to_vec1::<f64>()?, [0.25; 3]);
        }
        Ok(())
    }

    #[test]
    fn an_open_gate_takes_the_new_state_and_holds_it_beyond_the_length() -> Result<()> {
        let weights = one_unit([0.0, 0.0, 1.0], [0.0; 3], [0.0, -1e3, 0.0])?;
        let x = Tensor::new(&[[[0.5f64], [1.0], [f64::NAN]]], &Device::Cpu)?;
        let [half, one] = [0.5f64.tanh(), 1f64.tanh()];
        let walk = |direction| -> Result<Vec<f64>> {
            gru(&x, &[2], &weights, None, direction)?
                .flatten_all()?
                .to_vec1()
        };
        assert_eq!(walk(Direction::Forward)?, [half, one, one]);
        assert_eq!(walk(Direction::Backward)?, [half, one, 0.0]);
        Ok(())
    }

    #[test]
    fn shapes_that_do_not_fit_are_told() -> Result<()> {
        let weights = one_unit([0.0; 3], [0.0; 3], [0.0; 3])?;
        let x = Tensor::zeros((2, 3, 2), DType::F64, &Device::Cpu)?;
        let error = |lengths: &[u32]| {
            let result = gru(&x, lengths, &weights, None, Direction::Forward);
            result.expect_err("two features").to_string()
        };
        assert!(error(&[3]).contains("2 rows and there are 1 `lengths`"));
        assert!(error(&[3, 3]).contains("2 features"));
        Ok(())
    }
}
