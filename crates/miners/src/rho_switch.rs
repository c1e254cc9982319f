//! Negatives from one's own class, now and then.

use nearfar_core::{Candidates, Fraction, Miner, Rng, Stateful, Triplets, Tuples};
use serde::{Deserialize, Serialize};

use crate::{DistanceWeighted, Random};

/// Triplets of another miner, in some of which the negative is of the anchor's own class.
///
/// With a probability, the negative is replaced by any other row of the anchor's class. Such a triplet pushes a class apart,
/// so that it keeps directions that do not matter for the classes of training but may for others: the density of the
/// embeddings falls less, which goes with better results on classes not seen. A class without a third row keeps its
/// negatives.
///
/// These are pairs that the labels call positive, on purpose.
///
/// Source: Roth, Milbich, Sinha, Gupta, Ommer, Cohen, "Revisiting training strategies and generalization performance in deep
/// metric learning", ICML 2020, <https://arxiv.org/abs/2002.08473>, section 5: ρ-regularization, best from 0.2 to 0.4.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RhoSwitch {
    /// How often a negative is replaced.
    pub probability: Fraction,
    /// Where triplets come from.
    pub base: Base,
}

/// The miner whose triplets are changed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Base {
    /// Negatives at all distances.
    DistanceWeighted(DistanceWeighted),
    /// Anything, evenly.
    Random(Random),
}

impl Default for RhoSwitch {
    /// The least of the paper's probabilities, over distance-weighted triplets.
    fn default() -> Self {
        Self {
            probability: Fraction::literal(0.2),
            base: Base::DistanceWeighted(DistanceWeighted::default()),
        }
    }
}

impl Stateful for RhoSwitch {}

impl Miner for RhoSwitch {
    fn mine(&self, candidates: &Candidates, rng: &mut Rng) -> Tuples {
        let tuples = match &self.base {
            Base::DistanceWeighted(base) => base.mine(candidates, rng),
            Base::Random(base) => base.mine(candidates, rng),
        };
        let mut switched = Triplets::default();
        let mut others = Vec::new();
        for (anchor, positive, negative) in tuples.into_triplets().iter() {
            let mut negative = negative;
            if rng.chance(self.probability.get()) {
                others.clear();
                let class = candidates.positives(anchor).map(|it| it.index);
                others.extend(class.filter(|&row| row != positive));
                negative = rng.choose(&others).copied().unwrap_or(negative);
            }
            switched.push(anchor, positive, negative);
        }
        Tuples::Triplets(switched)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_batches::{line, mined_with};
    use std::num::NonZeroUsize;

    #[test]
    fn as_many_negatives_are_of_the_own_class_as_the_probability_says() {
        let rows = line(&[0.0, 1.0, 2.0, 3.0, 4.0], &[0, 0, 0, 1, 1]);
        let miner = RhoSwitch {
            probability: Fraction::literal(0.3),
            base: Base::Random(Random {
                per_anchor: NonZeroUsize::new(2_000).expect("some"),
                ..Random::default()
            }),
        };
        let triplets = mined_with(&miner, &rows, 1).into_triplets();
        assert_eq!(triplets.len(), 10_000);
        let mut own = 0;
        for (anchor, positive, negative) in triplets.iter() {
            assert!(negative != anchor && negative != positive);
            own += i32::from((anchor < 3) == (negative < 3));
        }
        // Of 6,000 triplets of class 0; class 1 has no third row. Five standard deviations.
        assert!((own - 1_800).abs() < 178, "{own}");
    }

    #[test]
    fn settings_are_read_with_another_base() {
        let text = "probability = 0.4\nbase.random = { per_anchor = 3 }";
        let miner: RhoSwitch = toml::from_str(text).expect("settings");
        assert!(matches!(miner.base, Base::Random(ref base) if base.per_anchor.get() == 3));
    }
}
