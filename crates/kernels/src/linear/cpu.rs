//! The linear map as one custom operation, for `f32` on a CPU.

use candle_core::{CpuStorage, CustomOp2, CustomOp3, Layout, Result, Shape, Tensor};

use crate::host::{give, read, slice};
use crate::slices::linear::Sizes;

pub(super) fn linear(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let ((rows, inputs), outputs) = (x.dims2()?, weight.dim(0)?);
    let operation = Linear {
        sizes: Sizes {
            rows,
            inputs,
            outputs,
        },
        for_input: x.track_op(),
        for_weight: weight.track_op(),
        for_bias: bias.is_some_and(Tensor::track_op),
    };
    let (x, weight) = (x.contiguous()?, weight.contiguous()?);
    match bias {
        Some(bias) => x.apply_op3(&weight, &bias.contiguous()?, operation),
        None => x.apply_op2(&weight, operation),
    }
}

struct Linear {
    sizes: Sizes,
    for_input: bool,
    for_weight: bool,
    for_bias: bool,
}

impl Linear {
    fn back(
        &self,
        x: &Tensor,
        weight: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        read::<f32, _>(gradient, |gradient| {
            let tensor = |values: Vec<f32>, like: &Tensor| {
                Tensor::from_vec(values, like.shape(), like.device()).map(Some)
            };
            let for_input = match self.for_input {
                true => read(weight, |weight| {
                    tensor(self.sizes.input_gradient(gradient, weight), x)
                })?,
                false => None,
            };
            let for_weight = match self.for_weight {
                true => read(x, |x| {
                    tensor(self.sizes.weight_gradient(gradient, x), weight)
                })?,
                false => None,
            };
            Ok((for_input, for_weight))
        })
    }
}

impl CustomOp2 for Linear {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        of_x: &Layout,
        weight: &CpuStorage,
        of_weight: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (x, weight) = (slice(x, of_x)?, slice(weight, of_weight)?);
        let output = self.sizes.forward(x, weight, &[]);
        Ok(give(output, (self.sizes.rows, self.sizes.outputs)))
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        _: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        self.back(x, weight, gradient)
    }
}

impl CustomOp3 for Linear {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        of_x: &Layout,
        weight: &CpuStorage,
        of_weight: &Layout,
        bias: &CpuStorage,
        of_bias: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (x, weight) = (slice(x, of_x)?, slice(weight, of_weight)?);
        let output = self.sizes.forward(x, weight, slice(bias, of_bias)?);
        Ok(give(output, (self.sizes.rows, self.sizes.outputs)))
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        bias: &Tensor,
        _: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let (for_input, for_weight) = self.back(x, weight, gradient)?;
        let for_bias = match self.for_bias {
            true => Some(read::<f32, _>(gradient, |gradient| {
                let sums = self.sizes.bias_gradient(gradient);
                Tensor::from_vec(sums, bias.shape(), bias.device())
            })?),
            false => None,
        };
        Ok((for_input, for_weight, for_bias))
    }
}
