//! Similarities of random pairs, as on a sphere.

use candle_core::{Result, Tensor};
use nearfar_core::{Comparison, Loss, Reducer, Rng, Stateful, Terms};
use nearfar_kernels::{hinge, l2_normalize};
use serde::{Deserialize, Serialize};

use crate::family::BatchLoss;
use crate::over::batches::{Formula, Whole, classes};
use crate::{Compares, Join, Reads};

/// Wants the cosines of rows of different classes to have the mean and the mean square that they have for random directions.
///
/// ```text
/// L = (mean of cos)² + [ mean of cos² − 1/d ]₊   over the ordered pairs of rows of different classes
/// ```
///
/// It spreads rows over the whole sphere and is added to a loss that keeps classes together. Without two classes there is nothing to
/// learn. It is one term for the whole batch. Reads classes, of the anchors; takes no miner.
///
/// Source: Zhang et al., "Learning Spread-out Local Feature Descriptors", ICCV 2017, <https://arxiv.org/abs/1708.06320>, equation 5;
/// `GlobalOrthogonalRegularizationLoss` of sentence-transformers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GlobalOrthogonal {}

impl BatchLoss for GlobalOrthogonal {
    fn reads(&self) -> Reads {
        Reads::Classes
    }

    fn compares(&self) -> Compares {
        Compares::Centers
    }

    fn takes_miner(&self) -> bool {
        false
    }

    fn build(&self, name: &'static str, mut join: Join) -> Result<Box<dyn Loss>> {
        join.refuse_scorer(name, "cosines of rows")?;
        join.refuse_metric(name)?;
        join.refuse_miner(name)?;
        Ok(Whole::boxed(
            Spread { name },
            join.reducer.take(),
            Reducer::Mean {},
        ))
    }
}

#[derive(Debug)]
struct Spread {
    name: &'static str,
}

impl Stateful for Spread {}

impl Formula for Spread {
    fn terms(&self, comparison: &Comparison<'_>, _: &mut Rng) -> Result<Vec<Terms>> {
        let labels = classes(self.name, comparison)?;
        let n = labels.len();
        let apart: Vec<u8> = labels
            .iter()
            .flat_map(|label| labels.iter().map(move |other| u8::from(label != other)))
            .collect();
        let count = apart.iter().filter(|&&it| it == 1).count();
        if count == 0 {
            return Ok(vec![Terms::none("batch", comparison)]);
        }
        let unit = l2_normalize(&comparison.anchors.vectors)?;
        let width = unit.dim(1)? as f64;
        let apart = Tensor::from_vec(apart, (n, n), unit.device())?;
        let cosines = (unit.matmul(&unit.t()?)? * apart.to_dtype(unit.dtype())?)?;
        let mean = (cosines.sum_all()? / count as f64)?;
        let square = (cosines.sqr()?.sum_all()? / count as f64)?;
        let value = (mean.sqr()? + hinge(&(square - 1.0 / width)?)?)?;
        Ok(vec![Terms::of_batch("batch", &value, comparison)?])
    }
}
