#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used))] // A test that panics fails, which is what it is for.

// In reading order: what is near, how good that is, what else embeddings say, what is shown.
mod exact;
mod neighbors;
mod search;

mod clustering;
mod correlation;
mod dense;
mod relevance;
mod rerank;
mod retrieval;
mod verification;

mod evaluate;
mod interval;
mod score;

mod algebra;
mod linear;

mod files;
mod report;

mod error;

pub use clustering::{Agreement, Clusters, KMeans, k_means};
pub use correlation::{kendall, mean_squared_error, mid_ranks, pearson, spearman};
pub use dense::pixel_pairs;
pub use error::{Error, Result};
pub use evaluate::{Evaluation, Settings, Subject, evaluate};
pub use files::{FORMAT, Origin, read_embeddings, write_embeddings};
pub use interval::Interval;
pub use linear::{LinearMap, Projection, linear_baseline, plane};
pub use neighbors::{Neighbors, Ranking};
pub use relevance::{knn_error, search_relevant, share, target_pairs};
pub use report::{
    Chart, Curve, DistanceHistogram, Hit, Item, Picture, RecallCurve, Report, Retrieved, RocCurve,
    Scatter, ScoreRow, ScoreTable, draw,
};
pub use rerank::{ByPairs, ScorePairs};
pub use retrieval::{
    PerQuery, knn_accuracy, knn_classes, map_at_r, mean_average_precision, mean_reciprocal_rank,
    precision_at, r_precision, recall_at,
};
pub use score::{Family, Score};
pub use search::{Exclude, Measure, Search, search, search_within};
pub use verification::{
    DetectionCost, EqualError, PairDistances, Roc, RocPoint, pair_distances, paired_distances,
    scored_pairs,
};
