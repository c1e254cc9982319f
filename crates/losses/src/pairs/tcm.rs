//! Threshold-consistent margin loss.

use candle_core::{Result, Tensor};
use nearfar_core::{Finite, NonNegative, Reducer};
use nearfar_kernels::{Row, RowFunctional, RowSum, hinge, rows};
use serde::{Deserialize, Serialize};

use crate::Compares;
use crate::family::PairLoss;

/// Wants one threshold to fit all classes: positives above one similarity, negatives below another, and no more.
///
/// ```text
/// positive  positive_weight · max(0, positive_margin − s)        negative  negative_weight · max(0, s − negative_margin)
/// ```
///
/// Each kind is averaged over its active terms (the reducer `avg_nonzero`), and the two averages are added. A regularizer, made
/// to be added to another loss: it says nothing of order.
///
/// With one class there is only the positive side, with all classes distinct only the negative one.
///
/// Source: Zhang et al., "Threshold-consistent margin loss for open-world deep metric learning", ICLR 2024,
/// <https://arxiv.org/abs/2307.04047>, equation 4. Agrees with `ThresholdConsistentMarginLoss` of pytorch-metric-learning 2.9
/// for cosines within a batch; that one looks at cosines even where it is given another distance, and at the batch where it is
/// given references.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// use nearfar_losses::{PairLoss, ThresholdConsistentMargin};
///
/// let distance = Tensor::new(&[-0.5f64, -1.0], &Device::Cpu)?; // Cosines of 0.5 and 1.
/// let loss = ThresholdConsistentMargin::default();
/// assert_eq!(loss.positive(&distance)?.to_vec1::<f64>()?, [0.4, 0.0]);
/// assert_eq!(loss.negative(&distance)?.to_vec1::<f64>()?, [0.0, 0.5]);
/// # Ok::<(), candle_core::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ThresholdConsistentMargin {
    /// What a positive costs for each unit of similarity that it misses.
    pub positive_weight: NonNegative,
    /// What a negative costs for each unit of similarity that it has too much.
    pub negative_weight: NonNegative,
    /// Positives that are more similar cost nothing.
    pub positive_margin: Finite,
    /// Negatives that are less similar cost nothing.
    pub negative_margin: Finite,
}

impl Default for ThresholdConsistentMargin {
    /// Those of the paper.
    fn default() -> Self {
        Self {
            positive_weight: NonNegative::literal(1.0),
            negative_weight: NonNegative::literal(1.0),
            positive_margin: Finite::literal(0.9),
            negative_margin: Finite::literal(0.5),
        }
    }
}

impl PairLoss for ThresholdConsistentMargin {
    fn positive(&self, distance: &Tensor) -> Result<Tensor> {
        hinge(&(distance + self.positive_margin.get())?)? * self.positive_weight.get()
    }

    fn negative(&self, distance: &Tensor) -> Result<Tensor> {
        hinge(&distance.affine(-1.0, -self.negative_margin.get())?)? * self.negative_weight.get()
    }

    fn reducer(&self) -> Reducer {
        Reducer::AvgNonzero {}
    }

    fn compares(&self) -> Compares {
        Compares::Similarity("cosine")
    }

    fn by_row(&self) -> Option<Box<dyn RowFunctional>> {
        Some(Box::new(AllPairs {
            positive: (
                self.positive_weight.get() as f32,
                -self.positive_margin.get() as f32,
            ),
            negative: (
                self.negative_weight.get() as f32,
                -self.negative_margin.get() as f32,
            ),
        }))
    }
}

/// All pairs of one anchor: what a unit costs, and the distance from which it does.
struct AllPairs {
    positive: (f32, f32),
    negative: (f32, f32),
}

impl RowFunctional for AllPairs {
    fn row(&self, mut row: Row<'_>) -> [RowSum; 2] {
        let (positives, negatives) = row.split();
        let mut sums = [RowSum::default(); 2];
        let (by, from) = self.positive;
        sums[0] += rows::hinge(positives, by, 1.0, from);
        let (by, from) = self.negative;
        for values in negatives {
            sums[1] += rows::hinge(values, by, -1.0, from);
        }
        sums
    }

    fn apart(&self) -> bool {
        true
    }
}
