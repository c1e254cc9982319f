//! The correlation of scores and targets.

use candle_core::{Result, Tensor};
use nearfar_core::shape;
use nearfar_kernels::{TINY_NORM, l2_normalize};
use serde::{Deserialize, Serialize};

use crate::family::ScoreLoss;

/// Wants scores and targets to correlate over the batch.
///
/// ```text
/// L = 1 − corr(s, t)
/// ```
///
/// It is one term for the whole batch. Where all scores, or all targets, are equal there is no correlation, and it is 0 without a
/// gradient. The scale of the scores does not matter, so that they are not on that of the targets.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// use nearfar_losses::{Pearson, ScoreLoss};
///
/// let score = Tensor::new(&[0.1f64, 0.2, 0.3], &Device::Cpu)?;
/// let loss = |targets: &[f64; 3]| Pearson {}.scores(&score, &Tensor::new(targets, &Device::Cpu)?)?.to_vec1::<f64>();
/// assert!(loss(&[1.0, 3.0, 5.0])?[0].abs() < 1e-12);
/// assert!((loss(&[5.0, 3.0, 1.0])?[0] - 2.0).abs() < 1e-12);
/// assert_eq!(loss(&[4.0, 4.0, 4.0])?, [0.0]);
/// # Ok::<(), candle_core::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pearson {}

impl ScoreLoss for Pearson {
    fn scores(&self, score: &Tensor, target: &Tensor) -> Result<Tensor> {
        shape::same("pearson", ("score", score), ("target", target))?;
        let centered = |x: &Tensor| x.broadcast_sub(&x.mean_keepdim(0)?);
        let (score, target) = (centered(score)?, centered(target)?);
        let varies = |x: &Tensor| -> Result<bool> {
            let largest = x.detach().abs()?.max_all()?;
            Ok(largest
                .to_dtype(candle_core::DType::F64)?
                .to_scalar::<f64>()?
                >= TINY_NORM)
        };
        if !varies(&score)? || !varies(&target)? {
            // A product with the number 0 would not be differentiated at all.
            return (&score * score.zeros_like()?)?.sum_all()?.reshape(1);
        }
        let correlation = (l2_normalize(&score)? * l2_normalize(&target)?)?.sum_all()?;
        correlation.affine(-1.0, 1.0)?.reshape(1)
    }
}
