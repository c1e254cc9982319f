//! Tuplet margin loss.

use candle_core::{Result, Tensor};
use nearfar_core::{Error, NonNegative, Positive};
use nearfar_kernels::{Row, RowFunctional, RowSum, masked_log_sum_exp, rows, softplus};
use serde::{Deserialize, Serialize};

use crate::family::{ListLoss, Weighted};
use crate::lists::{any, repeated};

/// Wants each positive nearer than all negatives of its anchor, but for an angle of slack.
///
/// ```text
/// l(a, p) = log(1 + Σ_n exp(scale (cos θ(a, n) − cos(θ(a, p) − margin))))
/// ```
///
/// The margin is slack, not a gap: it is taken off the angle of the positive, so a positive that is farther than a negative by
/// `margin` costs what one just as far costs without a margin. A larger margin asks for less, other than in `triplet_margin` or
/// `arcface`, and a positive at an angle below it is pushed out to it.
///
/// Averaged over all positive pairs. A positive whose anchor has no negative costs 0; a batch without positives or without
/// negatives is nothing to learn. Where a positive coincides with its anchor, the slope of the angle is infinite: it is
/// bounded, and the gradient of the rows stays finite.
///
/// Source: Yu, Tao, "Deep metric learning with tuplet margin loss", ICCV 2019, equation 6. Agrees with `TupletMarginLoss` of
/// pytorch-metric-learning 2.9, which takes degrees and gives NaN as the gradient of positives that coincide. The paper adds
/// `intra_pair_variance`.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// use nearfar_core::NonNegative;
/// use nearfar_losses::{ListLoss, TupletMargin};
///
/// let similarity = Tensor::new(&[[1f64, 0.5, 0.5]], &Device::Cpu)?; // Itself, a positive, a negative.
/// let positive = Tensor::new(&[[0f64, 1.0, 0.0]], &Device::Cpu)?;
/// let negative = Tensor::new(&[[0f64, 0.0, 1.0]], &Device::Cpu)?;
/// let loss = TupletMargin { margin: NonNegative::literal(0.0), ..TupletMargin::default() };
/// let loss = loss.lists(&similarity, &positive, &negative)?;
/// assert!((loss.values.to_vec2::<f64>()?[0][1] - 2f64.ln()).abs() < 1e-12);
/// # Ok::<(), candle_core::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TupletMargin {
    /// By how much farther than negatives positives may be, in radians: 0 wants them nearer, and more is milder.
    pub margin: NonNegative,
    /// How sharply the nearest negatives stand out.
    pub scale: Positive,
}

impl Default for TupletMargin {
    /// Those of the paper.
    fn default() -> Self {
        Self {
            margin: NonNegative::literal(0.1),
            scale: Positive::literal(64.0),
        }
    }
}

/// The least sine whose slope is followed: that of a cosine of `1 − 10⁻⁷` in f32, a few roundings from 1, and much nearer in f64.
fn least_sine(cosine: &Tensor) -> f64 {
    let distance_from_one = match cosine.dtype() {
        candle_core::DType::F64 => 1e-12,
        _ => 1e-7,
    };
    (2.0f64 * distance_from_one).sqrt()
}

impl TupletMargin {
    /// `cos(θ − margin)` of `cos θ`, of any shape.
    fn nearer(&self, cosine: &Tensor) -> Result<Tensor> {
        let (sin, cos) = self.margin.get().sin_cos();
        // Value and derivative are both written down: candle's own of the sine is infinite at 1.
        let c = cosine.detach().clamp(-1f64, 1f64)?;
        let sine = c.sqr()?.affine(-1.0, 1.0)?.maximum(0f64)?.sqrt()?;
        let value = ((&c * cos)? + (&sine * sin)?)?;
        let slope = ((&c * -sin)? / sine.maximum(least_sine(cosine))?)?.affine(1.0, cos)?;
        // What is beyond 1 by more than rounding is no cosine: its angle is 0 or π, and stays so.
        let beyond = cosine.detach().sqr()?.gt(1.0 + 1e-5)?;
        let slope = beyond.where_cond(&slope.zeros_like()?, &slope)?;
        value + (slope * (cosine - cosine.detach())?)?
    }
}

