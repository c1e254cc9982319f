//! What embeddings are compared by, in a loss and after training.

use candle_core::Tensor;
use nearfar_core::{Distance, Similarity};
use nearfar_losses::Compares;
use nearfar_metrics::{DistanceConfig, Euclidean, SimilarityConfig};

use crate::exit::Error;
use crate::run_file::{LossEntry, RunFile};

pub(super) type Comparing = (Option<Box<dyn Distance>>, Option<Box<dyn Similarity>>);

/// What a loss compares by: what the run file says, else its own default.
pub(super) fn comparison(entry: &LossEntry) -> Result<Comparing, Error> {
    if let Some(distance) = &entry.distance {
        return Ok((Some(distance.build()), None));
    }
    if let Some(similarity) = &entry.similarity {
        return Ok((None, Some(similarity.build())));
    }
    let unknown = |name: &str| {
        Error::Usage(format!(
            "`{}` compares by `{name}`, which is no distance or similarity of ours",
            entry.loss.config.name()
        ))
    };
    match entry.loss.config.defaults().compares {
        Compares::Distance(name) => Ok((
            Some(
                DistanceConfig::of_name(name)
                    .ok_or_else(|| unknown(name))?
                    .build(),
            ),
            None,
        )),
        Compares::Similarity(name) => Ok((
            None,
            Some(
                SimilarityConfig::of_name(name)
                    .ok_or_else(|| unknown(name))?
                    .build(),
            ),
        )),
        Compares::Centers | Compares::DistantCenters | Compares::Own => Ok((None, None)),
    }
}

/// What embeddings are compared by after training: what `evaluation` says, else what the first loss compares by.
pub(crate) fn measure(run: &RunFile) -> Result<Comparing, Error> {
    let said = &run.evaluation;
    match (&said.distance, &said.similarity) {
        (Some(distance), _) => Ok((Some(distance.build()), None)),
        (None, Some(similarity)) => Ok((None, Some(similarity.build()))),
        (None, None) => learned_measure(run),
    }
}

/// What the run's first loss compares by. None for one of cosines with its class centers, or of angles.
fn learned_measure(run: &RunFile) -> Result<Comparing, Error> {
    let entries = run.entries();
    let Some(entry) = entries.first() else {
        return Ok((None, None));
    };
    match entry.loss.config.defaults().compares {
        Compares::DistantCenters => Ok((Some(Box::new(Euclidean {})), None)),
        _ => comparison(entry),
    }
}

/// The scores that the run's loss would give to pairs of rows `(n, d)`, larger for what is more alike.
pub(crate) fn pair_scores(run: &RunFile, left: &Tensor, right: &Tensor) -> Result<Tensor, Error> {
    let entries = run.entries();
    // Embeddings that a scorer compares are compared without it by what the run file says.
    let measure = match entries.first() {
        Some(entry) if entry.scorer.is_some() => measure(run)?,
        _ => learned_measure(run)?,
    };
    let score = match measure {
        (Some(distance), _) => distance.paired(left, right)?.neg()?,
        (_, Some(similarity)) => similarity.paired(left, right)?,
        (None, None) => nearfar_metrics::Cosine {}.paired(left, right)?,
    };
    estimates(run, score)
}

/// What scores stand for on the scale that the run's first loss learned.
pub(crate) fn estimates(run: &RunFile, score: Tensor) -> Result<Tensor, Error> {
    let entries = run.entries();
    let first = entries.first();
    let estimate = first.map(|entry| entry.loss.config.estimate(&score));
    Ok(estimate.transpose()?.flatten().unwrap_or(score))
}
