//! Regression of cosines.

use candle_core::{Result, Tensor};
use nearfar_kernels::{Row, RowFunctional, RowSum, rows};
use serde::{Deserialize, Serialize};

use crate::family::{ByRow, ClassificationLoss, Head};
use crate::{CenterStart, ToCenters};

/// Wants the cosine of each row to be 1 with its class center and 0 with all others.
///
/// ```text
/// l = mean over all classes c of (cos θ_c − 1[c = own])²
/// ```
///
/// It has neither scale nor margin. The more classes there are, the less the own one weighs.
///
/// The centers are parameters of the loss: `centers`, `(c, d)`. They are kept at length 1, by division before each step, and the
/// cosine is the plain dot product of a center with the row at length 1. Labels are `0..c`. A miner, if there is one, gives each
/// row a weight: how often it is in a tuple, over the largest such count.
///
/// Source: Zhang et al., "P2SGrad: Refined Gradients for Optimizing Deep Face Models", CVPR 2019,
/// <https://arxiv.org/abs/1905.02479>, equation 11, as a loss (Wang, Yamagishi 2021). Agrees with `P2SGradLoss` of
/// pytorch-metric-learning 2.9, but for its division by lengths, which is inexact (1e-7); a row of zeros has cosines 0 here.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// use nearfar_losses::{ClassificationLoss, P2SGrad, ToCenters};
///
/// let row = Tensor::new(&[[0.6f64, 0.8]], &Device::Cpu)?;
/// let centers = Tensor::new(&[[1f64, 0.0], [0.0, 1.0]], &Device::Cpu)?;
/// let loss = P2SGrad {}.values(&ToCenters::new(&row, &centers, 1, &[1])?)?.to_vec1::<f64>()?;
/// assert!((loss[0] - (0.36 + 0.04) / 2.0).abs() < 1e-15);
/// # Ok::<(), candle_core::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct P2SGrad {}

impl ClassificationLoss for P2SGrad {
    fn logits(&self, to: &ToCenters) -> Result<Tensor> {
        Ok(to.cosine.clone())
    }

    fn values(&self, to: &ToCenters) -> Result<Tensor> {
        let own = to.own.to_dtype(to.cosine.dtype())?;
        (&to.cosine - own)?.sqr()?.mean(1)
    }

    fn by_row(&self, _: &Head<'_>) -> Option<ByRow> {
        Some(ByRow {
            unit: [true, false], // Centers are kept so.
            ..ByRow::cosines(Squares)
        })
    }

    fn is_softmax(&self) -> bool {
        false
    }

    fn keeps_centers_unit(&self) -> bool {
        true
    }

    fn centers(&self) -> CenterStart {
        CenterStart::Unit
    }
}

/// The mean square of what all cosines of a row miss.
struct Squares;

impl RowFunctional for Squares {
    fn row(&self, row: Row<'_>) -> [RowSum; 2] {
        let share = 1.0 / row.values.len() as f32;
        for column in row.positives {
            row.values[column] -= 1.0;
        }
        let value = rows::product(row.values, row.values) * share;
        rows::multiply(row.values, 2.0 * share);
        let sum = RowSum {
            value: f64::from(value),
            terms: 1,
            active: usize::from(value > 0.0),
        };
        [sum, RowSum::default()]
    }
}
