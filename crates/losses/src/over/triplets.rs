//! Losses of triplets.

use candle_core::{Result, Tensor};
use nearfar_core::{
    Comparison, Distance, Error, Evaluated, Kind, Loss, Pairs, Reducer, Rng, Terms, Triplets,
};

use crate::family::TripletLoss;
use crate::over::mining::{Mining, remembers_mining};
use crate::over::reduced;
use crate::over::rows::{AllRows, Way, Where, evaluate};
use crate::{Compares, Defaults, Family, Join, Reads};

/// A loss of triplets with the distance that it is a function of. Its one part is `triplet`.
///
/// Reads classes and listed pairs; of the latter, every positive is taken with every negative of the same anchor.
#[derive(Debug)]
pub struct OverTriplets<L> {
    /// What messages call it.
    pub name: &'static str,
    /// The formula.
    pub loss: L,
    /// What it is a function of.
    pub distance: Box<dyn Distance>,
    /// Which triplets are taken.
    pub mining: Mining,
    /// How the terms become one number.
    pub reducer: Reducer,
}

remembers_mining!(OverTriplets, TripletLoss);

impl<L: TripletLoss> OverTriplets<L> {
    /// Over all triplets, with the loss's own reducer.
    pub fn new(name: &'static str, loss: L, distance: Box<dyn Distance>) -> Self {
        Self {
            name,
            reducer: loss.reducer(),
            loss,
            distance,
            mining: Mining::default(),
        }
    }

    /// Distances of the positives to the negatives.
    fn across(
        &self,
        triplets: &Triplets,
        matrix: &Tensor,
        comparison: &Comparison<'_>,
    ) -> Result<Tensor> {
        let pairs = Pairs {
            anchors: triplets.positives().to_vec(),
            references: triplets.negatives().to_vec(),
        };
        let references = &comparison.references.vectors;
        if references.id() == comparison.anchors.vectors.id() {
            pairs.select(matrix)
        } else {
            pairs.select(&self.distance.matrix(references, references)?)
        }
    }
}

impl<L: TripletLoss> Loss for OverTriplets<L> {
    fn evaluate(&self, comparison: &Comparison<'_>, rng: &mut Rng) -> Result<Evaluated> {
        if self.mining.takes_all() && self.loss.triplets_per_anchor().is_none() {
            let functional = |_: &AllRows<'_>| Ok(self.loss.by_row());
            let (names, way) = (["triplet"], Way::of_distance(self.distance.form()));
            let (reducer, on) = (&self.reducer, Where::Anywhere);
            let found = evaluate(&names, way, functional, comparison, reducer, on, false)?;
            if let Some(evaluated) = found {
                return Ok(evaluated);
            }
        }
        reduced(&self.terms(comparison, rng)?, &self.reducer)
    }

    fn terms(&self, comparison: &Comparison<'_>, rng: &mut Rng) -> Result<Vec<Terms>> {
        let (anchors, references) = (&comparison.anchors.vectors, &comparison.references.vectors);
        let matrix = || self.distance.matrix(anchors, references);
        let (matrix, triplets) = if self.mining.takes_all() {
            // Before anything is computed: this refuses relations that are neither classes nor lists.
            let triplets = match self.loss.triplets_per_anchor() {
                None => Triplets::all(comparison, self.name)?,
                Some(count) => drawn(comparison, self.name, count, rng)?,
            };
            (matrix()?, triplets)
        } else {
            comparison.kinds(self.name)?;
            let matrix = matrix()?;
            let own = || Ok(matrix.clone());
            let tuples = self.mining.tuples(self.name, comparison, own, rng)?;
            (matrix, tuples.into_triplets())
        };
        if triplets.is_empty() {
            return Ok(vec![Terms::none("triplet", comparison)]);
        }
        let (positive, mut negative) = triplets.select(&matrix)?;
        if self.loss.swaps() {
            negative = negative.minimum(&self.across(&triplets, &matrix, comparison)?)?;
        }
        let values = self.loss.triplets(&positive, &negative)?;
        let anchors = triplets.anchors().to_vec();
        Ok(vec![Terms::tuples("triplet", values, anchors, comparison)?])
    }
}

/// For each anchor with a positive and a negative, as many triplets as asked; both are drawn evenly, with replacement.
fn drawn(
    comparison: &Comparison<'_>,
    place: &str,
    count: usize,
    rng: &mut Rng,
) -> Result<Triplets> {
    let m = comparison.references.len().max(1);
    let mut triplets = Triplets::default();
    for (anchor, kinds) in comparison.kinds(place)?.chunks(m).enumerate() {
        let of = |wanted: Kind| -> Vec<u32> {
            let columns = kinds.iter().enumerate();
            columns
                .filter(|it| *it.1 == wanted)
                .map(|it| it.0 as u32)
                .collect()
        };
        let (positives, negatives) = (of(Kind::Positive), of(Kind::Negative));
        if positives.is_empty() || negatives.is_empty() {
            continue;
        }
        for _ in 0..count {
            let positive = positives[rng.below(positives.len())];
            let negative = negatives[rng.below(negatives.len())];
            triplets.push(anchor as u32, positive, negative);
        }
    }
    Ok(triplets)
}

pub(crate) const FAMILY: Family = Family::Triplets;

pub(crate) fn reads(_: &impl TripletLoss) -> Reads {
    Reads::ClassesOrPairs
}

pub(crate) fn defaults(loss: &impl TripletLoss) -> Defaults {
    Defaults {
        compares: Compares::Distance(loss.distance()),
        reducer: loss.reducer(),
    }
}

pub(crate) fn join<L: TripletLoss + 'static>(
    name: &'static str,
    loss: L,
    mut join: Join,
) -> Result<Box<dyn Loss>> {
    join.refuse_scorer(name, "distances of triplets")?;
    let distance = join.distance(name, loss.distance())?;
    Ok(Box::new(OverTriplets {
        name,
        reducer: join.reducer.take().unwrap_or_else(|| loss.reducer()),
        mining: join.mining(),
        loss,
        distance,
    }))
}

/// A score of a pair is no target.
pub(crate) fn estimate(_: &impl TripletLoss, _: &Tensor) -> Result<Option<Tensor>> {
    Ok(None)
}

pub(crate) fn check(_: &impl TripletLoss) -> std::result::Result<(), Error> {
    Ok(())
}

/// Whether a miner can choose for it.
pub(crate) fn takes_miner(_: &impl TripletLoss) -> bool {
    true
}

/// Whether a scorer of pairs can give it what it learns from.
pub(crate) fn takes_scorer(_: &impl TripletLoss) -> bool {
    false
}
