//! Rank-N-contrast loss.

use candle_core::Result;
use nearfar_core::{Comparison, Positive, Rng, Terms};
use serde::{Deserialize, Serialize};

use crate::family::batch_loss;
use crate::over::known::known_rows_from;
use crate::over::matrix::{MatrixLoss, View};
use crate::over::relations::{own, targets};

/// Ranks rows by how far their targets are: each other row against those that are as far or farther.
///
/// ```text
/// l(i) = −1/(n − 1) Σ_{j ≠ i} (s(i, j)/τ − log Σ_{k ≠ i: |t_i − t_k| ≥ |t_i − t_j|} exp(s(i, k)/τ)),   s = −d
/// ```
///
/// Rows whose targets are equally far are in each other's sum. Averaged over the anchors with another row; of one other row the
/// value is 0. Rows are sorted by target and sums of exponentials run along, `O(n log n)` for each anchor, with nothing larger than
/// the matrix of distances.
///
/// Source: Zha, Cao, Son, Yang, Katabi, "Rank-N-contrast: learning continuous representations for regression", NeurIPS 2023,
/// <https://arxiv.org/abs/2210.01189>, equation 2.
///
/// Choose it to pretrain an encoder for regression.
///
/// ```
/// # use nearfar_losses::{LossConfig, Reads};
/// let config: LossConfig = toml::from_str("rnc = { temperature = 1 }")?;
/// assert_eq!(config.reads(), Reads::Targets);
/// # Ok::<(), toml::de::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RNC {
    /// Smaller looks more closely at the nearest rows.
    pub temperature: Positive,
}

impl Default for RNC {
    /// The paper's, for rows as they are.
    fn default() -> Self {
        Self {
            temperature: Positive::literal(2.0),
        }
    }
}

batch_loss!(RNC, Targets, "euclidean");

/// `log(e^x + e^y)`, of which one may be −∞.
fn log_add(x: f64, y: f64) -> f64 {
    let (low, high) = (x.min(y), x.max(y));
    if low == f64::NEG_INFINITY {
        high
    } else {
        high + (low - high).exp().ln_1p()
    }
}

/// One anchor: scores with how far their targets are, farthest first. Gives the value, and puts its gradient by each score.
fn row(scores: &[(f64, f64)], pulls: &mut [f64]) -> f64 {
    let k = scores.len();
    let groups = || {
        let mut ends = Vec::new();
        let mut start = 0;
        for group in scores.chunk_by(|one, other| one.1 == other.1) {
            ends.push((start, start + group.len()));
            start += group.len();
        }
        ends
    };
    let groups = groups();
    // The log-sum-exp of each group's scores and all before it.
    let mut all = Vec::with_capacity(groups.len());
    let (mut running, mut value) = (f64::NEG_INFINITY, 0.0);
    for &(start, end) in &groups {
        for (score, _) in &scores[start..end] {
            running = log_add(running, *score);
        }
        all.push(running);
        for (score, _) in &scores[start..end] {
            value += running - score;
        }
    }
    // A score is in the sums of its own group and of all later ones: Σ_j exp(s − LSE_j).
    let mut shares = f64::NEG_INFINITY;
    for (&(start, end), all) in groups.iter().zip(&all).rev() {
        shares = log_add(shares, ((end - start) as f64).ln() - all);
        for place in start..end {
            pulls[place] = ((scores[place].0 + shares).exp() - 1.0) / k as f64;
        }
    }
    value / k as f64
}

impl MatrixLoss for RNC {
    fn parts(&self) -> &'static [&'static str] {
        &["rank"]
    }

    fn accepts(&self, name: &str, comparison: &Comparison<'_>) -> Result<()> {
        targets(name, comparison).map(drop)
    }

    fn terms(&self, view: &View<'_>, _: &mut Rng) -> Result<Vec<Terms>> {
        let (n, m) = view.size();
        let (ours, theirs) = targets(view.name, view.comparison)?;
        let (x, own) = (view.host()?, own(view.comparison));
        let scale = -1.0 / self.temperature.get();
        let (mut values, mut gradient) = (vec![0f64; n], vec![0f64; n * m]);
        let mut anchors = Vec::new();
        for anchor in 0..n {
            let apart =
                |place: usize| (f64::from(ours[anchor]) - f64::from(theirs[place % m])).abs();
            let mut places: Vec<usize> = (anchor * m..(anchor + 1) * m)
                .filter(|&place| !own[place])
                .collect();
            if places.is_empty() {
                continue;
            }
            anchors.push(anchor as u32);
            places.sort_by(|&one, &other| apart(other).total_cmp(&apart(one)));
            let scores: Vec<(f64, f64)> = places
                .iter()
                .map(|&place| (scale * x[place], apart(place)))
                .collect();
            let mut pulls = vec![0f64; places.len()];
            values[anchor] = row(&scores, &mut pulls);
            for (place, pull) in places.into_iter().zip(pulls) {
                gradient[place] = scale * pull;
            }
        }
        if anchors.is_empty() {
            return Ok(vec![Terms::none("rank", view.comparison)]);
        }
        let values = known_rows_from(&view.matrix, values, gradient)?;
        let index = candle_core::Tensor::from_slice(&anchors, anchors.len(), values.device())?;
        let values = values.index_select(&index, 0)?;
        Ok(vec![Terms::of_anchors(
            "rank",
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
    fn the_running_sums_are_those_of_the_formula() {
        // Farthest first; two are as far.
        let scores = [(-1.0, 3.0), (-0.2, 2.0), (-2.0, 2.0), (-0.5, 0.5)];
        let plain = |scores: &[(f64, f64)]| -> f64 {
            let of = |&(score, apart): &(f64, f64)| {
                let far = scores.iter().filter(|it| it.1 >= apart);
                far.map(|it| it.0.exp()).sum::<f64>().ln() - score
            };
            scores.iter().map(of).sum::<f64>() / scores.len() as f64
        };
        let mut pulls = [0.0; 4];
        let value = row(&scores, &mut pulls);
        assert!((value - plain(&scores)).abs() < 1e-14);
        for place in 0..4 {
            let moved = |by: f64| {
                let mut scores = scores;
                scores[place].0 += by;
                plain(&scores)
            };
            let quotient = (moved(1e-6) - moved(-1e-6)) / 2e-6;
            assert!(
                (quotient - pulls[place]).abs() < 1e-8,
                "{quotient} {pulls:?}"
            );
        }
        let (mut far, mut none) = ([0.0; 2], [0.0; 1]);
        assert!(row(&[(-1e30, 1.0), (0.0, 0.0)], &mut far).is_finite());
        assert_eq!((row(&[(-7.0, 1.0)], &mut none), none), (0.0, [0.0]));
    }
}
