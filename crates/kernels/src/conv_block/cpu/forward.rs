//! The way there.

use super::images::{Convolver, Turner, image, pieces, runs};
use super::{CHEAP, Norm, Operation, Saved, Statistics};
use crate::slices::conv::{Images, to_planes};
use crate::slices::norm_act_pool::{self as pass, Moments, Record};
use crate::slices::{dispatch, lease, lease_bytes, run};

impl Operation {
    pub(super) fn forward(&self, images: &Images, weight: &[f32], rest: &[f32]) -> Vec<f32> {
        let (residual, scale, shift) = self.split(rest);
        let (conv, width, batch) = (self.conv, self.conv.width(), self.dims.batch);
        let (convolved_len, pooled_len) = self.lengths();
        let weights = conv.pack(weight);
        let (images, weights) = (*images, &weights);
        let (group, per) = self.groups();
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
                        let mut convolver = Convolver::new(conv, images, group);
                        let mut fresh = lease(if kept { 0 } else { group * convolved_len });
                        let count = of_task(task).len().div_ceil(group);
                        let mut moments = vec![0.0; count * 3 * width];
                        let groups = runs(of_task(task), group);
                        let groups = groups.zip(pieces(outs, group * convolved_len));
                        for ((images, out), moments) in
                            groups.zip(moments.chunks_exact_mut(3 * width))
                        {
                            let convolved = match kept {
                                true => out,
                                false => &mut fresh[..images.len() * convolved_len],
                            };
                            convolver.read(images);
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
                Some(self.join(&moments, group, per))
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
        let keep = self.keeps();
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
                let mut convolver = Convolver::new(conv, images, group);
                let mut fresh = lease(if convolved.is_some() {
                    0
                } else {
                    group * convolved_len
                });
                let mut pixels = lease(pooled_len);
                let mut turner = self
                    .residual
                    .then(|| Turner::new(residual, planes_len, pooled_len, width));
                let records = pieces(places, pooled_len).zip(pieces(values, pooled_len));
                let mut outs = outs.chunks_exact_mut(planes_len).zip(records);
                for images in runs(of_task(task), group) {
                    if convolved.is_none() {
                        convolver.read(images.clone());
                        convolver.convolve(weights, &mut fresh[..images.len() * convolved_len]);
                    }
                    for (i, (b, (planes, (places, values)))) in
                        images.zip(outs.by_ref()).enumerate()
                    {
                        let convolved = match &convolved {
                            Some(all) => image(all, convolved_len, b),
                            None => image(&fresh, convolved_len, i),
                        };
                        let record = keep.then_some(Record { places, values });
                        dispatch(pass::Forward {
                            windows,
                            affine: &affine,
                            residual: turner.as_mut().map(|it| it.turn(b)),
                            relu,
                            convolved,
                            out: &mut pixels,
                            record,
                        });
                        to_planes(&pixels, width, planes);
                    }
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

    /// Joins the moments of the groups to those of the batch, in f64 and in order.
    fn join(&self, moments: &[Vec<f32>], group: usize, per: usize) -> Statistics {
        let (width, batch) = (self.conv.width(), self.dims.batch);
        let (mut mean, mut squares) = (vec![0f64; width], vec![0f64; width]);
        let mut before = 0.0;
        let groups = runs(0..batch, per).flat_map(|images| runs(images, group));
        let moments = moments.iter().flat_map(|task| task.chunks_exact(3 * width));
        for (moments, images) in moments.zip(groups) {
            let pixels = (images.len() * self.conv.pixels()) as f64;
            let after = before + pixels;
            for c in 0..width {
                let [point, sum, square] = [0, 1, 2].map(|row| f64::from(moments[row * width + c]));
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
}
