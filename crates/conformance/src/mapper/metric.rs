//! Distances and similarities of pytorch-metric-learning.

use candle_core::{DType, Tensor};
use nearfar_core::{Distance, NegativeDistance, NegativeSimilarity, Similarity};
use nearfar_kernels::TINY_NORM;
use nearfar_metrics::{
    Cosine, CosineDistance, DistanceConfig, Dot, Normalized, Rows, SimilarityConfig,
};

use crate::golden::{Mapped, Object, Settings, Trouble};

/// A distance or similarity, as its settings say.
///
/// All of them normalize their rows unless told otherwise, `LpDistance(p=1)` by the sum of absolute values.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Metric {
    /// `LpDistance`.
    Lp { lp: Lp, normalize: bool },
    /// `CosineSimilarity`.
    Cosine,
    /// `DotProductSimilarity`.
    Dot { normalize: bool },
}

/// The `p` and `power` of an `LpDistance` that are ours.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Lp {
    Manhattan,
    Euclidean,
    SquaredEuclidean,
}

impl Metric {
    /// `LpDistance()`.
    pub(super) const LP: Self = Self::Lp {
        lp: Lp::Euclidean,
        normalize: true,
    };

    /// By name and settings; the message of the error is what is not ours.
    pub(super) fn of(name: &str, mut params: Settings) -> Mapped<Self> {
        let metric = match name {
            "LpDistance" => {
                let normalize = params.flag_or("normalize_embeddings", true)?;
                let (p, power) = (params.number_or("p", 2.0)?, params.number_or("power", 1.0)?);
                let lp = match (p, power) {
                    (1.0, 1.0) => Lp::Manhattan,
                    (2.0, 1.0) => Lp::Euclidean,
                    (2.0, 2.0) => Lp::SquaredEuclidean,
                    _ => return Err(Trouble::unmapped(format!("p = {p}, power = {power}"))),
                };
                Self::Lp { lp, normalize }
            }
            "CosineSimilarity" => {
                refuse_power(&mut params)?;
                Self::Cosine
            }
            "DotProductSimilarity" => {
                refuse_power(&mut params)?;
                let normalize = params.flag_or("normalize_embeddings", true)?;
                Self::Dot { normalize }
            }
            other => return Err(Trouble::unmapped(format!("the distance {other}"))),
        };
        params.finish()?;
        Ok(metric)
    }

    /// What a loss or miner was given as its distance.
    pub(super) fn of_object(object: Option<Object>, default: Self) -> Mapped<Self> {
        match object {
            None => Ok(default),
            Some(Object { name, params }) => Self::of(&name, params),
        }
    }

    /// The same on the rows as they are.
    pub(super) fn without_normalizing(self) -> Self {
        match self {
            Self::Lp { lp, .. } => Self::Lp {
                lp,
                normalize: false,
            },
            // A cosine of rows as they are is their product.
            Self::Cosine | Self::Dot { .. } => Self::Dot { normalize: false },
        }
    }

    /// Whether it divides rows by their length first.
    pub(super) fn normalizes(self) -> bool {
        match self {
            Self::Lp { normalize, .. } | Self::Dot { normalize } => normalize,
            Self::Cosine => true,
        }
    }

    /// Whether larger is closer.
    pub(super) fn is_similarity(self) -> bool {
        matches!(self, Self::Cosine | Self::Dot { .. })
    }

    /// As a distance: a cosine is taken from 1, a product negated. Gaps between two values stay what they are.
    pub(super) fn distance(self) -> Box<dyn Distance> {
        match self {
            Self::Lp { lp, normalize } => {
                let rows = Rows { normalize };
                match lp {
                    Lp::Manhattan => DistanceConfig::Manhattan(rows),
                    Lp::Euclidean => DistanceConfig::Euclidean(rows),
                    Lp::SquaredEuclidean => DistanceConfig::SquaredEuclidean(rows),
                }
                .build()
            }
            Self::Cosine => Box::new(CosineDistance {}),
            Self::Dot { .. } => Box::new(NegativeSimilarity(self.similarity())),
        }
    }

    /// A value of the peer, such as a margin, on the scale of [`distance`](Self::distance).
    pub(super) fn on_distance_scale(self, value: f64) -> f64 {
        match self {
            Self::Lp { .. } => value,
            Self::Cosine => 1.0 - value,
            Self::Dot { .. } => -value,
        }
    }

    /// As a similarity: a distance is negated.
    pub(super) fn similarity(self) -> Box<dyn Similarity> {
        match self {
            Self::Lp { .. } => Box::new(NegativeDistance(self.distance())),
            Self::Cosine => Box::new(Cosine {}),
            Self::Dot { normalize: true } => Box::new(Normalized::new(Dot {})),
            Self::Dot { normalize: false } => {
                SimilarityConfig::Dot(Rows { normalize: false }).build()
            }
        }
    }

    /// A value of the peer on the scale of [`similarity`](Self::similarity).
    pub(super) fn on_similarity_scale(self, value: f64) -> f64 {
        if self.is_similarity() { value } else { -value }
    }
}

/// Which rows are shorter than what torch divides by at least. The peer's gradient there is that of the unit row over
/// 10⁻¹², some 10¹² times the others; by our definition such a row stays where it is.
pub(super) fn rows_of_zeros(rows: &Tensor) -> Mapped<Vec<bool>> {
    let lengths = rows.sqr()?.sum(1)?.sqrt()?.to_dtype(DType::F64)?;
    let lengths = lengths.to_vec1::<f64>()?;
    Ok(lengths
        .into_iter()
        .map(|length| length < TINY_NORM)
        .collect())
}

fn refuse_power(params: &mut Settings) -> Mapped<()> {
    match params.number_or("power", 1.0)? {
        1.0 => Ok(()),
        power => Err(Trouble::unmapped(format!("power = {power}"))),
    }
}
