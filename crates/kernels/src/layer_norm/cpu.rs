//! Layer normalization as one custom operation, for `f32` on a CPU.

use candle_core::{CpuStorage, CustomOp2, CustomOp3, Layout, Result, Shape, Tensor};

use crate::host::{give, read, slice, tensor};
use crate::slices::layer_norm::Affine;
use crate::slices::run;

/// Numbers that one task takes. The sums for the weight are those of its tasks, in order, so it decides about their bits.
const CHUNK: usize = 1 << 15;
/// What one number costs, in multiplications of a matrix product.
const COST: usize = 16;

pub(super) fn layer_norm(
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    eps: f64,
) -> Result<Tensor> {
    let (x, weight) = (x.contiguous()?, weight.contiguous()?);
    match bias {
        Some(bias) => x.apply_op3(&weight, &bias.contiguous()?, LayerNorm { eps }),
        None => x.apply_op2(&weight, LayerNorm { eps }),
    }
}

struct LayerNorm {
    eps: f64,
}

/// The gradients of `x`, the weight and the bias.
struct Pulled {
    x: Vec<f32>,
    weight: Vec<f32>,
    bias: Vec<f32>,
}

impl LayerNorm {
    fn affine<'a>(&self, weight: &'a [f32], bias: &'a [f32]) -> Affine<'a> {
        Affine {
            weight,
            bias,
            eps: self.eps,
        }
    }

    fn forward(&self, x: &[f32], weight: &[f32], bias: &[f32]) -> Vec<f32> {
        let affine = self.affine(weight, bias);
        let mut y = vec![0.0; x.len()];
        let size = size_of_a_task(weight.len());
        let tasks = y.chunks_mut(size).zip(x.chunks(size)).collect();
        run(x.len() * COST, tasks, |(y, x): (&mut [f32], &[f32])| {
            affine.forward(x, y);
        });
        y
    }

    fn backward(&self, x: &[f32], weight: &[f32], bias: &[f32], gradient: &[f32]) -> Pulled {
        let affine = self.affine(weight, bias);
        let mut pulled = vec![0.0; x.len()];
        let size = size_of_a_task(weight.len());
        let sources = x.chunks(size).zip(gradient.chunks(size));
        let tasks = pulled.chunks_mut(size).zip(sources).collect();
        let sums = run(
            x.len() * COST,
            tasks,
            |(pulled, (x, gradient)): (&mut [f32], (&[f32], &[f32]))| {
                let (mut for_weight, mut for_bias) =
                    (vec![0.0; weight.len()], vec![0.0; bias.len()]);
                affine.backward(x, gradient, pulled, &mut for_weight, &mut for_bias);
                (for_weight, for_bias)
            },
        );
        let add = |sum: &mut [f32], part: &[f32]| {
            sum.iter_mut().zip(part).for_each(|(sum, x)| *sum += x);
        };
        let (mut for_weight, mut for_bias) = (vec![0.0; weight.len()], vec![0.0; bias.len()]);
        for (of_weight, of_bias) in sums {
            add(&mut for_weight, &of_weight);
            add(&mut for_bias, &of_bias);
        }
        Pulled {
            x: pulled,
            weight: for_weight,
            bias: for_bias,
        }
    }
}

fn size_of_a_task(width: usize) -> usize {
    (CHUNK / width).max(1) * width
}

impl CustomOp2 for LayerNorm {
    fn name(&self) -> &'static str {
        "layer_norm"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        of_x: &Layout,
        weight: &CpuStorage,
        of_weight: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (values, weight) = (slice(x, of_x)?, slice(weight, of_weight)?);
        Ok(give(self.forward(values, weight, &[]), of_x.shape()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        _: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let pulled = read(x, |x| {
            read(weight, |weight| {
                read(gradient, |gradient| {
                    Ok(self.backward(x, weight, &[], gradient))
                })
            })
        })?;
        Ok((
            Some(tensor(pulled.x, x)?),
            Some(tensor(pulled.weight, weight)?),
        ))
    }
}

impl CustomOp3 for LayerNorm {
    fn name(&self) -> &'static str {
        "layer_norm"
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
        let (values, weight) = (slice(x, of_x)?, slice(weight, of_weight)?);
        let y = self.forward(values, weight, slice(bias, of_bias)?);
        Ok(give(y, of_x.shape()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        bias: &Tensor,
        _: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let pulled = read(x, |x| {
            read(weight, |weight| {
                read(bias, |bias| {
                    read(gradient, |gradient| {
                        Ok(self.backward(x, weight, bias, gradient))
                    })
                })
            })
        })?;
        Ok((
            Some(tensor(pulled.x, x)?),
            Some(tensor(pulled.weight, weight)?),
            Some(tensor(pulled.bias, bias)?),
        ))
    }
}
