//! Pairs through the scorer that a run has learned.

use std::collections::BTreeMap;

use candle_core::{DType, Device, Tensor};
use nearfar_core::{Batches, EmbeddingTable, Embeddings, Mode, PairScorer, Pairs};
use nearfar_datasets::{Annotation, Loader};
use nearfar_losses::{Scoring, Sum};
use nearfar_models::{MAPS, ScorerConfig};
use nearfar_trainer::{Checkpoint, Towers, Trainer};

use crate::assemble::{self, Shared};
use crate::exit::Error;
use crate::run_file::{LossEntry, RunFile};

/// Pairs scored at a time. Results do not depend on it: a scorer that is not trained looks at each pair alone.
const PAIRS: usize = 256;
/// Samples encoded at a time.
const ROWS: usize = 256;
/// Pairs of each kind that verification looks at where the run file does not say: a pass through a network for each.
pub(crate) const PAIRS_OF_A_KIND: usize = 20_000;

/// The scorer of a run, as it is after some steps.
pub(crate) struct Scorer {
    scorer: Box<dyn PairScorer>,
    reads_maps: bool,
    /// Neighbors of each query that it orders anew.
    pub(crate) rerank: usize,
}

/// The name in a checkpoint of the tensors that belong to losses.
const OF_LOSS: &str = "loss.parameters";

impl Scorer {
    /// The one of a checkpoint, where the run has one.
    pub(crate) fn of_checkpoint(
        run: &RunFile,
        towers: &Towers,
        shape: nearfar_datasets::Shape,
        checkpoint: &Checkpoint,
        device: &Device,
    ) -> Result<Option<Self>, Error> {
        let none = BTreeMap::new();
        let parameters = checkpoint.components.get(OF_LOSS).unwrap_or(&none);
        Self::with(run, towers, shape, parameters, device)
    }

    /// The one that is being trained.
    pub(crate) fn of_trainer(
        run: &RunFile,
        trainer: &Trainer,
        shape: nearfar_datasets::Shape,
        device: &Device,
    ) -> Result<Option<Self>, Error> {
        let parameters = trainer.loss().parameters().into_iter();
        let parameters = parameters.map(|it| (it.name, it.var.as_detached_tensor()));
        Self::with(run, trainer.towers(), shape, &parameters.collect(), device)
    }

    fn with(
        run: &RunFile,
        towers: &Towers,
        shape: nearfar_datasets::Shape,
        parameters: &BTreeMap<String, Tensor>,
        device: &Device,
    ) -> Result<Option<Self>, Error> {
        let (Some((place, config)), Some(tower)) = (placed(run), towers.get(0)) else {
            return Ok(None);
        };
        let shown = assemble::shown(tower, shape, device)?;
        let scorer = assemble::scorer(&config, shown, &place, run.seed, device)?;
        for parameter in scorer.parameters() {
            let name = format!("{place}{}{}", Scoring::PARAMETERS, parameter.name);
            let value = parameters.get(&name).ok_or_else(|| {
                Error::Data(format!(
                    "the checkpoint has no tensor `{name}`, which the run file's scorer needs"
                ))
            })?;
            if value.dims() != parameter.var.dims() {
                return Err(Error::Data(format!(
                    "the checkpoint's `{name}` has shape {:?}, the run file's scorer needs {:?}",
                    value.dims(),
                    parameter.var.dims()
                )));
            }
            let value = value.to_device(device)?.to_dtype(parameter.var.dtype())?;
            parameter.var.set(&value.copy()?)?;
        }
        Ok(Some(Self {
            scorer,
            reads_maps: config.reads_maps(),
            rerank: run.evaluation.rerank,
        }))
    }

    /// Whether embeddings at rest are all that it compares.
    pub(crate) fn reads_embeddings_alone(&self) -> bool {
        !self.reads_maps
    }

    /// What it compares of a data set, for each input of its samples; `tables` are their embeddings.
    pub(crate) fn rows(
        &self,
        towers: &Towers,
        tables: &[EmbeddingTable],
        dataset: &Shared,
        device: &Device,
    ) -> Result<Vec<Embeddings>, Error> {
        if dataset.annotation() == Annotation::Domains {
            return Err(Error::Usage(
                "a scorer compares samples of one kind, and these data have two domains; leave `scorer` out".into(),
            ));
        }
        if !self.reads_maps {
            return tables.iter().map(|table| of_table(table, device)).collect();
        }
        let loader = Loader::in_order(dataset.clone(), ROWS, device.clone());
        let mut found: Vec<Vec<Embeddings>> = vec![Vec::new(); tables.len()];
        for batch in loader.sweep() {
            let batch = batch.map_err(crate::exit::unboxed)?;
            for (rows, mut embedded) in found.iter_mut().zip(towers.embed(&batch)?) {
                embedded.extra.retain(|name, _| name == MAPS);
                rows.push(embedded);
            }
        }
        let whole = found.iter().map(|batches| Embeddings::stacked(batches));
        Ok(whole.collect::<Result<_, _>>()?)
    }

    /// What it says of pairs of rows, by their numbers; larger for what is more alike.
    pub(crate) fn scores(
        &self,
        left: &Embeddings,
        right: &Embeddings,
        pairs: &[(u64, u64)],
    ) -> candle_core::Result<Vec<f64>> {
        let mut scores = Vec::with_capacity(pairs.len());
        for pairs in pairs.chunks(PAIRS) {
            let pairs: Pairs = pairs.iter().map(|&(a, b)| (a as u32, b as u32)).collect();
            let found = self.scorer.score(left, right, &pairs, Mode::Eval)?;
            scores.extend(found.to_dtype(DType::F64)?.to_vec1::<f64>()?);
        }
        Ok(scores)
    }
}

/// Embeddings at rest as a scorer reads them; rows are numbered as they lie.
pub(crate) fn of_table(table: &EmbeddingTable, device: &Device) -> Result<Embeddings, Error> {
    let size = (table.len(), table.dim);
    let vectors = Tensor::from_slice(&table.vectors, size, device)?;
    Ok(Embeddings::new(vectors, Vec::new(), table.ids.clone())?)
}

/// The scorer of a run, and what stands before the names of its loss's parameters.
fn placed(run: &RunFile) -> Option<(String, ScorerConfig)> {
    let scorer = |entry: &LossEntry| entry.scorer.clone();
    let entries = run.entries();
    let (index, config) = entries
        .iter()
        .enumerate()
        .find_map(|(index, entry)| Some((index, scorer(entry)?)))?;
    let place = if run.loss.is_some() {
        String::new()
    } else {
        Sum::place(index)
    };
    Some((place, config))
}
