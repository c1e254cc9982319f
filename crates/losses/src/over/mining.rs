//! A miner and what it looks at.

use std::collections::BTreeMap;

use candle_core::{Result, Tensor};
use nearfar_core::{
    Candidates, Comparison, Distance, EmbeddingTable, Miner, Rng, SignedPairs, Span, Stateful,
    Tuples,
};

use crate::prefix;

/// A miner, and the distance it looks at where that is not the loss's own.
#[derive(Debug, Default)]
pub struct Mining {
    /// Everything is taken where there is none.
    pub miner: Option<Box<dyn Miner>>,
    /// The loss's own distance where there is none.
    pub distance: Option<Box<dyn Distance>>,
}

impl Mining {
    /// By a miner that looks at the loss's own distance.
    pub fn by(miner: impl Miner + 'static) -> Self {
        Self {
            miner: Some(Box::new(miner)),
            distance: None,
        }
    }

    /// Whether everything is taken.
    pub fn takes_all(&self) -> bool {
        self.miner.as_ref().is_none_or(|miner| miner.takes_all())
    }

    /// What is chosen; `own` gives the loss's distances, `(n, m)`, where they are what the miner looks at.
    ///
    /// # Errors
    /// When the relation says neither classes nor lists; `place` is the loss that asked.
    pub fn tuples(
        &self,
        place: &str,
        comparison: &Comparison<'_>,
        own: impl FnOnce() -> Result<Tensor>,
        rng: &mut Rng,
    ) -> Result<Tuples> {
        let Some(miner) = self.miner.as_ref().filter(|miner| !miner.takes_all()) else {
            return Ok(Tuples::Pairs(SignedPairs::all(comparison, place)?));
        };
        let distances = match &self.distance {
            None => own()?,
            Some(distance) => {
                let anchors = comparison.anchors.vectors.detach();
                if std::ptr::eq(comparison.anchors, comparison.references) {
                    distance.matrix(&anchors, &anchors)?
                } else {
                    distance.matrix(&anchors, &comparison.references.vectors.detach())?
                }
            }
        };
        let candidates = Candidates::new(&distances, comparison, place)?;
        Ok(miner.mine(&candidates, rng))
    }
}

/// [`Tuples::weights`], for those who have tuples by reference.
pub(crate) fn weights(tuples: &Tuples, n: usize, within: bool) -> Vec<f64> {
    tuples.weights(n, within)
}

/// What comes before the names of a miner's state.
const PREFIX: &str = "miner.";

impl Stateful for Mining {
    fn state(&self) -> BTreeMap<String, Tensor> {
        match &self.miner {
            None => BTreeMap::new(),
            Some(miner) => prefix::put(PREFIX, miner.state()).collect(),
        }
    }

    fn restore(&mut self, state: &BTreeMap<String, Tensor>) -> Result<()> {
        let known = self.miner.is_some();
        prefix::refuse_others(state, |name| known && name.starts_with(PREFIX))?;
        match &mut self.miner {
            None => Ok(()),
            Some(miner) => miner.restore(&prefix::take(PREFIX, state)),
        }
    }

    fn interval(&self) -> Option<Span> {
        self.miner.as_ref()?.interval()
    }

    fn refresh(&mut self, table: &EmbeddingTable, rng: &mut Rng) -> Result<()> {
        match &mut self.miner {
            None => Ok(()),
            Some(miner) => miner.refresh(table, rng),
        }
    }
}

/// What a joined loss remembers is what its miner does.
macro_rules! remembers_mining {
    ($over:ident) => {
        $crate::over::mining::remembers_mining!(@ [] $over);
    };
    ($over:ident, $family:ident) => {
        $crate::over::mining::remembers_mining!(@ [L: $crate::family::$family] $over<L>);
    };
    (@ [$($generics:tt)*] $over:ty) => {
        impl<$($generics)*> ::nearfar_core::Stateful for $over {
            fn state(&self) -> ::std::collections::BTreeMap<String, ::candle_core::Tensor> {
                self.mining.state()
            }

            fn restore(
                &mut self,
                state: &::std::collections::BTreeMap<String, ::candle_core::Tensor>,
            ) -> ::candle_core::Result<()> {
                self.mining.restore(state)
            }

            fn interval(&self) -> Option<::nearfar_core::Span> {
                self.mining.interval()
            }

            fn refresh(
                &mut self,
                table: &::nearfar_core::EmbeddingTable,
                rng: &mut ::nearfar_core::Rng,
            ) -> ::candle_core::Result<()> {
                self.mining.refresh(table, rng)
            }
        }
    };
}
pub(crate) use remembers_mining;

#[cfg(test)]
mod tests {
    use nearfar_core::{Pairs, Triplets};

    use super::*;

    #[test]
    fn rows_weigh_as_often_as_they_are_in_tuples() {
        let triplets = Triplets::from_iter([(0, 1, 2), (0, 1, 3)]);
        let tuples = Tuples::Triplets(triplets);
        assert_eq!(weights(&tuples, 5, true), [1.0, 1.0, 0.5, 0.5, 0.0]);
        assert_eq!(
            weights(&tuples, 2, false),
            [1.0, 0.0],
            "of two sets only the anchors"
        );
        let pairs = SignedPairs {
            positive: Pairs::from_iter([(0, 1)]),
            negative: Pairs::from_iter([(1, 2), (1, 0)]),
        };
        let thirds = [2.0 / 3.0, 1.0, 1.0 / 3.0];
        assert_eq!(weights(&Tuples::Pairs(pairs), 3, true), thirds);
        assert_eq!(
            weights(&Tuples::Triplets(Triplets::default()), 2, true),
            [1.0, 1.0]
        );
    }
}
