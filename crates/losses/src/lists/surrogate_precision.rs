//! Precision@k surrogate loss.

use std::num::NonZeroU32;

use candle_core::{Result, Tensor};
use nearfar_core::Positive;
use nearfar_kernels::{RowFunctional, sigmoid};
use serde::{Deserialize, Serialize};

use crate::family::{ListLoss, Lists, Mined, Weighted};
use crate::lists::ranks::{OfQuery, Ranking};

/// One minus the precision of the first k of each query's ranking, with ranks and the cut at k smooth.
///
/// ```text
/// l(q) = 1 − 1/min(P, k) Σ_p σ((k − r(p)) / temperature)     r(p) = ½ + Σ_{j ≠ p} σ((s(q, j) − s(q, p)) / rank_temperature)
/// ```
///
/// where σ is the logistic function and j runs over all positives and negatives; so r is ½ for the first of the ranking, and the
/// cut lies between the k-th and the one behind it. Where a query has more than k positives, the loss can be below 0: those on
/// the other side of the cut count a little too. Averaged over the queries that have a positive; a batch without positives is
/// nothing to learn. Only the ranks of positives are computed, for some queries at a time: memory is that of the similarities. A
/// miner does not cut the lists, it weighs the queries.
///
/// Source: `SurrogatePrecision` of open-metric-learning 4, after Patel, Tolias, Matas, CVPR 2022,
/// <https://arxiv.org/abs/2108.11179>. That one ranks the query among its own results and takes a k that is greater by 1, which
/// is the same as long as nothing is nearer to the query than itself, but divides by that k too.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// use std::num::NonZeroU32;
///
/// use nearfar_losses::{ListLoss, SurrogatePrecision};
///
/// let similarity = Tensor::new(&[[1f64, 0.1, 0.9]], &Device::Cpu)?; // Itself, a positive behind a negative.
/// let positive = Tensor::new(&[[0f64, 1.0, 0.0]], &Device::Cpu)?;
/// let negative = Tensor::new(&[[0f64, 0.0, 1.0]], &Device::Cpu)?;
/// let loss = SurrogatePrecision { k: NonZeroU32::MIN, ..SurrogatePrecision::default() };
/// let loss = loss.lists(&similarity, &positive, &negative)?;
/// assert!((loss.values.to_vec1::<f64>()?[0] - 1.0 / (1.0 + (-0.5f64).exp())).abs() < 1e-12); // At 1½, half behind the cut.
/// # Ok::<(), candle_core::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SurrogatePrecision {
    /// How many results are looked at.
    pub k: NonZeroU32,
    /// How far from the cut a rank may be for its side to be in doubt.
    pub temperature: Positive,
    /// How far two similarities may be from one another for their order to be in doubt.
    pub rank_temperature: Positive,
}

impl Default for SurrogatePrecision {
    /// The temperatures of open-metric-learning, which has no default for k. Its negative distances are cosines here.
    fn default() -> Self {
        Self {
            k: NonZeroU32::new(5).expect("it is not zero"),
            temperature: Positive::literal(1.0),
            rank_temperature: Positive::literal(0.01),
        }
    }
}

impl ListLoss for SurrogatePrecision {
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
        let (k, by) = (f64::from(self.k.get()), 1.0 / self.temperature.get());
        ranking.values(lists, |ranks| {
            let before = (&ranks.positives + &ranks.negatives)?;
            let among = (sigmoid(&before.affine(-by, (k - 0.5) * by)?)? * &ranks.there)?.sum(1)?;
            let missed = (among / ranks.count.minimum(k)?)?.affine(-1.0, 1.0)?;
            missed * ranks.there.max(1)? // 0 without positives.
        })
    }

    fn mined(&self) -> Mined {
        Mined::Weights
    }

    fn by_row(&self) -> Option<Box<dyn RowFunctional>> {
        let by = (1.0 / self.temperature.get()) as f32;
        let k = self.k.get() as f32;
        let cost = move |positives: &mut [f32], negatives: &mut [f32]| {
            let share = 1.0 / (positives.len() as f32).min(k);
            let mut among = 0.0;
            for (own, others) in positives.iter_mut().zip(negatives) {
                let within = 1.0 / (1.0 + (-by * (k - 0.5 - *own - *others)).exp());
                among += share * within;
                let slope = share * by * within * (1.0 - within);
                (*own, *others) = (slope, slope);
            }
            1.0 - among
        };
        Some(Box::new(OfQuery {
            by: (1.0 / self.rank_temperature.get()) as f32,
            include_self: false,
            among_positives: true,
            cost,
        }))
    }
}
