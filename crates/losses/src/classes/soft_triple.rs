//! Softmax over several centers a class.

use std::num::NonZeroUsize;

use candle_core::{Result, Tensor};
use nearfar_core::{Comparison, NonNegative, Positive, Terms};
use nearfar_kernels::rows::Sloped;
use nearfar_kernels::softmax;
use serde::{Deserialize, Serialize};

use super::softmax::{Centers, softmax_over_classes};
use crate::combine::regularizers::distances_within_classes;
use crate::family::{ByRow, ClassificationLoss, Head};
use crate::{CenterStart, ToCenters};

/// Wants each row nearer to its class's centers than to those of any other class, and no more centers than are needed.
///
/// ```text
/// s_c = Σ_k q_ck cos θ_ck,   q_c = softmax over the k centers of class c of cos θ_ck / gamma
/// l = −log softmax(scale · z)_own,   z_c = s_c,   z_own = s_own − margin
/// ```
///
/// To this it adds, as the part `centers`, what makes centers of one class meet where fewer do:
///
/// ```text
/// regularizer · Σ_c Σ_{k<j} ‖w_ck − w_cj‖ / (c k (k − 1)),   w at length 1
/// ```
///
/// Centers that have met have no gradient of it. With one center a class, or `regularizer = 0`, that part is not there.
///
/// The centers are parameters of the loss: `centers`, `(c · k, d)`, those of one class together. Labels are `0..c`. A miner, if
/// there is one, gives each row a weight: how often it is in a tuple, over the largest such count.
///
/// Source: Qian et al., "SoftTriple Loss: Deep Metric Learning Without Triplet Sampling", ICCV 2019,
/// <https://arxiv.org/abs/1909.05235>, equations 7 and 8. Agrees with `SoftTripleLoss` of pytorch-metric-learning 2.9, which has no
/// regularizer unless it is given one.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// use nearfar_losses::{ClassificationLoss, SoftTriple, ToCenters};
///
/// let loss = SoftTriple { centers: 2.try_into().expect("above 0"), ..SoftTriple::default() };
/// let row = Tensor::new(&[[1f64, 0.0]], &Device::Cpu)?;
/// let centers = Tensor::new(&[[1f64, 0.0], [0.0, 1.0], [0.0, 1.0], [0.0, 1.0]], &Device::Cpu)?;
/// let logits = loss.logits(&ToCenters::new(&row, &centers, 2, &[0])?)?.to_vec2::<f64>()?;
/// let q = 1.0 / (1.0 + (-10f64).exp()); // Cosines 1 and 0 over gamma = 0.1.
/// assert!((logits[0][0] - 20.0 * (q - 0.01)).abs() < 1e-12 && logits[0][1].abs() < 1e-12);
/// # Ok::<(), candle_core::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SoftTriple {
    /// How many centers a class has.
    pub centers: NonZeroUsize,
    /// What the similarities are multiplied by before the softmax over classes; λ in the paper.
    pub scale: Positive,
    /// What the cosines are divided by before the softmax over the centers of a class.
    pub gamma: Positive,
    /// By how much the own similarity must be larger; δ in the paper.
    pub margin: NonNegative,
    /// What the distances between centers of one class count; τ in the paper.
    pub regularizer: NonNegative,
}

impl Default for SoftTriple {
    /// The paper's values.
    fn default() -> Self {
        Self {
            centers: NonZeroUsize::new(10).expect("10 is above 0"),
            scale: Positive::literal(20.0),
            gamma: Positive::literal(0.1),
            margin: NonNegative::literal(0.01),
            regularizer: NonNegative::literal(0.2),
        }
    }
}

impl ClassificationLoss for SoftTriple {
    fn logits(&self, to: &ToCenters) -> Result<Tensor> {
        let similarity = if self.centers.get() == 1 {
            to.cosine.clone()
        } else {
            let shares = softmax(&(&to.cosine / self.gamma.get())?)?;
            (shares * &to.cosine)?.sum(2)? // (n, c)
        };
        let harder = to.own.to_dtype(similarity.dtype())? * self.margin.get();
        (similarity - harder?)? * self.scale.get()
    }

    fn by_row(&self, head: &Head<'_>) -> Option<ByRow> {
        let (margin, k) = (self.margin.get() as f32, self.centers.get());
        let own = move |similarity, _| Sloped {
            value: similarity - margin,
            slope: 1.0,
        };
        let mut functional = softmax_over_classes(self.scale.get(), head, own);
        if k > 1 {
            functional.centers = Centers::Mean(k, (1.0 / self.gamma.get()) as f32);
        }
        Some(ByRow::cosines(functional))
    }

    fn beside(&self, centers: &Tensor, comparison: &Comparison<'_>) -> Result<Vec<Terms>> {
        let distances = match self.regularizer.get() {
            0.0 => None,
            _ => distances_within_classes(centers, self.centers.get())?,
        };
        let centers = match distances {
            None => Terms::none("centers", comparison),
            Some(distances) => {
                let factor = self.regularizer.get() / (2 * distances.elem_count()) as f64;
                Terms::of_batch("centers", &(distances.sum_all()? * factor)?, comparison)?
            }
        };
        Ok(vec![centers])
    }

    fn parts(&self) -> &'static [&'static str] {
        &["class", "centers"]
    }

    fn centers_per_class(&self) -> usize {
        self.centers.get()
    }

    fn centers(&self) -> CenterStart {
        CenterStart::KaimingUniform
    }
}
