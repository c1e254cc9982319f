//! Variance, invariance and covariance of two views.

use candle_core::{Result, Tensor};
use nearfar_core::{Comparison, Loss, NonNegative, Positive, Reducer, Rng, Stateful, Terms, Unit};
use nearfar_kernels::{hinge, paired_squared_euclidean, variances_and_redundancy};
use serde::{Deserialize, Serialize};

use crate::family::BatchLoss;
use crate::over::batches::{Formula, Whole, each_two_views, within_range};
use crate::{Compares, Join, Reads};

/// Wants two views of a row at one place, each coordinate to vary over the batch, and no two to vary together. It needs no negatives.
///
/// ```text
/// l = invariance · mean ‖z − z'‖² / d
///   + variance · ½ Σ over both views of mean over coordinates of [ 1 − √(var + eps) ]₊
///   + covariance · Σ over both views of Σ_{k ≠ j} Cov_kj² / d
/// ```
///
/// Variances and covariances are unbiased; with one row there are none, and only the first part is there. Its parts are
/// `invariance`, a term for each row, `variance_first` and `variance_second`, a term for each coordinate, and `covariance`. Rows
/// are taken as they are. Of more than two views each two are averaged. Reads two views of each row; takes no miner.
///
/// Source: Bardes, Ponce, LeCun, "VICReg: Variance-Invariance-Covariance Regularization for Self-Supervised Learning", ICLR 2022,
/// <https://arxiv.org/abs/2105.04906>, equation 6. Agrees with `VICRegLoss` of pytorch-metric-learning 2.9, which halves the
/// variance.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct VICReg {
    /// What the distance of two views counts; λ in the paper.
    pub invariance: NonNegative,
    /// What missing variance counts; μ in the paper.
    pub variance: NonNegative,
    /// What covariance counts; ν in the paper.
    pub covariance: NonNegative,
    /// What is added to a variance before its root is taken.
    pub eps: Positive,
}

impl Default for VICReg {
    /// The paper's values.
    fn default() -> Self {
        Self {
            invariance: NonNegative::literal(25.0),
            variance: NonNegative::literal(25.0),
            covariance: NonNegative::literal(1.0),
            eps: Positive::literal(1e-4),
        }
    }
}

impl BatchLoss for VICReg {
    fn reads(&self) -> Reads {
        Reads::Views
    }

    fn compares(&self) -> Compares {
        Compares::Centers
    }

    fn takes_miner(&self) -> bool {
        false
    }

    fn build(&self, name: &'static str, mut join: Join) -> Result<Box<dyn Loss>> {
        join.refuse_scorer(name, "two views of each row")?;
        join.refuse_metric(name)?;
        join.refuse_miner(name)?;
        let formula = Views {
            name,
            settings: self.clone(),
        };
        Ok(Whole::boxed(formula, join.reducer.take(), Reducer::Mean {}))
    }
}

#[derive(Debug)]
struct Views {
    name: &'static str,
    settings: VICReg,
}

impl Stateful for Views {}

const PARTS: [&str; 4] = [
    "invariance",
    "variance_first",
    "variance_second",
    "covariance",
];

impl Formula for Views {
    fn terms(&self, comparison: &Comparison<'_>, _: &mut Rng) -> Result<Vec<Terms>> {
        each_two_views(self.name, comparison, &PARTS, |first, second| {
            self.of_two(first, second, comparison)
        })
    }
}

impl Views {
    fn of_two(
        &self,
        first: &Tensor,
        second: &Tensor,
        comparison: &Comparison<'_>,
    ) -> Result<Vec<Terms>> {
        let (n, d) = first.dims2()?;
        let none = |part: usize| Terms::none(PARTS[part], comparison);
        let it = &self.settings;
        let squares = paired_squared_euclidean(first, second)?;
        let invariance = within_range(&(squares / d as f64)?)?;
        let invariance = (invariance * it.invariance.get())?;
        let anchors = (0..n as u32).collect();
        let invariance = Terms::of_anchors(PARTS[0], invariance, anchors, comparison)?;
        if n == 1 {
            return Ok(vec![invariance, none(1), none(2), none(3)]);
        }
        let mut parts = vec![invariance];
        let mut redundancy: Option<Tensor> = None;
        for (view, name) in [(first, PARTS[1]), (second, PARTS[2])] {
            let (variances, squares) = variances_and_redundancy(view)?;
            let missing = (variances + it.eps.get())?.sqrt()?.affine(-1.0, 1.0)?;
            let missing = (hinge(&missing)? * (0.5 * it.variance.get()))?;
            // A coordinate is what such a term stands for.
            parts.push(Terms {
                name,
                unit: Unit::Anchor,
                values: Some(missing),
                anchors: (0..d as u32).collect(),
                labels: Vec::new(),
                rows: d,
                divisor: None,
            });
            redundancy = Some(match redundancy {
                None => squares,
                Some(sum) => (sum + squares)?,
            });
        }
        if let Some(redundancy) = redundancy {
            let value = (redundancy * (it.covariance.get() / d as f64))?;
            parts.push(Terms::of_batch(PARTS[3], &value, comparison)?);
        }
        Ok(parts)
    }
}
