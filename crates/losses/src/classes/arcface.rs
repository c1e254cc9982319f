//! Additive angular margin.

use candle_core::{Result, Tensor};
use nearfar_core::{Error, NonNegative, Positive, shape};
use serde::{Deserialize, Serialize};

use crate::family::ClassificationLoss;

/// Wants each row nearer to its class center than to any other, by an angle.
///
/// ```text
/// l = −log softmax(scale · z)_own,   z_c = cos θ_c,   z_own = cos(θ_own + margin)         while θ_own ≤ π − margin
///                                                           cos θ_own − margin sin margin  beyond
/// ```
///
/// `θ_c` is the angle between the row and the center of class `c`; both are taken by their direction alone. The second
/// branch keeps the loss falling as a row turns to its center from behind. With one class the loss is 0.
///
/// Where a row lies on its center, the derivative of `cos(θ + margin)` by `cos θ` is infinite; it is kept below 10⁴.
///
/// The centers are parameters of the loss: `centers`, `(c, d)`, drawn from a normal distribution by name and seed. Labels
/// are `0..c`. A miner, if there is one, gives each row a weight: how often it is in a tuple, over the largest such count.
///
/// Source: Deng et al., "ArcFace", CVPR 2019, <https://arxiv.org/abs/1801.07698>, equation 3; the second branch as in the
/// authors' code. Agrees with `ArcFaceLoss` of pytorch-metric-learning 2.9, whose margin is in degrees.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// use nearfar_core::{NonNegative, Positive};
/// use nearfar_losses::{ArcFace, ClassificationLoss};
///
/// let loss = ArcFace { margin: NonNegative::literal(0.5), scale: Positive::literal(10.0) };
/// let cosine = Tensor::new(&[[0.8f32, 0.1]], &Device::Cpu)?;
/// let own = Tensor::new(&[[1u8, 0]], &Device::Cpu)?;
/// let logits = loss.logits(&cosine, &own)?.to_vec2::<f32>()?;
/// assert!((logits[0][0] - 10.0 * (0.8f32.acos() + 0.5).cos()).abs() < 1e-5);
/// assert!((logits[0][1] - 1.0).abs() < 1e-6); // Only the own class is made harder.
/// # Ok::<(), candle_core::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ArcFace {
    /// The wanted angle, in radians; below π.
    pub margin: NonNegative,
    /// What the cosines are multiplied by before the softmax.
    pub scale: Positive,
}

impl Default for ArcFace {
    /// The paper's values.
    fn default() -> Self {
        Self {
            margin: NonNegative::literal(0.5),
            scale: Positive::literal(64.0),
        }
    }
}

/// The largest derivative of `cos(θ + margin)` by `cos θ`.
const STEEPEST: f64 = 1e4;

impl ArcFace {
    /// Cosines of rows with their own centers, with the margin: `(n) → (n)`.
    fn with_margin(&self, cosine: &Tensor) -> Result<Tensor> {
        let margin = self.margin.get();
        let (sin, cos) = margin.sin_cos();
        // Value and derivative are both written down, and the derivative is not left to candle: that of the sine, √(1 − c²),
        // is infinite at 1.
        let c = cosine.detach().clamp(-1f64, 1f64)?;
        let sine = c.sqr()?.affine(-1.0, 1.0)?.sqrt()?;
        let turned = ((&c * cos)? - (&sine * sin)?)?;
        let turned_slope = ((&c * sin)? / sine.maximum(1e-30f64)?)?
            .affine(1.0, cos)?
            .minimum(STEEPEST)?;
        let straight = (&c - margin * sin)?;
        let beyond = c.lt(-cos)?; // θ > π − margin
        let value = beyond.where_cond(&straight, &turned)?;
        let slope = beyond.where_cond(&c.ones_like()?, &turned_slope)?;
        value + (slope * (cosine - cosine.detach())?)?
    }
}

impl ClassificationLoss for ArcFace {
    fn logits(&self, cosine: &Tensor, own: &Tensor) -> Result<Tensor> {
        shape::same("arcface", ("cosine", cosine), ("own", own))?;
        let of_own = own.where_cond(cosine, &cosine.zeros_like()?)?.sum(1)?; // (n)
        let harder = self.with_margin(&of_own)?.unsqueeze(1)?;
        own.where_cond(&harder.broadcast_as(cosine.shape())?, cosine)? * self.scale.get()
    }

    fn check(&self) -> std::result::Result<(), Error> {
        if self.margin.get() < std::f64::consts::PI {
            return Ok(());
        }
        Err(Error::Settings(format!(
            "arcface: `margin` is {} radians; it must be below π",
            self.margin
        )))
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Var};

    use super::*;

    #[test]
    fn the_margin_is_an_angle_up_to_where_it_would_turn_back() -> Result<()> {
        let loss = ArcFace::default();
        for angle in [0.1f64, 1.0, 2.0, 2.6, 2.7, 3.1] {
            let cosine = Var::new(&[angle.cos()], &Device::Cpu)?;
            let value = loss.with_margin(&cosine)?;
            let (wanted, slope) = if angle <= std::f64::consts::PI - 0.5 {
                ((angle + 0.5).cos(), (angle + 0.5).sin() / angle.sin())
            } else {
                (angle.cos() - 0.5 * 0.5f64.sin(), 1.0)
            };
            assert!(
                (value.to_vec1::<f64>()?[0] - wanted).abs() < 1e-14,
                "{angle}"
            );
            let gradients = value.backward()?;
            let gradient = gradients.get(&cosine).expect("it depends on the cosine");
            assert!(
                (gradient.to_vec1::<f64>()?[0] - slope).abs() < 1e-10,
                "{angle}"
            );
        }
        Ok(())
    }

    #[test]
    fn on_the_center_the_gradient_is_finite() -> Result<()> {
        let cosine = Var::new(&[1f32, -1.0, 1.0000001], &Device::Cpu)?;
        let value = ArcFace::default().with_margin(&cosine)?;
        assert!((value.to_vec1::<f32>()?[0] - 0.5f32.cos()).abs() < 1e-7);
        let gradients = value.backward()?;
        let gradient = gradients.get(&cosine).expect("it depends on the cosine");
        assert_eq!(gradient.to_vec1::<f32>()?, [1e4, 1.0, 1e4]);
        Ok(())
    }
}
