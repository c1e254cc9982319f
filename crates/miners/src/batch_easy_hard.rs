//! One positive and one negative of each anchor, easy or hard.

use nearfar_core::{
    Candidate, Candidates, Error, Miner, Rng, SignedPairs, Stateful, Triplets, Tuples,
};
use serde::{Deserialize, Serialize};

use crate::Interval;
use crate::nearer::{farthest, nearest};

/// For each anchor, the positive and the negative of a strategy each, of those within an interval of distances.
///
/// ```text
///             positive                                        negative
/// easy        the nearest                                     the farthest
/// hard        the farthest                                    the nearest
/// semi_hard   the farthest of those strictly nearer           the nearest of those strictly farther
///             than the chosen negative                        than the chosen positive
/// all         all of them                                     all of them
/// ```
///
/// An anchor that lacks one of the two gives nothing; of equally far rows the first is taken. With `all` on one side it
/// gives pairs, and then an anchor that lacks one side still gives pairs of the other. Both semi-hard, or semi-hard with
/// all, are refused: there is no one row to compare with.
///
/// The easiest positive leaves a class its several modes, where the hardest would pull them together.
///
/// Source: Xuan, Stylianou, Pless, "Improved embeddings with easy positive triplet mining", WACV 2020,
/// <https://arxiv.org/abs/1904.04370>. Agrees with `BatchEasyHardMiner` of pytorch-metric-learning 2.9, but that intervals
/// bound all pairs too.
///
/// ```
/// use nearfar_miners::{BatchEasyHard, Strategy};
///
/// let hardest = BatchEasyHard::new(Strategy::Hard, Strategy::Hard)?;
/// assert_eq!(hardest.positive(), Strategy::Hard);
/// assert!(BatchEasyHard::new(Strategy::SemiHard, Strategy::SemiHard).is_err());
/// assert!(BatchEasyHard::new(Strategy::All, Strategy::SemiHard).is_err());
/// # Ok::<(), nearfar_core::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Settings", into = "Settings")]
pub struct BatchEasyHard(Settings);

/// As a run file writes them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Settings {
    positive: Strategy,
    negative: Strategy,
    #[serde(skip_serializing_if = "Option::is_none")]
    positive_range: Option<Interval>,
    #[serde(skip_serializing_if = "Option::is_none")]
    negative_range: Option<Interval>,
}

/// Which positive or negative of an anchor is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Strategy {
    /// The one that the loss has the least to say to.
    Easy,
    /// The one that it has the most to say to.
    Hard,
    /// The hardest that is on the right side of the other one.
    SemiHard,
    /// All of them.
    All,
}

impl Default for Settings {
    /// The easiest positive with a semi-hard negative, over all distances.
    fn default() -> Self {
        Self {
            positive: Strategy::Easy,
            negative: Strategy::SemiHard,
            positive_range: None,
            negative_range: None,
        }
    }
}

impl Default for BatchEasyHard {
    /// The easiest positive with a semi-hard negative, over all distances: the paper's best.
    fn default() -> Self {
        Self(Settings::default())
    }
}

impl TryFrom<Settings> for BatchEasyHard {
    type Error = Error;
    fn try_from(settings: Settings) -> Result<Self, Error> {
        use Strategy::{All, SemiHard};
        match (settings.positive, settings.negative) {
            (SemiHard, SemiHard) => Err(Error::Settings(
                "`positive` and `negative` are both \"semi_hard\", each of which needs the other one chosen; use \"easy\" or \
                 \"hard\" for one of them"
                    .into(),
            )),
            (SemiHard, All) | (All, SemiHard) => Err(Error::Settings(
                "\"semi_hard\" is measured against one row, and \"all\" has many; use \"easy\" or \"hard\" beside it".into(),
            )),
            _ => Ok(Self(settings)),
        }
    }
}

impl From<BatchEasyHard> for Settings {
    fn from(it: BatchEasyHard) -> Self {
        it.0
    }
}

impl BatchEasyHard {
    /// Two strategies, over all distances.
    ///
    /// # Errors
    /// [`Error::Settings`] when both are semi-hard, or one is and the other takes all.
    pub fn new(positive: Strategy, negative: Strategy) -> Result<Self, Error> {
        Self::try_from(Settings {
            positive,
            negative,
            ..Settings::default()
        })
    }

    /// The same over the distances of two intervals; all of them where there is none.
    pub fn within(mut self, positive: Option<Interval>, negative: Option<Interval>) -> Self {
        self.0.positive_range = positive;
        self.0.negative_range = negative;
        self
    }

    /// Which positive is taken.
    pub fn positive(&self) -> Strategy {
        self.0.positive
    }

    /// Which negative is taken.
    pub fn negative(&self) -> Strategy {
        self.0.negative
    }
}

/// Those of some candidates that are within an interval.
fn allowed(
    candidates: impl Iterator<Item = Candidate> + Clone,
    range: Option<Interval>,
) -> impl Iterator<Item = Candidate> + Clone {
    candidates.filter(move |it| range.is_none_or(|range| range.holds(it.distance)))
}

impl Stateful for BatchEasyHard {}

