//! A layer of gated recurrent units.
//!
//! | tensors | version |
//! |---|---|
//! | `f32` on a CPU | `cpu.rs`: a product for what the inputs add up to, and one custom operation over all steps |
//! | any other device or type | `reference.rs`, candle operations, one step after the other |

mod cpu;
mod reference;

use candle_core::{DType, Result, Tensor, bail};

use crate::Direction;
use reference::walk;

pub use reference::reference;

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
/// In `f32` on a CPU the steps are one operation of the graph, and the result has the same bits for any number of threads.
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
    started(input, lengths, weights, first, |start| {
        if input.device().is_cpu() && input.dtype() == DType::F32 {
            cpu::gru(input, lengths, weights, start, direction)
        } else {
            walk(input, lengths, weights, start, direction)
        }
    })
}

/// Checks the shapes, and walks from the first state unless there is nothing to walk over.
fn started(
    input: &Tensor,
    lengths: &[u32],
    weights: &GruWeights,
    first: Option<&Tensor>,
    walk: impl FnOnce(&Tensor) -> Result<Tensor>,
) -> Result<Tensor> {
    let (batch, steps, _) = input.dims3()?;
    let size = check(input, lengths, weights, first)?;
    let start = match first {
        Some(first) => first.clone(),
        None => Tensor::zeros((batch, size), input.dtype(), input.device())?,
    };
    if batch * steps * size == 0 {
        return Tensor::zeros((batch, steps, size), input.dtype(), input.device());
    }
    walk(&start)
}

/// What lies beyond a row's length is cut off before it is multiplied: it may be anything. Also which places are within, `(b, t, 1)`.
fn within(input: &Tensor, lengths: &[u32]) -> Result<(Tensor, Tensor)> {
    let (batch, steps, _) = input.dims3()?;
    let within: Vec<u8> = lengths
        .iter()
        .flat_map(|&length| (0..steps).map(move |step| u8::from(step < length as usize)))
        .collect();
    let within = Tensor::from_vec(within, (batch, steps, 1), input.device())?;
    let cut = within
        .broadcast_as(input.shape())?
        .where_cond(input, &input.zeros_like()?)?;
    Ok((cut, within))
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
    use candle_core::Device;

    use super::*;
    use crate::test_util::{check_agreement, noise};

    type Version = fn(&Tensor, &[u32], &GruWeights, Option<&Tensor>, Direction) -> Result<Tensor>;

    #[test]
    fn it_is_the_composition_of_any_shape() -> Result<()> {
        // Rows of one block and of several, units below, at and above whole vectors and panels, rows without steps.
        for (batch, steps, features, hidden) in [
            (1, 1, 1, 1),
            (3, 4, 5, 7),
            (5, 3, 2, 16),
            (40, 6, 9, 33),
            (2, 5, 20, 70),
        ] {
            let single = |x: Tensor| x.to_dtype(DType::F32);
            let parts = [
                single(noise((batch, steps, features), 1)?)?,
                single(noise((3 * hidden, features), 2)?)?,
                single((noise((3 * hidden, hidden), 3)? * 0.5)?)?,
                single(noise(3 * hidden, 4)?)?,
                single(noise(3 * hidden, 5)?)?,
                single(noise((batch, hidden), 6)?)?,
            ];
            let lengths: Vec<u32> = (0..batch)
                .map(|row| (row * 3 % (steps + 2)) as u32)
                .collect();
            for direction in [Direction::Forward, Direction::Backward] {
                let run = |version: Version| {
                    let lengths = lengths.clone();
                    move |x: &[Tensor]| {
                        let weights = GruWeights {
                            input: x[1].clone(),
                            hidden: x[2].clone(),
                            input_bias: x[3].clone(),
                            hidden_bias: x[4].clone(),
                        };
                        version(&x[0], &lengths, &weights, Some(&x[5]), direction)
                    }
                };
                check_agreement(run(gru), run(reference), &parts, 2e-5)?;
            }
        }
        Ok(())
    }

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
    fn nan_is_seen_within_a_length_and_not_read_beyond_it() -> Result<()> {
        let single = |shape: &[usize], seed| noise(shape, seed)?.to_dtype(DType::F32);
        // Units that fill whole vectors of every instruction set, and a rest.
        let weights = GruWeights {
            input: single(&[105, 2], 1)?,
            hidden: single(&[35, 105], 2)?.t()?, // Of any layout.
            input_bias: single(&[105], 3)?,
            hidden_bias: single(&[105], 4)?,
        };
        let x = Tensor::new(
            &[[[0.5f32, 1.0], [f32::NAN, 2.0], [1.0, 1.0]]],
            &Device::Cpu,
        )?;
        for direction in [Direction::Forward, Direction::Backward] {
            let of = |length: u32| -> Result<Vec<f32>> {
                gru(&x, &[length], &weights, None, direction)?
                    .flatten_all()?
                    .to_vec1()
            };
            assert!(of(1)?.iter().all(|x| x.is_finite()));
            let within = of(3)?;
            let after = match direction {
                Direction::Forward => &within[35..],
                Direction::Backward => &within[..70],
            };
            assert!(after.iter().all(|x| x.is_nan()), "{after:?}");
        }
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
