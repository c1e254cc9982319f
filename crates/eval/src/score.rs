//! Names of scores.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::Error;

/// A score, as a run file names it.
///
/// ```
/// use nearfar_eval::Score;
///
/// assert_eq!("recall_at_5".parse::<Score>()?, Score::RecallAt(5));
/// assert_eq!(Score::MapAtR.to_string(), "map_at_r");
/// let error = "recal_at_5".parse::<Score>().unwrap_err();
/// assert_eq!(error.to_string(), "there is no score `recal_at_5`; did you mean `recall_at_5`?");
/// # Ok::<(), nearfar_eval::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Score {
    /// `recall_at_K`: see [`recall_at`](crate::recall_at).
    RecallAt(usize),
    /// `precision_at_K`: see [`precision_at`](crate::precision_at).
    PrecisionAt(usize),
    /// `knn_accuracy_K`: see [`knn_accuracy`](crate::knn_accuracy).
    KnnAccuracy(usize),
    /// `knn_error_K`: the mean absolute error of a target that is the mean of those of the K nearest, see
    /// [`knn_error`](crate::knn_error).
    KnnError(usize),
    /// `r_precision`: see [`r_precision`](crate::r_precision).
    RPrecision,
    /// `map_at_r`: see [`map_at_r`](crate::map_at_r).
    MapAtR,
    /// `mean_average_precision`: see [`mean_average_precision`](crate::mean_average_precision).
    MeanAveragePrecision,
    /// `mean_reciprocal_rank`: see [`mean_reciprocal_rank`](crate::mean_reciprocal_rank).
    MeanReciprocalRank,
    /// `eer`: the equal error rate, see [`Roc::eer`](crate::Roc::eer).
    Eer,
    /// `auc`: see [`Roc::auc`](crate::Roc::auc).
    Auc,
    /// `tar_at_far_F`, such as `tar_at_far_0.01`: see [`Roc::tar_at_far`](crate::Roc::tar_at_far).
    TarAtFar(f64),
    /// `min_dcf`: with the default costs, see [`Roc::min_dcf`](crate::Roc::min_dcf).
    MinDcf,
    /// `nmi`: of k-means with as many clusters as classes, see [`Agreement::nmi`](crate::Agreement::nmi).
    Nmi,
    /// `ami`: see [`Agreement::ami`](crate::Agreement::ami).
    Ami,
    /// `ari`: see [`Agreement::ari`](crate::Agreement::ari).
    Ari,
    /// `purity`: see [`Agreement::purity`](crate::Agreement::purity).
    Purity,
    /// `pearson`: see [`pearson`](crate::pearson).
    Pearson,
    /// `spearman`: see [`spearman`](crate::spearman).
    Spearman,
    /// `kendall`: see [`kendall`](crate::kendall).
    Kendall,
    /// `mean_squared_error`: see [`mean_squared_error`](crate::mean_squared_error).
    MeanSquaredError,
}

/// What a score is computed from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// Ranks of labelled rows.
    Retrieval,
    /// Pairs that are of one class or not.
    Verification,
    /// Clusters of labelled rows.
    Clustering,
    /// Pairs with given scores; of rows with real targets their pairs, distances against differences.
    Correlation,
    /// Targets of neighbors.
    Regression,
}

/// Names without a number.
const PLAIN: [(&str, Score); 15] = [
    ("r_precision", Score::RPrecision),
    ("map_at_r", Score::MapAtR),
    ("mean_average_precision", Score::MeanAveragePrecision),
    ("mean_reciprocal_rank", Score::MeanReciprocalRank),
    ("eer", Score::Eer),
    ("auc", Score::Auc),
    ("min_dcf", Score::MinDcf),
    ("nmi", Score::Nmi),
    ("ami", Score::Ami),
    ("ari", Score::Ari),
    ("purity", Score::Purity),
    ("pearson", Score::Pearson),
    ("spearman", Score::Spearman),
    ("kendall", Score::Kendall),
    ("mean_squared_error", Score::MeanSquaredError),
];

