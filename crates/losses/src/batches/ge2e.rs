//! End-to-end losses of speakers: scaled cosines with the means of classes.

use std::num::NonZeroUsize;

use candle_core::{Result, Tensor, Var};
use nearfar_core::{Comparison, Loss, Parameter, Reducer, Rng, Stateful, Terms};
use nearfar_kernels::{EMPTY, l2_normalize, log_softmax, sigmoid};
use serde::{Deserialize, Serialize};

use super::prototypes::Prototypes;
use crate::family::BatchLoss;
use crate::over::batches::{Formula, Whole};
use crate::{Compares, Join, Reads};

/// Wants each row more similar to the mean of the others of its class than to the mean of any other class.
///
/// ```text
/// S_k = w cos(x, c_k) + b,   c_own without x
/// softmax    l = −S_own + log Σ_k e^(S_k)
/// contrast   l = 1 − σ(S_own) + max_{k ≠ own} σ(S_k)
/// ```
///
/// `w` and `b` are parameters of the loss, `scale` and `shift`; `w` is kept above 1e-6. A row whose class has no other is left out;
/// with one class there is nothing to learn. Of two sides the anchors are compared with the means of the references. Reads classes;
/// takes no miner.
///
/// Source: Wan et al., "Generalized End-to-End Loss for Speaker Verification", ICASSP 2018, <https://arxiv.org/abs/1710.10467>,
/// equations 5 to 9. The paper adds up over rows, which is `reducer = { sum = {} }`. Some public code raises cosines below 1e-6 to
/// that; the paper does not, and neither does this.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GE2E {
    /// Which of the two.
    pub form: GE2EForm,
    /// Where `w` starts.
    pub scale: nearfar_core::Positive,
    /// Where `b` starts.
    pub shift: nearfar_core::Finite,
}

/// The forms of [`GE2E`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GE2EForm {
    /// All other classes push; the better of the two without a text.
    Softmax,
    /// Only the nearest other class pushes; the better with one.
    Contrast,
}

impl Default for GE2E {
    /// The paper's values.
    fn default() -> Self {
        Self {
            form: GE2EForm::Softmax,
            scale: nearfar_core::Positive::literal(10.0),
            shift: nearfar_core::Finite::literal(-5.0),
        }
    }
}

impl BatchLoss for GE2E {
    fn reads(&self) -> Reads {
        Reads::Classes
    }

    fn compares(&self) -> Compares {
        Compares::Centers
    }

    fn takes_miner(&self) -> bool {
        false
    }

    fn build(&self, name: &'static str, join: Join) -> Result<Box<dyn Loss>> {
        let start = (self.scale.get(), self.shift.get());
        Scaled::boxed(name, None, self.form, start, join)
    }
}

/// Scaled cosines with the means of classes.
#[derive(Debug)]
pub(super) struct Scaled {
    name: &'static str,
    support: Option<NonZeroUsize>,
    form: GE2EForm,
    scale: Var,
    shift: Var,
}

impl Scaled {
    pub(super) fn boxed(
        name: &'static str,
        support: Option<NonZeroUsize>,
        form: GE2EForm,
        (scale, shift): (f64, f64),
        mut join: Join,
    ) -> Result<Box<dyn Loss>> {
        join.refuse_scorer(name, "cosines with the means of classes")?;
        join.refuse_metric(name)?;
        join.refuse_miner(name)?;
        let var = |number: f64| -> Result<Var> {
            let tensor = Tensor::new(&[[number]], &join.device)?.to_dtype(join.dtype)?;
            Var::from_tensor(&tensor)
        };
        let formula = Self {
            name,
            support,
            form,
            scale: var(scale)?,
            shift: var(shift)?,
        };
        Ok(Whole::boxed(formula, join.reducer.take(), Reducer::Mean {}))
    }
}

/// The least that the scale can be.
const LEAST_SCALE: f64 = 1e-6;

impl Stateful for Scaled {}

impl Formula for Scaled {
    fn terms(&self, comparison: &Comparison<'_>, _: &mut Rng) -> Result<Vec<Terms>> {
        let Some(it) = Prototypes::of(self.name, comparison, self.support)? else {
            return Ok(vec![Terms::none("query", comparison)]);
        };
        let rows = l2_normalize(&it.rows)?;
        let all = rows.matmul(&l2_normalize(&it.means)?.t()?)?;
        let own = (rows * l2_normalize(&it.own_means)?)?.sum(1)?;
        let (cosines, mask) = it.with_own(&all, &own)?;
        let scale = self.scale.maximum(LEAST_SCALE)?;
        let logits = cosines.broadcast_mul(&scale)?.broadcast_add(&self.shift)?;
        let zero = logits.zeros_like()?;
        let values = match self.form {
            GE2EForm::Softmax => {
                let log_p = log_softmax(&logits)?;
                mask.where_cond(&log_p, &zero)?.sum(1)?.neg()?
            }
            GE2EForm::Contrast => {
                let sigma = sigmoid(&logits)?;
                let own = mask.where_cond(&sigma, &zero)?.sum(1)?;
                let hidden = (zero.detach() + EMPTY)?;
                let nearest = mask.where_cond(&hidden, &logits.detach())?;
                let nearest = sigma.gather(&nearest.argmax_keepdim(1)?, 1)?.squeeze(1)?;
                ((nearest - own)? + 1.0)?
            }
        };
        Ok(vec![Terms::of_anchors(
            "query", values, it.queries, comparison,
        )?])
    }

    fn parameters(&self) -> Vec<Parameter> {
        [("scale", &self.scale), ("shift", &self.shift)]
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
    use candle_core::Device;
    use nearfar_core::{Embeddings, Purpose, Seed};

    use super::*;

    fn value(form: GE2EForm) -> Result<f64> {
        let vectors = Tensor::new(
            &[[2f64, 0.0], [1.0, 0.0], [0.0, 1.0], [-0.6, 0.8]],
            &Device::Cpu,
        )?;
        let rows = Embeddings::labeled(vectors, vec![0, 0, 1, 1])?;
        let settings = GE2E {
            form,
            ..GE2E::default()
        };
        let join = Join {
            dtype: candle_core::DType::F64,
            ..Join::default()
        };
        let loss = settings.build("ge2e", join)?;
        let total = loss
            .evaluate(
                &Comparison::within(&rows),
                &mut Seed(0).rng(Purpose::Mining, 0),
            )?
            .total()?;
        total.expect("four queries").to_scalar()
    }

    /// Means (1.5, 0) and (−0.3, 0.9); cosines of the own class without the row 1, 1, 0.8, 0.8. That of the last with class 0 is
    /// −0.6: it is not raised to 1e-6.
    #[test]
    fn both_forms_give_the_number_on_paper() -> Result<()> {
        let other = -0.3 / 0.9f64.sqrt();
        let pairs = [(1.0, other), (1.0, other), (0.8, 0.0), (0.8, -0.6)];
        let softmax: f64 = pairs
            .iter()
            .map(|(own, other)| (1.0 + f64::exp(10.0 * (other - own))).ln())
            .sum();
        assert!((value(GE2EForm::Softmax)? - softmax / 4.0).abs() < 1e-12);
        let sigma = |cosine: f64| 1.0 / (1.0 + (-(10.0 * cosine - 5.0)).exp());
        let contrast: f64 = pairs
            .iter()
            .map(|&(own, other)| 1.0 - sigma(own) + sigma(other))
            .sum();
        assert!((value(GE2EForm::Contrast)? - contrast / 4.0).abs() < 1e-12);
        Ok(())
    }
}
