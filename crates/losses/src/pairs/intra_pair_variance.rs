//! Intra-pair variance loss.

use candle_core::{Result, Tensor};
use nearfar_core::NonNegative;
use nearfar_kernels::{Row, RowFunctional, RowSum, hinge, rows};
use serde::{Deserialize, Serialize};

use crate::Compares;
use crate::family::{PairLoss, Sides};
use crate::over::rows::{AllRows, Functional};

/// Wants all positive pairs to be alike, and all negative ones: what is farther on the wrong side than their mean costs.
///
/// ```text
///                 positive                                         negative
/// similarities    max(0, (1 − positive_epsilon) mean − s)²         max(0, s − (1 + negative_epsilon) mean)²
/// distances       max(0, d − (1 + positive_epsilon) mean)²         max(0, (1 − negative_epsilon) mean − d)²
/// ```
///
/// The mean is that of all pairs of the kind, and it has a gradient too. Each kind is averaged over its pairs, and the two are
/// added. It moves no mean on its own, so it is made to be added to another loss, such as `tuplet_margin`. A distance that can
/// be below zero is a similarity that was negated, and is taken as one.
///
/// With one class there is only the positive side, with all classes distinct only the negative one.
///
/// Source: Yu, Tao, "Deep metric learning with tuplet margin loss", ICCV 2019, section 3.4. Agrees with
/// `IntraPairVarianceLoss` of pytorch-metric-learning 2.9.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// use nearfar_core::NonNegative;
/// use nearfar_losses::{IntraPairVariance, PairLoss};
///
/// let zero = NonNegative::literal(0.0);
/// let loss = IntraPairVariance { positive_epsilon: zero, negative_epsilon: zero };
/// let distance = Tensor::new(&[1f32, 2.0, 6.0], &Device::Cpu)?; // Of mean 3.
/// assert_eq!(loss.positive(&distance)?.to_vec1::<f32>()?, [0.0, 0.0, 9.0]);
/// assert_eq!(loss.negative(&distance)?.to_vec1::<f32>()?, [4.0, 1.0, 0.0]);
/// # Ok::<(), candle_core::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct IntraPairVariance {
    /// How much farther than their mean positives may be, as a part of it.
    pub positive_epsilon: NonNegative,
    /// How much nearer than their mean negatives may be, as a part of it.
    pub negative_epsilon: NonNegative,
}

impl Default for IntraPairVariance {
    /// 0.01 for both, as in the paper.
    fn default() -> Self {
        Self {
            positive_epsilon: NonNegative::literal(0.01),
            negative_epsilon: NonNegative::literal(0.01),
        }
    }
}

/// `max(0, values − factor · mean)²`
fn above(values: &Tensor, factor: f64) -> Result<Tensor> {
    let mean = (values.mean_all()? * factor)?;
    hinge(&values.broadcast_sub(&mean)?)?.sqr()
}

impl PairLoss for IntraPairVariance {
    fn positive(&self, distance: &Tensor) -> Result<Tensor> {
        above(distance, 1.0 + self.positive_epsilon.get())
    }

    fn negative(&self, distance: &Tensor) -> Result<Tensor> {
        above(&distance.neg()?, 1.0 - self.negative_epsilon.get())
    }

    fn sides(&self, sides: &Sides<'_>) -> Result<[Option<Tensor>; 2]> {
        // Of a negated similarity the mean is below zero, and a larger part of it is the lower one.
        let sign = if sides.negated { -1.0 } else { 1.0 };
        let positive = sides.positive.map(|distance| {
            let epsilon = sign * self.positive_epsilon.get();
            above(distance, 1.0 + epsilon)
        });
        let negative = sides.negative.map(|distance| {
            let epsilon = sign * self.negative_epsilon.get();
            above(&distance.neg()?, 1.0 - epsilon)
        });
        Ok([positive.transpose()?, negative.transpose()?])
    }

