//! Energies of pairs.

use candle_core::{Result, Tensor};
use nearfar_core::Finite;
use serde::{Deserialize, Serialize};

use crate::family::PairLoss;

/// Wants the cosine of rows that belong together to be 1, and that of others to be small.
///
/// ```text
/// E = 1 − d,   d the cosine distance
/// positive   ¼ (1 − E)²
/// negative   E² where E is above the margin (with active = "below": where it is below), else 0
/// ```
///
/// As printed the negative is active below the margin, which pulls small cosines to 0 and leaves large ones alone; the usual
/// reading is the other, and the default.
///
/// Source: Neculoiu, Versteegh, Rotaru, "Learning Text Similarity with Siamese Recurrent Networks", 2016,
/// <https://aclanthology.org/W16-1617>, section 3.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// use nearfar_losses::{Neculoiu, PairLoss};
///
/// let distance = Tensor::new(&[0.2f64, 0.8], &Device::Cpu)?; // Cosines 0.8 and 0.2.
/// let loss = Neculoiu::default();
/// let close = |x: Vec<f64>, y: [f64; 2]| x.iter().zip(y).all(|(x, y)| (x - y).abs() < 1e-12);
/// assert!(close(loss.positive(&distance)?.to_vec1()?, [0.01, 0.16]));
/// assert!(close(loss.negative(&distance)?.to_vec1()?, [0.64, 0.0]));
/// # Ok::<(), candle_core::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Neculoiu {
    /// The cosine at which a negative becomes active.
    pub margin: Finite,
    /// On which side of it.
    pub active: Active,
}

/// The side of a margin on which a negative of [`Neculoiu`] counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Active {
    /// Where the cosine is above it.
    Above,
    /// Where it is below it, as printed.
    Below,
}

impl Default for Neculoiu {
    /// A margin in the middle, and the usual reading.
    fn default() -> Self {
        Self {
            margin: Finite::literal(0.5),
            active: Active::Above,
        }
    }
}

impl PairLoss for Neculoiu {
    fn positive(&self, distance: &Tensor) -> Result<Tensor> {
        distance.sqr()? * 0.25
    }

    fn negative(&self, distance: &Tensor) -> Result<Tensor> {
        let energy = distance.affine(-1.0, 1.0)?;
        let counts = match self.active {
            Active::Above => energy.detach().gt(self.margin.get())?,
            Active::Below => energy.detach().lt(self.margin.get())?,
        };
        counts.where_cond(&energy.sqr()?, &energy.zeros_like()?)
    }

    fn distance(&self) -> &'static str {
        "cosine_distance"
    }
}
