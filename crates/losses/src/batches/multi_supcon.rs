//! Supervised contrastive loss of rows with several labels.

use candle_core::Result;
use nearfar_core::{Comparison, Fraction, Loss, Positive, Rng, Terms};
use serde::{Deserialize, Serialize};

use super::soft_targets::SoftTargets;
use crate::family::BatchLoss;
use crate::over::matrix::{self, MatrixLoss, View};
use crate::over::relations::{by_sets, overlaps, own};
use crate::{Compares, Join, Reads};

/// A softmax over all other rows, whose targets are the rows with enough common labels, each by how much it has in common.
///
/// ```text
/// N(i) = {p ≠ i: J(i, p) ≥ least_overlap},   J = |A ∩ B| / |A ∪ B|
/// l(i) = −1/|N(i)| Σ_{p in N(i)} J(i, p) (s(i, p)/τ − log Σ_{a ≠ i} exp(s(i, a)/τ))
/// ```
///
/// Averaged over the anchors with an `N(i)`; the paper adds them up. Two empty sets overlap fully. With sets that do not overlap
/// there is nothing to learn.
///
/// Source: Zhang, Wu, "Multi-label supervised contrastive learning", AAAI 2024, <https://arxiv.org/abs/2402.01613>. It is in
/// pytorch-metric-learning from 3.0 on.
///
/// ```
/// # use nearfar_losses::{LossConfig, Reads};
/// let config: LossConfig = toml::from_str("multi_supcon = { least_overlap = 0.3 }")?;
/// assert_eq!(config.reads(), Reads::Sets);
/// # Ok::<(), toml::de::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MultiSupCon {
    /// Smaller looks more closely at the nearest rows.
    pub temperature: Positive,
    /// Rows that overlap by less are no positives; by this much, they are.
    pub least_overlap: Fraction,
}

impl Default for MultiSupCon {
    /// The paper's.
    fn default() -> Self {
        Self {
            temperature: Positive::literal(0.1),
            least_overlap: Fraction::literal(0.5),
        }
    }
}

impl BatchLoss for MultiSupCon {
    fn reads(&self) -> Reads {
        Reads::Sets
    }

    fn compares(&self) -> Compares {
        Compares::Similarity("cosine")
    }

    fn build(&self, name: &'static str, join: Join) -> Result<Box<dyn Loss>> {
        matrix::join(name, self, join)
    }
}

impl MatrixLoss for MultiSupCon {
    fn parts(&self) -> &'static [&'static str] {
        &["list"]
    }

    fn accepts(&self, name: &str, comparison: &Comparison<'_>) -> Result<()> {
        by_sets(name, comparison)
    }

    fn terms(&self, view: &View<'_>, _: &mut Rng) -> Result<Vec<Terms>> {
        let (n, m) = view.size();
        let (overlaps, own) = (overlaps(view.name, view.comparison)?, own(view.comparison));
        let least = self.least_overlap.get();
        let mut targets = SoftTargets::none((n, m));
        for row in 0..n {
            let share = |place: usize| {
                let overlap = overlaps[place];
                (overlap >= least && overlap > 0.0).then_some(overlap)
            };
            targets.push(row, &own, share, |shares| shares.len() as f64);
        }
        // Distances are negative similarities.
        targets.terms(view, &(&view.matrix * (-1.0 / self.temperature.get()))?)
    }
}