/// The beginning of a name that ends in a number of neighbors, and what it makes of the number.
type Counted = (&'static str, fn(usize) -> Score);

const COUNTED: [Counted; 4] = [
    ("recall_at_", Score::RecallAt),
    ("precision_at_", Score::PrecisionAt),
    ("knn_accuracy_", Score::KnnAccuracy),
    ("knn_error_", Score::KnnError),
];

const TAR: &str = "tar_at_far_";

impl Score {
    /// Every score once, those with a number with a usual one: for tables and docs.
    pub fn all() -> Vec<Self> {
        let counted = [
            Self::RecallAt(1),
            Self::PrecisionAt(10),
            Self::KnnAccuracy(5),
            Self::KnnError(5),
        ];
        let plain = PLAIN.iter().map(|(_, score)| *score);
        counted
            .into_iter()
            .chain([Self::TarAtFar(0.01)])
            .chain(plain)
            .collect()
    }

    /// Whether more is better. It is not for errors and costs.
    pub fn higher_is_better(self) -> bool {
        !matches!(
            self,
            Self::Eer | Self::MinDcf | Self::MeanSquaredError | Self::KnnError(_)
        )
    }

    /// What it is computed from.
    pub fn family(self) -> Family {
        match self {
            Self::RecallAt(_)
            | Self::PrecisionAt(_)
            | Self::KnnAccuracy(_)
            | Self::RPrecision
            | Self::MapAtR
            | Self::MeanAveragePrecision
            | Self::MeanReciprocalRank => Family::Retrieval,
            Self::Eer | Self::Auc | Self::TarAtFar(_) | Self::MinDcf => Family::Verification,
            Self::Nmi | Self::Ami | Self::Ari | Self::Purity => Family::Clustering,
            Self::Pearson | Self::Spearman | Self::Kendall | Self::MeanSquaredError => {
                Family::Correlation
            }
            Self::KnnError(_) => Family::Regression,
        }
    }

    /// How people write it in a table: `Recall@1`, `MAP@R`.
    pub fn title(self) -> String {
        match self {
            Self::RecallAt(k) => format!("Recall@{k}"),
            Self::PrecisionAt(k) => format!("Precision@{k}"),
            Self::KnnAccuracy(k) => format!("{k}-NN accuracy"),
            Self::KnnError(k) => format!("{k}-NN error"),
            Self::RPrecision => "R-precision".into(),
            Self::MapAtR => "MAP@R".into(),
            Self::MeanAveragePrecision => "MAP".into(),
            Self::MeanReciprocalRank => "MRR".into(),
            Self::Eer => "Equal error rate".into(),
            Self::Auc => "ROC AUC".into(),
            Self::TarAtFar(far) => format!("TAR@FAR {far}"),
            Self::MinDcf => "minDCF".into(),
            Self::Nmi => "NMI".into(),
            Self::Ami => "AMI".into(),
            Self::Ari => "ARI".into(),
            Self::Purity => "Purity".into(),
            Self::Pearson => "Pearson r".into(),
            Self::Spearman => "Spearman ρ".into(),
            Self::Kendall => "Kendall τ".into(),
            Self::MeanSquaredError => "Mean squared error".into(),
        }
    }

    /// Neighbors that a search must keep for it.
    pub(crate) fn neighbors(self) -> usize {
        match self {
            Self::RecallAt(k) | Self::PrecisionAt(k) | Self::KnnAccuracy(k) | Self::KnnError(k) => {
                k
            }
            _ => 0,
        }
    }
}

impl fmt::Display for Score {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RecallAt(k) => write!(f, "recall_at_{k}"),
            Self::PrecisionAt(k) => write!(f, "precision_at_{k}"),
            Self::KnnAccuracy(k) => write!(f, "knn_accuracy_{k}"),
            Self::KnnError(k) => write!(f, "knn_error_{k}"),
            Self::TarAtFar(far) => write!(f, "{TAR}{far}"),
            plain => {
                let named = PLAIN.iter().find(|(_, score)| score == plain);
                f.write_str(named.map_or("", |(name, _)| name))
            }
        }
    }
}

