//! The whole and its parts in one embedding.

use candle_core::{D, Result, Tensor};
use nearfar_core::{Encoded, Error, Finite, Mode};
use nearfar_kernels::{l2_normalize, softmax};
use serde::{Deserialize, Serialize};

use super::{Over, Under};
use crate::{Init, Params, Weight};

/// How the parts of a sample become one vector.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Local {
    /// Side by side.
    #[default]
    Joined,
    /// Their mean.
    Mean,
    /// Their mean, each by a share that is learned: the softmax of its product with one vector, `query`, which starts at 0, where all
    /// shares are equal.
    Attention,
}

/// Joins the embedding of the whole with those of its parts, by a weight that is learned.
///
/// ```text
/// y = [ g / ‖g‖ ;  w · l / ‖l‖ ] / √(1 + w²)        l = [p_0; p_1; …], their mean, or Σ_i softmax_i(q · p_i) p_i
/// ```
///
/// `g` is the model's embedding, `p_i` are the vectors `part.0`, `part.1`, … that it gives beside it, such as those of
/// `model.conv4 = { parts = 3, blocks = 2 }`. The result has length 1, and its cosine is that of the wholes and that of the parts, weighted by 1 and
/// `w²`. A part that is zero stays zero, and so does the whole.
///
/// Names: `fusion.weight` `(1)`, and `fusion.query` `(d)` with `local = "attention"`.
///
/// Source: Sun et al., "Beyond Part Models", ECCV 2018, <https://arxiv.org/abs/1711.09349>, for parts side by side; Cheng et al., "Person
/// Re-Identification by Multi-Channel Parts-Based CNN with Improved Triplet Loss Function", CVPR 2016, for the whole beside its parts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Fusion {
    /// What the weight of the parts starts at.
    pub weight: Finite,
    /// How the parts become one vector: `"joined"`, `"mean"` or `"attention"`.
    pub local: Local,
}

impl Default for Fusion {
    /// Parts side by side, as heavy as the whole.
    fn default() -> Self {
        Self {
            weight: Finite::literal(1.0),
            local: Local::Joined,
        }
    }
}

/// What the names of parts begin with.
const PART: &str = "part.";

#[derive(Debug)]
struct Joint {
    /// `part.10` is after `part.9`.
    parts: Vec<String>,
    local: Local,
    weight: Weight,
    query: Option<Weight>,
}

impl Fusion {
    pub(super) fn over(&self, under: &Under, params: &Params) -> Result<(Box<dyn Over>, usize)> {
        let mut parts: Vec<(&String, usize)> = under
            .beside
            .iter()
            .filter(|(name, size)| name.starts_with(PART) && size.len() == 1)
            .map(|(name, size)| (name, size[0]))
            .collect();
        parts.sort_by_key(|(name, _)| (name.len(), name.as_str()));
        let Some(&(_, width)) = parts.first() else {
            return Err(Error::Settings(
                "fusion: the model gives no vectors `part.0`, `part.1`, …; `model.conv4 = { parts = 3, blocks = 2 }` gives some".into(),
            ))?;
        };
        if self.local != Local::Joined && parts.iter().any(|part| part.1 != width) {
            Err(Error::Settings(
                "fusion: the parts have different widths and no mean; take `local = \"joined\"`"
                    .into(),
            ))?;
        }
        let local = match self.local {
            Local::Joined => parts.iter().map(|part| part.1).sum(),
            Local::Mean | Local::Attention => width,
        };
        let query = match self.local {
            Local::Attention => Some(params.weight("query", width, Init::Constant(0.0))?),
            Local::Joined | Local::Mean => None,
        };
        let joint = Joint {
            parts: parts.into_iter().map(|(name, _)| name.clone()).collect(),
            local: self.local,
            weight: params.weight("weight", 1, Init::Constant(self.weight.get()))?,
            query,
        };
        Ok((Box::new(joint), under.width + local))
    }
}

