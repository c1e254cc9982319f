//! Random walks among rows and proxies.

use candle_core::{DType, Device, Result, Tensor, Var};
use nearfar_core::{
    Comparison, Error, Finite, Fraction, Loss, NonNegative, Parameter, Purpose, Reducer, Rng,
    Stateful, Terms, position_of_name, shape,
};
use nearfar_kernels::{l2_normalize, log_sum_exp, softplus};
use serde::{Deserialize, Serialize};
use std::num::NonZeroUsize;

use crate::family::BatchLoss;
use crate::over::batches::{Formula, Whole, classes};
use crate::over::classes::{CENTERS, labels_within};
use crate::{CenterStart, Compares, Join, Reads};

/// Wants a random walk from each row to reach the proxy of its class more often than any other.
///
/// ```text
/// S = e^(2 [cos]₊) among the n rows and K proxies, 0 on the diagonal;   S̄ = D^(−½) S D^(−½),   D = row sums
/// F = (1 − alpha) (I − alpha S̄)⁻¹
/// intrinsic   log(1 + Σ_k e^(F_ik − F_i,own + margin))          over the k ≠ own whose exponent is not below 0
/// context     the same with the cosines of the rows of F of row i and proxy k
/// l = intrinsic + context_weight · context
/// ```
///
/// The proxies are parameters of the loss: `centers`, `(K, d)`, of `K` meta-classes. With no more classes than proxies each class
/// has one of its own; otherwise the classes are dealt out to the proxies at random, by name and seed. One term for each row, as
/// the parts `intrinsic` and `context`. `O((n + K)³)` time: the system is symmetric and positive definite, and is solved by a
/// Cholesky factor on the host. Reads classes, of the anchors; takes no miner.
///
/// Source: Aziere, Todorovic, "Ensemble Deep Manifold Similarity Learning using Hard Proxies", CVPR 2019, equations 2 to 8. Agrees
/// with `ManifoldLoss` of pytorch-metric-learning 2.9, which solves in f32, as far as that is exact.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Manifold {
    /// How many proxies there are; K in the paper.
    pub proxies: NonZeroUsize,
    /// How far the walk goes on; below 1.
    pub alpha: Fraction,
    /// The wanted gap.
    pub margin: Finite,
    /// What the context counts; λ_C in the paper.
    pub context_weight: NonNegative,
}

impl Default for Manifold {
    /// Those of pytorch-metric-learning.
    fn default() -> Self {
        Self {
            proxies: NonZeroUsize::new(50).expect("50 is above 0"),
            alpha: Fraction::literal(0.8),
            margin: Finite::literal(5e-4),
            context_weight: NonNegative::literal(1.0),
        }
    }
}

impl BatchLoss for Manifold {
    fn reads(&self) -> Reads {
        Reads::Classes
    }

    fn compares(&self) -> Compares {
        Compares::Centers
    }

    fn takes_miner(&self) -> bool {
        false
    }

    fn check(&self) -> std::result::Result<(), Error> {
        if self.alpha.get() < 1.0 {
            return Ok(());
        }
        Err(Error::Settings(
            "manifold: `alpha` is 1, and the walk would never end; it must be below 1".into(),
        ))
    }

    fn build(&self, name: &'static str, mut join: Join) -> Result<Box<dyn Loss>> {
        join.refuse_scorer(name, "its class centers")?;
        join.refuse_metric(name)?;
        join.refuse_miner(name)?;
        let (classes, width) = join.class_centers(name, 1)?;
        let proxies = self.proxies.get();
        let start = join.center_start.unwrap_or(CenterStart::Normal);
        let centers = join.centers(start, (proxies, width))?;
        let mut dealt: Vec<u32> = (0..classes as u32).collect();
        if classes > proxies {
            let place = format!("{}meta_classes", join.place);
            join.seed
                .rng(Purpose::Init, position_of_name(&place))
                .shuffle(&mut dealt);
        }
        let formula = Walk {
            name,
            settings: self.clone(),
            centers,
            meta_classes: dealt.into_iter().map(|it| it % proxies as u32).collect(),
        };
        Ok(Whole::boxed(formula, join.reducer.take(), Reducer::Mean {}))
    }
}

#[derive(Debug)]
struct Walk {
    name: &'static str,
    settings: Manifold,
    centers: Var,
    /// The proxy of each class.
    meta_classes: Vec<u32>,
}

impl Stateful for Walk {}

