//! Smooth-AP loss.

use candle_core::{Result, Tensor};
use nearfar_core::Positive;
use nearfar_kernels::RowFunctional;
use serde::{Deserialize, Serialize};

use crate::family::{ListLoss, Lists, Mined, Weighted};
use crate::lists::ranks::{OfQuery, Ranking};

/// One minus the average precision of each query's ranking, with ranks that are smooth.
///
/// ```text
/// l(q) = 1 − 1/P Σ_i R(i, positives) / R(i, all)     R(i, S) = 1 + Σ_{j in S, j ≠ i} 1 / (1 + exp((s(q, i) − s(q, j)) / temperature))
/// ```
///
/// Averaged over the queries that have a positive; with one class the loss is 0, and a batch without positives is nothing to
/// learn. Classes may have any sizes and rows any order. A query is not ranked by itself, unless `include_self` makes it its own
/// first positive, as in the authors' code; queries that are not among the references have no place in their ranking. Only the
/// ranks of positives are computed, for some queries at a time: memory is that of the similarities. A miner does not cut the
/// lists, it weighs the queries.
///
/// Far from ties the gradient is zero: at a temperature of 0.01 cosines that differ by 0.2 hardly move one another.
///
/// Source: Brown et al., "Smooth-AP: smoothing the path towards large-scale image retrieval", ECCV 2020,
/// <https://arxiv.org/abs/2007.12163>, equation 7. With `include_self` it agrees with `SmoothAPLoss` of pytorch-metric-learning
/// 2.9 where there are as many classes as rows in each; elsewhere that one groups the wrong rows.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// use nearfar_losses::{ListLoss, SmoothAP};
///
/// let similarity = Tensor::new(&[[1f64, 0.1, 0.9]], &Device::Cpu)?; // Itself, a positive behind a negative.
/// let positive = Tensor::new(&[[0f64, 1.0, 0.0]], &Device::Cpu)?;
/// let negative = Tensor::new(&[[0f64, 0.0, 1.0]], &Device::Cpu)?;
/// let loss = SmoothAP::default().lists(&similarity, &positive, &negative)?;
/// assert!((loss.values.to_vec1::<f64>()?[0] - 0.5).abs() < 1e-12); // The second place.
/// # Ok::<(), candle_core::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SmoothAP {
    /// How far two similarities may be from one another for their order to be in doubt.
    pub temperature: Positive,
    /// Whether a query is its own positive.
    pub include_self: bool,
}

impl Default for SmoothAP {
    /// 0.01, as in the paper.
    fn default() -> Self {
        Self {
            temperature: Positive::literal(0.01),
            include_self: false,
        }
    }
}

impl ListLoss for SmoothAP {
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
            temperature: self.temperature.get(),
            include_self: self.include_self,
        };
        ranking.values(lists, |ranks| {
            let among_positives = (&ranks.positives + 1.0)?;
            let precision = (&among_positives / (&among_positives + &ranks.negatives)?)?;
            // So that a query without positives is 0, not 1.
            ranks.mean(&precision.affine(-1.0, 1.0)?)
        })
    }

    fn mined(&self) -> Mined {
        Mined::Weights
    }

    fn by_row(&self) -> Option<Box<dyn RowFunctional>> {
        let cost = |positives: &mut [f32], negatives: &mut [f32]| {
            let count = positives.len() as f32;
            let mut missed = 0.0;
            for (own, others) in positives.iter_mut().zip(negatives) {
                let (rank, all) = (*own + 1.0, *own + 1.0 + *others);
                missed += 1.0 - rank / all;
                *own = (rank / all - 1.0) / all / count;
                *others = rank / (all * all) / count;
            }
            missed / count
        };
        Some(Box::new(OfQuery {
            by: (1.0 / self.temperature.get()) as f32,
            include_self: self.include_self,
            among_positives: true,
            cost,
        }))
    }
}
