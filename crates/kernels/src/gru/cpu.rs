//! What the inputs add up to as one product, and all steps as one custom operation, for `f32` on a CPU.

use std::sync::{Mutex, MutexGuard, PoisonError};

use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor};

use super::{GruWeights, within};
use crate::host::{give, read, slice, tensor};
use crate::slices::gru::{Saved, Sizes};
use crate::{Direction, linear};

/// Nothing is empty.
pub(super) fn gru(
    input: &Tensor,
    lengths: &[u32],
    weights: &GruWeights,
    start: &Tensor,
    direction: Direction,
) -> Result<Tensor> {
    let (batch, steps, features) = input.dims3()?;
    let hidden = start.dim(1)?;
    let (input, _) = within(input, lengths)?;
    let rows = input.reshape((batch * steps, features))?;
    let sums = linear(&rows, &weights.input, Some(&weights.input_bias))?;
    let sums = sums.reshape((batch, steps, 3 * hidden))?;
    let of_state = Tensor::cat(&[&weights.hidden, &weights.hidden_bias.unsqueeze(1)?], 1)?;
    let operation = Gru {
        sizes: Sizes {
            batch,
            steps,
            hidden,
            reverse: direction == Direction::Backward,
        },
        lengths: lengths.to_vec(),
        saved: Mutex::new(None),
    };
    sums.apply_op3(&of_state.contiguous()?, &start.contiguous()?, operation)
}

/// One call: candle keeps it in the graph for the way back, and drops it with the graph.
struct Gru {
    sizes: Sizes,
    lengths: Vec<u32>,
    saved: Mutex<Option<Saved>>,
}

impl Gru {
    fn saved(&self) -> MutexGuard<'_, Option<Saved>> {
        self.saved.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl CustomOp3 for Gru {
    fn name(&self) -> &'static str {
        "gru"
    }

    fn cpu_fwd(
        &self,
        sums: &CpuStorage,
        of_sums: &Layout,
        weights: &CpuStorage,
        of_weights: &Layout,
        first: &CpuStorage,
        of_first: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (states, saved) = self.sizes.forward(
            &self.lengths,
            slice(sums, of_sums)?,
            slice(weights, of_weights)?,
            slice(first, of_first)?,
        );
        *self.saved() = Some(saved);
        let Sizes {
            batch,
            steps,
            hidden,
            ..
        } = self.sizes;
        Ok(give(states, (batch, steps, hidden)))
    }

    fn bwd(
        &self,
        sums: &Tensor,
        weights: &Tensor,
        first: &Tensor,
        _: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let saved = self.saved().take();
        let [to_sums, to_weights, to_first] = read(weights, |values| {
            // What was saved is used up; whoever goes back twice pays for another way there.
            let saved = match saved {
                Some(saved) => saved,
                None => read(sums, |sums| {
                    read(first, |first| {
                        Ok(self.sizes.forward(&self.lengths, sums, values, first).1)
                    })
                })?,
            };
            read(gradient, |gradient| {
                Ok(self.sizes.backward(saved, &self.lengths, values, gradient))
            })
        })?;
        Ok((
            Some(tensor(to_sums, sums)?),
            Some(tensor(to_weights, weights)?),
            Some(tensor(to_first, first)?),
        ))
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Var};

    use super::*;
    use crate::test_util::noise;

    #[test]
    fn going_back_twice_gives_the_same_gradients() -> Result<()> {
        let part =
            |shape: &[usize], seed| Var::from_tensor(&noise(shape, seed)?.to_dtype(DType::F32)?);
        let (input, hidden) = (part(&[3, 4, 5], 1)?, part(&[18, 6], 2)?);
        let weights = GruWeights {
            input: part(&[18, 5], 3)?.as_tensor().clone(),
            hidden: hidden.as_tensor().clone(),
            input_bias: part(&[18], 4)?.as_tensor().clone(),
            hidden_bias: part(&[18], 5)?.as_tensor().clone(),
        };
        let states = crate::gru(&input, &[4, 2, 0], &weights, None, Direction::Forward)?;
        let loss = states.sqr()?.sum_all()?;
        let (once, twice) = (loss.backward()?, loss.backward()?);
        for var in [&input, &hidden] {
            let bits = |gradients: &candle_core::backprop::GradStore| {
                let gradient = gradients.get(var).expect("it depends on both");
                gradient.flatten_all()?.to_vec1::<f32>()
            };
            assert_eq!(bits(&once)?, bits(&twice)?);
        }
        Ok(())
    }
}
