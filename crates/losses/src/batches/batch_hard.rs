//! Batch-hard triplet loss.

use candle_core::Result;
use nearfar_core::{Comparison, Kind, NonNegative, Pairs, Rng, Terms};
use nearfar_kernels::{hinge, softplus};
use serde::{Deserialize, Serialize};

use crate::family::batch_loss;
use crate::over::matrix::{MatrixLoss, View};

/// Of each anchor the farthest positive and the nearest negative.
///
/// ```text
/// l(a) = max(0, max_p d(a, p) − min_n d(a, n) + margin)
/// soft   log(1 + exp(max_p d(a, p) − min_n d(a, n)))        without a margin
/// ```
///
/// Averaged over the anchors that have both; with one class, or all classes distinct, there is none. Of equal distances the
/// first row counts. Where all rows coincide the hinge stays at the margin and the soft form at log 2, with no gradient: the
/// network has collapsed.
///
/// Source: Hermans, Beyer, Leibe, "In defense of the triplet loss for person re-identification", 2017,
/// <https://arxiv.org/abs/1703.07737>, equation 5. Its "batch all" is `triplet_margin` over all triplets, averaged over the
/// active ones, as it is by default.
///
/// Choose it for batches of several rows a class whose labels are right: a wrong label is always the hardest.
///
/// ```
/// # use nearfar_losses::{Compares, LossConfig};
/// let config: LossConfig = toml::from_str("batch_hard = { soft = true }")?;
/// assert_eq!(config.defaults().compares, Compares::Distance("euclidean"));
/// # Ok::<(), toml::de::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BatchHard {
    /// Wanted gap between the two distances; not used by the soft form.
    pub margin: NonNegative,
    /// Whether gaps still count, less and less, however wide they are.
    pub soft: bool,
}

impl Default for BatchHard {
    /// A margin of 0.2, which is among the best of the paper's table 1, as a hinge.
    fn default() -> Self {
        Self {
            margin: NonNegative::literal(0.2),
            soft: false,
        }
    }
}

batch_loss!(BatchHard, ClassesOrPairs, "euclidean");

/// The farthest positive and the nearest negative of each anchor that has both.
pub(crate) fn hardest(x: &[f64], kinds: &[Kind], m: usize) -> (Pairs, Pairs) {
    let (mut positives, mut negatives) = (Pairs::default(), Pairs::default());
    for (anchor, (x, kinds)) in x.chunks(m).zip(kinds.chunks(m)).enumerate() {
        let best = |wanted: Kind, closer: fn(f64, f64) -> bool| {
            let columns = (0..m).filter(|&column| kinds[column] == wanted);
            columns.reduce(|best, column| {
                if closer(x[column], x[best]) {
                    column
                } else {
                    best
                }
            })
        };
        let farthest = best(Kind::Positive, |new, best| new > best);
        let nearest = best(Kind::Negative, |new, best| new < best);
        if let (Some(positive), Some(negative)) = (farthest, nearest) {
            positives.push(anchor as u32, positive as u32);
            negatives.push(anchor as u32, negative as u32);
        }
    }
    (positives, negatives)
}

impl MatrixLoss for BatchHard {
    fn parts(&self) -> &'static [&'static str] {
        &["triplet"]
    }

    fn accepts(&self, name: &str, comparison: &Comparison<'_>) -> Result<()> {
        comparison.kinds(name).map(drop)
    }

    fn terms(&self, view: &View<'_>, _: &mut Rng) -> Result<Vec<Terms>> {
        let kinds = view.comparison.kinds(view.name)?;
        let (positives, negatives) = hardest(&view.host()?, &kinds, view.size().1);
        if positives.is_empty() {
            return Ok(vec![Terms::none("triplet", view.comparison)]);
        }
        let gap = (positives.select(&view.matrix)? - negatives.select(&view.matrix)?)?;
        let values = if self.soft {
            softplus(&gap)?
        } else {
            hinge(&(gap + self.margin.get())?)?
        };
        let anchors = positives.anchors;
        let terms = Terms::of_anchors("triplet", values, anchors, view.comparison)?;
        Ok(vec![terms])
    }
}
