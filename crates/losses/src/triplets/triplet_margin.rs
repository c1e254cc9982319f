//! Triplet margin loss.

use std::num::NonZeroU32;

use candle_core::{Result, Tensor};
use nearfar_core::{Error, NonNegative, Reducer, shape};
use nearfar_kernels::{Row, RowFunctional, RowSum, hinge, rows, softplus};
use serde::{Deserialize, Serialize};

use crate::family::TripletLoss;

/// Wants each positive nearer than each negative by a margin.
///
/// ```text
/// l(a, p, n) = max(0, d(a, p) − d(a, n) + margin)
/// smooth       log(1 + exp(d(a, p) − d(a, n) + margin))
/// swap         with min(d(a, n), d(p, n)) in place of d(a, n)
/// power = 2    with d² in place of d
/// ```
///
/// A term at the hinge is zero, is not active, and has gradient zero, as in torch: see [`nearfar_kernels::hinge`]. Where a
/// swap has two equal distances, each gets half of the gradient. `power` is for distances that are not negative.
///
/// With one class, or all classes distinct, there is no triplet and nothing to learn.
///
/// Source: Schroff, Kalenichenko, Philbin, "FaceNet", CVPR 2015, <https://arxiv.org/abs/1503.03832>, section 3.1, there
/// with `power = 2` on rows of length 1; `smooth`: Hermans, Beyer, Leibe 2017, <https://arxiv.org/abs/1703.07737>; `swap`:
/// Balntas et al., BMVC 2016. Agrees with `TripletMarginLoss` of pytorch-metric-learning 2.9 for the same distance.
///
/// Over all triplets, averaged over the active ones as it is by default, it is the "batch all" of Hermans et al.
/// `triplets_per_anchor` draws that many of each anchor instead, positives and negatives evenly and with replacement.
///
/// Choose it with a miner: over all triplets most terms soon are zero.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// use nearfar_losses::{TripletLoss, TripletMargin};
///
/// let positive = Tensor::new(&[0.5f32, 1.0], &Device::Cpu)?;
/// let negative = Tensor::new(&[0.6f32, 2.0], &Device::Cpu)?;
/// let losses = TripletMargin::default().triplets(&positive, &negative)?.to_vec1::<f32>()?;
/// assert!((losses[0] - 0.1).abs() < 1e-6); // 0.5 − 0.6 + 0.2
/// assert_eq!(losses[1], 0.0); // Far enough already.
/// # Ok::<(), candle_core::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TripletMargin {
    /// Wanted gap between the two distances, in units of the distance (or of its power).
    pub margin: NonNegative,
    /// Whether the positive may stand in for the anchor where the negative is nearer to it.
    pub swap: bool,
    /// Whether triplets beyond the margin still count, less and less.
    pub smooth: bool,
    /// What the distances are raised to.
    pub power: Power,
    /// How many triplets of each anchor are drawn where no miner chooses: a number, or all if left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub triplets_per_anchor: Option<NonZeroU32>,
}

/// A power of 1 or 2; written as the number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
pub enum Power {
    /// As it is.
    #[default]
    One,
    /// Its square.
    Two,
}

impl TryFrom<u8> for Power {
    type Error = Error;

    fn try_from(power: u8) -> std::result::Result<Self, Error> {
        match power {
            1 => Ok(Self::One),
            2 => Ok(Self::Two),
            _ => Err(Error::Settings(format!("{power} must be 1 or 2"))),
        }
    }
}

impl From<Power> for u8 {
    fn from(power: Power) -> u8 {
        match power {
            Power::One => 1,
            Power::Two => 2,
        }
    }
}

impl Default for TripletMargin {
    /// The margin of the paper; all else is off.
    fn default() -> Self {
        Self {
            margin: NonNegative::literal(0.2),
            swap: false,
            smooth: false,
            power: Power::One,
            triplets_per_anchor: None,
        }
    }
}

impl TripletLoss for TripletMargin {
    fn triplets(&self, positive: &Tensor, negative: &Tensor) -> Result<Tensor> {
        shape::same(
            "triplet_margin",
            ("positive", positive),
            ("negative", negative),
        )?;
        let gap = match self.power {
            Power::One => (positive - negative)?,
            Power::Two => (positive.sqr()? - negative.sqr()?)?,
        };
        let missed = (gap + self.margin.get())?;
        if self.smooth {
            softplus(&missed)
        } else {
            hinge(&missed)
        }
    }

    fn swaps(&self) -> bool {
        self.swap
    }

    fn triplets_per_anchor(&self) -> Option<usize> {
        self.triplets_per_anchor.map(|count| count.get() as usize)
    }

    fn reducer(&self) -> Reducer {
        Reducer::AvgNonzero {}
    }

    /// A hinge needs but the number of terms that each distance is active in; a swap and a softplus need every term.
    fn by_row(&self) -> Option<Box<dyn RowFunctional>> {
        let margin = self.margin.get() as f32;
        let power = self.power;
        (!self.swap && !self.smooth).then(|| Box::new(AllTriplets { margin, power }) as Box<_>)
    }
}

/// All triplets of one anchor.
struct AllTriplets {
    margin: f32,
    power: Power,
}

impl RowFunctional for AllTriplets {
    fn row(&self, mut row: Row<'_>) -> [RowSum; 2] {
        let kept = match self.power {
            Power::One => Vec::new(),
            Power::Two => {
                let kept = row.values.to_vec();
                row.values.iter_mut().for_each(|x| *x *= *x);
                kept
            }
        };
        let (positives, negatives) = row.split();
        let sum = rows::hinge_counts(positives, negatives, self.margin);
        for (gradient, distance) in row.values.iter_mut().zip(kept) {
            *gradient *= 2.0 * distance;
        }
        [sum, RowSum::default()]
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn each_form_gives_the_number_on_paper() -> Result<()> {
        let (positive, negative) = (
            Tensor::new(&[1.0f64], &Device::Cpu)?,
            Tensor::new(&[2.0f64], &Device::Cpu)?,
        );
        let of = |loss: TripletMargin| loss.triplets(&positive, &negative)?.to_vec1::<f64>();
        let margin = NonNegative::literal(3.5);
        let plain = TripletMargin {
            margin,
            ..TripletMargin::default()
        };
        assert_eq!(of(plain.clone())?, [2.5]);
        let power = Power::Two;
        assert_eq!(
            of(TripletMargin {
                power,
                ..plain.clone()
            })?,
            [0.5]
        ); // 1 − 4 + 3.5
        let smooth = of(TripletMargin {
            smooth: true,
            ..plain
        })?[0];
        assert!((smooth - (1.0 + 2.5f64.exp()).ln()).abs() < 1e-14);
        Ok(())
    }

    #[test]
    fn other_powers_and_shapes_are_refused() -> Result<()> {
        let error = toml::from_str::<TripletMargin>("power = 3").expect_err("3");
        assert!(error.to_string().contains("3 must be 1 or 2"), "{error}");
        let (two, one) = (
            Tensor::new(&[1f32, 2.0], &Device::Cpu)?,
            Tensor::new(&[1f32], &Device::Cpu)?,
        );
        let error = TripletMargin::default()
            .triplets(&two, &one)
            .expect_err("2 and 1");
        assert_eq!(
            error.to_string(),
            "triplet_margin: `positive` has shape [2], `negative` [1]; they must agree"
        );
        Ok(())
    }
}
