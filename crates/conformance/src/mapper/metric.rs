//! Distances and similarities of pytorch-metric-learning.

use std::num::NonZeroU32;

use candle_core::{DType, Tensor};
use nearfar_core::{Distance, NegativeDistance, NegativeSimilarity, Positive, Similarity};
use nearfar_kernels::TINY_NORM;
use nearfar_metrics::{
    CosineDistance, DistanceConfig, Dot, Exponent, MinkowskiConfig, Normalized, Power, Rows,
    SimilarityConfig,
};

use crate::golden::{Mapped, Object, Settings, Trouble};

/// A distance or similarity, as its settings say.
///
/// All of them normalize their rows unless told otherwise, `LpDistance` by the norm of its own `p`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Metric {
    /// `LpDistance`.
    Lp { lp: Lp, normalize: bool },
    /// `CosineSimilarity`.
    Cosine,
    /// The same with another power than 1.
    CosinePower(NonZeroU32),
    /// `DotProductSimilarity`.
    Dot { normalize: bool },
    /// `SNRDistance`.
    Snr { normalize: bool },
}

/// The `p` and `power` of an `LpDistance`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Lp {
    p: Exponent,
    power: Positive,
}

impl Metric {
    /// `LpDistance()`.
    pub(super) const LP: Self = Self::Lp {
        lp: Lp {
            p: Exponent::literal(2.0),
            power: Positive::literal(1.0),
        },
        normalize: true,
    };

    /// `LpDistance(power=2)`.
    pub(super) const LP_SQUARED: Self = Self::Lp {
        lp: Lp {
            p: Exponent::literal(2.0),
            power: Positive::literal(2.0),
        },
        normalize: true,
    };

    /// By name and settings; the message of the error is what is not ours.
    pub(super) fn of(name: &str, mut params: Settings) -> Mapped<Self> {
        let metric = match name {
            "LpDistance" => {
                let normalize = params.flag_or("normalize_embeddings", true)?;
                let (p, power) = (params.number_or("p", 2.0)?, params.number_or("power", 1.0)?);
                match (Exponent::new(p), Positive::new(power)) {
                    (Ok(p), Ok(power)) => Self::Lp {
                        lp: Lp { p, power },
                        normalize,
                    },
                    _ => return Err(Trouble::unmapped(format!("p = {p}, power = {power}"))),
                }
            }
            "CosineSimilarity" => {
                let power = params.count("power")?.unwrap_or(1);
                match u32::try_from(power).ok().and_then(NonZeroU32::new) {
                    Some(NonZeroU32::MIN) => Self::Cosine,
                    Some(power) => Self::CosinePower(power),
                    None => return Err(Trouble::unmapped(format!("power = {power}"))),
                }
            }
            "DotProductSimilarity" => {
                refuse_power(&mut params)?;
                let normalize = params.flag_or("normalize_embeddings", true)?;
                Self::Dot { normalize }
            }
            "SNRDistance" => {
                refuse_power(&mut params)?;
                let normalize = params.flag_or("normalize_embeddings", true)?;
                Self::Snr { normalize }
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

    /// The same on the rows as they are, and not raised to a power.
    pub(super) fn plain(self) -> Self {
        match self {
            Self::Lp { lp, .. } => Self::Lp {
                lp: Lp {
                    power: Positive::literal(1.0),
                    ..lp
                },
                normalize: false,
            },
            // A cosine of rows as they are is their product.
            Self::Cosine | Self::CosinePower(_) | Self::Dot { .. } => {
                Self::Dot { normalize: false }
            }
            Self::Snr { .. } => Self::Snr { normalize: false },
        }
    }

    /// Whether it divides rows by their length first.
    pub(super) fn normalizes(self) -> bool {
        match self {
            Self::Lp { normalize, .. } | Self::Dot { normalize } | Self::Snr { normalize } => {
                normalize
            }
            Self::Cosine | Self::CosinePower(_) => true,
        }
    }

    /// Whether larger is closer.
    pub(super) fn is_similarity(self) -> bool {
        matches!(self, Self::Cosine | Self::CosinePower(_) | Self::Dot { .. })
    }

    /// As a distance: a cosine is taken from 1, a product negated. Gaps between two values stay what they are.
    pub(super) fn distance(self) -> Box<dyn Distance> {
        let one = Positive::literal(1.0);
        match self {
            Self::Lp { lp, normalize } => {
                let rows = Rows { normalize };
                let config = match (lp.p.get(), lp.power) {
                    (1.0, power) if power == one => DistanceConfig::Manhattan(rows),
                    (2.0, power) if power == one => DistanceConfig::Euclidean(rows),
                    (2.0, power) if power.get() == 2.0 => DistanceConfig::SquaredEuclidean(rows),
                    (_, power) => DistanceConfig::Minkowski(MinkowskiConfig {
                        p: lp.p,
                        power,
                        normalize,
                    }),
                };
                config.build()
            }
            Self::Cosine => Box::new(CosineDistance {}),
            Self::CosinePower(_) | Self::Dot { .. } => {
                Box::new(NegativeSimilarity(self.similarity()))
            }
            Self::Snr { normalize } => DistanceConfig::Snr(Rows { normalize }).build(),
        }
    }

    /// A value of the peer, such as a margin, on the scale of [`distance`](Self::distance).
    pub(super) fn on_distance_scale(self, value: f64) -> f64 {
        match self {
            Self::Lp { .. } | Self::Snr { .. } => value,
            Self::Cosine => 1.0 - value,
            Self::CosinePower(_) | Self::Dot { .. } => -value,
        }
    }

    /// As a similarity: a distance is negated.
    pub(super) fn similarity(self) -> Box<dyn Similarity> {
        match self {
            Self::Lp { .. } | Self::Snr { .. } => Box::new(NegativeDistance(self.distance())),
            Self::Cosine => SimilarityConfig::Cosine(Power::default()).build(),
            Self::CosinePower(power) => SimilarityConfig::Cosine(Power { power }).build(),
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
