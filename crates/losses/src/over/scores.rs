//! Losses of scores that pairs should have.

use candle_core::{Device, Result, Tensor};
use nearfar_core::{
    Comparison, Error, Evaluated, Loss, Mode, PairScorer, Pairs, Parameter, Reducer, Relation, Rng,
    Similarity, Stateful, Terms,
};

use crate::family::ScoreLoss;
use crate::over::{reduced, rows_of_pairs};
use crate::{Defaults, Family, Join, Reads, prefix};

/// A loss of scores with what gives the scores. Its one part is `score`, one term for each pair.
///
/// Reads scored pairs; only the listed ones are compared.
#[derive(Debug)]
pub struct OverScores<L> {
    /// What messages call it.
    pub name: &'static str,
    /// The formula.
    pub loss: L,
    /// What gives the scores.
    pub scoring: Scoring,
    /// How the terms become one number.
    pub reducer: Reducer,
}

/// What gives a pair its score; larger is closer.
#[derive(Debug)]
pub enum Scoring {
    /// A similarity of the two rows. A distance is joined as its negative.
    Similarity(Box<dyn Similarity>),
    /// A head on both. It is in training when the loss is evaluated, and draws from the loss's random numbers.
    Scorer(Box<dyn PairScorer>),
}

impl Scoring {
    /// What comes before the names of a scorer's parameters among those of its loss.
    pub const PARAMETERS: &'static str = "scorer.";
}

impl<L: ScoreLoss> Stateful for OverScores<L> {}

impl<L: ScoreLoss> OverScores<L> {
    /// With the loss's own reducer.
    pub fn new(name: &'static str, loss: L, scoring: Scoring) -> Self {
        Self {
            name,
            reducer: loss.reducer(),
            loss,
            scoring,
        }
    }

    fn score(&self, comparison: &Comparison<'_>, pairs: &Pairs, rng: &mut Rng) -> Result<Tensor> {
        match &self.scoring {
            Scoring::Similarity(similarity) => {
                let (x, y) = rows_of_pairs(comparison, pairs)?;
                similarity.paired(&x, &y)
            }
            Scoring::Scorer(scorer) => {
                let (left, right) = (comparison.anchors, comparison.references);
                scorer.score(left, right, pairs, Mode::Train(rng))
            }
        }
    }
}

impl<L: ScoreLoss> Loss for OverScores<L> {
    fn evaluate(&self, comparison: &Comparison<'_>, rng: &mut Rng) -> Result<Evaluated> {
        reduced(&self.terms(comparison, rng)?, &self.reducer)
    }

    fn terms(&self, comparison: &Comparison<'_>, rng: &mut Rng) -> Result<Vec<Terms>> {
        let Relation::Scored { pairs, targets } = comparison.relation else {
            return Err(comparison.cannot_read(self.name, "scored pairs"))?;
        };
        comparison.check()?;
        if pairs.is_empty() {
            return Ok(vec![Terms::none("score", comparison)]);
        }
        let score = self.score(comparison, pairs, rng)?;
        let target = Tensor::from_slice(targets, targets.len(), &Device::Cpu)?
            .to_dtype(score.dtype())?
            .to_device(score.device())?;
        let values = self.loss.scores(&score, &target)?;
        let terms = if values.dims() == [1] && pairs.len() != 1 {
            Terms::of_batch("score", &values, comparison)?
        } else {
            Terms::tuples("score", values, pairs.anchors.clone(), comparison)?
        };
        Ok(vec![terms])
    }

    fn parameters(&self) -> Vec<Parameter> {
        match &self.scoring {
            Scoring::Similarity(_) => Vec::new(),
            Scoring::Scorer(scorer) => {
                prefix::name(Scoring::PARAMETERS, scorer.parameters()).collect()
            }
        }
    }
}

pub(crate) const FAMILY: Family = Family::Scores;

pub(crate) fn reads(_: &impl ScoreLoss) -> Reads {
    Reads::ScoredPairs
}

pub(crate) fn defaults(loss: &impl ScoreLoss) -> Defaults {
    Defaults {
        compares: loss.compares(),
        reducer: loss.reducer(),
    }
}

pub(crate) fn join<L: ScoreLoss + 'static>(
    name: &'static str,
    loss: L,
    mut join: Join,
) -> Result<Box<dyn Loss>> {
    loss.check()?;
    if join.miner.is_some() || join.miner_distance.is_some() {
        Err(Error::Settings(format!(
            "{name} learns from the scores of all listed pairs; leave `miner` and `miner_distance` out"
        )))?;
    }
    let scoring = match join.scorer.take() {
        None => Scoring::Similarity(join.similarity(name, loss.compares().name())?),
        Some(scorer) => {
            if join.distance.is_some() || join.similarity.is_some() {
                Err(Error::Settings(format!(
                    "{name} has a `scorer` and a distance or similarity; one of them gives the scores"
                )))?;
            }
            Scoring::Scorer(scorer)
        }
    };
    Ok(Box::new(OverScores {
        name,
        reducer: join.reducer.take().unwrap_or_else(|| loss.reducer()),
        loss,
        scoring,
    }))
}

pub(crate) fn estimate(loss: &impl ScoreLoss, score: &Tensor) -> Result<Option<Tensor>> {
    loss.estimate(score).map(Some)
}

pub(crate) fn check(loss: &impl ScoreLoss) -> std::result::Result<(), Error> {
    loss.check()
}

/// Whether a miner can choose for it.
pub(crate) fn takes_miner(_: &impl ScoreLoss) -> bool {
    false
}

/// Whether a scorer of pairs can give it what it learns from.
pub(crate) fn takes_scorer(_: &impl ScoreLoss) -> bool {
    true
}
