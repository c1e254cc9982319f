//! Distances and similarities by name.

use nearfar_core::{Distance, Error, Similarity, doc_of};
use serde::{Deserialize, Serialize};

use crate::{
    Cosine, CosineDistance, Dot, Euclidean, Length, Mahalanobis, Manhattan, Normalized,
    SquaredEuclidean,
};

/// How the rows are taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rows {
    /// Whether each row is divided by its length first; for `manhattan` by the sum of its absolute values. Off by default,
    /// because towers normalize.
    pub normalize: bool,
}

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
    /// [`Euclidean`]
    Euclidean(Rows),
    /// [`SquaredEuclidean`]
    SquaredEuclidean(Rows),
    /// [`CosineDistance`]
    CosineDistance(CosineDistance),
    /// [`Manhattan`]
    Manhattan(Rows),
    /// [`Mahalanobis`]
    Mahalanobis(MahalanobisConfig),
}

impl DistanceConfig {
    /// The names of all.
    pub const NAMES: [&'static str; 5] = [
        "euclidean",
        "squared_euclidean",
        "cosine_distance",
        "manhattan",
        "mahalanobis",
    ];

    /// Every distance with its defaults; `mahalanobis` is not among them, because its matrix has none.
    pub fn all() -> Vec<Self> {
        let rows = Rows::default();
        vec![
            Self::Euclidean(rows),
            Self::SquaredEuclidean(rows),
            Self::CosineDistance(CosineDistance {}),
            Self::Manhattan(rows),
        ]
    }

    /// The distance of this name with its defaults; none for an unknown name, or one that has no defaults.
    pub fn of_name(name: &str) -> Option<Self> {
        Self::all().into_iter().find(|config| config.name() == name)
    }

    /// Its name in a run file.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Euclidean(_) => "euclidean",
            Self::SquaredEuclidean(_) => "squared_euclidean",
            Self::CosineDistance(_) => "cosine_distance",
            Self::Manhattan(_) => "manhattan",
            Self::Mahalanobis(_) => "mahalanobis",
        }
    }

    /// What its source says of it.
    pub fn doc(&self) -> String {
        match self {
            Self::Euclidean(_) => doc_of(include_str!("euclidean.rs"), "Euclidean"),
            Self::SquaredEuclidean(_) => {
                doc_of(include_str!("squared_euclidean.rs"), "SquaredEuclidean")
            }
            Self::CosineDistance(_) => doc_of(include_str!("cosine_distance.rs"), "CosineDistance"),
            Self::Manhattan(_) => doc_of(include_str!("manhattan.rs"), "Manhattan"),
            Self::Mahalanobis(_) => doc_of(include_str!("mahalanobis.rs"), "Mahalanobis"),
        }
    }

    /// The distance itself.
    pub fn build(&self) -> Box<dyn Distance> {
        let length = Length::Euclidean;
        match self {
            Self::Euclidean(rows) => distance(Euclidean {}, rows.normalize, length),
            Self::SquaredEuclidean(rows) => distance(SquaredEuclidean {}, rows.normalize, length),
            Self::CosineDistance(cosine) => Box::new(*cosine),
            Self::Manhattan(rows) => distance(Manhattan {}, rows.normalize, Length::Manhattan),
            Self::Mahalanobis(it) => distance(it.distance.clone(), it.normalize, length),
        }
    }
}

fn distance(it: impl Distance + 'static, normalize: bool, length: Length) -> Box<dyn Distance> {
    if normalize {
        Box::new(Normalized::by(length, it))
    } else {
        Box::new(it)
    }
}

/// A similarity by its name, with its settings: `[similarity.cosine]` of a run file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SimilarityConfig {
    /// [`Cosine`]
    Cosine(Cosine),
    /// [`Dot`]
    Dot(Rows),
}

impl SimilarityConfig {
    /// The names of all.
    pub const NAMES: [&'static str; 2] = ["cosine", "dot"];

    /// Every similarity with its defaults.
    pub fn all() -> Vec<Self> {
        vec![Self::Cosine(Cosine {}), Self::Dot(Rows::default())]
    }

    /// The similarity of this name with its defaults; none for an unknown name.
    pub fn of_name(name: &str) -> Option<Self> {
        Self::all().into_iter().find(|config| config.name() == name)
    }

    /// Its name in a run file.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Cosine(_) => "cosine",
            Self::Dot(_) => "dot",
        }
    }

    /// What its source says of it.
    pub fn doc(&self) -> String {
        match self {
            Self::Cosine(_) => doc_of(include_str!("cosine.rs"), "Cosine"),
            Self::Dot(_) => doc_of(include_str!("dot.rs"), "Dot"),
        }
    }

    /// The similarity itself.
    pub fn build(&self) -> Box<dyn Similarity> {
        match self {
            Self::Cosine(cosine) => Box::new(*cosine),
            Self::Dot(Rows { normalize: true }) => Box::new(Normalized::new(Dot {})),
            Self::Dot(Rows { normalize: false }) => Box::new(Dot {}),
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
            (map, []) => Mahalanobis::from_map(map[0].len(), &flat("map", map)?),
            ([], matrix) => Mahalanobis::from_matrix(matrix[0].len(), &flat("matrix", matrix)?),
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

/// Rows of one length, one after another.
fn flat(name: &str, rows: &[Vec<f64>]) -> Result<Vec<f64>, Error> {
    let columns = rows[0].len();
    match rows.iter().position(|row| row.len() != columns) {
        None => Ok(rows.concat()),
        Some(row) => Err(Error::Settings(format!(
            "mahalanobis: row {row} of `{name}` has {} numbers, row 0 has {columns}; they must agree",
            rows[row].len()
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_read_and_written_as_it_was() {
        for name in DistanceConfig::NAMES {
            let settings = if name == "mahalanobis" {
                "map = [[1, 0], [0, 2]]"
            } else {
                ""
            };
            let config: DistanceConfig =
                toml::from_str(&format!("{name} = {{ {settings} }}")).expect("known");
            assert_eq!(config.name(), name);
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
            let config: SimilarityConfig =
                toml::from_str(&format!("{name} = {{}}")).expect("known");
            assert_eq!(Some(config), SimilarityConfig::of_name(name));
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
