//! Similarity of two views without negatives.

use std::num::NonZeroUsize;

use candle_core::{Result, Tensor, Var};
use nearfar_core::{Comparison, Loss, Parameter, Reducer, Rng, Stateful, Terms};
use nearfar_kernels::l2_normalize;
use serde::{Deserialize, Serialize};

use crate::family::BatchLoss;
use crate::over::batches::{Formula, Whole, each_two_views, within_range};
use crate::{CenterStart, Compares, Join, Reads};

/// Wants a small network to foretell each view of a row from another one. It needs neither negatives nor a large batch.
///
/// ```text
/// l = −½ cos(h(z), sg z') − ½ cos(h(z'), sg z),     h(z) = W₂ relu(norm(W₁ z)) + b₂
/// ```
///
/// `sg` stops the gradient: without it, or without the predictor `h`, all rows would become one. So the gradient is not that of the
/// value. The predictor is the loss's own: its parameters are `predictor.*`, are trained with the towers and are dropped after
/// training. `norm` takes the hidden numbers of a view to mean 0 and variance 1 over the batch, then by a learned scale and shift;
/// with one row it leaves the shift alone. The paper's projection is the head of the tower: three layers with batch statistics.
///
/// The value is from −1 to 1, and −1 where all is foretold. Of more than two views each two are averaged. Reads two views of each
/// row; takes no miner.
///
/// Source: Chen, He, "Exploring Simple Siamese Representation Learning", CVPR 2021, <https://arxiv.org/abs/2011.10566>, equations 1
/// to 4.
///
/// ```
/// # use nearfar_losses::{LossConfig, Reads};
/// let config: LossConfig = toml::from_str("simsiam = { hidden = 128 }")?;
/// assert_eq!(config.reads(), Reads::Views);
/// # Ok::<(), toml::de::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SimSiam {
    /// Width of the predictor's hidden layer. Where it is left out, a quarter of the embeddings' width as in the paper, but no less
    /// than 16.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hidden: Option<NonZeroUsize>,
}

impl BatchLoss for SimSiam {
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
        let d = join.known_width(name)?;
        let hidden = self.hidden.map_or((d / 4).max(16), NonZeroUsize::get);
        let weight = |name: &str, size| join.parameter(CenterStart::XavierUniform, name, size);
        let number = |value: f64, size: usize| -> Result<Var> {
            let numbers = Tensor::full(value, (1, size), &join.device)?;
            Var::from_tensor(&numbers.to_dtype(join.dtype)?)
        };
        let predictor = Predictor {
            name,
            first: weight("predictor.first.weight", (hidden, d))?,
            scale: number(1.0, hidden)?,
            shift: number(0.0, hidden)?,
            second: weight("predictor.second.weight", (d, hidden))?,
            bias: number(0.0, d)?,
        };
        Ok(Whole::boxed(
            predictor,
            join.reducer.take(),
            Reducer::Mean {},
        ))
    }
}

#[derive(Debug)]
struct Predictor {
    name: &'static str,
    first: Var,
    scale: Var,
    shift: Var,
    second: Var,
    bias: Var,
}

/// What batch normalization adds to a variance.
const EPS: f64 = 1e-5;

impl Predictor {
    /// `(n, d) → (n, d)`
    fn foretell(&self, view: &Tensor) -> Result<Tensor> {
        let hidden = view.contiguous()?.matmul(&self.first.t()?)?;
        let centered = hidden.broadcast_sub(&hidden.mean_keepdim(0)?)?;
        let variance = within_range(&centered.sqr()?)?.mean_keepdim(0)?;
        let normal = centered.broadcast_div(&(variance + EPS)?.sqrt()?)?;
        let hidden = normal
            .broadcast_mul(&self.scale)?
            .broadcast_add(&self.shift)?
            .relu()?;
        hidden.matmul(&self.second.t()?)?.broadcast_add(&self.bias)
    }
}

impl Stateful for Predictor {}

impl Formula for Predictor {
    fn terms(&self, comparison: &Comparison<'_>, _: &mut Rng) -> Result<Vec<Terms>> {
        each_two_views(self.name, comparison, &["view"], |first, second| {
            let cosine = |view: &Tensor, other: &Tensor| -> Result<Tensor> {
                let foretold = l2_normalize(&self.foretell(view)?)?;
                (foretold * l2_normalize(&other.detach())?)?.sum(1)
            };
            let both = (cosine(first, second)? + cosine(second, first)?)?;
            let anchors = (0..first.dim(0)? as u32).collect();
            let terms = Terms::of_anchors("view", (both * -0.5)?, anchors, comparison)?;
            Ok(vec![terms])
        })
    }

