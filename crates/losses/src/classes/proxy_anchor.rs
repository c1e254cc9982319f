//! A proxy for each class as the anchor of all rows.

use candle_core::{Result, Tensor};
use nearfar_core::{Comparison, Finite, Positive, Reducer, Terms, Unit, shape};
use nearfar_kernels::{Row, RowFunctional, RowSum, masked_log_sum_exp, rows, softplus};
use serde::{Deserialize, Serialize};

use crate::family::{ByRow, ClassificationLoss, Head};
use crate::{CenterStart, Compares, Compat, ToCenters};

/// Wants the rows of a class near its proxy, the farthest most of all, and the rows of other classes away from it.
///
/// ```text
/// positive = 1/|P⁺| Σ_{p ∈ P⁺} log(1 + Σ_{x of class p} e^(−alpha (s(x, p) − margin)))
/// negative = 1/c Σ_p log(1 + Σ_{x of other classes} e^(alpha (s(x, p) + margin)))
/// ```
///
/// `P⁺` are the proxies whose class is in the batch, `s` is the cosine. The anchors of its terms are the proxies: one term of each
/// part for each class. A proxy without a row of its kind has the term 0. Its two parts are `positive` and `negative`.
///
/// The proxies are parameters of the loss: `centers`, `(c, d)`. They want a learning rate 10 to 100 times that of the tower.
/// Labels are `0..c`. A miner, if there is one, gives each row a weight: how often it is in a tuple, over the largest such count;
/// the row's exponential counts that often. With `compat = "pml"` the weight less 1 is added to the exponent instead.
///
/// A distance counts as the similarity `−d`, and then the margin is usually below zero.
///
/// Source: Kim et al., "Proxy Anchor Loss for Deep Metric Learning", CVPR 2020, <https://arxiv.org/abs/2003.13911>, equation 4.
/// Agrees with `ProxyAnchorLoss` of pytorch-metric-learning 2.9 (of weights with `compat = "pml"`).
///
/// ```
/// # use candle_core::{Device, Tensor, Var};
/// # use nearfar_core::{Comparison, Embeddings, Loss, Purpose, Seed};
/// use nearfar_losses::{OverClasses, ProxyAnchor};
///
/// let proxies = Var::new(&[[1f64, 0.0], [0.0, 1.0]], &Device::Cpu)?;
/// let rows = Embeddings::labeled(Tensor::new(&[[1f64, 0.0]], &Device::Cpu)?, vec![0])?;
/// let loss = OverClasses::new("proxy_anchor", ProxyAnchor::default(), proxies);
/// let parts = loss.evaluate(&Comparison::within(&rows), &mut Seed(0).rng(Purpose::Mining, 0))?.parts;
/// let number = |part: usize| parts[part].value.as_ref().expect("there is one").to_scalar::<f64>();
/// assert!((number(0)? - (1.0 + (-32.0 * 0.9f64).exp()).ln()).abs() < 1e-12);
/// assert!((number(1)? - (1.0 + (32.0 * 0.1f64).exp()).ln() / 2.0).abs() < 1e-12); // Of two proxies one has a row.
/// # Ok::<(), candle_core::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ProxyAnchor {
    /// How far beyond 0 a similarity is pushed; δ in the paper.
    pub margin: Finite,
    /// What similarities are multiplied by.
    pub alpha: Positive,
    /// Whose arithmetic it follows where that differs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compat: Option<Compat>,
}

impl Default for ProxyAnchor {
    /// The paper's values.
    fn default() -> Self {
        Self {
            margin: Finite::literal(0.1),
            alpha: Positive::literal(32.0),
            compat: None,
        }
    }
}

impl ClassificationLoss for ProxyAnchor {
    fn logits(&self, to: &ToCenters) -> Result<Tensor> {
        Ok(to.cosine.clone())
    }

    fn terms(
        &self,
        to: &ToCenters,
        weights: Option<&Tensor>,
        _: &Comparison<'_>,
    ) -> Result<Vec<Terms>> {
        shape::same(
            "proxy_anchor",
            ("similarities", &to.cosine),
            ("own", &to.own),
        )?;
        let (alpha, margin) = (self.alpha.get(), self.margin.get());
        let similarity = to.cosine.t()?.contiguous()?; // (c, n)
        let (classes, n) = similarity.dims2()?;
        let own = to.own.t()?.contiguous()?;
        let dtype = similarity.dtype();
        let (mut positive, mut negative) = (own.to_dtype(dtype)?, own.eq(0u8)?.to_dtype(dtype)?);
        let mut shift = None;
        if let Some(weights) = weights {
            let row = weights.reshape((1, n))?;
            shift = Some(match self.compat {
                Some(Compat::Pml) => (row - 1.0)?,
                None => {
                    // w e^x = e^(x + log w); a row of weight 0 is not there.
                    let counts = row.gt(0f64)?.to_dtype(dtype)?;
                    positive = positive.broadcast_mul(&counts)?;
                    negative = negative.broadcast_mul(&counts)?;
                    (row + counts.affine(-1.0, 1.0)?)?.log()?
                }
            });
        }
        let part = |name: &'static str, exponent: Tensor, mask: &Tensor, divisor: usize| {
            let exponent = match &shift {
                None => exponent,
                Some(shift) => exponent.broadcast_add(shift)?,
            };
            // log(1 + Σ e^x) = softplus(log Σ e^x), and 0 of an empty sum.
            let values = softplus(&masked_log_sum_exp(&exponent, mask)?)?;
            Ok::<_, candle_core::Error>(Terms {
                name,
                unit: Unit::Anchor,
                values: Some(values),
                anchors: (0..classes as u32).collect(),
                labels: (0..classes as u32).collect(),
                rows: classes,
                divisor: Some(divisor as f64),
            })
        };
        let own = own.to_vec2::<u8>()?;
        let present = own.iter().filter(|row| row.contains(&1)).count();
        let toward = similarity.affine(-alpha, alpha * margin)?;
        let away = similarity.affine(alpha, alpha * margin)?;
        Ok(vec![
            part("positive", toward, &positive, present)?,
            part("negative", away, &negative, classes)?,
        ])
    }

    fn by_row(&self, _: &Head<'_>) -> Option<ByRow> {
        Some(ByRow {
            of_centers: true,
            ..ByRow::cosines(OfProxy {
                alpha: self.alpha.get() as f32,
                margin: self.margin.get() as f32,
            })
        })
    }

    fn parts(&self) -> &'static [&'static str] {
        &["positive", "negative"]
    }

    fn is_softmax(&self) -> bool {
        false
    }

    fn centers(&self) -> CenterStart {
        CenterStart::KaimingNormal
    }

    fn compares(&self) -> Compares {
        Compares::Similarity("cosine")
    }

    fn reducer(&self) -> Reducer {
        Reducer::Divisor {}
    }
}

/// A proxy and all rows: those of its class, and the others.
struct OfProxy {
    alpha: f32,
    margin: f32,
}

impl RowFunctional for OfProxy {
    fn row(&self, mut row: Row<'_>) -> [RowSum; 2] {
        let (positives, [before, after]) = row.split();
        let pull = rows::softplus_sum(&mut [positives], -self.alpha, self.margin);
        let push = rows::softplus_sum(&mut [before, after], self.alpha, -self.margin);
        [pull, push].map(|value| RowSum {
            value: f64::from(value),
            terms: 1,
            active: usize::from(value > 0.0),
        })
    }

    fn apart(&self) -> bool {
        true
    }
}
