//! The block as one custom operation on the kernels of `slices`, for `f32` on a CPU.
//!
//! Forward, with [`Norm::Batch`]: every image is convolved and its moments are taken, the moments are joined in the
//! order of images, then every image is normalized and pooled. Without it both happen to an image at once, and the
//! output of the convolution lives in the cache only.
//!
//! Backward: sums over channels give the gradients of `scale` and `shift` and what the statistics of the batch pass on;
//! then, group by group of images, the gradient of the convolution's output is made, used for those of weight and input, and
//! forgotten.
//!
//! candle's operations take three tensors: the input, the weight, and a third of all the rest, one after the other: the
//! residual, the scale and the shift. The weight stays alone, because a copy of it, and one of its gradient, would take
//! longer than a convolution of small images.

mod backward;
mod forward;
mod images;

use std::sync::{Arc, OnceLock};

use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Storage, Tensor, bail};

use super::{ConvBlock, ConvBlockOutput, Dims, Norm};
use crate::slices::Lease;
use crate::slices::conv::Conv;
use crate::slices::norm_act_pool::{Affine, MAX_POOL, Windows};
use images::{contiguous, images};

/// Whether this version can compute the block.
pub(super) fn supports(input: &Tensor, block: &ConvBlock) -> bool {
    input.device().is_cpu() && input.dtype() == candle_core::DType::F32 && block.pool <= MAX_POOL
}

#[allow(clippy::too_many_arguments)] // Those of the public function, and their sizes.
pub(super) fn conv_block(
    input: &Tensor,
    weight: &Tensor,
    scale: Option<&Tensor>,
    shift: &Tensor,
    statistics: Option<(&Tensor, &Tensor)>,
    residual: Option<&Tensor>,
    block: &ConvBlock,
    dims: Dims,
) -> Result<ConvBlockOutput> {
    let weight = weight.contiguous()?;
    let residual = residual.map(Tensor::flatten_all).transpose()?;
    let rest: Vec<&Tensor> = [residual.as_ref(), scale, Some(shift)]
        .into_iter()
        .flatten()
        .collect();
    let rest = Tensor::cat(&rest, 0)?;
    let given = match statistics {
        Some((mean, variance)) => Some((mean.to_vec1()?, variance.to_vec1()?)),
        None => None,
    };
    let saved = Arc::new(OnceLock::new());
    let output = input.apply_op3(
        &weight,
        &rest,
        Operation {
            conv: Conv {
                channels: dims.channels,
                outputs: dims.outputs,
                size: dims.size,
                kernel: dims.kernel,
                padding: block.padding,
                stride: block.stride,
            },
            dims,
            block: *block,
            given,
            for_input: input.track_op(),
            for_weight: weight.track_op(),
            for_rest: rest.track_op(),
            residual: residual.is_some(),
            saved: Arc::clone(&saved),
        },
    )?;
    let (mut mean, mut variance) = (None, None);
    if let (
        Some(Norm::Batch { .. }),
        Some(Saved {
            statistics: Some(found),
            ..
        }),
    ) = (block.norm, saved.get())
    {
        mean = Some(Tensor::new(&found.mean[..dims.outputs], input.device())?);
        variance = Some(Tensor::new(
            &found.variance[..dims.outputs],
            input.device(),
        )?);
    }
    Ok(ConvBlockOutput {
        output,
        mean,
        variance,
        count: dims.count(),
    })
}

/// One call: candle keeps it in the graph for the way back, and drops it with the graph.
struct Operation {
    conv: Conv,
    dims: Dims,
    block: ConvBlock,
    /// Mean and variance of [`Norm::Fixed`].
    given: Option<(Vec<f32>, Vec<f32>)>,
    for_input: bool,
    for_weight: bool,
    for_rest: bool,
    /// Whether something is added before the activation.
    residual: bool,
    saved: Arc<OnceLock<Saved>>,
}

/// What the way back needs, and the statistics that leave the operation beside its output.
struct Saved {
    statistics: Option<Statistics>,
    /// The output of the convolution, where the statistics depend on it and it is not [`CHEAP`].
    convolved: Option<Lease>,
    /// Where the largest values of the windows were.
    places: Lease<u8>,
    /// The largest values before normalization; `None` without a norm, and where they are `convolved` itself.
    values: Option<Lease>,
}

/// Per channel, padded to whole vectors.
#[derive(Clone)]
struct Statistics {
    mean: Vec<f32>,
    variance: Vec<f32>,
    /// `1 / √(variance + eps)`
    inverse: Vec<f32>,
}

/// Tasks that a batch is cut into, whatever the number of threads.
const TASKS: usize = 32;

/// Values under a kernel below which a convolution is done again rather than kept: a first layer has
/// by far the largest output, and writing that to memory and reading it takes as long.
const CHEAP: usize = 32;

