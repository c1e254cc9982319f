//! Losses of pairs.

use std::collections::BTreeSet;

use candle_core::{Result, Tensor};
use nearfar_core::{
    Comparison, Distance, Error, Evaluated, Loss, Pairs, Reducer, Relation, Rng, SignedPairs, Terms,
};

use crate::family::{PairLoss, Sides};
use crate::over::mining::{Mining, remembers_mining};
use crate::over::rows::{AllRows, Way, Where, evaluate};
use crate::over::{reduced, rows_of_pairs};
use crate::{Defaults, Family, Join, Reads};

/// A loss of pairs with the distance that it is a function of. Its parts are `positive` and `negative`.
///
/// Reads classes and listed pairs. Of listed pairs without a miner only the pairs themselves are compared, not all rows.
#[derive(Debug)]
pub struct OverPairs<L> {
    /// What messages call it.
    pub name: &'static str,
    /// The formula.
    pub loss: L,
    /// What it is a function of.
    pub distance: Box<dyn Distance>,
    /// Which pairs are taken.
    pub mining: Mining,
    /// How the terms of each part become one number.
    pub reducer: Reducer,
}

remembers_mining!(OverPairs, PairLoss);

impl<L: PairLoss> OverPairs<L> {
    /// Over all pairs, with the loss's own reducer.
    pub fn new(name: &'static str, loss: L, distance: Box<dyn Distance>) -> Self {
        Self {
            name,
            reducer: loss.reducer(),
            loss,
            distance,
            mining: Mining::default(),
        }
    }

    /// Whether the distances are similarities, negated: what can be below zero is no distance.
    fn negated(&self) -> bool {
        !self.distance.axioms().non_negative
    }

    /// The chosen pairs with their distances.
    fn pairs(
        &self,
        comparison: &Comparison<'_>,
        rng: &mut Rng,
    ) -> Result<(SignedPairs, [Option<Tensor>; 2])> {
        if let (Relation::Listed(pairs), true) = (comparison.relation, self.mining.takes_all()) {
            comparison.check()?;
            refuse_contradictions(pairs)?;
            let distances = |pairs: &Pairs| -> Result<Option<Tensor>> {
                if pairs.is_empty() {
                    return Ok(None);
                }
                let (x, y) = rows_of_pairs(comparison, pairs)?;
                Ok(Some(self.distance.paired(&x, &y)?))
            };
            let distances = [distances(&pairs.positive)?, distances(&pairs.negative)?];
            return Ok((pairs.clone(), distances));
        }
        comparison.kinds(self.name)?; // Before anything is computed.
        let matrix = self
            .distance
            .matrix(&comparison.anchors.vectors, &comparison.references.vectors)?;
        let pairs = self
            .mining
            .tuples(self.name, comparison, || Ok(matrix.clone()), rng)?
            .into_pairs();
        let distances = |pairs: &Pairs| -> Result<Option<Tensor>> {
            (!pairs.is_empty())
                .then(|| pairs.select(&matrix))
                .transpose()
        };
        let distances = [distances(&pairs.positive)?, distances(&pairs.negative)?];
        Ok((pairs, distances))
    }
}

impl<L: PairLoss> Loss for OverPairs<L> {
    fn evaluate(&self, comparison: &Comparison<'_>, rng: &mut Rng) -> Result<Evaluated> {
        if self.mining.takes_all() {
            let negated = self.negated();
            let functional = |rows: &AllRows<'_>| self.loss.by_rows(rows, negated);
            let (names, way) = (
                ["positive", "negative"],
                Way::of_distance(self.distance.form()),
            );
            let (reducer, on) = (&self.reducer, Where::Cpu);
            let found = evaluate(&names, way, functional, comparison, reducer, on, false)?;
            if let Some(evaluated) = found {
                return Ok(evaluated);
            }
        }
        reduced(&self.terms(comparison, rng)?, &self.reducer)
    }

    fn terms(&self, comparison: &Comparison<'_>, rng: &mut Rng) -> Result<Vec<Terms>> {
        let (pairs, [positive, negative]) = self.pairs(comparison, rng)?;
        let divisor = Some(pairs.len() as f64);
        let part = |name, values: Option<Tensor>, pairs: Pairs| -> Result<Terms> {
            let terms = match values {
                None => Terms::none(name, comparison),
                Some(values) => Terms::tuples(name, values, pairs.anchors, comparison)?,
            };
            Ok(Terms { divisor, ..terms })
        };
        let [positive, negative] = self.loss.sides(&Sides {
            positive: positive.as_ref(),
            negative: negative.as_ref(),
            negated: self.negated(),
        })?;
        Ok(vec![
            part("positive", positive, pairs.positive)?,
            part("negative", negative, pairs.negative)?,
        ])
    }
}

/// Refuses a pair that is listed with both signs.
fn refuse_contradictions(pairs: &SignedPairs) -> Result<()> {
    let positive: BTreeSet<(u32, u32)> = pairs.positive.iter().collect();
    match pairs.negative.iter().find(|pair| positive.contains(pair)) {
        None => Ok(()),
        Some((anchor, reference)) => Err(Error::Input(format!(
            "the pair of rows {anchor} and {reference} is listed as positive and as negative"
        )))?,
    }
}

pub(crate) const FAMILY: Family = Family::Pairs;

pub(crate) fn reads(_: &impl PairLoss) -> Reads {
    Reads::ClassesOrPairs
}

pub(crate) fn defaults(loss: &impl PairLoss) -> Defaults {
    Defaults {
        compares: loss.compares(),
        reducer: loss.reducer(),
    }
}

pub(crate) fn join<L: PairLoss + 'static>(
    name: &'static str,
    loss: L,
    mut join: Join,
) -> Result<Box<dyn Loss>> {
    join.refuse_scorer(name, "distances of pairs")?;
    loss.check()?;
    let distance = join.distance(name, loss.compares().name())?;
    Ok(Box::new(OverPairs {
        name,
        reducer: join.reducer.take().unwrap_or_else(|| loss.reducer()),
        mining: join.mining(),
        loss,
        distance,
    }))
}

/// A score of a pair is no target.
pub(crate) fn estimate(_: &impl PairLoss, _: &Tensor) -> Result<Option<Tensor>> {
    Ok(None)
}

pub(crate) fn check(loss: &impl PairLoss) -> std::result::Result<(), Error> {
    loss.check()
}

/// Whether a miner can choose for it.
pub(crate) fn takes_miner(_: &impl PairLoss) -> bool {
    true
}

/// Whether a scorer of pairs can give it what it learns from.
pub(crate) fn takes_scorer(_: &impl PairLoss) -> bool {
    false
}
