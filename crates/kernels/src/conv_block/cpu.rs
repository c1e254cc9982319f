//! The block as one custom operation on the kernels of `slices`, for `f32` on a CPU.
//!
//! Forward, with [`Norm::Batch`]: every image is convolved and its moments are taken, the moments are joined in the
//! order of images, then every image is normalized and pooled. Without it both happen to an image at once, and the
//! output of the convolution lives in the cache only.
//!
//! Backward: sums over channels give the gradients of `scale` and `shift` and what the statistics of the batch pass on;
//! then, image by image, the gradient of the convolution's output is made, used for those of weight and input, and
//! forgotten.

use std::sync::{Arc, OnceLock};

use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Storage, Tensor, bail};

use super::{ConvBlock, ConvBlockOutput, Dims, Norm};
use crate::slices::conv::{
    self, Conv, Images, InputGradient, WeightGradient, to_pixels, to_planes,
};
use crate::slices::norm_act_pool::{
    self as pass, Affine, MAX_POOL, Moments, Record, Spread, Sums, Windows,
};
use crate::slices::{Lease, dispatch, lease, lease_bytes, run};

/// Whether this version can compute the block.
pub(super) fn supports(input: &Tensor, block: &ConvBlock) -> bool {
    input.device().is_cpu() && input.dtype() == candle_core::DType::F32 && block.pool <= MAX_POOL
}

