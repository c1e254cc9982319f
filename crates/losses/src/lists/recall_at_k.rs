//! Recall@k surrogate loss.

use std::num::NonZeroU32;

use candle_core::{Result, Tensor};
use nearfar_core::{Error, Positive};
use nearfar_kernels::{RowFunctional, sigmoid};
use serde::{Deserialize, Serialize};

use crate::family::{ListLoss, Lists, Mined, Weighted};
use crate::lists::ranks::{OfQuery, Ranking};

/// One minus the part of a query's positives that is among the first k, with ranks and the cut at k smooth.
///
/// ```text
/// l(q) = 1 − mean_k 1/P Σ_p σ((k − 1 − r(p)) / temperature)     r(p) = Σ_{j ≠ p} σ((s(q, j) − s(q, p)) / rank_temperature)
/// ```
///
/// where σ is the logistic function and j runs over all positives and negatives; so r is 0 for the first of the ranking.
/// Averaged over the queries that have a positive; a batch without positives is nothing to learn. With one class there still is
/// a loss, of the positives that find no place among the first k, but no order of the rows is better than another. Only the
/// ranks of positives are computed, for some queries at a time: memory is that of the similarities. A miner does not cut the
/// lists, it weighs the queries.
///
/// Source: Patel, Tolias, Matas, "Recall@k surrogate loss with large batches and similarity mixup", CVPR 2022,
/// <https://arxiv.org/abs/2108.11179>, equations 5 to 7. No other library of today has it.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// use std::num::NonZeroU32;
///
/// use nearfar_losses::{ListLoss, RecallAtK};
///
/// let similarity = Tensor::new(&[[1f64, 0.1, 0.9]], &Device::Cpu)?; // Itself, a positive behind a negative.
/// let positive = Tensor::new(&[[0f64, 1.0, 0.0]], &Device::Cpu)?;
/// let negative = Tensor::new(&[[0f64, 0.0, 1.0]], &Device::Cpu)?;
/// let loss = RecallAtK { at: NonZeroU32::new(2).into_iter().collect(), ..RecallAtK::default() };
/// let loss = loss.lists(&similarity, &positive, &negative)?;
/// assert!((loss.values.to_vec1::<f64>()?[0] - 0.5).abs() < 1e-12); // The second place is on the cut.
/// # Ok::<(), candle_core::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RecallAtK {
    /// The k that are averaged over; one at least.
    pub at: Vec<NonZeroU32>,
    /// How far from the cut a rank may be for its side to be in doubt.
    pub temperature: Positive,
    /// How far two similarities may be from one another for their order to be in doubt.
    pub rank_temperature: Positive,
}

impl Default for RecallAtK {
    /// Those of the paper.
    fn default() -> Self {
        Self {
            at: [1, 2, 4, 8, 16]
                .into_iter()
                .filter_map(NonZeroU32::new)
                .collect(),
            temperature: Positive::literal(1.0),
            rank_temperature: Positive::literal(0.01),
        }
    }
}

impl ListLoss for RecallAtK {
    fn lists(&self, similarity: &Tensor, positive: &Tensor, negative: &Tensor) -> Result<Weighted> {
        self.lists_of(&Lists {
            similarity,
            positive,
            negative,
            own: &[],
            labels: &[],
        })
    }

    fn lists_of(&self, lists: &Lists<'_>) -> Result<Weighted> {
        let ranking = Ranking {
            temperature: self.rank_temperature.get(),
            include_self: false,
        };
        let by = 1.0 / self.temperature.get();
        ranking.values(lists, |ranks| {
            let before = (&ranks.positives + &ranks.negatives)?;
            let mut missed = before.zeros_like()?;
            for k in &self.at {
                let beyond = (&before - f64::from(k.get() - 1))?; // Above 0 where it is not among them.
                missed = (missed + sigmoid(&(beyond * by)?)?)?;
            }
            ranks.mean(&(missed / self.at.len().max(1) as f64)?)
        })
    }

    fn mined(&self) -> Mined {
        Mined::Weights
    }

    fn by_row(&self) -> Option<Box<dyn RowFunctional>> {
        let by = (1.0 / self.temperature.get()) as f32;
        let at: Vec<f32> = self.at.iter().map(|k| (k.get() - 1) as f32).collect();
        let cost = move |positives: &mut [f32], negatives: &mut [f32]| {
            let share = 1.0 / (positives.len() * at.len().max(1)) as f32;
            let mut missed = 0.0;
            for (own, others) in positives.iter_mut().zip(negatives) {
                let before = *own + *others;
                let mut slope = 0.0;
                for k in &at {
                    let beyond = 1.0 / (1.0 + (-by * (before - k)).exp());
                    missed += share * beyond;
                    slope += share * by * beyond * (1.0 - beyond);
                }
                (*own, *others) = (slope, slope);
            }
            missed
        };
        Some(Box::new(OfQuery {
            by: (1.0 / self.rank_temperature.get()) as f32,
            include_self: false,
            among_positives: true,
            cost,
        }))
    }

    fn check(&self) -> std::result::Result<(), Error> {
        if self.at.is_empty() {
            return Err(Error::Settings(
                "recall_at_k: `at` is empty; it must name one k at least".into(),
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_k_is_refused() {
        let loss = RecallAtK {
            at: Vec::new(),
            ..RecallAtK::default()
        };
        assert!(loss.check().is_err() && RecallAtK::default().check().is_ok());
    }
}
