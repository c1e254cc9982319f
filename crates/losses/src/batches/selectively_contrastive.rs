//! Selectively contrastive triplet loss.

use candle_core::{Result, Tensor};
use nearfar_core::{Loss, NonNegative, Positive, Reducer, shape};
use nearfar_kernels::softplus;
use serde::{Deserialize, Serialize};

use crate::family::{BatchLoss, TripletLoss};
use crate::over::triplets::OverTriplets;
use crate::{Compares, Join, Reads};

/// Pushes hard negatives away without looking at the positive, and learns from the others as a softmax.
///
/// ```text
/// l(a, p, n) = weight · s(a, n)                            where s(a, n) > s(a, p)
///              log(1 + exp((s(a, n) − s(a, p))/τ))         else
/// ```
///
/// A hard negative of a batch that has just begun to learn pulls all rows together under other triplet losses; here it does not.
/// The value jumps where a negative becomes hard. With one class, or all classes distinct, there is nothing to learn.
///
/// Source: Xuan, Stylianou, Liu, Pless, "Hard negative examples are hard, but useful", ECCV 2020,
/// <https://arxiv.org/abs/2007.12749>, equation 8.
///
/// Choose it with a miner of hard negatives and near positives.
///
/// ```
/// # use nearfar_losses::{Compares, LossConfig};
/// let config: LossConfig = toml::from_str("selectively_contrastive = { weight = 0.5 }")?;
/// assert_eq!(config.defaults().compares, Compares::Similarity("cosine"));
/// # Ok::<(), toml::de::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SelectivelyContrastive {
    /// What the similarity of a hard negative counts.
    pub weight: NonNegative,
    /// Smaller looks more closely at the difference of the other triplets.
    pub temperature: Positive,
}

impl Default for SelectivelyContrastive {
    /// The paper's.
    fn default() -> Self {
        Self {
            weight: NonNegative::literal(1.0),
            temperature: Positive::literal(0.1),
        }
    }
}

/// Distances are negative similarities.
impl TripletLoss for SelectivelyContrastive {
    fn triplets(&self, positive: &Tensor, negative: &Tensor) -> Result<Tensor> {
        let place = "selectively_contrastive";
        shape::same(place, ("positive", positive), ("negative", negative))?;
        let hard = negative.detach().lt(&positive.detach())?;
        let pushed = (negative * -self.weight.get())?;
        let other = softplus(&((positive - negative)? / self.temperature.get())?)?;
        hard.where_cond(&pushed, &other)
    }
}

impl BatchLoss for SelectivelyContrastive {
    fn reads(&self) -> Reads {
        Reads::ClassesOrPairs
    }

    fn compares(&self) -> Compares {
        Compares::Similarity("cosine")
    }

    fn build(&self, name: &'static str, mut join: Join) -> Result<Box<dyn Loss>> {
        join.refuse_scorer(name, "similarities of triplets")?;
        let distance = join.distance(name, "cosine")?;
        Ok(Box::new(OverTriplets {
            name,
            loss: self.clone(),
            distance,
            reducer: join.reducer.take().unwrap_or(Reducer::Mean {}),
            mining: join.mining(),
        }))
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn hard_negatives_are_pushed_and_others_compared() -> Result<()> {
        // Similarities 0.5 and 0.75 (hard), and 0.5 and 0.25.
        let positive = Tensor::new(&[-0.5f64, -0.5], &Device::Cpu)?;
        let negative = Tensor::new(&[-0.75f64, -0.25], &Device::Cpu)?;
        let loss = SelectivelyContrastive::default();
        let values = loss.triplets(&positive, &negative)?.to_vec1::<f64>()?;
        assert_eq!(values[0], 0.75);
        assert!((values[1] - (1.0 + (-2.5f64).exp()).ln()).abs() < 1e-15);
        Ok(())
    }
}
