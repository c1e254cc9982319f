//! A loss of classes where each row is a class of its own.

use std::collections::BTreeMap;

use candle_core::{Result, Tensor};
use nearfar_core::{
    Comparison, EmbeddingTable, Embeddings, Evaluated, Loss, Parameter, Rng, Span, Stateful, Terms,
};
use serde::{Deserialize, Serialize};

use crate::over::batches::all_views;

/// How two views of each row are compared: `self_supervised = {}` of a run file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SelfSupervision {
    /// Whether all views are compared with all others, or only the first views with the others.
    pub symmetric: bool,
}

impl Default for SelfSupervision {
    /// All with all, as in SimCLR.
    fn default() -> Self {
        Self { symmetric: true }
    }
}

/// A loss of pairs, triplets or lists of two or more views of each row: the label of a view is the number of its row.
///
/// The first side of a batch are the first views, the second side all others, `n` rows for each view; what the batch says of classes
/// is not read. Symmetric, the `k n` views are one set, and the positives of a view are the others of its row. Otherwise the first
/// views are the anchors and the others the references. Views of different rows are always negatives, even where their rows look alike. With NT-Xent it is SimCLR.
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
        let views = all_views("self-supervision", comparison)?;
        let n = views[0].dim(0)?;
        if self.settings.symmetric {
            return look(&Comparison::within(&side(&views, n, 0)?));
        }
        let (first, others) = (side(&views[..1], n, 0)?, side(&views[1..], n, n)?);
        look(&Comparison::between(&first, &others))
    }
}

/// Views of `n` rows each, with the number of its row as the label of each.
fn side(views: &[Tensor], n: usize, start: usize) -> Result<Embeddings> {
    let count = views.len() * n;
    let labels = (0..count).map(|view| (view % n.max(1)) as u32).collect();
    let ids = (start..start + count).map(|id| id as u64).collect();
    Embeddings::new(Tensor::cat(views, 0)?, labels, ids)
}

impl Loss for SelfSupervised {
    fn evaluate(&self, comparison: &Comparison<'_>, rng: &mut Rng) -> Result<Evaluated> {
        self.look(comparison, |it| self.loss.evaluate(it, rng))
    }

    fn terms(&self, comparison: &Comparison<'_>, rng: &mut Rng) -> Result<Vec<Terms>> {
        self.look(comparison, |it| self.loss.terms(it, rng))
    }

    fn absorb(&mut self, comparison: &Comparison<'_>) -> Result<()> {
        let views = all_views("self-supervision", comparison)?;
        let all = side(&views, views[0].dim(0)?, 0)?;
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
