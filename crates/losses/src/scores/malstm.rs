//! The Manhattan similarity of two sentences.

use candle_core::{Result, Tensor};
use nearfar_core::{Error, Finite, shape};
use serde::{Deserialize, Serialize};

use super::rescale::Rescale;
use crate::Compares;
use crate::family::ScoreLoss;

/// Wants the exponential of the negative Manhattan distance to be the score.
///
/// ```text
/// g = exp(−‖x − y‖₁),   l = (g − (target − low)/(high − low))²
/// ```
///
/// `g` is from 0 to 1, and 1 for equal rows. Where two rows agree in a coordinate it has no gradient.
///
/// Source: Mueller, Thyagarajan, "Siamese recurrent architectures for learning sentence similarity", AAAI 2016, equation 6.
/// It names a loss for any encoder; with an LSTM it is the paper's.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// use nearfar_losses::{MaLSTM, ScoreLoss};
///
/// let score = Tensor::new(&[0f32, -2f32.ln()], &Device::Cpu)?; // Negative distances; g is 1 and ½.
/// let target = Tensor::new(&[5f32, 2.0], &Device::Cpu)?; // 1 and ¼ on the scale from 1 to 5.
/// let losses = MaLSTM::default().scores(&score, &target)?.to_vec1::<f32>()?;
/// assert!(losses[0].abs() < 1e-6 && (losses[1] - 0.0625).abs() < 1e-6);
/// assert_eq!(MaLSTM::default().estimate(&score)?.to_vec1::<f32>()?[0], 5.0);
/// # Ok::<(), candle_core::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MaLSTM {
    /// The target of rows that have nothing in common.
    pub low: Finite,
    /// The target of equal rows.
    pub high: Finite,
}

impl Default for MaLSTM {
    /// From 1 to 5, as in the paper's data, SICK.
    fn default() -> Self {
        Self {
            low: Finite::literal(1.0),
            high: Finite::literal(5.0),
        }
    }
}

impl MaLSTM {
    fn rescale(&self) -> Rescale {
        Rescale {
            low: self.low,
            high: self.high,
        }
    }
}

impl ScoreLoss for MaLSTM {
    fn scores(&self, score: &Tensor, target: &Tensor) -> Result<Tensor> {
        shape::same("malstm", ("score", score), ("target", target))?;
        (score.exp()? - self.rescale().to_unit(target)?)?.sqr()
    }

    fn estimate(&self, score: &Tensor) -> Result<Tensor> {
        self.rescale().to_target(&score.exp()?)
    }

    fn check(&self) -> std::result::Result<(), Error> {
        self.rescale().check("malstm")
    }

    fn compares(&self) -> Compares {
        Compares::Distance("manhattan")
    }
}