impl Operation {
    fn windows(&self) -> Windows {
        Windows {
            size: self.dims.convolved,
            pooled: self.dims.pooled,
            pool: self.block.pool,
            width: self.conv.width(),
        }
    }

    /// Windows of one image.
    fn pooled(&self) -> usize {
        self.dims.pooled.0 * self.dims.pooled.1
    }

    /// Values of one image with padded channels: of the convolution's output, and of the block's.
    fn lengths(&self) -> (usize, usize) {
        (
            self.conv.pixels() * self.conv.width(),
            self.pooled() * self.conv.width(),
        )
    }

    /// Whether there is a way back.
    fn keeps(&self) -> bool {
        self.for_input || self.for_weight || self.for_rest
    }

    /// Numbers of the residual.
    fn residual_len(&self) -> usize {
        match self.residual {
            true => self.dims.batch * self.conv.outputs * self.pooled(),
            false => 0,
        }
    }

    /// The third tensor as residual, scale and shift.
    fn split<'p>(&self, rest: &'p [f32]) -> (&'p [f32], &'p [f32], &'p [f32]) {
        let (residual, vectors) = rest.split_at(self.residual_len());
        let (scale, shift) = vectors.split_at(vectors.len() - self.conv.outputs);
        (residual, scale, shift)
    }

    /// Images that a task convolves at once, and those of a task.
    fn groups(&self) -> (usize, usize) {
        let batch = self.dims.batch;
        let group = self.conv.group(batch);
        (group, batch.div_ceil(TASKS).next_multiple_of(group))
    }

    fn padded(&self, values: &[f32]) -> Vec<f32> {
        let mut padded = values.to_vec();
        padded.resize(self.conv.width(), 0.0);
        padded
    }

    fn affine(&self, statistics: Option<&Statistics>, scale: &[f32], shift: &[f32]) -> Affine {
        let (center, factor) = match statistics {
            Some(Statistics { mean, inverse, .. }) => (
                mean.clone(),
                self.padded(scale)
                    .iter()
                    .zip(inverse)
                    .map(|(scale, inverse)| scale * inverse)
                    .collect(),
            ),
            None => (vec![0.0; self.conv.width()], vec![1.0; self.conv.width()]),
        };
        Affine {
            center,
            factor,
            shift: self.padded(shift),
        }
    }

    fn given_statistics(&self) -> Option<Statistics> {
        let (mean, variance) = self.given.as_ref()?;
        Some(self.statistics(self.padded(mean), self.padded(variance)))
    }

    fn statistics(&self, mean: Vec<f32>, variance: Vec<f32>) -> Statistics {
        let eps = self.block.norm.map_or(0.0, Norm::eps);
        let inverse = variance
            .iter()
            .map(|&variance| (1.0 / (f64::from(variance) + eps).sqrt()) as f32)
            .collect();
        Statistics {
            mean,
            variance,
            inverse,
        }
    }

    /// Whether the statistics are those of the batch.
    fn learns_from_batch(&self) -> bool {
        matches!(self.block.norm, Some(Norm::Batch { .. }))
    }
}

impl CustomOp3 for Operation {
    fn name(&self) -> &'static str {
        "conv-block"
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
        s3: &CpuStorage,
        l3: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let output = self.forward(
            &images(s1, l1)?,
            contiguous(s2, l2, "the weight")?,
            contiguous(s3, l3, "the parameters' tensor")?,
        );
        Ok((CpuStorage::F32(output), self.dims.output_shape().into()))
    }

    fn bwd(
        &self,
        input: &Tensor,
        weight: &Tensor,
        rest: &Tensor,
        output: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let Some(saved) = self.saved.get() else {
            bail!("conv_block: the way back was asked for before the way there");
        };
        let gradient = gradient.contiguous()?;
        let pulled = {
            let tensors = [input, weight, rest, output, &gradient];
            let storages = tensors.map(Tensor::storage_and_layout);
            let [
                (Storage::Cpu(s1), l1),
                (Storage::Cpu(s2), l2),
                (Storage::Cpu(s3), l3),
                (Storage::Cpu(s4), l4),
                (Storage::Cpu(s5), l5),
            ] = [0, 1, 2, 3, 4].map(|i| (&*storages[i].0, storages[i].1))
            else {
                bail!("conv_block: a tensor left the CPU on the way back");
            };
            self.backward(
                saved,
                &images(s1, l1)?,
                contiguous(s2, l2, "the weight")?,
                contiguous(s3, l3, "the parameters' tensor")?,
                contiguous(s4, l4, "the output")?,
                contiguous(s5, l5, "the gradient")?,
            )
        };
        let tensor = |values: Option<Vec<f32>>, like: &Tensor| {
            values
                .map(|values| Tensor::from_vec(values, like.shape(), like.device()))
                .transpose()
        };
        Ok((
            tensor(pulled.input, input)?,
            tensor(pulled.weight, weight)?,
            tensor(pulled.rest, rest)?,
        ))
    }
}
