//! Dot products as logits of belonging together.

use candle_core::{Result, Tensor};
use nearfar_core::{Comparison, Loss, Pairs, Reducer, Rng, Similarity, Stateful, Terms};
use nearfar_kernels::softplus;
use serde::{Deserialize, Serialize};

use crate::family::BatchLoss;
use crate::over::batches::{Formula, Whole};
use crate::over::rows_of_pairs;
use crate::{Compares, Join, Reads};

/// Wants the dot products of rows that belong together to be logits of a yes, and those of others of a no.
///
/// ```text
/// positive   log(1 + e^(−s)),   negative   log(1 + e^s),   s = x · y
/// ```
///
/// Its parts are `positive` and `negative`. The terms are added up. As published it trains two copies of an encoder, a sentence
/// paired with itself and with seven others: two towers and listed pairs. Reads classes and listed pairs; takes no miner.
///
/// Source: Carlsson et al., "Semantic Re-tuning with Contrastive Tension", ICLR 2021; `ContrastiveTensionLoss` of
/// sentence-transformers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ContrastiveTension {}

impl BatchLoss for ContrastiveTension {
    fn reads(&self) -> Reads {
        Reads::ClassesOrPairs
    }

    fn compares(&self) -> Compares {
        Compares::Similarity("dot")
    }

    fn reducer(&self) -> Reducer {
        Reducer::Sum {}
    }

    fn takes_miner(&self) -> bool {
        false
    }

    fn build(&self, name: &'static str, mut join: Join) -> Result<Box<dyn Loss>> {
        join.refuse_scorer(name, "similarities of pairs")?;
        join.refuse_miner(name)?;
        let formula = Tension {
            name,
            similarity: join.similarity(name, "dot")?,
        };
        Ok(Whole::boxed(formula, join.reducer.take(), self.reducer()))
    }
}

#[derive(Debug)]
struct Tension {
    name: &'static str,
    similarity: Box<dyn Similarity>,
}

impl Stateful for Tension {}

impl Formula for Tension {
    fn terms(&self, comparison: &Comparison<'_>, _: &mut Rng) -> Result<Vec<Terms>> {
        let chosen = nearfar_core::SignedPairs::all(comparison, self.name)?;
        let part = |name: &'static str, pairs: &Pairs, sign: f64| -> Result<Terms> {
            if pairs.is_empty() {
                return Ok(Terms::none(name, comparison));
            }
            let (x, y) = rows_of_pairs(comparison, pairs)?;
            let values: Tensor = softplus(&(self.similarity.paired(&x, &y)? * sign)?)?;
            Terms::tuples(name, values, pairs.anchors.clone(), comparison)
        };
        Ok(vec![
            part("positive", &chosen.positive, -1.0)?,
            part("negative", &chosen.negative, 1.0)?,
        ])
    }
}
