//! A recurrent layer of long short-term memory.
//!
//! | tensors | version |
//! |---|---|
//! | `f32` on a CPU | `cpu.rs`, one custom operation over all steps |
//! | any other device or type | `reference.rs`, candle operations, step by step |

mod cpu;
mod reference;

use candle_core::{DType, Result, Tensor, bail};

pub use reference::{last, reference};

/// Which way a recurrent layer walks through a sequence.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Direction {
    /// From the first step to the last.
    #[default]
    Forward,
    /// From a row's last step to its first.
    Backward,
}

/// A layer of long short-term memory over all steps of a batch: its hidden states, `(b, t, f) → (b, t, h)`.
///
/// ```text
/// i = σ(W_ii x + W_hi h + b_i)      c = f · c + i · g
/// f = σ(W_if x + W_hf h + b_f)      h = o · tanh(c)
/// g = tanh(W_ig x + W_hg h + b_g)
/// o = σ(W_io x + W_ho h + b_o)      both begin as 0
/// ```
///
/// `parameters` is what [`lstm_parameters`] makes of the weights, with `hidden` = h. `lengths` holds the true length of
/// each row; a longer one than `t` counts as `t`. What lies beyond a row's length is not read. Walking forward, the state
/// of a row is held beyond its length, so the last step of the result is each row's last state. Walking backward, a row
/// begins at its last true step, so the first step of the result is its last state, and the states beyond its length
/// are 0. A row of length 0 is 0 everywhere.
///
/// Agrees with torch's `LSTM` on packed sequences, whose two biases are added up here; torch gives 0 beyond the length
/// in both directions.
///
/// Source: Hochreiter, Schmidhuber, "Long short-term memory", Neural Computation 9 (1997), with the forget gate of Gers,
/// Schmidhuber, Cummins (2000).
///
/// ```
/// # use candle_core::{DType, Device, Tensor};
/// use nearfar_kernels::{Direction, lstm, lstm_parameters};
///
/// let (cpu, f32) = (&Device::Cpu, DType::F32);
/// let weights = Tensor::zeros((8, 3), f32, cpu)?; // 2 hidden units, 3 features
/// let recurrent = Tensor::zeros((8, 2), f32, cpu)?;
/// let bias = Tensor::new(&[0f32, 0.0, 0.0, 0.0, 1.0, 1.0, 0.0, 0.0], cpu)?; // g = tanh(1)
/// let parameters = lstm_parameters(&weights, &recurrent, &bias)?;
/// let states = lstm(&Tensor::zeros((1, 4, 3), f32, cpu)?, &[2], &parameters, 2, Direction::Forward)?;
/// let first = states.to_vec3::<f32>()?[0][0][0];
/// assert!((first - 0.5 * (0.5 * 1f32.tanh()).tanh()).abs() < 1e-6);
/// # Ok::<(), candle_core::Error>(())
/// ```
///
/// # Errors
///
/// If a shape does not fit the others.
pub fn lstm(
    input: &Tensor,
    lengths: &[u32],
    parameters: &Tensor,
    hidden: usize,
    direction: Direction,
) -> Result<Tensor> {
    check(input, lengths, parameters, hidden)?;
    if input.device().is_cpu() && input.dtype() == DType::F32 {
        cpu::lstm(input, lengths, parameters, hidden, direction, false)
    } else {
        reference(input, lengths, parameters, hidden, direction)
    }
}

/// The last state of each row alone, `(b, t, f) → (b, h)`: what [`lstm`] gives after the last true step of a row in its direction, and 0
/// for a row of length 0.
///
/// No state before it becomes a tensor, nor a gradient of one.
///
/// # Errors
///
/// If a shape does not fit the others.
pub fn lstm_last(
    input: &Tensor,
    lengths: &[u32],
    parameters: &Tensor,
    hidden: usize,
    direction: Direction,
) -> Result<Tensor> {
    check(input, lengths, parameters, hidden)?;
    let (batch, steps, _) = input.dims3()?;
    if batch * steps * hidden == 0 {
        return Tensor::zeros((batch, hidden), input.dtype(), input.device());
    }
    if input.device().is_cpu() && input.dtype() == DType::F32 {
        return cpu::lstm(input, lengths, parameters, hidden, direction, true);
    }
    reference::last(input, lengths, parameters, hidden, direction)
}

/// What [`lstm_from`] gives.
#[derive(Clone, Debug)]
pub struct LstmStates {
    /// The states at all steps, `(b, t, h)`.
    pub states: Tensor,
    /// The cells after each row's last step, `(b, h)`.
    pub cell: Tensor,
}

/// The same as [`lstm`] from a first state and cell, `(b, h)` each, with the cells after the last step.
///
/// A row of length 0 keeps what it began with; walking backward, so do the states beyond a row's length. This goes step by
/// step in candle operations on all devices: for all that begins with zeros and needs no cells, [`lstm`] is faster.
///
/// # Errors
///
/// If a shape does not fit the others.
pub fn lstm_from(
    input: &Tensor,
    lengths: &[u32],
    parameters: &Tensor,
    hidden: usize,
    direction: Direction,
    first: Option<(&Tensor, &Tensor)>,
) -> Result<LstmStates> {
    check(input, lengths, parameters, hidden)?;
    if let Some((state, cell)) = first {
        let wanted = [input.dim(0)?, hidden];
        if state.dims() != wanted || cell.dims() != wanted {
            bail!(
                "lstm: the first state has shape {:?}, the first cell {:?}; {wanted:?} is wanted",
                state.dims(),
                cell.dims()
            );
        }
    }
    reference::walk(input, lengths, parameters, hidden, direction, first)
}

/// The parameters of a layer as one tensor: `W_ih (4h, f)`, `W_hh (4h, h)` and `b (4h)`, flat, in this order. The gates
/// are in torch's order i, f, g, o; the sum of torch's two biases is `b`.
///
/// # Errors
///
/// If a shape does not fit the others.
pub fn lstm_parameters(input: &Tensor, hidden: &Tensor, bias: &Tensor) -> Result<Tensor> {
    let (rows, size) = hidden.dims2()?;
    if rows != 4 * size || input.dims2()?.0 != rows || bias.dims1()? != rows {
        bail!(
            "lstm_parameters: `input` has shape {:?}, `hidden` {:?}, `bias` {:?}; they must be (4h, f), (4h, h), (4h)",
            input.dims(),
            hidden.dims(),
            bias.dims()
        );
    }
    Tensor::cat(&[&input.flatten_all()?, &hidden.flatten_all()?, bias], 0)
}

fn check(input: &Tensor, lengths: &[u32], parameters: &Tensor, hidden: usize) -> Result<()> {
    let (batch, _, features) = input.dims3()?;
    if lengths.len() != batch {
        bail!(
            "lstm: `input` has {batch} rows and there are {} `lengths`; they must agree",
            lengths.len()
        );
    }
    let expected = 4 * hidden * (features + hidden + 1);
    if parameters.dims1()? != expected {
        bail!(
            "lstm: `parameters` has {} numbers; {features} features and {hidden} hidden units need {expected}",
            parameters.dims1()?
        );
    }
    if parameters.dtype() != input.dtype() {
        bail!(
            "lstm: `input` holds {:?}, `parameters` {:?}; they must agree",
            input.dtype(),
            parameters.dtype()
        );
    }
    Ok(())
}
