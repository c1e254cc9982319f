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
use crate::slices::gemm::Panels;
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

    /// Whether the statistics are those of the batch.
    fn learns_from_batch(&self) -> bool {
        matches!(self.block.norm, Some(Norm::Batch { .. }))
    }

    fn forward(&self, images: &Images, parameters: &[f32]) -> Vec<f32> {
        let (weight, scale, shift) = self.split(parameters);
        let (conv, width, batch) = (self.conv, self.conv.width(), self.dims.batch);
        let (convolved_len, pooled_len) = self.lengths();
        let weights = conv.pack(weight);
        let (images, weights) = (*images, &weights);
        let per = batch.div_ceil(TASKS);
        let tasks = batch.div_ceil(per);
        let of_task = |task: usize| task * per..batch.min((task + 1) * per);

        let mut convolved = None;
        let statistics = match self.block.norm {
            Some(Norm::Batch { .. }) => {
                let kept = conv.depth() > CHEAP;
                let mut all = lease(if kept { batch * convolved_len } else { 0 });
                let outs = pieces(&mut all, per * convolved_len).take(tasks);
                let moments = run(
                    batch * conv.work(),
                    outs.enumerate().collect(),
                    |(task, outs)| {
                        let mut convolver = Convolver::new(conv, images);
                        let mut fresh = lease(if kept { 0 } else { convolved_len });
                        let mut moments = vec![0.0; of_task(task).len() * 3 * width];
                        let images = of_task(task).zip(pieces(outs, convolved_len));
                        for ((b, out), moments) in images.zip(moments.chunks_exact_mut(3 * width)) {
                            let convolved = if kept { out } else { &mut *fresh };
                            convolver.read(b);
                            convolver.convolve(weights, convolved);
                            dispatch(Moments {
                                convolved,
                                width,
                                out: moments,
                            });
                        }
                        moments
                    },
                );
                convolved = kept.then_some(all);
                Some(self.join(&moments))
            }
            Some(Norm::Fixed { .. }) => self.given_statistics(),
            None => None,
        };

        let affine = self.affine(statistics.as_ref(), scale, shift);
        let (windows, relu, planes_len) = (
            self.windows(),
            self.block.relu,
            conv.outputs * self.pooled(),
        );
        let keep = self.for_input || self.for_parameters;
        // Without pooling they are what the convolution gave.
        let keep_values =
            keep && self.block.norm.is_some() && (convolved.is_none() || self.block.pool > 1);
        let mut out = vec![0.0; batch * planes_len];
        let mut places = lease_bytes(if keep { batch * pooled_len } else { 0 });
        let mut values = lease(if keep_values { batch * pooled_len } else { 0 });
        let records =
            pieces(&mut places, per * pooled_len).zip(pieces(&mut values, per * pooled_len));
        let outs = pieces(&mut out, per * planes_len).zip(records).take(tasks);
        let work = batch
            * if convolved.is_some() {
                4 * convolved_len
            } else {
                conv.work()
            };
        run(
            work,
            outs.enumerate().collect(),
            |(task, (outs, (places, values)))| {
                let mut convolver = Convolver::new(conv, images);
                let mut fresh = lease(if convolved.is_some() {
                    0
                } else {
                    convolved_len
                });
                let mut pixels = lease(pooled_len);
                let records = pieces(places, pooled_len).zip(pieces(values, pooled_len));
                let outs = outs.chunks_exact_mut(planes_len).zip(records);
                for (b, (planes, (places, values))) in of_task(task).zip(outs) {
                    let convolved = match &convolved {
                        Some(all) => image(all, convolved_len, b),
                        None => {
                            convolver.read(b);
                            convolver.convolve(weights, &mut fresh);
                            &fresh
                        }
                    };
                    let record = keep.then_some(Record { places, values });
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
        let sums = self.sums(saved, gradient);
        let (spread, for_scale) = self.spread(saved, scale, &sums);
        let (for_input, for_weight) = self.images_back(saved, images, weight, &spread, gradient);
        let for_parameters = for_weight.map(|for_weight| {
            let mut all = vec![0.0; parameters.len()];
            let (weight, vectors) = all.split_at_mut(self.conv.weights());
            self.conv.unpack(&for_weight, weight);
            let (scale, shift) = vectors.split_at_mut(vectors.len() - self.conv.outputs);
            scale
                .iter_mut()
                .zip(for_scale)
                .for_each(|(to, from)| *to = from as f32);
            shift
                .iter_mut()
                .zip(&sums)
                .for_each(|(to, from)| *to = from[0] as f32);
            all
        });
        (for_input, for_parameters)
    }

    /// For each channel, the sum of the gradient that reaches it, and of its product with the values
    /// it arrives at less their mean. In f64 over the images, in order.
    fn sums(&self, saved: &Saved, gradient: &[f32]) -> Vec<[f64; 2]> {
        let (width, batch) = (self.conv.width(), self.dims.batch);
        let (convolved_len, pooled_len) = self.lengths();
        let center = self.center(saved);
        let per = batch.div_ceil(TASKS);
        let firsts = (0..batch).step_by(per).collect();
        let sums = run(batch * 8 * pooled_len, firsts, |first: usize| {
            let mut turner = Turner::new(
                gradient,
                self.conv.outputs * self.pooled(),
                pooled_len,
                width,
            );
            let mut sums = vec![0.0; per.min(batch - first) * 2 * width];
            for (b, out) in (first..).zip(sums.chunks_exact_mut(2 * width)) {
                let values = match (&saved.values, &saved.convolved) {
                    (Some(values), _) => image(values, pooled_len, b),
                    (None, Some(convolved)) => image(convolved, convolved_len, b),
                    (None, None) => &[],
                };
                let places = image(&saved.places, pooled_len, b);
                dispatch(Sums {
                    width,
                    center: &center,
                    gradient: turner.turn(b),
                    places,
                    values,
                    out,
                });
            }
            sums
        });
        let mut total = vec![[0.0; 2]; width];
        for image in sums.iter().flat_map(|task| task.chunks_exact(2 * width)) {
            for (c, total) in total.iter_mut().enumerate() {
                total[0] += f64::from(image[c]);
                total[1] += f64::from(image[width + c]);
            }
        }
        total
    }

    fn center(&self, saved: &Saved) -> Vec<f32> {
        match &saved.statistics {
            Some(statistics) => statistics.mean.clone(),
            None => vec![0.0; self.conv.width()],
        }
    }

    /// How the gradient of the convolution's output follows from `sums`, and the gradient of `scale`.
    ///
    /// With `z = (y − mean) · inverse` over `n` values and the output's gradient `g`, the statistics of a
    /// batch pass on `scale · inverse · (g − Σ g / n − z · Σ (g · z) / n)`.
    fn spread(&self, saved: &Saved, scale: &[f32], sums: &[[f64; 2]]) -> (Spread, Vec<f64>) {
        let width = self.conv.width();
        let center = self.center(saved);
        let Some(Statistics { inverse, .. }) = &saved.statistics else {
            let (zero, one) = (vec![0.0; width], vec![1.0; width]);
            let spread = Spread {
                center,
                slope: zero.clone(),
                offset: zero,
                factor: one,
            };
            return (spread, Vec::new());
        };
        let share = if self.learns_from_batch() {
            1.0 / self.dims.count() as f64
        } else {
            0.0
        };
        let mut spread = Spread {
            center,
            ..Spread::default()
        };
        let mut for_scale = Vec::new();
        for (c, scale) in self.padded(scale).into_iter().enumerate() {
            let inverse = f64::from(inverse[c]);
            let factor = f64::from(scale) * inverse;
            let product = sums[c][1] * inverse;
            spread.factor.push(factor as f32);
            spread.offset.push((-factor * sums[c][0] * share) as f32);
            spread
                .slope
                .push((-factor * product * inverse * share) as f32);
            for_scale.push(product);
        }
        (spread, for_scale)
    }

    /// Image by image, the gradient of the convolution's output, and from it those of the input and of
    /// the weight, as [`Conv::unpack`] takes it.
    fn images_back(
        &self,
        saved: &Saved,
        images: &Images,
        weight: &[f32],
        spread: &Spread,
        gradient: &[f32],
    ) -> (Option<Vec<f32>>, Option<Lease>) {
        let (conv, width, batch) = (self.conv, self.conv.width(), self.dims.batch);
        let (convolved_len, pooled_len) = self.lengths();
        let (windows, planes_len) = (self.windows(), conv.outputs * self.pooled());
        let image_len = conv.channels * conv.size.0 * conv.size.1;
        let border = if self.for_input {
            conv.gradient_border()
        } else {
            0
        };
        let side = |len: usize| len + 2 * border;
        let bordered_len = side(self.dims.convolved.0) * side(self.dims.convolved.1) * width;
        let reversed = self.for_input.then(|| conv.pack_reversed(weight));
        let again = self.learns_from_batch() && saved.convolved.is_none();
        let weights = again.then(|| conv.pack(weight));

        let numbers = conv.depth() * width;
        let tasks = TASKS.min((PARTIAL_GRADIENTS / numbers).max(4)).min(batch);
        let per = batch.div_ceil(tasks);
        let tasks = batch.div_ceil(per);
        let mut for_input = vec![0.0; if self.for_input { batch * image_len } else { 0 }];
        let inputs = pieces(&mut for_input, per * image_len)
            .take(tasks)
            .enumerate()
            .collect();
        let times = [self.for_input, self.for_parameters]
            .into_iter()
            .filter(|&it| it)
            .count();
        let partial = run(times * batch * conv.work(), inputs, |(task, inputs)| {
            let needed = |needed: bool, len: usize| lease(if needed { len } else { 0 });
            let mut convolver = Convolver::new(conv, *images);
            let mut turner = Turner::new(gradient, planes_len, pooled_len, width);
            let mut fresh = needed(again, convolved_len);
            let mut bordered = lease(bordered_len);
            let mut input = needed(self.for_input, conv.input_len());
            let mut for_weight = needed(self.for_parameters, numbers);
            bordered.fill(0.0);
            for_weight.fill(0.0);
            let of_task = task * per..batch.min((task + 1) * per);
            for (b, planes) in of_task.zip(pieces(inputs, image_len)) {
                if self.for_parameters || again {
                    convolver.read(b);
                }
                let convolved = match (&saved.convolved, &weights) {
                    (Some(all), _) => image(all, convolved_len, b),
                    (None, Some(weights)) => {
                        convolver.convolve(weights, &mut fresh);
                        &fresh
                    }
                    (None, None) => &[],
                };
                dispatch(pass::Backward {
                    windows,
                    spread,
                    gradient: turner.turn(b),
                    places: image(&saved.places, pooled_len, b),
                    convolved,
                    out: &mut bordered,
                    border,
                });
                if self.for_parameters {
                    dispatch(WeightGradient {
                        conv,
                        image: &convolver.image,
                        gathered: &convolver.gathered,
                        gradient: &bordered,
                        border,
                        out: &mut for_weight,
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
            for_weight
        });
        let for_weight = partial.into_iter().reduce(|mut sum, partial| {
            sum.iter_mut()
                .zip(partial.iter())
                .for_each(|(sum, x)| *sum += x);
            sum
        });
        (
            self.for_input.then_some(for_input),
            for_weight.filter(|_| self.for_parameters),
        )
    }
}

/// Reads images and convolves them, one at a time.
struct Convolver<'a> {
    conv: Conv,
    images: Images<'a>,
    image: Lease,
    gathered: Lease,
    staged: Lease,
}

impl<'a> Convolver<'a> {
    fn new(conv: Conv, images: Images<'a>) -> Self {
        let staged = if conv.stages(&images) {
            conv.channels * conv.size.0 * conv.size.1
        } else {
            0
        };
        Self {
            conv,
            images,
            image: lease(conv.image_len()),
            gathered: lease(conv.gathered_len()),
            staged: lease(staged),
        }
    }

    fn read(&mut self, b: usize) {
        self.conv.read(
            &self.images,
            b,
            &mut self.staged,
            &mut self.image,
            &mut self.gathered,
        );
    }

    /// Convolves the image that was read.
    fn convolve(&self, weights: &Panels, out: &mut [f32]) {
        let (conv, image, gathered) = (self.conv, &self.image, &self.gathered);
        dispatch(conv::Forward {
            conv,
            image,
            gathered,
            weights,
            out,
        });
    }
}

/// Turns the gradients of one image after another to channels last.
struct Turner<'a> {
    gradient: &'a [f32],
    width: usize,
    staged: Lease,
    pixels: Lease,
}

impl<'a> Turner<'a> {
    fn new(gradient: &'a [f32], planes_len: usize, pooled_len: usize, width: usize) -> Self {
        Self {
            gradient,
            width,
            staged: lease(planes_len),
            pixels: lease(pooled_len),
        }
    }

    fn turn(&mut self, b: usize) -> &[f32] {
        // Memory is read in order; the copy in the cache is read across.
        let planes = image(self.gradient, self.staged.len(), b);
        self.staged.copy_from_slice(planes);
        to_pixels(&self.staged, self.width, &mut self.pixels);
        &self.pixels
    }
}

/// Image `b` of a buffer of images of `len` values.
fn image<T>(images: &[T], len: usize, b: usize) -> &[T] {
    &images[b * len..][..len]
}

/// A buffer cut into pieces of `size`; without end, so that an empty buffer gives empty pieces.
fn pieces<T>(buffer: &mut [T], size: usize) -> impl Iterator<Item = &mut [T]> {
    buffer
        .chunks_mut(size.max(1))
        .chain(std::iter::repeat_with(|| -> &mut [T] { &mut [] }))
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
