//! The way back.

use super::images::{Convolver, Turner, image, pieces, runs};
use super::{Operation, Saved, Statistics, TASKS};
use crate::slices::conv::{Images, InputGradient, WeightGradient};
use crate::slices::gemm::Update;
use crate::slices::norm_act_pool::{self as pass, Spread, Sums};
use crate::slices::{Lease, dispatch, lease, run};

/// Numbers in all the partial gradients of the weights together, beyond which there are fewer tasks.
const PARTIAL_GRADIENTS: usize = 4 << 20;

/// The gradients that are needed.
pub(super) struct Pulled {
    pub(super) input: Option<Vec<f32>>,
    pub(super) weight: Option<Vec<f32>>,
    /// Of the residual, the scale and the shift.
    pub(super) rest: Option<Vec<f32>>,
}

impl Operation {
    pub(super) fn backward(
        &self,
        saved: &Saved,
        images: &Images,
        weight: &[f32],
        rest: &[f32],
        output: &[f32],
        gradient: &[f32],
    ) -> Pulled {
        let (_, scale, _) = self.split(rest);
        let sums = self.sums(saved, gradient);
        let (spread, for_scale) = self.spread(saved, scale, &sums);
        let (input, for_weight) = match self.for_input || self.for_weight {
            true => self.images_back(saved, images, weight, &spread, gradient),
            false => (None, None),
        };
        let weight = for_weight.map(|for_weight| {
            let mut weight = vec![0.0; self.conv.weights()];
            self.conv.unpack(&for_weight, &mut weight);
            weight
        });
        let rest = self.for_rest.then(|| {
            let mut all = Vec::with_capacity(rest.len());
            if self.residual {
                let relu = self.block.relu;
                let live = |(&g, &y): (&f32, &f32)| if relu && y <= 0.0 { 0.0 } else { g };
                all.extend(gradient.iter().zip(output).map(live));
            }
            all.resize(rest.len(), 0.0);
            let (_, vectors) = all.split_at_mut(self.residual_len());
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
        Pulled {
            input,
            weight,
            rest,
        }
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
        let group = conv.group(batch);
        let per = batch.div_ceil(tasks).next_multiple_of(group);
        let tasks = batch.div_ceil(per);
        let mut for_input = vec![0.0; if self.for_input { batch * image_len } else { 0 }];
        let inputs = pieces(&mut for_input, per * image_len)
            .take(tasks)
            .enumerate()
            .collect();
        let times = [self.for_input, self.for_weight]
            .into_iter()
            .filter(|&it| it)
            .count();
        let partial = run(times * batch * conv.work(), inputs, |(task, inputs)| {
            let needed = |needed: bool, len: usize| lease(if needed { len } else { 0 });
            let mut convolver = Convolver::new(conv, *images, group);
            let mut turner = Turner::new(gradient, planes_len, pooled_len, width);
            let mut fresh = needed(again, group * convolved_len);
            let mut bordered = lease(group * bordered_len);
            let mut input = needed(self.for_input, conv.input_len(group));
            let mut for_weight = needed(self.for_weight, numbers);
            bordered.fill(0.0);
            let mut update = Update::Set;
            let of_task = task * per..batch.min((task + 1) * per);
            let groups = runs(of_task, group).zip(pieces(inputs, group * image_len));
            for (images, inputs) in groups {
                if self.for_weight || again {
                    convolver.read(images.clone());
                }
                if let (None, Some(weights)) = (&saved.convolved, &weights) {
                    convolver.convolve(weights, &mut fresh[..images.len() * convolved_len]);
                }
                let bordered = &mut bordered[..images.len() * bordered_len];
                let pixels = bordered.chunks_exact_mut(bordered_len);
                for (i, (b, out)) in images.clone().zip(pixels).enumerate() {
                    let convolved = match (&saved.convolved, again) {
                        (Some(all), _) => image(all, convolved_len, b),
                        (None, true) => image(&fresh, convolved_len, i),
                        (None, false) => &[],
                    };
                    dispatch(pass::Backward {
                        windows,
                        spread,
                        gradient: turner.turn(b),
                        places: image(&saved.places, pooled_len, b),
                        convolved,
                        out,
                        border,
                    });
                }
                if self.for_weight {
                    let (image, gathered) = convolver.seen();
                    dispatch(WeightGradient {
                        conv,
                        image,
                        gathered,
                        gradient: bordered,
                        border,
                        out: &mut for_weight,
                        update,
                    });
                    update = Update::Add;
                }
                if let Some(reversed) = &reversed {
                    let input = &mut input[..conv.input_len(images.len())];
                    dispatch(InputGradient {
                        conv,
                        gradient: bordered,
                        reversed,
                        out: input,
                    });
                    let planes = inputs.chunks_exact_mut(image_len);
                    for (i, planes) in planes.enumerate() {
                        conv.input_to_planes(input, i, planes);
                    }
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
            for_weight.filter(|_| self.for_weight),
        )
    }
}
