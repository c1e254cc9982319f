//! Losses of an anchor and all it is compared with.

use std::collections::BTreeMap;

use candle_core::{DType, Result, Tensor};
use nearfar_core::{
    Comparison, Error, Evaluated, Loss, Pairs, Reducer, Relation, Rng, Similarity, Terms, shape,
};

use crate::family::{ListLoss, Lists, Mined, Weighted};
use crate::over::mining::{Mining, remembers_mining, weights};
use crate::over::rows::{AllRows, Way, Where, evaluate};
use crate::over::{reduced, rows_of_pairs};
use crate::{Defaults, Family, Join, Reads};

/// A loss of lists with the similarity that it is a function of. Its one part is `list`.
///
/// Reads classes and listed pairs. A miner sees the similarities as the distances `−s`; pairs that it does not choose are
/// left out of the lists, or, where a loss needs whole lists, anchors weigh as much as they were chosen.
#[derive(Debug)]
pub struct OverLists<L> {
    /// What messages call it.
    pub name: &'static str,
    /// The formula.
    pub loss: L,
    /// What it is a function of.
    pub similarity: Box<dyn Similarity>,
    /// Which pairs are taken.
    pub mining: Mining,
    /// How the terms become one number.
    pub reducer: Reducer,
}

remembers_mining!(OverLists, ListLoss);

impl<L: ListLoss> OverLists<L> {
    /// Over all pairs, with the loss's own reducer.
    pub fn new(name: &'static str, loss: L, similarity: Box<dyn Similarity>) -> Self {
        Self {
            name,
            reducer: loss.reducer(),
            loss,
            similarity,
            mining: Mining::default(),
        }
    }

    /// How often each positive and each negative pair is taken, `(n, m)` each, and what each anchor weighs where a miner says so.
    fn masks(
        &self,
        comparison: &Comparison<'_>,
        similarity: &Tensor,
        rng: &mut Rng,
    ) -> Result<(Tensor, Tensor, Option<Vec<f64>>)> {
        let (dtype, device) = (similarity.dtype(), similarity.device());
        let all = || comparison.masks(self.name, dtype, device);
        if self.mining.takes_all() {
            let (positive, negative) = all()?;
            return Ok((positive, negative, None));
        }
        let tuples = self
            .mining
            .tuples(self.name, comparison, || similarity.neg(), rng)?;
        let (n, m) = similarity.dims2()?;
        if self.loss.mined() == Mined::Weights {
            let (positive, negative) = all()?;
            let within = comparison.anchors.ids == comparison.references.ids;
            return Ok((positive, negative, Some(weights(&tuples, n, within))));
        }
        let pairs = tuples.into_pairs();
        let count = |pairs: &Pairs| -> Result<Tensor> {
            let mut counts = vec![0f32; n * m];
            for (anchor, reference) in pairs.iter() {
                counts[anchor as usize * m + reference as usize] += 1.0;
            }
            Tensor::from_vec(counts, (n, m), device)?.to_dtype(dtype)
        };
        Ok((count(&pairs.positive)?, count(&pairs.negative)?, None))
    }
}

impl<L: ListLoss> OverLists<L> {
    /// The terms where some anchors are compared with one positive of each, and no other row plays a part.
    fn square(&self, pairs: &Pairs, comparison: &Comparison<'_>) -> Result<Vec<Terms>> {
        let count = pairs.len();
        if count == 0 {
            return Ok(vec![Terms::none("list", comparison)]);
        }
        let (x, y) = rows_of_pairs(comparison, pairs)?;
        let similarity = self.similarity.matrix(&x, &y)?;
        let eye = Tensor::eye(count, DType::F32, similarity.device())?;
        let positive = eye.to_dtype(similarity.dtype())?;
        let weighted = self
            .loss
            .lists(&similarity, &positive, &positive.affine(-1.0, 1.0)?)?;
        let terms = counted(self.name, &weighted, comparison)?;
        let anchors = terms.anchors.iter();
        let anchors: Vec<u32> = anchors.map(|&it| pairs.anchors[it as usize]).collect();
        Ok(vec![match terms.values {
            None => Terms::none("list", comparison),
            Some(values) => Terms::of_anchors("list", values, anchors, comparison)?,
        }])
    }
}

impl<L: ListLoss> Loss for OverLists<L> {
    fn evaluate(&self, comparison: &Comparison<'_>, rng: &mut Rng) -> Result<Evaluated> {
        if self.mining.takes_all() {
            let (names, way) = (["list"], Way::of_similarity(self.similarity.form()));
            let functional = |rows: &AllRows<'_>| self.loss.by_rows(rows);
            let (reducer, on) = (&self.reducer, Where::Cpu);
            let found = evaluate(&names, way, functional, comparison, reducer, on, true)?;
            if let Some(evaluated) = found {
                return Ok(evaluated);
            }
        }
        reduced(&self.terms(comparison, rng)?, &self.reducer)
    }