impl Formula for Walk {
    fn terms(&self, comparison: &Comparison<'_>, _: &mut Rng) -> Result<Vec<Terms>> {
        let (rows, centers) = (&comparison.anchors.vectors, self.centers.as_tensor());
        let labels = classes(self.name, comparison)?;
        let labels = labels_within(self.name, labels, self.meta_classes.len())?;
        shape::rows_of_one_width(self.name, ("embeddings", rows), ("centers", centers))?;
        let (n, k) = (labels.len(), centers.dim(0)?);
        if n == 0 || k < 2 {
            return Ok(["intrinsic", "context"]
                .map(|part| Terms::none(part, comparison))
                .into());
        }
        let own: Vec<u32> = labels
            .iter()
            .map(|&label| self.meta_classes[label as usize])
            .collect();
        let walks = self.walks(&Tensor::cat(&[rows, centers], 0)?)?; // (n + k, n + k)
        let from_rows = walks.narrow(0, 0, n)?;
        let intrinsic = self.hinged(&from_rows.narrow(1, n, k)?.contiguous()?, &own)?;
        let unit_rows = l2_normalize(&from_rows.contiguous()?)?;
        let unit_proxies = l2_normalize(&walks.narrow(0, n, k)?.contiguous()?)?;
        let context = self.hinged(&unit_rows.matmul(&unit_proxies.t()?)?, &own)?;
        let context = (context * self.settings.context_weight.get())?;
        let anchors = || (0..n as u32).collect();
        Ok(vec![
            Terms::of_anchors("intrinsic", intrinsic, anchors(), comparison)?,
            Terms::of_anchors("context", context, anchors(), comparison)?,
        ])
    }

    fn parameters(&self) -> Vec<Parameter> {
        vec![Parameter {
            name: CENTERS.into(),
            var: self.centers.clone(),
            trained: true,
        }]
    }
}

impl Walk {
    /// `(1 − alpha) (I − alpha S̄)⁻¹` of rows.
    fn walks(&self, rows: &Tensor) -> Result<Tensor> {
        let alpha = self.settings.alpha.get();
        let unit = l2_normalize(rows)?;
        let m = unit.dim(0)?;
        let (dtype, device) = (rows.dtype(), rows.device());
        let eye = Tensor::eye(m, DType::F64, &Device::Cpu)?;
        let eye = eye.to_dtype(dtype)?.to_device(device)?;
        let others = eye.affine(-1.0, 1.0)?;
        let cosines = unit.matmul(&unit.t()?)?;
        let affinity = ((nearfar_kernels::hinge(&cosines)? * 2.0)?.exp()? * others)?;
        let scale = affinity.sum_keepdim(1)?.sqrt()?.recip()?; // At least one other has e⁰.
        let affinity = affinity.broadcast_mul(&scale)?.broadcast_mul(&scale.t()?)?;
        let system = (eye - (affinity * alpha)?)?;
        inverse(&system)? * (1.0 - alpha)
    }

    /// `log(1 + Σ_k e^(x_k − x_own + margin))` of each row, over the `k ≠ own` whose exponent is not below 0.
    fn hinged(&self, x: &Tensor, own: &[u32]) -> Result<Tensor> {
        let (n, k) = x.dims2()?;
        let own = Tensor::from_slice(own, (n, 1), x.device())?;
        let exponent = (x.broadcast_sub(&x.gather(&own, 1)?)? + self.settings.margin.get())?;
        let numbers = Tensor::arange(0u32, k as u32, x.device())?.reshape((1, k))?;
        let other = numbers
            .broadcast_as((n, k))?
            .ne(&own.broadcast_as((n, k))?)?;
        let counts = (exponent.detach().ge(0f64)? * other)?;
        let hidden = (exponent.zeros_like()?.detach() + nearfar_kernels::EMPTY)?;
        softplus(&log_sum_exp(&counts.where_cond(&exponent, &hidden)?)?)
    }
}

/// The inverse of a symmetric positive definite matrix, with its gradient `−A⁻¹ dA A⁻¹`.
fn inverse(a: &Tensor) -> Result<Tensor> {
    let host = a.detach().to_dtype(DType::F64)?.to_device(&Device::Cpu)?;
    let inverse = blocked_inverse(&host)?;
    let inverse = inverse.to_dtype(a.dtype())?.to_device(a.device())?;
    // The difference is 0 in value; in the gradient it is dA.
    let change = (a - a.detach())?;
    &inverse - inverse.matmul(&change)?.matmul(&inverse)?
}

