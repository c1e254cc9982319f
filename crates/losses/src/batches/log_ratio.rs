//! Log-ratio loss.

use candle_core::Result;
use nearfar_core::{Comparison, Positive, Rng, Terms};
use nearfar_kernels::hinge;
use serde::{Deserialize, Serialize};

use crate::family::batch_loss;
use crate::over::matrix::{MatrixLoss, View};
use crate::over::relations::{own, targets};
use crate::triplets::Power;

/// Wants ratios of distances to be those of the targets' differences.
///
/// ```text
/// l(a) = mean over pairs i < j of (log(D(a, i)/D(a, j)) − log(T(a, i)/T(a, j)))²,   D = d², T = (t_a − t_i)²
/// ```
///
/// `power = 1` takes `d` and `|t_a − t_i|` as they are, which makes a quarter of it; the authors' code has plain distances beside
/// squared labels. `epsilon` is added inside each logarithm. All other rows are the anchor's neighbors; averaged over the anchors that
/// have two. Not the pairs are visited but `Σ_{i<j} (u_i − u_j)² = k Σ (u_i − ū)²` with `u = log D − log T`: `O(n)` for each
/// anchor. Equal targets at equal distances are as far as `epsilon` says.
///
/// Source: Kim, Seo, Laptev, Cho, Kwak, "Deep metric learning beyond binary supervision", CVPR 2019,
/// <https://arxiv.org/abs/1904.09626>, equation 4.
///
/// ```
/// # use nearfar_losses::{LossConfig, Reads};
/// let config: LossConfig = toml::from_str("log_ratio = { power = 1 }")?;
/// assert_eq!(config.reads(), Reads::Targets);
/// # Ok::<(), toml::de::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogRatio {
    /// What distances and differences are raised to.
    pub power: Power,
    /// What is added to each before the logarithm.
    pub epsilon: Positive,
}

impl Default for LogRatio {
    /// The paper's.
    fn default() -> Self {
        Self {
            power: Power::Two,
            epsilon: Positive::literal(1e-6),
        }
    }
}

batch_loss!(LogRatio, Targets, "euclidean");

impl MatrixLoss for LogRatio {
    fn parts(&self) -> &'static [&'static str] {
        &["ratio"]
    }

    fn accepts(&self, name: &str, comparison: &Comparison<'_>) -> Result<()> {
        targets(name, comparison).map(drop)
    }

    fn terms(&self, view: &View<'_>, _: &mut Rng) -> Result<Vec<Terms>> {
        let (n, m) = view.size();
        let (ours, theirs) = targets(view.name, view.comparison)?;
        let own = own(view.comparison);
        let epsilon = self.epsilon.get();
        let (mut wanted, mut mask) = (vec![0f64; n * m], vec![0f64; n * m]);
        let (mut counts, mut anchors) = (vec![1f64; n], Vec::new());
        for row in 0..n {
            let places = || (0..m).filter(|column| !own[row * m + column]);
            let count = places().count();
            if count < 2 {
                continue;
            }
            anchors.push(row as u32);
            counts[row] = count as f64;
            for column in places() {
                let apart = (f64::from(ours[row]) - f64::from(theirs[column])).abs();
                let apart = match self.power {
                    Power::One => apart,
                    Power::Two => apart * apart,
                };
                wanted[row * m + column] = (apart + epsilon).ln();
                mask[row * m + column] = 1.0;
            }
        }
        if anchors.is_empty() {
            return Ok(vec![Terms::none("ratio", view.comparison)]);
        }
        let distances = match self.power {
            Power::One => hinge(&view.matrix)?, // A negative similarity has no logarithm.
            Power::Two => view.matrix.sqr()?,
        };
        let mask = view.tensor(mask, (n, m))?;
        let counts = view.tensor(counts, n)?;
        // A row's own column is 0 in the mask; its logarithm is finite.
        let logs = ((distances + epsilon)?.log()? - view.tensor(wanted, (n, m))?)?;
        let logs = (logs * &mask)?;
        let mean = (logs.sum(1)? / &counts)?;
        let off = (logs.broadcast_sub(&mean.unsqueeze(1)?)? * &mask)?;
        let pairs = ((&counts - 1.0)? * 0.5)?; // k (k − 1)/2, of which k is on the other side.
        let values = (off.sqr()?.sum(1)? / pairs.maximum(0.5)?)?;
        let index = candle_core::Tensor::from_slice(&anchors, anchors.len(), values.device())?;
        let values = values.index_select(&index, 0)?;
        Ok(vec![Terms::of_anchors(
            "ratio",
            values,
            anchors,
            view.comparison,
        )?])
    }
}