impl FromStr for Score {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        if let Some((_, score)) = PLAIN.iter().find(|(plain, _)| *plain == name) {
            return Ok(*score);
        }
        for (beginning, score) in COUNTED {
            if let Some(number) = name.strip_prefix(beginning) {
                return match number.parse() {
                    // `+5` and `05` are numbers too, but not the name that is printed.
                    Ok(k) if k > 0 && format!("{k}") == number => Ok(score(k)),
                    _ => Err(Error::UnknownScore {
                        name: name.into(),
                        hint: format!(
                            "`{beginning}` is followed by a number of neighbors, 1 or more, as in `{beginning}5`"
                        ),
                    }),
                };
            }
        }
        if let Some(number) = name.strip_prefix(TAR) {
            return match number.parse::<f64>() {
                Ok(far) if far > 0.0 && far < 1.0 => Ok(Self::TarAtFar(far)),
                _ => Err(Error::UnknownScore {
                    name: name.into(),
                    hint: format!(
                        "`{TAR}` is followed by a rate between 0 and 1, as in `{TAR}0.01`"
                    ),
                }),
            };
        }
        Err(Error::UnknownScore {
            name: name.into(),
            hint: nearest(name),
        })
    }
}

/// The valid name that takes the fewest changes, if they are few.
fn nearest(name: &str) -> String {
    let digits = name.trim_start_matches(|c: char| !c.is_ascii_digit());
    let number = if digits.parse::<u32>().is_ok_and(|k| k > 0) {
        digits
    } else {
        "1"
    };
    let plain = PLAIN.iter().map(|(plain, _)| (*plain).to_owned());
    let counted = COUNTED
        .iter()
        .map(|(beginning, _)| format!("{beginning}{number}"));
    let names = plain.chain(counted).chain([format!("{TAR}0.01")]);
    let (distance, best) = names
        .map(|valid| (strsim::damerau_levenshtein(name, &valid), valid))
        .min()
        .expect("there are scores");
    if distance <= 1 + best.len() / 4 {
        format!("did you mean `{best}`?")
    } else {
        let names: Vec<String> = Score::all()
            .iter()
            .map(|score| format!("`{score}`"))
            .collect();
        format!("there are {}", names.join(", "))
    }
}

impl TryFrom<String> for Score {
    type Error = Error;

    fn try_from(name: String) -> Result<Self, Error> {
        name.parse()
    }
}

impl From<Score> for String {
    fn from(score: Score) -> Self {
        score.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_read_back() {
        for score in Score::all() {
            assert_eq!(score.to_string().parse::<Score>().unwrap(), score);
            assert!(!score.title().is_empty());
        }
        assert_eq!(Score::all().len(), PLAIN.len() + COUNTED.len() + 1);
        let score: Score = serde_json::from_str("\"recall_at_10\"").unwrap();
        assert_eq!(score, Score::RecallAt(10));
        assert_eq!(serde_json::to_string(&Score::Eer).unwrap(), "\"eer\"");
    }

    #[test]
    fn wrong_names_say_what_is_right() {
        let message = |name: &str| name.parse::<Score>().unwrap_err().to_string();
        assert_eq!(
            message("map_r"),
            "there is no score `map_r`; did you mean `map_at_r`?"
        );
        assert_eq!(
            message("recal_at_8"),
            "there is no score `recal_at_8`; did you mean `recall_at_8`?"
        );
        assert_eq!(
            message("recall_at_0"),
            "there is no score `recall_at_0`; `recall_at_` is followed by a number of neighbors, 1 or more, as in `recall_at_5`"
        );
        assert!(message("tar_at_far_2").contains("between 0 and 1"));
        assert!(message("bleu").contains("there are `recall_at_1`, "));
        assert!(message("recall_at_+5").contains("number of neighbors"));
        for name in ["recall_at_", "", "é", "knn_accuracy_99999999999999999999"] {
            assert!(name.parse::<Score>().is_err());
        }
    }
}
