//! Regression of the scores of pairs.

use candle_core::{Result, Tensor};
use nearfar_core::{Error, Finite, Positive, shape};
use nearfar_kernels::absolute;
use serde::{Deserialize, Serialize};

use super::rescale::Rescale;
use crate::family::ScoreLoss;

/// Wants the score of a pair to be its target.
///
/// ```text
/// e = s(x, y) − (target − low)/(high − low)
/// squared   l = e²
/// huber     l = ½ e² where |e| ≤ delta, else delta (|e| − ½ delta)
/// ```
///
/// The score is the cosine of the two rows, another similarity, or that of a head on both (a `scorer`).
///
/// On cosines with the squared residual it is the usual regression of sentence similarity (`CosineSimilarityLoss` of
/// sentence-transformers).
///
/// ```
/// # use candle_core::{Device, Tensor};
/// use nearfar_losses::{PairRegression, ScoreLoss};
///
/// let (score, target) = (Tensor::new(&[0.5f32], &Device::Cpu)?, Tensor::new(&[1f32], &Device::Cpu)?);
/// assert_eq!(PairRegression::default().scores(&score, &target)?.to_vec1::<f32>()?, [0.25]);
/// # Ok::<(), candle_core::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PairRegression {
    /// The target that a score of 0 stands for.
    pub low: Finite,
    /// The target that a score of 1 stands for.
    pub high: Finite,
    /// What an error costs.
    pub residual: Residual,
}

/// What the difference of a score and its target costs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Residual {
    /// Its square.
    Squared {},
    /// Half of its square while it is small, then in proportion to it: a few wrong targets weigh less.
    Huber {
        /// Where the one becomes the other, on the scale from 0 to 1.
        #[serde(default = "huber_delta")]
        delta: Positive,
    },
}

fn huber_delta() -> Positive {
    Positive::literal(0.1)
}

impl Default for PairRegression {
    /// Targets that are scores from 0 to 1 already, and squared residuals.
    fn default() -> Self {
        Self {
            low: Finite::literal(0.0),
            high: Finite::literal(1.0),
            residual: Residual::Squared {},
        }
    }
}

impl PairRegression {
    fn rescale(&self) -> Rescale {
        Rescale {
            low: self.low,
            high: self.high,
        }
    }
}

impl ScoreLoss for PairRegression {
    fn scores(&self, score: &Tensor, target: &Tensor) -> Result<Tensor> {
        shape::same("pair_regression", ("score", score), ("target", target))?;
        let error = (score - self.rescale().to_unit(target)?)?;
        match self.residual {
            Residual::Squared {} => error.sqr(),
            Residual::Huber { delta } => {
                let (delta, size) = (delta.get(), absolute(&error)?);
                let far = size.affine(delta, -0.5 * delta * delta)?;
                size.le(delta)?.where_cond(&(error.sqr()? * 0.5)?, &far)
            }
        }
    }

    fn estimate(&self, score: &Tensor) -> Result<Tensor> {
        self.rescale().to_target(score)
    }

    fn check(&self) -> std::result::Result<(), Error> {
        self.rescale().check("pair_regression")
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn large_errors_cost_in_proportion() -> Result<()> {
        let loss: PairRegression =
            toml::from_str("low = 1\nhigh = 5\nresidual.huber = { delta = 0.5 }")
                .expect("settings");
        let score = Tensor::new(&[0.25f64, 0.0, -1.0], &Device::Cpu)?;
        let target = Tensor::new(&[1f64, 3.0, 5.0], &Device::Cpu)?; // 0, ½ and 1 on the scale.
        let losses = loss.scores(&score, &target)?.to_vec1::<f64>()?;
        assert_eq!(losses, [0.03125, 0.125, 0.875]); // ½ · ¼², ½ · ½², ½ (2 − ¼)
        assert_eq!(loss.estimate(&score)?.to_vec1::<f64>()?, [2.0, 1.0, -3.0]);
        Ok(())
    }

    #[test]
    fn a_scale_without_length_is_refused() {
        let loss: PairRegression = toml::from_str("low = 1").expect("settings");
        let message = loss.check().expect_err("1 and 1").to_string();
        assert_eq!(
            message,
            "pair_regression: `low` and `high` are both 1; they must differ"
        );
        assert!(PairRegression::default().check().is_ok());
    }
}
