//! How an embedding is scored, and the plain ways that it must be better than.

use nearfar_eval::{Measure, Score, Settings, Subject, evaluate};
use nearfar_losses::{Compares, LossConfig};
use nearfar_metrics::{DistanceConfig, Euclidean, SimilarityConfig};

/// What a loss compares by, after training.
pub(super) enum Comparing {
    Distance(Box<dyn nearfar_core::Distance>),
    Similarity(Box<dyn nearfar_core::Similarity>),
    Cosine,
}

impl Comparing {
    pub(super) fn of(config: &LossConfig) -> Self {
        match config.defaults().compares {
            Compares::Distance(name) => {
                Self::Distance(DistanceConfig::of_name(name).expect("it is known").build())
            }
            Compares::Similarity(name) => Self::Similarity(
                SimilarityConfig::of_name(name)
                    .expect("it is known")
                    .build(),
            ),
            Compares::DistantCenters => Self::Distance(Box::new(Euclidean {})),
            Compares::Centers | Compares::Own => Self::Cosine,
        }
    }

    pub(super) fn measure(&self) -> Measure<'_> {
        match self {
            Self::Distance(distance) => Measure::of(&**distance),
            Self::Similarity(similarity) => Measure::of_similarity(&**similarity),
            Self::Cosine => Measure::COSINE,
        }
    }
}

pub(super) fn score(subject: Subject<'_>, score: Score, measure: Measure<'_>) -> f64 {
    let settings = Settings {
        measure,
        ..Settings::default()
    };
    let evaluation = evaluate(subject, &[score], &settings).expect("it is of such data");
    let found = evaluation.scores.get(&score.to_string()).copied();
    found.unwrap_or_else(|| panic!("{:?}", evaluation.undefined))
}

pub(super) const PLAIN: [Measure<'static>; 2] = [Measure::EUCLIDEAN, Measure::COSINE];

/// The best of the plain ways: the samples as they are, and an encoder that was not trained, each by distance and by cosine.
pub(super) fn best_plain(
    raw: &dyn Fn(Measure<'_>) -> f64,
    untrained: &dyn Fn(Measure<'_>) -> f64,
) -> (&'static str, f64) {
    let of = |name, way: &dyn Fn(Measure<'_>) -> f64| PLAIN.map(|measure| (name, way(measure)));
    let ways = [of("raw features", raw), of("untrained encoder", untrained)];
    let best = ways
        .into_iter()
        .flatten()
        .max_by(|a, b| a.1.total_cmp(&b.1));
    best.expect("there are four")
}
