//! Margin sample mining loss.

use candle_core::Result;
use nearfar_core::{Comparison, Finite, Kind, Rng, Terms};
use nearfar_kernels::hinge;
use serde::{Deserialize, Serialize};

use crate::family::batch_loss;
use crate::over::matrix::{MatrixLoss, View};

/// The farthest positive pair of the whole batch against its nearest negative pair.
///
/// ```text
/// L = max(0, max d(positive) − min d(negative) + margin)
/// ```
///
/// One term for the batch, which reducers leave as it is; none where a side is missing. Of equal distances the first counts.
///
/// Choose it with small batches, or for a network that was trained before: of a batch it sees two pairs, and the hardest of a
/// large batch are noise at the start.
///
/// Source: Xiao, Luo, Zhang, "Margin sample mining loss", 2017, <https://arxiv.org/abs/1710.00478>.
///
/// ```
/// # use nearfar_losses::{Family, LossConfig};
/// let config: LossConfig = toml::from_str("margin_sample_mining = { margin = 0.3 }")?;
/// assert_eq!(config.family(), Family::Batches);
/// # Ok::<(), toml::de::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MarginSampleMining {
    /// Wanted gap between the two distances.
    pub margin: Finite,
}

impl Default for MarginSampleMining {
    /// Ours, for rows of length 1; the paper names none.
    fn default() -> Self {
        Self {
            margin: Finite::literal(0.3),
        }
    }
}

batch_loss!(MarginSampleMining, ClassesOrPairs, "euclidean");

impl MatrixLoss for MarginSampleMining {
    fn parts(&self) -> &'static [&'static str] {
        &["pair"]
    }

    fn accepts(&self, name: &str, comparison: &Comparison<'_>) -> Result<()> {
        comparison.kinds(name).map(drop)
    }

    fn terms(&self, view: &View<'_>, _: &mut Rng) -> Result<Vec<Terms>> {
        let (x, kinds) = (view.host()?, view.comparison.kinds(view.name)?);
        let best = |wanted: Kind, better: fn(f64, f64) -> bool| {
            let places = (0..x.len()).filter(|&place| kinds[place] == wanted);
            places.reduce(|best, place| {
                if better(x[place], x[best]) {
                    place
                } else {
                    best
                }
            })
        };
        let farthest = best(Kind::Positive, |new, best| new > best);
        let nearest = best(Kind::Negative, |new, best| new < best);
        let (Some(positive), Some(negative)) = (farthest, nearest) else {
            return Ok(vec![Terms::none("pair", view.comparison)]);
        };
        let flat = view.matrix.flatten_all()?;
        let gap = (flat.narrow(0, positive, 1)? - flat.narrow(0, negative, 1)?)?;
        let value = hinge(&(gap + self.margin.get())?)?;
        Ok(vec![Terms::of_batch("pair", &value, view.comparison)?])
    }
}
