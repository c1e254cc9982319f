//! PNP loss.

use candle_core::{Result, Tensor};
use nearfar_core::Positive;
use nearfar_kernels::{Row, RowFunctional, RowSum};
use serde::{Deserialize, Serialize};

use crate::family::{ListLoss, Lists, Mined, Weighted};
use crate::lists::has;
use crate::lists::ranks::{OfQuery, Ranking, Ranks};

/// Penalizes the negatives before each positive of a query's ranking.
///
/// ```text
/// R(i) = Σ_n 1 / (1 + exp((s(q, i) − s(q, n)) / temperature))     how many negatives are before positive i
/// o    R                                 all alike
/// iu   (1 + R) log(1 + R)                the more, the more each counts
/// ib   (b R − log(1 + b R)) / b²         so too, but in the end all alike
/// ds   log(1 + R)                        the more, the less each counts
/// dq   1 − 1 / (1 + R)^alpha             so too, and in the end not at all
/// ```
///
/// Averaged over each query's positives and then over the queries that have one; with one class the loss is 0, and a batch
/// without positives is nothing to learn. Of positives among themselves it wants nothing. A query is not its own positive,
/// unless `include_self` says so, and then others are needed still. Only the ranks of positives are computed, for some queries at a time: memory is that of the
/// similarities. A miner does not cut the lists, it weighs the queries.
///
/// Source: Li et al., "Rethinking the optimization of average precision: only penalizing negative instances before positive
/// ones is enough", AAAI 2022, <https://arxiv.org/abs/2102.04640>, equations 6 to 14. With `include_self` it agrees with
/// `PNPLoss` of pytorch-metric-learning 2.9.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// use nearfar_losses::{ListLoss, PNP, PNPForm};
///
/// let similarity = Tensor::new(&[[1f64, 0.1, 0.9]], &Device::Cpu)?; // Itself, a positive behind a negative.
/// let positive = Tensor::new(&[[0f64, 1.0, 0.0]], &Device::Cpu)?;
/// let negative = Tensor::new(&[[0f64, 0.0, 1.0]], &Device::Cpu)?;
/// let value = |form| PNP { form, ..PNP::default() }.lists(&similarity, &positive, &negative)?.values.to_vec1::<f64>();
/// assert!((value(PNPForm::O)?[0] - 1.0).abs() < 1e-12);
/// assert!((value(PNPForm::Dq)?[0] - 0.5).abs() < 1e-12);
/// # Ok::<(), candle_core::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PNP {
    /// What the negatives before a positive cost.
    pub form: PNPForm,
    /// How far two similarities may be from one another for their order to be in doubt.
    pub temperature: Positive,
    /// How soon `ib` makes all alike.
    pub b: Positive,
    /// How soon `dq` gives up.
    pub alpha: Positive,
    /// Whether a query is its own positive.
    pub include_self: bool,
}

/// What the negatives before a positive cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PNPForm {
    /// Their number.
    #[default]
    O,
    /// Growing faster than their number.
    Iu,
    /// Growing faster at first, then like it.
    Ib,
    /// Growing like its logarithm.
    Ds,
    /// Growing up to 1.
    Dq,
}

impl Default for PNP {
    /// Those of pytorch-metric-learning. The paper found `dq` best, with an `alpha` of 1 to 8 for each data set.
    fn default() -> Self {
        Self {
            form: PNPForm::O,
            temperature: Positive::literal(0.01),
            b: Positive::literal(2.0),
            alpha: Positive::literal(1.0),
            include_self: false,
        }
    }
}

impl PNP {
    fn cost(&self, ranks: &Ranks) -> Result<Tensor> {
        let before = &ranks.negatives;
        match self.form {
            PNPForm::O => Ok(before.clone()),
            PNPForm::Iu => {
                let one_more = (before + 1.0)?;
                one_more.log()? * one_more
            }
            PNPForm::Ib => {
                let b = self.b.get();
                let scaled = (before * b)?;
                (&scaled - (&scaled + 1.0)?.log()?)? / (b * b)
            }
            PNPForm::Ds => (before + 1.0)?.log(),
            PNPForm::Dq => {
                // By the logarithm, whose gradient is right at 0 too.
                let power = ((before + 1.0)?.log()? * -self.alpha.get())?.exp()?;
                power.affine(-1.0, 1.0)
            }
        }
    }
}

/// Queries that have other positives than themselves.
struct WithOthers<T>(T);

impl<T: RowFunctional> RowFunctional for WithOthers<T> {
    fn row(&self, row: Row<'_>) -> [RowSum; 2] {
        if row.positives.is_empty() {
            row.values.fill(0.0);
            return [RowSum::default(); 2];
        }
        self.0.row(row)
    }

    fn own(&self) -> bool {
        self.0.own()
    }
}

impl ListLoss for PNP {
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
        let values = ranking
            .values(lists, |ranks| ranks.mean(&self.cost(ranks)?))?
            .values;
        // A query that is only its own positive is left out.
        let weights = has(lists.positive)?;
        Ok(Weighted { values, weights })
    }

    fn mined(&self) -> Mined {
        Mined::Weights
    }

    fn by_row(&self) -> Option<Box<dyn RowFunctional>> {
        let (b, alpha) = (self.b.get() as f32, self.alpha.get() as f32);
        let form = self.form;
        let one = move |before: f32| match form {
            PNPForm::O => (before, 1.0),
            PNPForm::Iu => {
                let logarithm = before.ln_1p();
                ((before + 1.0) * logarithm, 1.0 + logarithm)
            }
            PNPForm::Ib => {
                let scaled = b * before;
                let value = (scaled - scaled.ln_1p()) / (b * b);
                (value, scaled / (1.0 + scaled) / b)
            }
            PNPForm::Ds => (before.ln_1p(), 1.0 / (1.0 + before)),
            PNPForm::Dq => {
                let power = (before.ln_1p() * -alpha).exp();
                (1.0 - power, alpha * power / (1.0 + before))
            }
        };
        // A query that is only its own positive is left out.
        let include_self = self.include_self;
        let cost = move |_: &mut [f32], negatives: &mut [f32]| {
            let count = negatives.len() as f32;
            let mut sum = 0.0;
            for before in negatives {
                let (value, slope) = one(*before);
                sum += value;
                *before = slope / count;
            }
            sum / count
        };
        Some(Box::new(WithOthers(OfQuery {
            by: (1.0 / self.temperature.get()) as f32,
            include_self,
            among_positives: false,
            cost,
        })))
    }
}