    fn parameters(&self) -> Vec<Parameter> {
        [
            ("predictor.first.weight", &self.first),
            ("predictor.norm.bias", &self.shift),
            ("predictor.norm.weight", &self.scale),
            ("predictor.second.bias", &self.bias),
            ("predictor.second.weight", &self.second),
        ]
        .map(|(name, var)| Parameter {
            name: name.into(),
            var: var.clone(),
            trained: true,
        })
        .into()
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};
    use nearfar_core::{Embeddings, Purpose, Seed};

    use super::*;

    fn loss(width: usize) -> Result<Box<dyn Loss>> {
        let join = Join {
            width,
            dtype: DType::F64,
            ..Join::default()
        };
        SimSiam::default().build("simsiam", join)
    }

    fn sides(n: u64, first: &Tensor, second: &Tensor) -> Result<[Embeddings; 2]> {
        let side = |vectors: &Tensor, start: u64| {
            let count = vectors.dim(0)? as u64;
            Embeddings::new(
                vectors.clone(),
                Vec::new(),
                (start..start + count).collect(),
            )
        };
        Ok([side(first, 0)?, side(second, n)?])
    }

    #[test]
    fn only_what_is_foretold_has_a_gradient() -> Result<()> {
        let loss = loss(2)?;
        // A predictor that always says (1, 0).
        for parameter in loss.parameters() {
            let value = match parameter.name.as_str() {
                "predictor.second.bias" => Tensor::new(&[[1f64, 0.0]], &Device::Cpu)?,
                _ => parameter.var.zeros_like()?,
            };
            parameter.var.set(&value)?;
        }
        let first = Var::new(&[[3f64, 4.0], [0.0, 1.0]], &Device::Cpu)?;
        let second = Var::new(&[[1f64, 0.0], [-2.0, 0.0]], &Device::Cpu)?;
        let [x, y] = sides(2, &first, &second)?;
        let mut rng = Seed(0).rng(Purpose::Mining, 0);
        let comparison = Comparison::between(&x, &y);
        let terms = loss.terms(&comparison, &mut rng)?;
        let values = terms[0].values.as_ref().expect("two rows");
        let wanted = [-0.5 * (0.6 + 1.0), -0.5 * (0.0 - 1.0)];
        for (value, wanted) in values.to_vec1::<f64>()?.into_iter().zip(wanted) {
            assert!((value - wanted).abs() < 1e-12, "{value} {wanted}");
        }
        let gradients = values.sum_all()?.backward()?;
        for var in [&first, &second] {
            let gradient = gradients
                .get(var)
                .map(|it| it.flatten_all()?.to_vec1::<f64>());
            let gradient = gradient.transpose()?.unwrap_or_default();
            assert!(gradient.iter().all(|it| *it == 0.0), "{gradient:?}");
        }
        Ok(())
    }

    #[test]
    fn of_three_views_each_two_are_averaged() -> Result<()> {
        let loss = loss(3)?;
        let numbers = |seed: u64| -> Result<Tensor> {
            let mut rng = Seed(seed).rng(Purpose::Generation, 0);
            let numbers: Vec<f64> = (0..12).map(|_| rng.normal()).collect();
            Tensor::from_vec(numbers, (4, 3), &Device::Cpu)
        };
        let views = [numbers(1)?, numbers(2)?, numbers(3)?];
        let value = |first: &Tensor, second: &Tensor| -> Result<f64> {
            let [x, y] = sides(4, first, second)?;
            let mut rng = Seed(0).rng(Purpose::Mining, 0);
            let total = loss
                .evaluate(&Comparison::between(&x, &y), &mut rng)?
                .total()?;
            total.expect("four rows").to_scalar()
        };
        let two = [(0, 1), (0, 2), (1, 2)].map(|(i, j)| value(&views[i], &views[j]));
        let mean = two.into_iter().sum::<Result<f64>>()? / 3.0;
        let others = Tensor::cat(&views[1..], 0)?;
        assert!((value(&views[0], &others)? - mean).abs() < 1e-12);
        let error = value(&views[0], &others.narrow(0, 0, 7)?)
            .expect_err("7 rows")
            .to_string();
        assert!(error.contains("4 rows") && error.contains("7"), "{error}");
        Ok(())
    }
}
