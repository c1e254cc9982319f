//! Distances and similarities by name.

use std::num::NonZeroU32;

use nearfar_core::{Distance, Error, Positive, Similarity, doc_of};
use serde::{Deserialize, Serialize};

use crate::square_matrix::flat;
use crate::{
    Angular, Bhattacharyya, Bilinear, BrayCurtis, Canberra, Chebyshev, ChiSquare, Correlation,
    Cosine, CosineDistance, Dot, EarthMover, Euclidean, Exponent, Hamming, Hellinger, Jaccard,
    Jeffreys, JeffriesMatusita, JensenShannon, JensenShannonDistance, KullbackLeibler, Length,
    Mahalanobis, Manhattan, Matusita, Minkowski, Normalized, Poincare, Raised, Snr,
    SquaredEuclidean, TotalVariation,
};

/// How the rows are taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rows {
    /// Whether each row is divided by its length first; for `manhattan` by the sum of its absolute values, for `chebyshev`
    /// by the largest of them. Off by default, because towers normalize.
    pub normalize: bool,
}

/// One table: what a distance is called, what its settings are, where its documentation stands, how it is made.
macro_rules! distances {
    ($($Name:ident($Settings:ty) = $name:literal, $file:literal, $it:ident => $build:expr;)*) => {
        /// A distance by its name, with its settings: `[distance.euclidean]` of a run file.
        ///
        /// ```
        /// use nearfar_metrics::DistanceConfig;
        ///
        /// let config: DistanceConfig = toml::from_str("euclidean = { normalize = true }")?;
        /// assert_eq!(config.name(), "euclidean");
        /// assert!(config.build().axioms().triangle);
        /// # Ok::<(), toml::de::Error>(())
        /// ```
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum DistanceConfig {
            $(
                #[doc = concat!("[`", stringify!($Name), "`](crate::", stringify!($Name), ")")]
                $Name($Settings),
            )*
        }

        impl DistanceConfig {
            /// The names of all.
            pub const NAMES: [&'static str; [$($name),*].len()] = [$($name),*];

            /// Its name in a run file.
            pub fn name(&self) -> &'static str {
                match self {
                    $(Self::$Name(_) => $name,)*
                }
            }

            /// What its source says of it.
            pub fn doc(&self) -> String {
                match self {
                    $(Self::$Name(_) => doc_of(include_str!($file), stringify!($Name)),)*
                }
            }

            /// The distance itself.
            pub fn build(&self) -> Box<dyn Distance> {
                match self {
                    $(Self::$Name($it) => $build,)*
                }
            }
        }
    };
}

distances! {
    Euclidean(Rows) = "euclidean", "euclidean.rs", it => of(Euclidean {}, it.normalize);
    SquaredEuclidean(Rows) = "squared_euclidean", "squared_euclidean.rs", it => of(SquaredEuclidean {}, it.normalize);
    CosineDistance(CosineDistance) = "cosine_distance", "cosine_distance.rs", it => Box::new(*it);
    Angular(Angular) = "angular", "angular.rs", it => Box::new(*it);
    Correlation(Correlation) = "correlation", "correlation.rs", it => Box::new(*it);
    Snr(Rows) = "snr", "snr.rs", it => of(Snr {}, it.normalize);
    Manhattan(Rows) = "manhattan", "manhattan.rs", it => by(Length::Manhattan, Manhattan {}, it.normalize);
    Chebyshev(Rows) = "chebyshev", "chebyshev.rs", it => by(Length::Chebyshev, Chebyshev {}, it.normalize);
    Minkowski(MinkowskiConfig) = "minkowski", "minkowski.rs", it => it.build();
    Mahalanobis(MahalanobisConfig) = "mahalanobis", "mahalanobis.rs", it => of(it.distance.clone(), it.normalize);
    Canberra(Canberra) = "canberra", "canberra.rs", it => Box::new(*it);
    BrayCurtis(BrayCurtis) = "bray_curtis", "bray_curtis.rs", it => Box::new(*it);
    Hamming(Hamming) = "hamming", "hamming.rs", it => Box::new(*it);
    Jaccard(Jaccard) = "jaccard", "jaccard.rs", it => Box::new(*it);
    Poincare(Poincare) = "poincare", "poincare.rs", it => Box::new(*it);
    Bhattacharyya(Bhattacharyya) = "bhattacharyya", "histograms/bhattacharyya.rs", it => Box::new(*it);
    Hellinger(Hellinger) = "hellinger", "histograms/hellinger.rs", it => Box::new(*it);
    Matusita(Matusita) = "matusita", "histograms/matusita.rs", it => Box::new(*it);
    JeffriesMatusita(JeffriesMatusita) = "jeffries_matusita", "histograms/jeffries_matusita.rs", it => Box::new(*it);
    KullbackLeibler(KullbackLeibler) = "kullback_leibler", "histograms/kullback_leibler.rs", it => Box::new(*it);
    Jeffreys(Jeffreys) = "jeffreys", "histograms/jeffreys.rs", it => Box::new(*it);
    JensenShannon(JensenShannon) = "jensen_shannon", "histograms/jensen_shannon.rs", it => Box::new(*it);
    JensenShannonDistance(JensenShannonDistance) = "jensen_shannon_distance", "histograms/jensen_shannon_distance.rs", it => Box::new(*it);
    ChiSquare(ChiSquare) = "chi_square", "histograms/chi_square.rs", it => Box::new(*it);
    TotalVariation(TotalVariation) = "total_variation", "histograms/total_variation.rs", it => Box::new(*it);
    EarthMover(EarthMover) = "earth_mover", "histograms/earth_mover.rs", it => Box::new(*it);
}

