//! Jaccard distance.

use candle_core::{D, Result, Tensor};
use nearfar_core::{Axioms, Distance};
use nearfar_kernels::absolute;
use serde::{Deserialize, Serialize};

use crate::Manhattan;

/// `1 − Σ_k min(x_k, y_k) / Σ_k max(x_k, y_k)`: of binary rows, one less the share of common members of all members
///
/// Also called Tanimoto's. Two empty sets are the same: rows of zeros have distance 0, and gradient 0. A metric.
///
/// It is computed as `2 M / (‖x‖₁ + ‖y‖₁ + M)` with the Manhattan distance `M`, which is the same number for rows without
/// negative numbers, and is still a metric for all others (the transform of Steinhaus; Deza, Deza, "Encyclopedia of
/// distances", section 4.1): a row with negative numbers counts as its positive and its negative part side by side.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use nearfar_core::Distance;
/// use nearfar_metrics::Jaccard;
///
/// let x = Tensor::new(&[[1f32, 1.0, 1.0, 0.0]], &Device::Cpu)?;
/// let y = Tensor::new(&[[0f32, 1.0, 1.0, 1.0], [0.0, 0.0, 0.0, 0.0]], &Device::Cpu)?;
/// assert_eq!(Jaccard {}.matrix(&x, &y)?.to_vec2::<f32>()?, [[0.5, 1.0]]); // Two of four in common, none of three.
/// # Ok::<(), candle_core::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Jaccard {}

/// `2 M / (sizes + M)`, and 0 where both are 0.
fn ratio(manhattan: &Tensor, sizes: &Tensor) -> Result<Tensor> {
    // Halves, so that the sum of the largest numbers does not overflow.
    let all = ((manhattan * 0.5)? + (sizes * 0.5)?)?;
    let none = all.eq(0f64)?;
    manhattan / none.where_cond(&all.ones_like()?, &all)?
}

impl Distance for Jaccard {
    fn matrix(&self, x: &Tensor, y: &Tensor) -> Result<Tensor> {
        let manhattan = Manhattan {}.matrix(x, y)?;
        let size = |x: &Tensor| absolute(x)?.sum(D::Minus1);
        let sizes = size(x)?
            .unsqueeze(1)?
            .broadcast_add(&size(y)?.unsqueeze(0)?)?;
        ratio(&manhattan, &sizes)
    }

    fn paired(&self, x: &Tensor, y: &Tensor) -> Result<Tensor> {
        let manhattan = Manhattan {}.paired(x, y)?;
        let sizes = (absolute(x)? + absolute(y)?)?.sum(D::Minus1)?;
        ratio(&manhattan, &sizes)
    }

    fn axioms(&self) -> Axioms {
        Axioms::METRIC
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Var};

    use super::*;

    #[test]
    fn weights_count_and_two_empty_sets_are_the_same() -> Result<()> {
        let x = Var::new(&[[1f64, 2.0, 0.0], [0.0, 0.0, 0.0]], &Device::Cpu)?;
        let y = Tensor::new(&[[3f64, 1.0, 0.0], [0.0, 0.0, 0.0]], &Device::Cpu)?;
        let distance = Jaccard {}.paired(&x, &y)?;
        assert_eq!(distance.to_vec1::<f64>()?, [0.6, 0.0]); // 1 − (1 + 1)/(3 + 2).
        let gradients = distance.backward()?;
        let gradient = gradients
            .get(&x)
            .expect("it depends on it")
            .to_vec2::<f64>()?;
        assert!((gradient[0][0] + 0.2).abs() < 1e-15); // −1/5.
        assert!((gradient[0][1] - 2.0 / 25.0).abs() < 1e-15);
        assert_eq!(gradient[1], [0.0; 3]);
        Ok(())
    }
}
