//! Contrastive loss of the hard pairs of a batch.

use candle_core::{DType, Result, Tensor};
use nearfar_core::{Finite, Reducer};
use nearfar_kernels::hinge;
use serde::{Deserialize, Serialize};

use crate::Compares;
use crate::family::{PairLoss, Sides};

/// The contrastive loss of the pairs that are on the wrong side of the other kind's hardest one.
///
/// ```text
/// positive  d²                  where d > min(d of the negatives)
/// negative  max(0, margin − d)² where d < max(d of the positives)
/// ```
///
/// All terms are added up, not averaged. Where there is at most one negative, positives beyond their own mean are taken, and
/// where there is at most one positive, negatives below their own mean. Which pairs are hard is chosen without a gradient.
///
/// With one class there is only the positive side, with all classes distinct only the negative one, each of its harder half.
///
/// Source: `OnlineContrastiveLoss` of sentence-transformers, with which it agrees; the idea is that of Hermans, Beyer, Leibe
/// 2017, <https://arxiv.org/abs/1703.07737>.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// use nearfar_losses::{OnlineContrastive, PairLoss, Sides};
///
/// let positive = Tensor::new(&[0.1f32, 0.5], &Device::Cpu)?;
/// let negative = Tensor::new(&[0.25f32, 0.75], &Device::Cpu)?;
/// let sides = Sides { positive: Some(&positive), negative: Some(&negative), negated: false };
/// let [positive, negative] = OnlineContrastive::default().sides(&sides)?;
/// assert_eq!(positive.unwrap().to_vec1::<f32>()?, [0.0, 0.25]); // 0.1 is nearer than the nearest negative.
/// assert_eq!(negative.unwrap().to_vec1::<f32>()?, [0.0625, 0.0]); // 0.75 is farther than the farthest positive.
/// # Ok::<(), candle_core::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OnlineContrastive {
    /// Negatives beyond it cost nothing.
    pub margin: Finite,
}

impl Default for OnlineContrastive {
    /// 0.5, for distances of cosines.
    fn default() -> Self {
        Self {
            margin: Finite::literal(0.5),
        }
    }
}

/// The smallest and the largest of some distances, and their mean.
struct Range {
    count: usize,
    low: f64,
    high: f64,
    mean: f64,
}

impl Range {
    fn of(distance: Option<&Tensor>) -> Result<Self> {
        let values = match distance {
            None => Vec::new(),
            Some(it) => it
                .detach()
                .flatten_all()?
                .to_dtype(DType::F64)?
                .to_vec1::<f64>()?,
        };
        Ok(Self {
            count: values.len(),
            low: values.iter().copied().fold(f64::INFINITY, f64::min),
            high: values.iter().copied().fold(f64::NEG_INFINITY, f64::max),
            mean: values.iter().sum::<f64>() / values.len().max(1) as f64,
        })
    }
}

/// The values where the mask is 1, 0 elsewhere.
fn kept(values: &Tensor, mask: &Tensor) -> Result<Tensor> {
    mask.where_cond(values, &values.zeros_like()?)
}

impl PairLoss for OnlineContrastive {
    fn positive(&self, distance: &Tensor) -> Result<Tensor> {
        distance.sqr()
    }

    fn negative(&self, distance: &Tensor) -> Result<Tensor> {
        hinge(&distance.affine(-1.0, self.margin.get())?)?.sqr()
    }

    fn sides(&self, sides: &Sides<'_>) -> Result<[Option<Tensor>; 2]> {
        let (positive, negative) = (Range::of(sides.positive)?, Range::of(sides.negative)?);
        let from = if negative.count > 1 {
            negative.low
        } else {
            positive.mean
        };
        let to = if positive.count > 1 {
            positive.high
        } else {
            negative.mean
        };
        let pulled = sides
            .positive
            .map(|it| kept(&self.positive(it)?, &it.gt(from)?));
        let pushed = sides
            .negative
            .map(|it| kept(&self.negative(it)?, &it.lt(to)?));
        Ok([pulled.transpose()?, pushed.transpose()?])
    }

    fn reducer(&self) -> Reducer {
        Reducer::Sum {}
    }

    fn compares(&self) -> Compares {
        Compares::Distance("cosine_distance")
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn a_lone_pair_of_the_other_kind_says_nothing() -> Result<()> {
        let many = Tensor::new(&[0.1f64, 0.3], &Device::Cpu)?; // Of mean 0.2.
        let one = Tensor::new(&[0.05f64], &Device::Cpu)?;
        let loss = OnlineContrastive::default();
        let sides = |positive, negative| Sides {
            positive: Some(positive),
            negative: Some(negative),
            negated: false,
        };
        let [positive, _] = loss.sides(&sides(&many, &one))?;
        let positive = positive.expect("asked for").to_vec1::<f64>()?;
        assert!(positive[0] == 0.0 && (positive[1] - 0.09).abs() < 1e-15);
        let [_, negative] = loss.sides(&sides(&one, &many))?;
        let negative = negative.expect("asked for").to_vec1::<f64>()?;
        assert!((negative[0] - 0.16).abs() < 1e-15 && negative[1] == 0.0);
        Ok(())
    }
}