pub(super) fn conv_block(
    input: &Tensor,
    weight: &Tensor,
    scale: Option<&Tensor>,
    shift: &Tensor,
    statistics: Option<(&Tensor, &Tensor)>,
    block: &ConvBlock,
    dims: Dims,
) -> Result<ConvBlockOutput> {
    let weight = weight.flatten_all()?;
    let parameters = match scale {
        Some(scale) => Tensor::cat(&[&weight, scale, shift], 0)?,
        None => Tensor::cat(&[&weight, shift], 0)?,
    };
    let given = match statistics {
        Some((mean, variance)) => Some((mean.to_vec1()?, variance.to_vec1()?)),
        None => None,
    };
    let saved = Arc::new(OnceLock::new());
    let output = input.apply_op2(
        &parameters,
        Operation {
            conv: Conv {
                channels: dims.channels,
                outputs: dims.outputs,
                size: dims.size,
                kernel: dims.kernel,
                padding: block.padding,
            },
            dims,
            block: *block,
            given,
            for_input: input.track_op(),
            for_parameters: parameters.track_op(),
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
    for_parameters: bool,
    saved: Arc<OnceLock<Saved>>,
}

/// What the way back needs, and the statistics that leave the operation beside its output.
struct Saved {
    statistics: Option<Statistics>,
    /// The output of the convolution, where the statistics depend on it.
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

/// Numbers in all the partial gradients of the weights together, beyond which there are fewer tasks.
const PARTIAL_GRADIENTS: usize = 4 << 20;

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

    fn split<'p>(&self, parameters: &'p [f32]) -> (&'p [f32], &'p [f32], &'p [f32]) {
        let (weight, vectors) = parameters.split_at(self.conv.weights());
        let (scale, shift) = vectors.split_at(vectors.len() - self.conv.outputs);
        (weight, scale, shift)
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

    fn forward(&self, images: &Images, parameters: &[f32]) -> Vec<f32> {
        let (weight, scale, shift) = self.split(parameters);
        let (conv, width, batch) = (self.conv, self.conv.width(), self.dims.batch);
        let (convolved_len, pooled_len) = self.lengths();
        let weights = conv.pack(weight);
        let keep = self.for_input || self.for_parameters;
        let per = batch.div_ceil(TASKS);
        let tasks = batch.div_ceil(per);

        let convolve = |b: usize, image: &mut [f32], gathered: &mut [f32], out: &mut [f32]| {
            conv.read(images, b, image, gathered);
            dispatch(conv::Forward {
                conv,
                image,
                gathered,
                weights: &weights,
                out,
            });
        };

        let mut convolved = None;
        let statistics = match self.block.norm {
            Some(Norm::Batch { .. }) => {
                let mut all = lease(batch * convolved_len);
                let pieces = all.chunks_mut(per * convolved_len).enumerate().collect();
                let moments = run(batch * conv.work(), pieces, |(task, piece)| {
                    let (mut image, mut gathered) =
                        (lease(conv.image_len()), lease(conv.gathered_len()));
                    let mut moments = vec![0.0; piece.len() / convolved_len * 3 * width];
                    let outs = piece
                        .chunks_exact_mut(convolved_len)
                        .zip(moments.chunks_exact_mut(3 * width));
                    for (k, (out, moments)) in outs.enumerate() {
                        convolve(task * per + k, &mut image, &mut gathered, out);
                        dispatch(Moments {
                            convolved: out,
                            width,
                            out: moments,
                        });
                    }
                    moments
                });
                convolved = Some(all);
                Some(self.join(&moments))
            }
            Some(Norm::Fixed { .. }) => self.given_statistics(),
            None => None,
        };

        let affine = self.affine(statistics.as_ref(), scale, shift);
        let windows = self.windows();
        let mut out = vec![0.0; batch * conv.outputs * self.pooled()];
        let mut places = lease_bytes(if keep { batch * pooled_len } else { 0 });
        let recompute = convolved.is_none();
        let keep_values = keep && self.block.norm.is_some() && (recompute || self.block.pool > 1);
        let mut values = lease(if keep_values { batch * pooled_len } else { 0 });
        {
            let outs = pieces(&mut out, per * conv.outputs * self.pooled());
            let pieces = outs
                .zip(pieces(&mut places, per * pooled_len))
                .zip(pieces(&mut values, per * pooled_len));
            let work = batch
                * if recompute {
                    conv.work()
                } else {
                    4 * convolved_len
                };
            run(
                work,
                pieces.take(tasks).enumerate().collect(),
                |(task, ((outs, places), values))| {
                    let scratch = |len| lease(if recompute { len } else { 0 });
                    let (mut image, mut gathered) =
                        (scratch(conv.image_len()), scratch(conv.gathered_len()));
                    let (mut fresh, mut pixels) = (scratch(convolved_len), lease(pooled_len));
                    let records = pieces_of(places, pooled_len).zip(pieces_of(values, pooled_len));
                    let planes = outs.chunks_exact_mut(conv.outputs * self.pooled());
                    for (k, (planes, (places, values))) in planes.zip(records).enumerate() {
                        let b = task * per + k;
                        let convolved = match &convolved {
                            Some(all) => &all[b * convolved_len..][..convolved_len],
                            None => {
                                convolve(b, &mut image, &mut gathered, &mut fresh);
                                &fresh
                            }
                        };
                        let record = keep.then_some(Record { places, values });
                        let relu = self.block.relu;
                        dispatch(pass::Forward {
                            windows,
                            affine: &affine,
                            relu,
                            convolved,
                            out: &mut pixels,
                            record,
                        });
                        to_planes(&pixels, width, planes);
                    }
                },
            );
        }
        let saved = Saved {
            statistics,
            convolved: convolved.filter(|_| keep),
            places,
            values: keep_values.then_some(values),
        };
        // An operation runs once; were it run again, it would find the same.
        let _ = self.saved.set(saved);
        out
    }

    /// Joins the moments of the images to those of the batch, in f64 and in order.
    fn join(&self, moments: &[Vec<f32>]) -> Statistics {
        let (width, pixels) = (self.conv.width(), self.conv.pixels() as f64);
        let (mut mean, mut squares) = (vec![0f64; width], vec![0f64; width]);
        let mut before = 0.0;
        for image in moments.iter().flat_map(|task| task.chunks_exact(3 * width)) {
            let after = before + pixels;
            for c in 0..width {
                let [point, sum, square] = [0, 1, 2].map(|row| f64::from(image[row * width + c]));
                let correction = sum / pixels;
                let difference = point + correction - mean[c];
                mean[c] += difference * pixels / after;
                squares[c] +=
                    square - sum * correction + difference * difference * before * pixels / after;
            }
            before = after;
        }
        let variance = squares
            .iter()
            .map(|&squares| (squares / before).max(0.0) as f32)
            .collect();
        self.statistics(mean.iter().map(|&mean| mean as f32).collect(), variance)
    }

    /// Gradients of the input and of the parameters, those that are needed.
    fn backward(
        &self,
        saved: &Saved,
        images: &Images,
        parameters: &[f32],
        gradient: &[f32],
    ) -> (Option<Vec<f32>>, Option<Vec<f32>>) {
        let (weight, scale, _) = self.split(parameters);
        let (conv, width, batch, pooled) =
            (self.conv, self.conv.width(), self.dims.batch, self.pooled());
        let (convolved_len, pooled_len) = self.lengths();
        let planes_len = conv.outputs * pooled;

        let convolved = |b: usize| match &saved.convolved {
            Some(all) => &all[b * convolved_len..][..convolved_len],
            None => &[],
        };
        let mut spread = Spread {
            center: saved
                .statistics
                .as_ref()
                .map_or_else(|| vec![0.0; width], |found| found.mean.clone()),
            ..Spread::default()
        };

        // Sums over the channels.
        let per = batch.div_ceil(TASKS);
        let sums = run(
            batch * 8 * pooled_len,
            (0..batch).step_by(per).collect(),
            |first| {
                let mut pixels = lease(pooled_len);
                let mut sums = vec![0.0; per.min(batch - first) * 2 * width];
                for (k, out) in sums.chunks_exact_mut(2 * width).enumerate() {
                    let b = first + k;
                    to_pixels(
                        &gradient[b * planes_len..][..planes_len],
                        width,
                        &mut pixels,
                    );
                    let values = match &saved.values {
                        Some(values) => &values[b * pooled_len..][..pooled_len],
                        None => convolved(b), // One value to a window.
                    };
                    let places = &saved.places[b * pooled_len..][..pooled_len];
                    dispatch(Sums {
                        width,
                        center: &spread.center,
                        gradient: &pixels,
                        places,
                        values,
                        out,
                    });
                }
                sums
            },
        );
        let (mut for_shift, mut for_scale) = (vec![0f64; width], vec![0f64; width]);
        for image in sums.iter().flat_map(|task| task.chunks_exact(2 * width)) {
            for c in 0..width {
                for_shift[c] += f64::from(image[c]);
                for_scale[c] += f64::from(image[width + c]);
            }
        }
        match &saved.statistics {
            Some(Statistics { inverse, .. }) => {
                let share = if saved.convolved.is_some() {
                    1.0 / self.dims.count() as f64
                } else {
                    0.0
                };
                for (c, scale) in self.padded(scale).into_iter().enumerate() {
                    let inverse = f64::from(inverse[c]);
                    let factor = f64::from(scale) * inverse;
                    for_scale[c] *= inverse;
                    spread.factor.push(factor as f32);
                    spread.offset.push((-factor * for_shift[c] * share) as f32);
                    spread
                        .slope
                        .push((-factor * for_scale[c] * inverse * share) as f32);
                }
            }
            None => {
                spread.factor = vec![1.0; width];
                spread.offset = vec![0.0; width];
                spread.slope = vec![0.0; width];
            }
        }

        // Image by image: the gradient of the convolution's output, then those of weight and input.
        let numbers = conv.depth() * width;
        let tasks = TASKS.min((PARTIAL_GRADIENTS / numbers).max(4)).min(batch);
        let per = batch.div_ceil(tasks);
        let image_len = conv.channels * conv.size.0 * conv.size.1;
        let border = if self.for_input {
            conv.gradient_border()
        } else {
            0
        };
        let side = |len: usize| len + 2 * border;
        let bordered_len = side(self.dims.convolved.0) * side(self.dims.convolved.1) * width;
        let reversed = self.for_input.then(|| conv.pack_reversed(weight));
        let mut for_input = vec![0.0; if self.for_input { batch * image_len } else { 0 }];
        let windows = self.windows();
        let times = usize::from(self.for_input) + usize::from(self.for_parameters);
        let inputs = pieces(&mut for_input, per * image_len).take(batch.div_ceil(per));
        let partial = run(
            times * batch * conv.work(),
            inputs.enumerate().collect(),
            |(task, inputs)| {
                let needed = |needed: bool, len: usize| lease(if needed { len } else { 0 });
                let mut image = needed(self.for_parameters, conv.image_len());
                let mut gathered = needed(self.for_parameters, conv.gathered_len());
                let mut weights = needed(self.for_parameters, numbers);
                let mut input = needed(self.for_input, conv.input_len());
                let (mut pixels, mut bordered) = (lease(pooled_len), lease(bordered_len));
                weights.fill(0.0);
                bordered.fill(0.0);
                let batch = task * per..batch.min((task + 1) * per);
                for (b, planes) in batch.zip(pieces_of(inputs, image_len)) {
                    to_pixels(
                        &gradient[b * planes_len..][..planes_len],
                        width,
                        &mut pixels,
                    );
                    dispatch(pass::Backward {
                        windows,
                        spread: &spread,
                        gradient: &pixels,
                        places: &saved.places[b * pooled_len..][..pooled_len],
                        convolved: convolved(b),
                        out: &mut bordered,
                        border,
                    });
                    if self.for_parameters {
                        conv.read(images, b, &mut image, &mut gathered);
                        let (image, gathered, out) = (&image, &gathered, &mut weights);
                        dispatch(WeightGradient {
                            conv,
                            image,
                            gathered,
                            gradient: &bordered,
                            border,
                            out,
                        });
                    }
                    if let Some(reversed) = &reversed {
                        dispatch(InputGradient {
                            conv,
                            gradient: &bordered,
                            reversed,
                            out: &mut input,
                        });
                        conv.input_to_planes(&input, planes);
                    }
                }
                weights
            },
        );
        let for_parameters = self.for_parameters.then(|| {
            let mut sum = lease(numbers);
            sum.fill(0.0);
            for partial in &partial {
                sum.iter_mut()
                    .zip(partial.iter())
                    .for_each(|(sum, x)| *sum += x);
            }
            let mut all = vec![0.0; parameters.len()];
            let (weight, vectors) = all.split_at_mut(conv.weights());
            conv.unpack(&sum, weight);
            let (scale, shift) = vectors.split_at_mut(vectors.len() - conv.outputs);
            scale
                .iter_mut()
                .zip(&for_scale)
                .for_each(|(to, &from)| *to = from as f32);
            shift
                .iter_mut()
                .zip(&for_shift)
                .for_each(|(to, &from)| *to = from as f32);
            all
        });
        (self.for_input.then_some(for_input), for_parameters)
    }
}

/// A buffer cut into pieces of `size`; without end, so that an empty buffer gives empty pieces.
fn pieces<T>(buffer: &mut [T], size: usize) -> impl Iterator<Item = &mut [T]> {
    buffer
        .chunks_mut(size.max(1))
        .chain(std::iter::repeat_with(|| -> &mut [T] { &mut [] }))
}

/// [`pieces`] of a piece.
fn pieces_of<T>(buffer: &mut [T], size: usize) -> impl Iterator<Item = &mut [T]> {
    pieces(buffer, size)
}

fn values<'s>(storage: &'s CpuStorage, what: &str) -> Result<&'s [f32]> {
    match storage {
        CpuStorage::F32(values) => Ok(values),
        _ => bail!("conv_block: {what} is not f32 on the way through the operation"),
    }
}

