//! Each row finds its own answer among all answers.

use candle_core::{Result, Tensor};
use nearfar_core::{Comparison, Loss, Positive, Reducer, Rng, Similarity, Stateful, Terms};
use nearfar_kernels::log_softmax;
use serde::{Deserialize, Serialize};

use crate::family::BatchLoss;
use crate::over::batches::{Formula, Whole, views};
use crate::{Compares, Join, Reads};

/// Wants the answer of each row more similar to it than the answers of all other rows of the batch.
///
/// ```text
/// l_i = −log softmax_j(scale · s(a_i, p_j))_i
/// ```
///
/// With `symmetric` each answer also seeks its row, and the two losses are averaged. All other answers are negatives, even where
/// they would be right: keep the same question, or the same answer, from being twice in a batch. With one row the loss is 0. Reads
/// two views of each row; takes no miner.
///
/// Source: Henderson et al., "Efficient Natural Language Response Suggestion for Smart Reply", 2017,
/// <https://arxiv.org/abs/1705.00652>, section 4.4; `MultipleNegativesRankingLoss` of sentence-transformers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MultipleNegativesRanking {
    /// What similarities are multiplied by.
    pub scale: Positive,
    /// Whether answers seek their rows too.
    pub symmetric: bool,
}

impl Default for MultipleNegativesRanking {
    /// Those of sentence-transformers.
    fn default() -> Self {
        Self {
            scale: Positive::literal(20.0),
            symmetric: false,
        }
    }
}

impl BatchLoss for MultipleNegativesRanking {
    fn reads(&self) -> Reads {
        Reads::Views
    }

    fn compares(&self) -> Compares {
        Compares::Similarity("cosine")
    }

    fn takes_miner(&self) -> bool {
        false
    }

    fn build(&self, name: &'static str, mut join: Join) -> Result<Box<dyn Loss>> {
        join.refuse_scorer(name, "similarities of all rows of a batch")?;
        join.refuse_miner(name)?;
        let formula = Ranking {
            name,
            settings: self.clone(),
            similarity: join.similarity(name, "cosine")?,
        };
        Ok(Whole::boxed(formula, join.reducer.take(), Reducer::Mean {}))
    }
}

#[derive(Debug)]
struct Ranking {
    name: &'static str,
    settings: MultipleNegativesRanking,
    similarity: Box<dyn Similarity>,
}

impl Stateful for Ranking {}

impl Formula for Ranking {
    fn terms(&self, comparison: &Comparison<'_>, _: &mut Rng) -> Result<Vec<Terms>> {
        let (first, second) = views(self.name, comparison)?;
        let n = first.dim(0)?;
        if n == 0 {
            return Ok(vec![Terms::none("list", comparison)]);
        }
        let logits = (self.similarity.matrix(first, second)? * self.settings.scale.get())?;
        let own = Tensor::arange(0u32, n as u32, first.device())?.reshape((n, 1))?;
        let sought = |logits: &Tensor| -> Result<Tensor> {
            log_softmax(logits)?.gather(&own, 1)?.squeeze(1)?.neg()
        };
        let mut values = sought(&logits)?;
        if self.settings.symmetric {
            values = ((values + sought(&logits.t()?.contiguous()?)?)? * 0.5)?;
        }
        let anchors = (0..n as u32).collect();
        Ok(vec![Terms::of_anchors(
            "list", values, anchors, comparison,
        )?])
    }
}