    fn terms(&self, comparison: &Comparison<'_>, rng: &mut Rng) -> Result<Vec<Terms>> {
        let none = || Ok(vec![Terms::none("list", comparison)]);
        comparison.kinds(self.name)?; // Before anything is computed.
        if comparison.anchors.is_empty() || comparison.references.is_empty() {
            return none();
        }
        let (anchors, references) = (&comparison.anchors.vectors, &comparison.references.vectors);
        if self.mining.takes_all()
            && let Some(pairs) = self.loss.pairs_of(comparison)
        {
            return self.square(&pairs, comparison);
        }
        let similarity = self.similarity.matrix(anchors, references)?;
        let (positive, negative, chosen) = self.masks(comparison, &similarity, rng)?;
        let pairs = (positive.sum_all()? + negative.sum_all()?)?;
        if pairs.to_dtype(DType::F64)?.to_scalar::<f64>()? == 0.0 {
            return none();
        }
        let mut weighted = self.loss.lists_of(&Lists {
            similarity: &similarity,
            positive: &positive,
            negative: &negative,
            own: &own_columns(comparison),
            labels: match comparison.relation {
                Relation::SameClass => &comparison.anchors.labels,
                _ => &[],
            },
        })?;
        if let Some(chosen) = chosen {
            weighted.values = weighed(&weighted.values, chosen)?;
        }
        Ok(vec![counted(self.name, &weighted, comparison)?])
    }
}

/// The column of each anchor's own row among the references, where it is there.
fn own_columns(comparison: &Comparison<'_>) -> Vec<Option<u32>> {
    let references = comparison.references.ids.iter();
    let columns: BTreeMap<u64, u32> = references
        .zip(0..)
        .map(|(&id, column)| (id, column))
        .collect();
    let anchors = comparison.anchors.ids.iter();
    anchors.map(|id| columns.get(id).copied()).collect()
}

/// Values of anchors, `(n)` or `(n, m)`, times what each anchor weighs.
fn weighed(values: &Tensor, weights: Vec<f64>) -> Result<Tensor> {
    let weights =
        Tensor::from_vec(weights, values.dim(0)?, values.device())?.to_dtype(values.dtype())?;
    match values.rank() {
        1 => values * weights,
        _ => values.broadcast_mul(&weights.unsqueeze(1)?),
    }
}

/// Values with weights as terms: each as often as its weight says.
fn counted(name: &str, weighted: &Weighted, comparison: &Comparison<'_>) -> Result<Terms> {
    let Weighted { values, weights } = weighted;
    shape::same(name, ("values", values), ("weights", weights))?;
    let columns = match values.dims() {
        [] => {
            let there = weights.to_dtype(DType::F64)?.to_scalar::<f64>()? != 0.0;
            return if there {
                Terms::of_batch("list", values, comparison)
            } else {
                Ok(Terms::none("list", comparison))
            };
        }
        [_] => 1,
        [_, columns] => *columns,
        other => Err(Error::Shape(format!(
            "{name}: values have shape {other:?}; (n), (n, m) or () is wanted"
        )))?,
    };
    let counts = weights
        .flatten_all()?
        .to_dtype(DType::F64)?
        .to_vec1::<f64>()?;
    let (mut places, mut anchors) = (Vec::new(), Vec::new());
    for (place, count) in counts.iter().copied().enumerate() {
        if count < 0.0 || count.fract() != 0.0 {
            Err(Error::Input(format!(
                "{name}: a weight is {count}; weights are whole numbers, 0 or greater"
            )))?;
        }
        for _ in 0..count as usize {
            places.push(place as u32);
            anchors.push((place / columns) as u32);
        }
    }
    if places.is_empty() {
        return Ok(Terms::none("list", comparison));
    }
    let flat = values.flatten_all()?;
    let values = if places.len() == counts.len() && counts.iter().all(|&count| count == 1.0) {
        flat
    } else {
        flat.index_select(
            &Tensor::from_slice(&places, places.len(), flat.device())?,
            0,
        )?
    };
    match weights.rank() {
        1 => Terms::of_anchors("list", values, anchors, comparison),
        _ => Terms::tuples("list", values, anchors, comparison),
    }
}

pub(crate) const FAMILY: Family = Family::Lists;

pub(crate) fn reads(_: &impl ListLoss) -> Reads {
    Reads::ClassesOrPairs
}

pub(crate) fn defaults(loss: &impl ListLoss) -> Defaults {
    Defaults {
        compares: loss.compares(),
        reducer: loss.reducer(),
    }
}

pub(crate) fn join<L: ListLoss + 'static>(
    name: &'static str,
    loss: L,
    mut join: Join,
) -> Result<Box<dyn Loss>> {
    join.refuse_scorer(name, "similarities of all rows of a batch")?;
    loss.check()?;
    let similarity = join.similarity(name, loss.compares().name())?;
    Ok(Box::new(OverLists {
        name,
        reducer: join.reducer.take().unwrap_or_else(|| loss.reducer()),
        mining: join.mining(),
        loss,
        similarity,
    }))
}

/// A score of a pair is no target.
pub(crate) fn estimate(_: &impl ListLoss, _: &Tensor) -> Result<Option<Tensor>> {
    Ok(None)
}

pub(crate) fn check(loss: &impl ListLoss) -> std::result::Result<(), Error> {
    loss.check()
}

/// Whether a miner can choose for it.
pub(crate) fn takes_miner(_: &impl ListLoss) -> bool {
    true
}

/// Whether a scorer of pairs can give it what it learns from.
pub(crate) fn takes_scorer(_: &impl ListLoss) -> bool {
    false
}
