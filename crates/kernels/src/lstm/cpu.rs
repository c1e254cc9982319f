//! The layer as one custom operation, on the kernels of `slices`.

use std::sync::{Mutex, PoisonError};

use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor};

use super::Direction;
use crate::host::{give, read, slice};
use crate::slices::rnn::{self, Saved, Sizes};

pub(super) fn lstm(
    input: &Tensor,
    lengths: &[u32],
    parameters: &Tensor,
    hidden: usize,
    direction: Direction,
    only_last: bool,
) -> Result<Tensor> {
    let (batch, steps, features) = input.dims3()?;
    let sizes = Sizes {
        batch,
        steps,
        features,
        hidden,
        reverse: direction == Direction::Backward,
        only_last,
    };
    let lengths = lengths
        .iter()
        .map(|&length| length.min(steps as u32))
        .collect();
    let for_input = input.track_op();
    let operation = Lstm {
        sizes,
        lengths,
        for_input,
        saved: Mutex::new(None),
    };
    input
        .contiguous()?
        .apply_op2(&parameters.contiguous()?, operation)
}

/// One call: candle keeps it in the graph for the way back, and drops it with the graph.
struct Lstm {
    sizes: Sizes,
    lengths: Vec<u32>,
    for_input: bool,
    saved: Mutex<Option<Saved>>,
}

impl Lstm {
    fn saved(&self) -> std::sync::MutexGuard<'_, Option<Saved>> {
        self.saved.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl CustomOp2 for Lstm {
    fn name(&self) -> &'static str {
        "lstm"
    }

    fn cpu_fwd(
        &self,
        input: &CpuStorage,
        at: &Layout,
        parameters: &CpuStorage,
        p: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (states, saved) = rnn::forward(
            self.sizes,
            &self.lengths,
            slice(input, at)?,
            slice(parameters, p)?,
        );
        *self.saved() = Some(saved);
        let (batch, steps, hidden) = (self.sizes.batch, self.sizes.steps, self.sizes.hidden);
        Ok(match self.sizes.only_last {
            true => give(states, (batch, hidden)),
            false => give(states, (batch, steps, hidden)),
        })
    }

    fn bwd(
        &self,
        input: &Tensor,
        parameters: &Tensor,
        _: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let saved = self.saved().take();
        let (to_parameters, to_input) = read(parameters, |values| {
            // The way back writes over what was saved; whoever goes it twice pays for another way there.
            let saved = match saved {
                Some(saved) => saved,
                None => read(input, |input| {
                    Ok(rnn::forward(self.sizes, &self.lengths, input, values).1)
                })?,
            };
            read(gradient, |gradient| {
                Ok(rnn::backward(
                    saved,
                    &self.lengths,
                    values,
                    gradient,
                    self.for_input,
                ))
            })
        })?;
        let to_input = to_input
            .map(|x| Tensor::from_vec(x, input.shape(), input.device()))
            .transpose()?;
        Ok((
            to_input,
            Some(Tensor::from_vec(
                to_parameters,
                parameters.shape(),
                input.device(),
            )?),
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
        let input = Var::from_tensor(&noise((3, 4, 5), 1)?.to_dtype(DType::F32)?)?;
        let parameters = Var::from_tensor(&noise(4 * 6 * 12, 2)?.to_dtype(DType::F32)?)?;
        let loss = crate::lstm(&input, &[4, 2, 0], &parameters, 6, Direction::Forward)?
            .sqr()?
            .sum_all()?;
        let once = loss.backward()?;
        let twice = loss.backward()?;
        for var in [&input, &parameters] {
            let bits = |gradients: &candle_core::backprop::GradStore| {
                gradients
                    .get(var)
                    .expect("it depends on both")
                    .flatten_all()?
                    .to_vec1::<f32>()
            };
            assert_eq!(bits(&once)?, bits(&twice)?);
        }
        Ok(())
    }
}