impl ListLoss for TupletMargin {
    fn lists(&self, similarity: &Tensor, positive: &Tensor, negative: &Tensor) -> Result<Weighted> {
        let scale = self.scale.get();
        let scaled = repeated(&(similarity * scale)?, negative)?;
        let negatives = masked_log_sum_exp(&scaled, negative)?.unsqueeze(1)?; // (n, 1)
        let nearer = (self.nearer(similarity)? * scale)?;
        let values = softplus(&negatives.broadcast_sub(&nearer)?)?;
        let weights = positive.broadcast_mul(&any(negative)?)?;
        Ok(Weighted { values, weights })
    }

    fn by_row(&self) -> Option<Box<dyn RowFunctional>> {
        let (sine, cosine) = self.margin.get().sin_cos();
        Some(Box::new(OfAnchor {
            scale: self.scale.get() as f32,
            sine: sine as f32,
            cosine: cosine as f32,
        }))
    }

    fn check(&self) -> std::result::Result<(), Error> {
        if self.margin.get() < std::f64::consts::PI {
            return Ok(());
        }
        Err(Error::Settings(format!(
            "tuplet_margin: `margin` is {} radians; it must be below π",
            self.margin
        )))
    }
}

struct OfAnchor {
    scale: f32,
    /// Of the margin.
    sine: f32,
    cosine: f32,
}

impl OfAnchor {
    /// `cos(θ − margin)` of `cos θ`, with its slope.
    fn nearer(&self, given: f32) -> rows::Sloped {
        let c = given.clamp(-1.0, 1.0);
        let sine = (1.0 - c * c).max(0.0).sqrt();
        let least = 2e-7f32.sqrt(); // As in the plain way.
        let slope = self.cosine - c * self.sine / sine.max(least);
        rows::Sloped {
            value: c * self.cosine + sine * self.sine,
            slope: if given * given > 1.0 + 1e-5 {
                0.0
            } else {
                slope
            },
        }
    }
}

impl RowFunctional for OfAnchor {
    fn row(&self, mut row: Row<'_>) -> [RowSum; 2] {
        let (positives, [before, after]) = row.split();
        let mut sum = RowSum {
            terms: positives.len(),
            ..RowSum::default()
        };
        let negatives = rows::log_sum_exp(&mut [&mut *before, &mut *after], self.scale);
        let mut pushed = 0.0;
        for value in positives {
            let nearer = self.nearer(*value);
            let cost = rows::softplus(negatives - self.scale * nearer.value);
            sum.value += f64::from(cost.value);
            sum.active += usize::from(cost.value > 0.0);
            *value = -self.scale * cost.slope * nearer.slope;
            pushed += self.scale * cost.slope;
        }
        rows::multiply(before, pushed);
        rows::multiply(after, pushed);
        [sum, RowSum::default()]
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Var};

    use super::*;

    #[test]
    fn the_margin_is_an_angle() -> Result<()> {
        let loss = TupletMargin::default();
        for angle in [0.05f64, 1.0, 2.5, 3.1] {
            let cosine = Var::new(&[angle.cos()], &Device::Cpu)?;
            let value = loss.nearer(&cosine)?;
            assert!(
                (value.to_vec1::<f64>()?[0] - (angle - 0.1).cos()).abs() < 1e-14,
                "{angle}"
            );
            let gradients = value.backward()?;
            let slope = gradients
                .get(&cosine)
                .expect("it depends on it")
                .to_vec1::<f64>()?[0];
            assert!(
                (slope - (angle - 0.1).sin() / angle.sin()).abs() < 1e-10,
                "{angle}"
            );
        }
        Ok(())
    }

    /// Defect of the peer: NaN.
    #[test]
    fn the_gradient_of_positives_that_coincide_is_finite() -> Result<()> {
        let cosine = Var::new(&[[1f32, 1.0, -1.0, 1.0000001]], &Device::Cpu)?;
        let positive = Tensor::new(&[[1f32, 0.0, 0.0, 1.0]], &Device::Cpu)?;
        let negative = Tensor::new(&[[0f32, 1.0, 1.0, 0.0]], &Device::Cpu)?;
        let loss = TupletMargin::default().lists(&cosine, &positive, &negative)?;
        let gradients = loss.values.sum_all()?.backward()?;
        let gradient = gradients
            .get(&cosine)
            .expect("it depends on it")
            .to_vec2::<f32>()?;
        assert!(gradient[0].iter().all(|it| it.is_finite()), "{gradient:?}");
        Ok(())
    }
}