impl Over for Joint {
    fn embed(&self, encoded: &Encoded, mode: &mut Mode<'_>) -> Result<Tensor> {
        let parts: Option<Vec<&Tensor>> = self
            .parts
            .iter()
            .map(|name| encoded.extra.get(name))
            .collect();
        let parts = parts.ok_or_else(|| {
            Error::Input(format!(
                "fusion: the model gave no vectors `{}`",
                self.parts.join("`, `")
            ))
        })?;
        let local = match (self.local, &self.query) {
            (Local::Joined, _) => Tensor::cat(&parts, 1)?,
            (Local::Attention, Some(query)) => {
                let parts = Tensor::stack(&parts, 1)?; // (b, parts, d)
                let scores = parts.broadcast_mul(&query.tensor(mode))?.sum(D::Minus1)?;
                let shares = softmax(&scores)?.unsqueeze(D::Minus1)?; // (b, parts, 1)
                parts.broadcast_mul(&shares)?.sum(1)?
            }
            _ => Tensor::stack(&parts, 1)?.mean(1)?,
        };
        let weight = self.weight.tensor(mode);
        let (global, local) = (l2_normalize(&encoded.embedding)?, l2_normalize(&local)?);
        l2_normalize(&Tensor::cat(&[global, local.broadcast_mul(&weight)?], 1)?)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use candle_core::{DType, Device};
    use nearfar_core::Seed;

    fn encoded() -> Result<Encoded> {
        let rows = |values: &[[f64; 2]; 1]| Tensor::new(values, &Device::Cpu);
        Ok(Encoded {
            embedding: rows(&[[3.0, 4.0]])?,
            extra: BTreeMap::from([
                ("part.0".to_owned(), rows(&[[1.0, 0.0]])?),
                ("part.1".to_owned(), rows(&[[0.0, 1.0]])?),
            ]),
        })
    }

    fn build(
        settings: &Fusion,
        beside: &[(&str, usize)],
    ) -> Result<(Params, Box<dyn Over>, usize)> {
        let params = Params::new(Seed(1), DType::F64, &Device::Cpu)?;
        let beside = beside
            .iter()
            .map(|&(name, size)| (name.to_owned(), vec![size]));
        let under = Under {
            width: 2,
            beside: beside.collect(),
            samples: None,
        };
        let (head, width) = settings.over(&under, &params)?;
        Ok((params, head, width))
    }

    #[test]
    fn the_whole_and_the_parts_have_their_weights() -> Result<()> {
        let parts = [("part.0", 2), ("part.1", 2)];
        let half = 0.5f64.sqrt();
        for (local, weight, wanted) in [
            (Local::Joined, 1.0, vec![0.6, 0.8, half, 0.0, 0.0, half]),
            (Local::Mean, 1.0, vec![0.6, 0.8, half, half]),
            (
                Local::Attention,
                2.0,
                vec![0.6, 0.8, 2.0 * half, 2.0 * half],
            ),
        ] {
            let settings = Fusion {
                weight: Finite::literal(weight),
                local,
            };
            let (_, head, width) = build(&settings, &parts)?;
            let found = head.embed(&encoded()?, &mut Mode::Eval)?.to_vec2::<f64>()?;
            assert_eq!(found[0].len(), width);
            for (found, wanted) in found[0].iter().zip(&wanted) {
                let wanted = wanted / (1.0 + weight * weight).sqrt();
                assert!((found - wanted).abs() < 1e-9, "{local:?}: {found} {wanted}");
            }
        }
        Ok(())
    }

    #[test]
    fn attention_takes_the_part_that_it_asks_for() -> Result<()> {
        let settings = Fusion {
            local: Local::Attention,
            ..Fusion::default()
        };
        let (params, head, _) = build(&settings, &[("part.0", 2), ("part.1", 2)])?;
        params.set("query", &Tensor::new(&[0f64, 50.0], &Device::Cpu)?)?;
        let found = head.embed(&encoded()?, &mut Mode::Eval)?.to_vec2::<f64>()?;
        assert!(
            found[0][2] < 1e-9 && (found[0][3] - 0.5f64.sqrt()).abs() < 1e-9,
            "{found:?}"
        );
        Ok(())
    }

    #[test]
    fn a_model_without_parts_is_refused() {
        let error = build(&Fusion::default(), &[("hidden.0", 2)]).expect_err("no parts");
        assert!(error.to_string().contains("no vectors `part.0`"), "{error}");
        let mean = Fusion {
            local: Local::Mean,
            ..Fusion::default()
        };
        assert!(build(&mean, &[("part.0", 2), ("part.1", 3)]).is_err());
    }
}
