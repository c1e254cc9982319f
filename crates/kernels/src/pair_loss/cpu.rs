//! Blocks of rows on the kernels of `differences`.

use candle_core::{CpuStorage, CustomOp2, DType, Layout, Result, Shape, Tensor, WithDType};

use super::{Fold, PairLoss, RowForm, RowFunctional, RowSum, Rows};
use crate::differences::{Kind, pack, pad, pull_rows, rows as distances, transpose, weight};
use crate::host::read;
use crate::slices::{lease, run};

/// Anchors whose distances are there at one time.
const BLOCK: usize = 48;
/// Parts of the anchors that are done beside one another, each with a gradient of all references.
const PARTS: usize = 4;

pub(super) fn pair_loss(
    form: RowForm,
    rows: &Rows<'_>,
    functional: &dyn RowFunctional,
    fold: &Fold<'_>,
) -> Result<PairLoss> {
    let (anchors, references) = (rows.anchors, rows.references);
    let kind = form.kind();
    let wanted = anchors.track_op() || references.track_op();
    let (total, to_anchors, to_references) = read::<f32, _>(anchors, |x| {
        read(references, |y| {
            Ok(pass(kind, x, y, rows, functional, fold, wanted))
        })
    })?;
    let mut loss = PairLoss {
        value: None,
        terms: total.terms,
        active: total.active,
    };
    let Some(divisor) = fold.divisor(total) else {
        return Ok(loss);
    };
    let value = (total.value / divisor) as f32;
    let scale = 1.0 / divisor;
    loss.value = Some(if wanted {
        let gradient = |values: Vec<f32>, like: &Tensor| {
            Tensor::from_vec(values, like.shape(), like.device())? * scale
        };
        let known = Known {
            value,
            to_anchors: gradient(to_anchors, anchors)?,
            to_references: gradient(to_references, references)?,
        };
        anchors.apply_op2(references, known)?
    } else {
        Tensor::new(value, anchors.device())?
    });
    Ok(loss)
}

/// All rows: their terms, and the gradients of their sum if they are wanted.
fn pass(
    kind: Kind,
    x: &[f32],
    y: &[f32],
    rows: &Rows<'_>,
    functional: &dyn RowFunctional,
    fold: &Fold<'_>,
    wanted: bool,
) -> (RowSum, Vec<f32>, Vec<f32>) {
    let (n, m) = (rows.anchor_groups.len(), rows.reference_groups.len());
    let d = x.len().checked_div(n).unwrap_or(0);
    let mut to_anchors = vec![0.0; if wanted { x.len() } else { 0 }];
    let mut to_references = vec![0.0; if wanted { y.len() } else { 0 }];
    if n == 0 || m == 0 {
        return (RowSum::default(), to_anchors, to_references);
    }
    let packed = pack(y, m, d);
    let (wide_x, wide_y) = (pad(x, d), pad(y, d));
    let padded = wide_x.len() / n;
    let size = n.div_ceil(PARTS).next_multiple_of(BLOCK);
    let mut gradients = to_anchors.chunks_mut((size * d).max(1));
    let tasks: Vec<(usize, &mut [f32])> = (0..n)
        .step_by(size)
        .map(|first| (first, gradients.next().unwrap_or_default()))
        .collect();
    let parts = run(3 * n * m * d.max(16), tasks, |(first, to_anchors)| {
        let mut total = RowSum::default();
        let mut block = lease(BLOCK * m);
        let mut kept = lease(m);
        let mut turned = lease(if wanted { BLOCK * m } else { 0 });
        let mut to_references = lease(if wanted { m * d } else { 0 });
        to_references.fill(0.0);
        for begin in (first..n.min(first + size)).step_by(BLOCK) {
            let count = BLOCK.min(n.min(first + size) - begin);
            let x = &x[begin * d..(begin + count) * d];
            let block = &mut block[..count * m];
            distances(kind, x, &packed, block, m, d);
            for (anchor, values) in (begin..).zip(block.chunks_exact_mut(m)) {
                kept.copy_from_slice(values);
                total += rows.visit(functional, fold, anchor, values);
                for (gradient, &distance) in values.iter_mut().zip(&kept[..]) {
                    *gradient = weight(kind, distance, *gradient);
                }
            }
            if wanted && d > 0 {
                let to_anchors = &mut to_anchors[(begin - first) * d..][..count * d];
                pull_rows(kind, x, &wide_y, block, to_anchors, d);
                let turned = &mut turned[..count * m];
                transpose(block, count, m, turned);
                pull_rows(
                    kind,
                    y,
                    &wide_x[begin * padded..(begin + count) * padded],
                    turned,
                    &mut to_references,
                    d,
                );
            }
        }
        (total, to_references)
    });
    let mut total = RowSum::default();
    for (part, gradient) in parts {
        total += part;
        to_references
            .iter_mut()
            .zip(&gradient[..])
            .for_each(|(sum, &part)| *sum += part);
    }
    (total, to_anchors, to_references)
}

/// A scalar whose gradients are known already.
struct Known {
    value: f32,
    to_anchors: Tensor,
    to_references: Tensor,
}

impl CustomOp2 for Known {
    fn name(&self) -> &'static str {
        "pair_loss"
    }

    fn cpu_fwd(
        &self,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        Ok((f32::to_cpu_storage_owned(vec![self.value]), Shape::from(())))
    }

    fn bwd(
        &self,
        _: &Tensor,
        _: &Tensor,
        _: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let by = gradient.to_dtype(DType::F64)?.to_scalar::<f64>()?;
        Ok((
            Some((&self.to_anchors * by)?),
            Some((&self.to_references * by)?),
        ))
    }
}
