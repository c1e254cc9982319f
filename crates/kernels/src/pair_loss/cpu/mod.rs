//! Blocks of rows on the kernels of matrix products.
//!
//! References are sorted by group, so that an anchor's positives are one run of columns and its negatives two. Distances come
//! from inner products; those of rows that are near one another, which would lose their digits that way, are computed again
//! from the differences, and pull by them too.

mod pass;
mod side;
mod vectors;

use candle_core::{CpuStorage, CustomOp2, DType, Layout, Result, Shape, Tensor, WithDType};

use self::pass::{Found, Pass};
use self::side::Side;
use super::{Fold, PairLoss, Row, RowForm, RowFunctional, Rows, part};
use crate::host::read;

/// Squared lengths above this leave no room for their sums.
const LARGEST: f32 = 1e36;

/// Anchors and references, which may be one.
struct Sides {
    /// None where they are the references.
    anchors: Option<Side>,
    references: Side,
}

impl Sides {
    /// None where lengths are so large that inner products overflow.
    fn of(rows: &Rows<'_>) -> Result<Option<Self>> {
        let width = rows.anchors.dim(1)?;
        let side = |x: &Tensor, groups: &[u32], unit: bool| {
            read::<f32, _>(x, |x| Ok(Side::new(x, width, groups, unit)))
        };
        let same = rows.anchors.id() == rows.references.id()
            && rows.anchor_groups == rows.reference_groups
            && rows.unit[0] == rows.unit[1];
        let references = side(rows.references, rows.reference_groups, rows.unit[1])?;
        let anchors = match same {
            true => None,
            false => Some(side(rows.anchors, rows.anchor_groups, rows.unit[0])?),
        };
        let small = |side: &Side| side.lengths.iter().all(|length| *length <= LARGEST);
        let fits = small(&references) && anchors.as_ref().is_none_or(small);
        Ok(fits.then_some(Self {
            anchors,
            references,
        }))
    }

    fn anchors(&self) -> &Side {
        self.anchors.as_ref().unwrap_or(&self.references)
    }
}

/// None where lengths are so large that inner products overflow.
pub(super) fn pair_loss(
    form: RowForm,
    rows: &Rows<'_>,
    functional: &dyn RowFunctional,
    fold: &Fold<'_>,
) -> Result<Option<PairLoss>> {
    let (anchors, references) = (rows.anchors, rows.references);
    let Some(sides) = Sides::of(rows)? else {
        return Ok(None);
    };
    let (x, y) = (sides.anchors(), &sides.references);
    let wanted = anchors.track_op() || references.track_op();
    let pass = Pass {
        form,
        x,
        y,
        same: sides.anchors.is_none(),
        own: rows.own_in(&y.order),
        wanted,
        apart: functional.apart(),
    };
    let Found { sums, gradients } = pass.all(functional, fold);
    let mut parts = Vec::new();
    for (sum, gradient) in sums.into_iter().zip(gradients).take(pass.parts()) {
        let Some(divisor) = fold.divisor(sum) else {
            parts.push(part(None, sum));
            continue;
        };
        let value = (sum.value / divisor) as f32;
        let value = if wanted {
            let scale = (1.0 / divisor) as f32;
            let tensor = |values: Vec<f32>, like: &Tensor| {
                Tensor::from_vec(values, like.shape(), like.device())
            };
            let to_references = match pass.same {
                true => None,
                false => Some(tensor(
                    y.unsort(&gradient.to_references, scale),
                    references,
                )?),
            };
            let known = Known {
                value,
                to_anchors: tensor(x.unsort(&gradient.to_anchors, scale), anchors)?,
                to_references,
            };
            drop(gradient);
            anchors.apply_op2(references, known)?
        } else {
            Tensor::new(value, anchors.device())?
        };
        parts.push(part(Some(value), sum));
    }
    Ok(Some(PairLoss { parts }))
}

/// None where lengths are so large that inner products overflow.
pub(super) fn row_survey<T: Send>(
    form: RowForm,
    rows: &Rows<'_>,
    look: &(dyn Fn(Row<'_>) -> T + Sync),
) -> Result<Option<Vec<T>>> {
    let Some(sides) = Sides::of(rows)? else {
        return Ok(None);
    };
    let (x, y) = (sides.anchors(), &sides.references);
    let pass = Pass {
        form,
        x,
        y,
        same: sides.anchors.is_none(),
        own: rows.own_in(&y.order),
        wanted: false,
        apart: false,
    };
    let mut seen: Vec<(u32, T)> = x.order.iter().copied().zip(pass.survey(look)).collect();
    seen.sort_by_key(|it| it.0);
    Ok(Some(seen.into_iter().map(|it| it.1).collect()))
}

/// A scalar whose gradients are known already.
struct Known {
    value: f32,
    to_anchors: Tensor,
    /// None where both are one tensor: then all of it is in the other.
    to_references: Option<Tensor>,
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
        let times = |gradient: &Tensor| {
            if by == 1.0 {
                Ok(gradient.clone())
            } else {
                gradient * by
            }
        };
        let to_references = self.to_references.as_ref().map(times).transpose()?;
        Ok((Some(times(&self.to_anchors)?), to_references))
    }
}