impl DistanceConfig {
    /// Every distance with its defaults; `mahalanobis` is not among them, because its matrix has none.
    pub fn all() -> Vec<Self> {
        let rows = Rows::default();
        vec![
            Self::Euclidean(rows),
            Self::SquaredEuclidean(rows),
            Self::CosineDistance(CosineDistance {}),
            Self::Angular(Angular {}),
            Self::Correlation(Correlation {}),
            Self::Snr(rows),
            Self::Manhattan(rows),
            Self::Chebyshev(rows),
            Self::Minkowski(MinkowskiConfig::default()),
            Self::Canberra(Canberra {}),
            Self::BrayCurtis(BrayCurtis {}),
            Self::Hamming(Hamming {}),
            Self::Jaccard(Jaccard {}),
            Self::Poincare(Poincare {}),
            Self::Bhattacharyya(Bhattacharyya::default()),
            Self::Hellinger(Hellinger::default()),
            Self::Matusita(Matusita::default()),
            Self::JeffriesMatusita(JeffriesMatusita::default()),
            Self::KullbackLeibler(KullbackLeibler::default()),
            Self::Jeffreys(Jeffreys::default()),
            Self::JensenShannon(JensenShannon::default()),
            Self::JensenShannonDistance(JensenShannonDistance::default()),
            Self::ChiSquare(ChiSquare::default()),
            Self::TotalVariation(TotalVariation::default()),
            Self::EarthMover(EarthMover::default()),
        ]
    }

    /// The distance of this name with its defaults; none for an unknown name, or one that has no defaults.
    pub fn of_name(name: &str) -> Option<Self> {
        Self::all().into_iter().find(|config| config.name() == name)
    }
}

impl DistanceConfig {
    /// The same of rows that are divided by their length first; none where there is no such setting.
    pub fn on_unit_rows(self) -> Option<Self> {
        let rows = Rows { normalize: true };
        Some(match self {
            Self::Euclidean(_) => Self::Euclidean(rows),
            Self::SquaredEuclidean(_) => Self::SquaredEuclidean(rows),
            Self::Snr(_) => Self::Snr(rows),
            Self::Manhattan(_) => Self::Manhattan(rows),
            Self::Chebyshev(_) => Self::Chebyshev(rows),
            Self::Minkowski(mut it) => {
                it.normalize = true;
                Self::Minkowski(it)
            }
            Self::Mahalanobis(mut it) => {
                it.normalize = true;
                Self::Mahalanobis(it)
            }
            _ => return None,
        })
    }
}

fn of(it: impl Distance + 'static, normalize: bool) -> Box<dyn Distance> {
    by(Length::Euclidean, it, normalize)
}

fn by(length: Length, it: impl Distance + 'static, normalize: bool) -> Box<dyn Distance> {
    if normalize {
        Box::new(Normalized::by(length, it))
    } else {
        Box::new(it)
    }
}

