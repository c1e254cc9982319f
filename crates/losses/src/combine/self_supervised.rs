//! A loss of classes where each row is a class of its own.

use std::collections::BTreeMap;

use candle_core::{Result, Tensor};
use nearfar_core::{
    Comparison, EmbeddingTable, Embeddings, Evaluated, Loss, Parameter, Rng, Span, Stateful, Terms,
};
use serde::{Deserialize, Serialize};

use crate::over::batches::views;

/// How two views of each row are compared: `self_supervised = {}` of a run file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SelfSupervision {
    /// Whether all views are compared with all others, or only the first views with the second.
    pub symmetric: bool,
}

impl Default for SelfSupervision {
    /// All with all, as in SimCLR.
    fn default() -> Self {
        Self { symmetric: true }
    }
}

/// A loss of pairs, triplets or lists of two views of each row: the label of a view is the number of its row.
///
/// The two sides of a batch are the views, of as many rows each; what the batch says of classes is not read. Symmetric, the `2n`
/// views are one set, and the positive of a view is the other of its row. Otherwise the first views are the anchors and the second
/// the references. Views of different rows are always negatives, even where their rows look alike. With NT-Xent it is SimCLR.
///
/// Source: Chen et al., "A Simple Framework for Contrastive Learning of Visual Representations", ICML 2020,
/// <https://arxiv.org/abs/2002.05709>. Agrees with `SelfSupervisedLoss` of pytorch-metric-learning 2.9.
#[derive(Debug)]
pub struct SelfSupervised {
    /// What is learned of the views.
    pub loss: Box<dyn Loss>,
    /// How they are compared.
    pub settings: SelfSupervision,
}

impl SelfSupervised {
    fn look<T>(
        &self,
        comparison: &Comparison<'_>,
        look: impl FnOnce(&Comparison<'_>) -> Result<T>,
    ) -> Result<T> {
        let (first, second) = views("self-supervision", comparison)?;
        let n = first.dim(0)?;
        let side = |vectors: Tensor, views: usize, start: usize| {
            let labels = (0..views * n)
                .map(|view| (view % n.max(1)) as u32)
                .collect();
            let ids = (start..start + views * n).map(|id| id as u64).collect();
            Embeddings::new(vectors, labels, ids)
        };
        if self.settings.symmetric {
            let all = side(Tensor::cat(&[first, second], 0)?, 2, 0)?;
            return look(&Comparison::within(&all));
        }
        let (first, second) = (side(first.clone(), 1, 0)?, side(second.clone(), 1, n)?);
        look(&Comparison::between(&first, &second))
    }
}

impl Loss for SelfSupervised {
    fn evaluate(&self, comparison: &Comparison<'_>, rng: &mut Rng) -> Result<Evaluated> {
        self.look(comparison, |it| self.loss.evaluate(it, rng))
    }

    fn terms(&self, comparison: &Comparison<'_>, rng: &mut Rng) -> Result<Vec<Terms>> {
        self.look(comparison, |it| self.loss.terms(it, rng))
    }

    fn absorb(&mut self, comparison: &Comparison<'_>) -> Result<()> {
        let (first, second) = views("self-supervision", comparison)?;
        let n = first.dim(0)?;
        let all = Embeddings::labeled(
            Tensor::cat(&[first, second], 0)?,
            (0..2 * n).map(|view| (view % n.max(1)) as u32).collect(),
        )?;
        self.loss.absorb(&Comparison::within(&all))
    }

    fn parameters(&self) -> Vec<Parameter> {
        self.loss.parameters()
    }
}

impl Stateful for SelfSupervised {
    fn state(&self) -> BTreeMap<String, Tensor> {
        self.loss.state()
    }

    fn restore(&mut self, state: &BTreeMap<String, Tensor>) -> Result<()> {
        self.loss.restore(state)
    }

    fn interval(&self) -> Option<Span> {
        self.loss.interval()
    }

    fn refresh(&mut self, table: &EmbeddingTable, rng: &mut Rng) -> Result<()> {
        self.loss.refresh(table, rng)
    }
}