fn images<'s>(storage: &'s CpuStorage, layout: &Layout) -> Result<Images<'s>> {
    let data = &values(storage, "`input`")?[layout.start_offset()..];
    match *layout.stride() {
        [b, c, h, w] => Ok(Images {
            data,
            strides: [b, c, h, w],
        }),
        _ => bail!(
            "conv_block: `input` has shape {:?}; it must have four dimensions",
            layout.dims()
        ),
    }
}

fn contiguous<'s>(storage: &'s CpuStorage, layout: &Layout, what: &str) -> Result<&'s [f32]> {
    match layout.contiguous_offsets() {
        Some((from, to)) => Ok(&values(storage, what)?[from..to]),
        None => bail!("conv_block: {what} is not contiguous on the way through the operation"),
    }
}

impl CustomOp2 for Operation {
    fn name(&self) -> &'static str {
        "conv-block"
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let output = self.forward(
            &images(s1, l1)?,
            contiguous(s2, l2, "the parameters' tensor")?,
        );
        Ok((CpuStorage::F32(output), self.dims.output_shape().into()))
    }

    fn bwd(
        &self,
        input: &Tensor,
        parameters: &Tensor,
        _output: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let Some(saved) = self.saved.get() else {
            bail!("conv_block: the way back was asked for before the way there");
        };
        let gradient = gradient.contiguous()?;
        let (for_input, for_parameters) = {
            let storages = [input, parameters, &gradient].map(Tensor::storage_and_layout);
            let [
                (Storage::Cpu(s1), l1),
                (Storage::Cpu(s2), l2),
                (Storage::Cpu(s3), l3),
            ] = [0, 1, 2].map(|i| (&*storages[i].0, storages[i].1))
            else {
                bail!("conv_block: a tensor left the CPU on the way back");
            };
            let parameters = contiguous(s2, l2, "the parameters' tensor")?;
            self.backward(
                saved,
                &images(s1, l1)?,
                parameters,
                contiguous(s3, l3, "the gradient")?,
            )
        };
        let tensor = |values: Option<Vec<f32>>, like: &Tensor| {
            values
                .map(|values| Tensor::from_vec(values, like.shape(), like.device()))
                .transpose()
        };
        Ok((
            tensor(for_input, input)?,
            tensor(for_parameters, parameters)?,
        ))
    }
}