    fn compares(&self) -> Compares {
        Compares::Similarity("cosine")
    }

    fn by_rows(&self, all: &AllRows<'_>, negated: bool) -> Result<Functional> {
        let sign = if negated { -1.0 } else { 1.0 };
        let factors = [
            1.0 + sign * self.positive_epsilon.get(),
            -(1.0 - sign * self.negative_epsilon.get()),
        ];
        // The mean of each side, and then how much all of it misses.
        let total = |seen: Vec<[f64; 4]>| {
            seen.into_iter().fold([0.0; 4], |mut total, some| {
                for (total, some) in total.iter_mut().zip(some) {
                    *total += some;
                }
                total
            })
        };
        let [positives, negatives, pulls, pushes] = total(all.look(|mut row| {
            let (positives, [before, after]) = row.split();
            let sum = |values: &[f32]| f64::from(values.iter().sum::<f32>());
            let count = (before.len() + after.len()) as f64;
            let others = sum(before) + sum(after);
            [sum(positives), others, positives.len() as f64, count]
        })?);
        let mean = |sum: f64, count: f64| if count > 0.0 { sum / count } else { 0.0 };
        let bounds = [
            (factors[0] * mean(positives, pulls)) as f32,
            (factors[1] * mean(negatives, pushes)) as f32,
        ];
        let [pulled, pushed, ..] = total(all.look(|mut row| {
            let (positives, [before, after]) = row.split();
            let missed = |values: &mut [f32], sign: f32, bound: f32| {
                rows::hinge(values, 1.0, sign, sign * bound).value
            };
            let others = missed(before, -1.0, bounds[1]) + missed(after, -1.0, bounds[1]);
            [missed(positives, 1.0, bounds[0]), others, 0.0, 0.0]
        })?);
        // What each pair moves through the mean.
        let shares = [
            (-2.0 * factors[0] * mean(pulled, pulls)) as f32,
            (-2.0 * factors[1] * mean(pushed, pushes)) as f32,
        ];
        Ok(Some(Box::new(OfRow { bounds, shares })))
    }
}

/// `max(0, x − bound)²` of positives and `max(0, −x − bound)²` of negatives, and what each value moves through the bound.
struct OfRow {
    bounds: [f32; 2],
    shares: [f32; 2],
}

impl RowFunctional for OfRow {
    fn row(&self, mut row: Row<'_>) -> [RowSum; 2] {
        let (positives, negatives) = row.split();
        let side = |values: &mut [f32], sign: f32, place: usize| {
            let sum = rows::squared_hinge(values, 1.0, sign, sign * self.bounds[place]);
            values.iter_mut().for_each(|x| *x += self.shares[place]);
            sum
        };
        let mut sums = [side(positives, 1.0, 0), RowSum::default()];
        for values in negatives {
            sums[1] += side(values, -1.0, 1);
        }
        sums
    }

    fn apart(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn a_similarity_is_compared_with_a_part_of_its_own_mean() -> Result<()> {
        let similarity = Tensor::new(&[0.2f64, 0.6], &Device::Cpu)?; // Of mean 0.4.
        let negated = similarity.neg()?;
        let loss = IntraPairVariance {
            positive_epsilon: NonNegative::literal(0.25),
            negative_epsilon: NonNegative::literal(0.25),
        };
        let [positive, negative] = loss.sides(&Sides {
            positive: Some(&negated),
            negative: Some(&negated),
            negated: true,
        })?;
        let positive = positive.expect("asked for").to_vec1::<f64>()?;
        assert!((positive[0] - 0.01).abs() < 1e-15 && positive[1] == 0.0); // 0.3 − 0.2
        let negative = negative.expect("asked for").to_vec1::<f64>()?;
        assert!(negative[0] == 0.0 && (negative[1] - 0.01).abs() < 1e-15); // 0.6 − 0.5
        Ok(())
    }
}
