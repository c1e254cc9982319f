//! Triplet loss with the semi-hard negative of each positive pair.

use candle_core::Result;
use nearfar_core::{Comparison, Kind, NonNegative, Pairs, Rng, Terms};
use nearfar_kernels::hinge;
use serde::{Deserialize, Serialize};

use crate::family::batch_loss;
use crate::over::matrix::{MatrixLoss, View};

/// Of each positive pair the nearest negative that is farther than the positive; where none is, the farthest negative.
///
/// ```text
/// l(a, p) = max(0, d(a, p) − d(a, n) + margin),   n = nearest with d(a, n) > d(a, p), else farthest
/// ```
///
/// Averaged over all ordered positive pairs whose anchor has a negative; with one class, or all classes distinct, there is
/// none. Of equal distances the first row counts. `O(n m log m)`.
///
/// Source: Schroff, Kalenichenko, Philbin, "FaceNet", CVPR 2015, <https://arxiv.org/abs/1503.03832>, section 3.2, with the
/// fallback of the code that came with TensorFlow. Agrees with `BatchSemiHardTripletLoss` of sentence-transformers 6.2, whose
/// `margin` is 5 on rows as they are.
///
/// ```
/// # use nearfar_losses::{Compares, LossConfig};
/// let config: LossConfig = toml::from_str("semi_hard = { margin = 5 }")?;
/// assert_eq!(config.defaults().compares, Compares::Distance("euclidean"));
/// # Ok::<(), toml::de::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SemiHard {
    /// Wanted gap between the two distances.
    pub margin: NonNegative,
}

impl Default for SemiHard {
    /// FaceNet's margin, for rows of length 1.
    fn default() -> Self {
        Self {
            margin: NonNegative::literal(0.2),
        }
    }
}

batch_loss!(SemiHard, ClassesOrPairs, "euclidean");

/// Each positive pair with its semi-hard negative.
fn semi_hard(x: &[f64], kinds: &[Kind], m: usize) -> (Pairs, Pairs) {
    let (mut positives, mut chosen) = (Pairs::default(), Pairs::default());
    for (anchor, (x, kinds)) in x.chunks(m).zip(kinds.chunks(m)).enumerate() {
        let of = |wanted: Kind| (0..m).filter(move |&column| kinds[column] == wanted);
        let mut negatives: Vec<usize> = of(Kind::Negative).collect();
        negatives.sort_by(|&one, &other| x[one].total_cmp(&x[other]));
        let Some(&last) = negatives.last() else {
            continue;
        };
        // The first of those as far as the farthest.
        let farthest = negatives.partition_point(|&column| x[column] < x[last]);
        for positive in of(Kind::Positive) {
            let place = negatives.partition_point(|&column| x[column] <= x[positive]);
            positives.push(anchor as u32, positive as u32);
            chosen.push(anchor as u32, negatives[place.min(farthest)] as u32);
        }
    }
    (positives, chosen)
}

impl MatrixLoss for SemiHard {
    fn parts(&self) -> &'static [&'static str] {
        &["triplet"]
    }

    fn accepts(&self, name: &str, comparison: &Comparison<'_>) -> Result<()> {
        comparison.kinds(name).map(drop)
    }

    fn terms(&self, view: &View<'_>, _: &mut Rng) -> Result<Vec<Terms>> {
        let kinds = view.comparison.kinds(view.name)?;
        let (positives, negatives) = semi_hard(&view.host()?, &kinds, view.size().1);
        if positives.is_empty() {
            return Ok(vec![Terms::none("triplet", view.comparison)]);
        }
        let gap = (positives.select(&view.matrix)? - negatives.select(&view.matrix)?)?;
        let values = hinge(&(gap + self.margin.get())?)?;
        let anchors = positives.anchors;
        Ok(vec![Terms::tuples(
            "triplet",
            values,
            anchors,
            view.comparison,
        )?])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_beyond_the_positive_is_taken_or_the_farthest() {
        use Kind::{Negative as N, Nothing as O, Positive as P};
        // One anchor: positives at 1 and 5, negatives at 3, 2, 0 and 3.
        let kinds = [O, P, P, N, N, N, N];
        let x = [0.0, 1.0, 5.0, 3.0, 2.0, 0.0, 3.0];
        let (positives, negatives) = semi_hard(&x, &kinds, 7);
        assert_eq!(positives.references, [1, 2]);
        assert_eq!(negatives.references, [4, 3]);
        let (positives, _) = semi_hard(&x[..3], &kinds[..3], 3);
        assert!(positives.is_empty(), "no negative");
    }
}
