//! Quadruplet loss with the hardest of everything.

use candle_core::Result;
use nearfar_core::{Comparison, Kind, Pairs, Rng, Terms};
use nearfar_kernels::hinge;
use serde::{Deserialize, Serialize};

use super::batch_hard::hardest;
use super::quadruplet::{QuadrupletMargins, by_class, raised};
use crate::family::batch_loss;
use crate::over::known::host;
use crate::over::matrix::{MatrixLoss, View};
use crate::triplets::Power;

/// [`Quadruplet`](super::Quadruplet) with the hardest of everything: of each anchor its farthest positive, its nearest negative, and the nearest
/// pair of two other classes in the batch.
///
/// ```text
/// first   l(i) = max(0, max_j d(i, j)² − min_k d(i, k)² + α₁)
/// second  l(i) = max(0, max_j d(i, j)² − min_{l, k} d(l, k)² + α₂)
/// ```
///
/// Each part is averaged over the anchors that have both sides. Of equal distances the first counts.
///
/// Source: as [`Quadruplet`](super::Quadruplet), section 3.3 with batch-hard selection.
///
/// ```
/// # use nearfar_losses::{Family, LossConfig};
/// let config: LossConfig = toml::from_str("quadruplet_hard = {}")?;
/// assert_eq!(config.family(), Family::Batches);
/// # Ok::<(), toml::de::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct QuadrupletHard {
    /// Fixed, or by the batch.
    pub margins: QuadrupletMargins,
    /// What distances are raised to.
    pub power: Power,
}

impl Default for QuadrupletHard {
    /// As those of [`Quadruplet`](super::Quadruplet).
    fn default() -> Self {
        Self {
            margins: QuadrupletMargins::default(),
            power: Power::Two,
        }
    }
}

batch_loss!(QuadrupletHard, Classes, "euclidean");

impl MatrixLoss for QuadrupletHard {
    fn parts(&self) -> &'static [&'static str] {
        &["first", "second"]
    }

    fn accepts(&self, name: &str, comparison: &Comparison<'_>) -> Result<()> {
        by_class(name, comparison)
    }

    fn terms(&self, view: &View<'_>, _: &mut Rng) -> Result<Vec<Terms>> {
        let comparison = view.comparison;
        let x = raised(&view.matrix, self.power)?;
        let (numbers, kinds) = (host(&x)?, comparison.kinds(view.name)?);
        let [first, second] = self.margins.of(&numbers, &kinds, view);
        let m = view.size().1;
        let (positives, negatives) = hardest(&numbers, &kinds, m);
        let part = |name, ours: &Pairs, others: &Pairs, margin: f64| -> Result<Terms> {
            if ours.is_empty() {
                return Ok(Terms::none(name, comparison));
            }
            let gap = (ours.select(&x)? - others.select(&x)?)?;
            let values = hinge(&(gap + margin)?)?;
            Terms::of_anchors(name, values, ours.anchors.clone(), comparison)
        };
        let (anchors, references) = (&comparison.anchors.labels, &comparison.references.labels);
        let mut negative: Vec<usize> = (0..kinds.len())
            .filter(|&place| kinds[place] == Kind::Negative)
            .collect();
        negative.sort_by(|&one, &other| numbers[one].total_cmp(&numbers[other]));
        let (mut ours, mut others) = (Pairs::default(), Pairs::default());
        for (anchor, positive) in positives.iter() {
            let class = anchors[anchor as usize];
            // Few pairs touch the class, so the first that does not is found soon.
            let apart = negative
                .iter()
                .find(|&&place| anchors[place / m] != class && references[place % m] != class);
            if let Some(&place) = apart {
                ours.push(anchor, positive);
                others.push((place / m) as u32, (place % m) as u32);
            }
        }
        Ok(vec![
            part("first", &positives, &negatives, first)?,
            part("second", &ours, &others, second)?,
        ])
    }
}