/// The settings of [`Minkowski`], and how its rows are taken.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MinkowskiConfig {
    /// The exponent of the differences, 1 or more.
    pub p: Exponent,
    /// The distance is raised to it.
    pub power: Positive,
    /// Whether each row is divided by its own p-norm first.
    pub normalize: bool,
}

impl Default for MinkowskiConfig {
    /// The Euclidean distance of the rows as they are.
    fn default() -> Self {
        let Minkowski { p, power } = Minkowski::default();
        let normalize = false;
        Self {
            p,
            power,
            normalize,
        }
    }
}

impl MinkowskiConfig {
    fn build(&self) -> Box<dyn Distance> {
        let Self {
            p,
            power,
            normalize,
        } = *self;
        let length = match p.get() {
            1.0 => Length::Manhattan,
            2.0 => Length::Euclidean,
            _ => Length::Minkowski(p),
        };
        by(length, Minkowski { p, power }, normalize)
    }
}

/// A similarity by its name, with its settings: `[similarity.cosine]` of a run file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SimilarityConfig {
    /// [`Cosine`]
    Cosine(Power),
    /// [`Dot`]
    Dot(Rows),
    /// [`Bilinear`]
    Bilinear(BilinearConfig),
}

impl SimilarityConfig {
    /// The names of all.
    pub const NAMES: [&'static str; 3] = ["cosine", "dot", "bilinear"];

    /// Every similarity with its defaults; `bilinear` is not among them, because its matrix has none.
    pub fn all() -> Vec<Self> {
        vec![Self::Cosine(Power::default()), Self::Dot(Rows::default())]
    }

    /// The similarity of this name with its defaults; none for an unknown name, or one that has no defaults.
    pub fn of_name(name: &str) -> Option<Self> {
        Self::all().into_iter().find(|config| config.name() == name)
    }

    /// The same of rows that are divided by their length first, as those of a cosine always are.
    pub fn on_unit_rows(self) -> Option<Self> {
        Some(match self {
            Self::Cosine(power) => Self::Cosine(power),
            Self::Dot(_) => Self::Dot(Rows { normalize: true }),
            Self::Bilinear(mut it) => {
                it.normalize = true;
                Self::Bilinear(it)
            }
        })
    }

    /// Its name in a run file.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Cosine(_) => "cosine",
            Self::Dot(_) => "dot",
            Self::Bilinear(_) => "bilinear",
        }
    }

    /// What its source says of it.
    pub fn doc(&self) -> String {
        match self {
            Self::Cosine(_) => doc_of(include_str!("cosine.rs"), "Cosine"),
            Self::Dot(_) => doc_of(include_str!("dot.rs"), "Dot"),
            Self::Bilinear(_) => doc_of(include_str!("bilinear.rs"), "Bilinear"),
        }
    }

    /// The similarity itself.
    pub fn build(&self) -> Box<dyn Similarity> {
        match self {
            Self::Cosine(Power { power }) if power.get() == 1 => Box::new(Cosine {}),
            Self::Cosine(Power { power }) => Box::new(Raised::new(Cosine {}, *power)),
            Self::Dot(Rows { normalize: true }) => Box::new(Normalized::new(Dot {})),
            Self::Dot(Rows { normalize: false }) => Box::new(Dot {}),
            Self::Bilinear(it) if it.normalize => Box::new(Normalized::new(it.similarity.clone())),
            Self::Bilinear(it) => Box::new(it.similarity.clone()),
        }
    }
}

/// To what power a similarity is raised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Power {
    /// A whole number; an even one takes opposite rows for similar ones.
    pub power: NonZeroU32,
}

impl Default for Power {
    /// The similarity itself.
    fn default() -> Self {
        Self {
            power: NonZeroU32::MIN,
        }
    }
}

/// A bilinear similarity as it is written: by its `matrix`, as a list of rows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "WrittenBilinear", into = "WrittenBilinear")]
pub struct BilinearConfig {
    /// Whether each row is divided by its length first.
    pub normalize: bool,
    /// What was written.
    pub similarity: Bilinear,
}

#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct WrittenBilinear {
    normalize: bool,
    matrix: Vec<Vec<f64>>,
}

impl TryFrom<WrittenBilinear> for BilinearConfig {
    type Error = Error;

    fn try_from(written: WrittenBilinear) -> Result<Self, Error> {
        let numbers = flat("bilinear", "matrix", &written.matrix)?;
        Ok(Self {
            normalize: written.normalize,
            similarity: Bilinear::from_matrix(written.matrix.len(), &numbers)?,
        })
    }
}