/// The inverse by halves, whose work is matrix products: with `S = D − Bᵀ A⁻¹ B` and `X = A⁻¹ B S⁻¹`,
///
/// ```text
/// (A  B)⁻¹   (A⁻¹ + X Bᵀ A⁻¹   −X )
/// (Bᵀ D)   = (      −Xᵀ        S⁻¹)
/// ```
fn blocked_inverse(a: &Tensor) -> Result<Tensor> {
    let m = a.dim(0)?;
    if m <= 64 {
        let inverse = cholesky_inverse(&a.to_vec2::<f64>()?)?;
        return Tensor::from_vec(inverse, (m, m), a.device());
    }
    let (first, second) = (m / 2, m - m / 2);
    let block = |row: usize, rows: usize, column: usize, columns: usize| {
        a.narrow(0, row, rows)?
            .narrow(1, column, columns)?
            .contiguous()
    };
    let top = blocked_inverse(&block(0, first, 0, first)?)?;
    let beside = block(0, first, first, second)?;
    let by = top.matmul(&beside)?; // A⁻¹ B
    let rest = (block(first, second, first, second)? - beside.t()?.matmul(&by)?)?;
    let rest = blocked_inverse(&rest)?;
    let x = by.matmul(&rest)?;
    let top = (top + x.matmul(&by.t()?)?)?;
    let upper = Tensor::cat(&[&top, &x.neg()?], 1)?;
    let lower = Tensor::cat(&[&x.t()?.neg()?, &rest], 1)?;
    Tensor::cat(&[&upper, &lower], 0)
}

/// `A⁻¹ = L⁻ᵀ L⁻¹` of `A = L Lᵀ`, row-major.
fn cholesky_inverse(a: &[Vec<f64>]) -> Result<Vec<f64>> {
    let m = a.len();
    let mut factor = vec![0f64; m * m];
    for row in 0..m {
        for column in 0..=row {
            let products = (0..column).map(|k| factor[row * m + k] * factor[column * m + k]);
            let left = a[row][column] - products.sum::<f64>();
            if row != column {
                factor[row * m + column] = left / factor[column * m + column];
                continue;
            }
            if left.is_nan() || left <= 0.0 {
                Err(Error::Input(
                    "manifold: the affinities of the batch are no numbers to walk by; are its embeddings finite?".into(),
                ))?;
            }
            factor[row * m + row] = left.sqrt();
        }
    }
    // L⁻¹, column by column.
    let mut lower = vec![0f64; m * m];
    for column in 0..m {
        lower[column * m + column] = 1.0 / factor[column * m + column];
        for row in column + 1..m {
            let products = (column..row).map(|k| factor[row * m + k] * lower[k * m + column]);
            lower[row * m + column] = -products.sum::<f64>() / factor[row * m + row];
        }
    }
    let mut inverse = vec![0f64; m * m];
    for row in 0..m {
        for column in 0..=row {
            let products = (row..m).map(|k| lower[k * m + row] * lower[k * m + column]);
            let sum = products.sum::<f64>();
            inverse[row * m + column] = sum;
            inverse[column * m + row] = sum;
        }
    }
    Ok(inverse)
}

#[cfg(test)]
mod tests {
    use nearfar_kernels::test_util::check_gradient;

    use super::*;

    #[test]
    fn an_inverse_is_one_and_has_its_gradient() -> Result<()> {
        let a = Tensor::new(
            &[[4f64, 1.0, 0.5], [1.0, 3.0, -0.2], [0.5, -0.2, 2.0]],
            &Device::Cpu,
        )?;
        let product = a.matmul(&inverse(&a)?)?.to_vec2::<f64>()?;
        for (row, numbers) in product.iter().enumerate() {
            for (column, number) in numbers.iter().enumerate() {
                assert!((number - f64::from(u8::from(row == column))).abs() < 1e-14);
            }
        }
        // Of a symmetric change: b + bᵀ.
        check_gradient(
            |x| inverse(&(&a + (&x[0] + x[0].t()?)?)?)?.sqr()?.sum_all(),
            &[(&a * 0.05)?],
            1e-6,
        )?;
        assert!(inverse(&a.neg()?).is_err());
        Ok(())
    }

    #[test]
    fn a_large_inverse_is_one_too() -> Result<()> {
        let m = 150;
        let noise = nearfar_kernels::test_util::noise((m, m), 1)?;
        let eye = Tensor::eye(m, DType::F64, &Device::Cpu)?;
        let a = ((noise.matmul(&noise.t()?)? / m as f64)? + &eye)?;
        let off = (a.matmul(&inverse(&a)?)? - eye)?.abs()?.max_all()?;
        assert!(off.to_scalar::<f64>()? < 1e-12, "{off}");
        Ok(())
    }
}