impl Miner for BatchEasyHard {
    fn mine(&self, candidates: &Candidates, _: &mut Rng) -> Tuples {
        let Settings {
            positive,
            negative,
            positive_range,
            negative_range,
        } = self.0;
        let mut triplets = Triplets::default();
        let mut pairs = SignedPairs::default();
        for anchor in candidates.anchors() {
            let positives = allowed(candidates.positives(anchor), positive_range);
            let negatives = allowed(candidates.negatives(anchor), negative_range);
            let one_positive = |below: Option<f64>| match positive {
                Strategy::Easy => nearest(positives.clone()),
                Strategy::Hard => farthest(positives.clone()),
                Strategy::SemiHard => {
                    farthest(positives.clone().filter(|it| Some(it.distance) < below))
                }
                Strategy::All => None,
            };
            let one_negative = |above: Option<f64>| match negative {
                Strategy::Easy => farthest(negatives.clone()),
                Strategy::Hard => nearest(negatives.clone()),
                Strategy::SemiHard => nearest(
                    negatives
                        .clone()
                        .filter(|it| above.is_some_and(|above| it.distance > above)),
                ),
                Strategy::All => None,
            };
            let distance = |it: Option<Candidate>| it.map(|it| it.distance);
            let (chosen_positive, chosen_negative) = if positive == Strategy::SemiHard {
                let chosen = one_negative(None);
                (one_positive(distance(chosen)), chosen)
            } else {
                let chosen = one_positive(None);
                (chosen, one_negative(distance(chosen)))
            };
            if positive != Strategy::All && negative != Strategy::All {
                if let (Some(positive), Some(negative)) = (chosen_positive, chosen_negative) {
                    triplets.push(anchor, positive.index, negative.index);
                }
                continue;
            }
            let all_positives = positives.filter(|_| positive == Strategy::All);
            for it in chosen_positive.into_iter().chain(all_positives) {
                pairs.positive.push(anchor, it.index);
            }
            let all_negatives = negatives.filter(|_| negative == Strategy::All);
            for it in chosen_negative.into_iter().chain(all_negatives) {
                pairs.negative.push(anchor, it.index);
            }
        }
        if positive == Strategy::All || negative == Strategy::All {
            Tuples::Pairs(pairs)
        } else {
            Tuples::Triplets(triplets)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_batches::{f8, line, mined};
    use Strategy::{All, Easy, Hard, SemiHard};

    fn miner(positive: Strategy, negative: Strategy) -> BatchEasyHard {
        BatchEasyHard::new(positive, negative).expect("one of them is easy or hard")
    }

    /// The anchor 0 has positives at 1, 2 and 4, and negatives at 0.5, 3 and 5.
    fn of_the_first(miner: &BatchEasyHard) -> Vec<(u32, u32)> {
        let rows = line(&[0.0, 1.0, 2.0, 4.0, 0.5, 3.0, 5.0], &[0, 0, 0, 0, 1, 2, 3]);
        let triplets = mined(miner, &rows).into_triplets();
        let first = triplets.iter().filter(|it| it.0 == 0);
        first.map(|(_, p, n)| (p, n)).collect()
    }

    #[test]
    fn each_strategy_takes_its_row() {
        assert_eq!(of_the_first(&miner(Easy, Easy)), [(1, 6)]);
        assert_eq!(of_the_first(&miner(Hard, Hard)), [(3, 4)]);
        assert_eq!(of_the_first(&miner(Hard, SemiHard)), [(3, 6)]);
        assert_eq!(of_the_first(&miner(Easy, SemiHard)), [(1, 5)]);
        assert_eq!(of_the_first(&miner(SemiHard, Easy)), [(3, 6)]);
        assert_eq!(
            of_the_first(&miner(SemiHard, Hard)),
            [],
            "none is nearer than 0.5"
        );
        assert_eq!(of_the_first(&miner(All, Hard)), [(1, 4), (2, 4), (3, 4)]);
        assert_eq!(of_the_first(&miner(Easy, All)), [(1, 4), (1, 5), (1, 6)]);
        assert_eq!(of_the_first(&miner(All, All)).len(), 9);
    }

    #[test]
    fn what_is_outside_of_the_intervals_is_not_there() {
        let between = |least, greatest| Some(Interval::new(least, greatest).expect("in order"));
        let bounded = miner(Hard, Hard).within(between(1.0, 2.0), between(3.0, 4.0));
        assert_eq!(of_the_first(&bounded), [(2, 5)]);
        let nothing = miner(Hard, Hard).within(between(1.1, 1.9), None);
        assert_eq!(of_the_first(&nothing), []);
        let all = miner(All, Hard).within(between(1.0, 2.0), None);
        assert_eq!(of_the_first(&all), [(1, 4), (2, 4)]);
    }

    #[test]
    fn strategies_that_need_each_other_are_refused() {
        for (positive, negative) in [(SemiHard, SemiHard), (SemiHard, All), (All, SemiHard)] {
            assert!(BatchEasyHard::new(positive, negative).is_err());
        }
        let text = "positive = \"semi_hard\"\nnegative = \"all\"";
        let message = toml::from_str::<BatchEasyHard>(text).expect_err("refused");
        assert!(
            message.to_string().contains("measured against one row"),
            "{message}"
        );
    }

    #[test]
    fn the_reference_batch_is_mined_as_by_the_peer() {
        let triplets = mined(&BatchEasyHard::default(), &f8()).into_triplets();
        assert_eq!(triplets.anchors(), [0, 1, 2, 3, 4, 5, 6, 7]);
        assert_eq!(triplets.positives(), [6, 6, 3, 2, 5, 7, 0, 5]);
        assert_eq!(triplets.negatives(), [5, 5, 5, 0, 6, 6, 7, 3]);
    }
}
