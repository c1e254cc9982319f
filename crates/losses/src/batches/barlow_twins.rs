//! Correlations of the coordinates of two views.

use candle_core::{DType, Result, Tensor};
use nearfar_core::{Comparison, Loss, NonNegative, Reducer, Rng, Stateful, Terms};
use nearfar_kernels::l2_normalize;
use serde::{Deserialize, Serialize};

use crate::family::BatchLoss;
use crate::over::batches::{Formula, Whole, each_two_views};
use crate::{Compares, Join, Reads};

/// Wants each coordinate to correlate with itself in the other view, and with no other. It needs no negatives.
///
/// ```text
/// l = Σ_k (1 − C_kk)² + weight Σ_{k ≠ j} C_kj²,   C = correlations over the batch of the coordinates of both views
/// ```
///
/// A coordinate that does not vary correlates with nothing, and has no gradient. With one row there is nothing to learn. It is one
/// term for the whole batch. Of more than two views each two are averaged. Reads two views of each row; takes no miner.
///
/// Source: Zbontar et al., "Barlow Twins: Self-Supervised Learning via Redundancy Reduction", ICML 2021,
/// <https://arxiv.org/abs/2103.03230>, equations 1 and 2.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BarlowTwins {
    /// What correlations of different coordinates count; λ in the paper.
    pub weight: NonNegative,
}

impl Default for BarlowTwins {
    /// The paper's value.
    fn default() -> Self {
        Self {
            weight: NonNegative::literal(5e-3),
        }
    }
}

impl BatchLoss for BarlowTwins {
    fn reads(&self) -> Reads {
        Reads::Views
    }

    fn compares(&self) -> Compares {
        Compares::Centers
    }

    fn takes_miner(&self) -> bool {
        false
    }

    fn build(&self, name: &'static str, mut join: Join) -> Result<Box<dyn Loss>> {
        join.refuse_scorer(name, "two views of each row")?;
        join.refuse_metric(name)?;
        join.refuse_miner(name)?;
        let formula = Views {
            name,
            weight: self.weight.get(),
        };
        Ok(Whole::boxed(formula, join.reducer.take(), Reducer::Mean {}))
    }
}

#[derive(Debug)]
struct Views {
    name: &'static str,
    weight: f64,
}

impl Stateful for Views {}

impl Formula for Views {
    fn terms(&self, comparison: &Comparison<'_>, _: &mut Rng) -> Result<Vec<Terms>> {
        each_two_views(self.name, comparison, &["batch"], |first, second| {
            self.of_two(first, second, comparison)
        })
    }
}

impl Views {
    fn of_two(
        &self,
        first: &Tensor,
        second: &Tensor,
        comparison: &Comparison<'_>,
    ) -> Result<Vec<Terms>> {
        let (n, d) = first.dims2()?;
        if n < 2 {
            return Ok(vec![Terms::none("batch", comparison)]);
        }
        // A correlation is the cosine of two centered columns.
        let columns = |view: &Tensor| -> Result<Tensor> {
            let centered = view.broadcast_sub(&view.mean_keepdim(0)?)?;
            l2_normalize(&centered.t()?.contiguous()?)
        };
        let correlations = columns(first)?.matmul(&columns(second)?.t()?)?; // (d, d)
        let eye = Tensor::eye(d, DType::F64, first.device())?.to_dtype(first.dtype())?;
        let squares = (correlations - &eye)?.sqr()?;
        let weights = eye.affine(1.0 - self.weight, self.weight)?;
        let value = (squares * weights)?.sum_all()?;
        Ok(vec![Terms::of_batch("batch", &value, comparison)?])
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;
    use nearfar_core::{Embeddings, Purpose, Seed};

    use super::*;

    #[test]
    fn it_is_the_number_on_paper() -> Result<()> {
        // The first coordinates agree, the second are opposite; the two correlate by 0.
        let side = |rows: [[f64; 2]; 4], start: u64| -> Result<Embeddings> {
            let vectors = Tensor::new(&rows, &Device::Cpu)?;
            Embeddings::new(vectors, Vec::new(), (start..start + 4).collect())
        };
        let first = side([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]], 0)?;
        let second = side([[2.0, -1.0], [2.0, 1.0], [0.0, -1.0], [0.0, 1.0]], 4)?;
        let loss = BarlowTwins::default().build("barlow_twins", Join::default())?;
        let comparison = Comparison::between(&first, &second);
        let total = loss
            .evaluate(&comparison, &mut Seed(0).rng(Purpose::Mining, 0))?
            .total()?;
        let value = total.expect("four rows").to_scalar::<f64>()?;
        assert!((value - 4.0).abs() < 1e-12, "{value}");
        Ok(())
    }
}