impl From<BilinearConfig> for WrittenBilinear {
    fn from(config: BilinearConfig) -> Self {
        let rows = config
            .similarity
            .as_matrix()
            .chunks(config.similarity.dim());
        Self {
            normalize: config.normalize,
            matrix: rows.map(<[f64]>::to_vec).collect(),
        }
    }
}

/// A Mahalanobis distance as it is written: by its `map` or by its `matrix`, one of the two, as lists of rows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub struct MahalanobisConfig {
    /// Whether each row is divided by its length first.
    pub normalize: bool,
    /// What was written.
    pub distance: Mahalanobis,
}

#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Written {
    normalize: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    map: Vec<Vec<f64>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    matrix: Vec<Vec<f64>>,
}

impl TryFrom<Written> for MahalanobisConfig {
    type Error = Error;

    fn try_from(written: Written) -> Result<Self, Error> {
        let distance = match (written.map.as_slice(), written.matrix.as_slice()) {
            ([], []) | ([_, ..], [_, ..]) => Err(Error::Settings(
                "mahalanobis: give `map` or `matrix`, one of the two, as a list of rows".into(),
            )),
            (map, []) => Mahalanobis::from_map(map[0].len(), &flat("mahalanobis", "map", map)?),
            ([], matrix) => {
                Mahalanobis::from_matrix(matrix[0].len(), &flat("mahalanobis", "matrix", matrix)?)
            }
        }?;
        Ok(Self {
            normalize: written.normalize,
            distance,
        })
    }
}

impl From<MahalanobisConfig> for Written {
    fn from(config: MahalanobisConfig) -> Self {
        let rows = config.distance.map().chunks(config.distance.dim());
        Self {
            normalize: config.normalize,
            map: rows.map(<[f64]>::to_vec).collect(),
            matrix: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_read_and_written_as_it_was() {
        for name in DistanceConfig::NAMES {
            let settings = match name {
                "mahalanobis" => "map = [[1, 0], [0, 2]]",
                "minkowski" => "p = 3, normalize = true",
                _ => "",
            };
            let config: DistanceConfig =
                toml::from_str(&format!("{name} = {{ {settings} }}")).expect("known");
            assert_eq!(config.name(), name);
            assert!(!config.doc().is_empty(), "{name}");
            let written = toml::to_string(&config).expect("settings are tables");
            assert_eq!(
                toml::from_str::<DistanceConfig>(&written).expect("as written"),
                config
            );
            assert_eq!(
                DistanceConfig::of_name(name).is_some(),
                name != "mahalanobis"
            );
        }
        for name in SimilarityConfig::NAMES {
            let settings = match name {
                "bilinear" => "matrix = [[1, 0], [3, 2]]",
                _ => "",
            };
            let config: SimilarityConfig =
                toml::from_str(&format!("{name} = {{ {settings} }}")).expect("known");
            assert_eq!(config.name(), name);
            assert!(!config.doc().is_empty(), "{name}");
            let written = toml::to_string(&config).expect("settings are tables");
            assert_eq!(
                toml::from_str::<SimilarityConfig>(&written).expect("as written"),
                config
            );
            assert_eq!(
                SimilarityConfig::of_name(name).is_some(),
                name != "bilinear"
            );
        }
    }

    #[test]
    fn a_matrix_that_is_no_distance_is_refused_where_it_is_written() {
        let message = |text: &str| {
            toml::from_str::<DistanceConfig>(text)
                .expect_err("wrong")
                .to_string()
        };
        let error = message("mahalanobis = { matrix = [[1, 2], [2, 1]] }");
        assert!(
            error.contains("line 1") && error.contains("not positive semidefinite"),
            "{error}"
        );
        assert!(message("mahalanobis = {}").contains("give `map` or `matrix`"));
        assert!(
            message("mahalanobis = { map = [[1, 2], [2]] }")
                .contains("row 1 of `map` has 1 numbers")
        );
        assert!(message("mahalanobis = { map = [[]] }").contains("no matrix of 0 columns"));
        assert!(message("cosine = {}").contains("expected one of `euclidean`"));
        assert!(message("cosine_distance = { normalize = true }").contains("unknown field"));
    }
}
