//! All scores of a table at once, from one search.

use std::collections::BTreeMap;

use nearfar_core::{EmbeddingTable, Seed};

use crate::clustering::{Agreement, KMeans, k_means};
use crate::correlation::{kendall, mean_squared_error, pearson, spearman};
use crate::error::{Error, Result};
use crate::neighbors::Neighbors;
use crate::relevance::{knn_error, search_relevant, share, target_pairs};
use crate::rerank::ByPairs;
use crate::retrieval::{
    PerQuery, knn_accuracy, map_at_r, mean_average_precision, mean_reciprocal_rank, precision_at,
    r_precision, recall_at,
};
use crate::score::{Family, Score};
use crate::search::{Exclude, Measure, Search, search};
use crate::verification::{DetectionCost, PairDistances, Roc, pair_distances, scored_pairs};

/// What is evaluated.
#[derive(Clone, Copy, Debug)]
pub enum Subject<'a> {
    /// Each row of a table against all others of it.
    Within(&'a EmbeddingTable),
    /// Queries against a gallery, and which of its rows a query is not shown. Clusters and pairs are those of the gallery.
    Between {
        /// What is looked for.
        queries: &'a EmbeddingTable,
        /// Where it is looked for.
        gallery: &'a EmbeddingTable,
        /// What a query is not shown.
        exclude: Exclude<'a>,
    },
    /// Each row of a table against all others of it; those are relevant that share a label with it.
    Sets {
        /// The rows.
        table: &'a EmbeddingTable,
        /// The labels of each.
        sets: &'a [Vec<u32>],
    },
    /// Rows with real targets: correlations are those of the distances of pairs with how far their targets are, errors those of
    /// estimates from neighbors.
    Targets {
        /// The rows.
        table: &'a EmbeddingTable,
        /// The target of each.
        targets: &'a [f32],
        /// Where neighbors are looked for, with their targets; among the other rows where there is none.
        gallery: Option<(&'a EmbeddingTable, &'a [f32])>,
    },
    /// Predicted scores of pairs, and the scores they should have.
    Scored {
        /// What the model says.
        predicted: &'a [f64],
        /// What is true.
        given: &'a [f64],
    },
    /// Scores of pairs, larger for what is more alike, and whether each is of one class.
    Pairs {
        /// What the model says.
        scores: &'a [f64],
        /// What is true.
        same: &'a [bool],
    },
}

/// How to evaluate.
#[derive(Clone, Copy, Debug)]
pub struct Settings<'a> {
    /// By what rows are near.
    pub measure: Measure<'a>,
    /// Pairs of each kind that verification looks at; more are drawn.
    pub pairs: usize,
    /// How often k-means begins anew.
    pub restarts: usize,
    /// Of pairs that are drawn and centers that k-means begins with.
    pub seed: Seed,
    /// Neighbors to keep at least, for whoever wants to look at them afterwards.
    pub keep: usize,
    /// What says of pairs how alike they are, in place of the measure: of those that verification looks at, and of the first
    /// neighbors that the measure finds. Ids of rows must tell them apart.
    pub by_pairs: Option<ByPairs<'a>>,
}

impl Default for Settings<'_> {
    /// Euclidean distances, half a million pairs of each kind, one start of k-means.
    fn default() -> Self {
        Self {
            measure: Measure::EUCLIDEAN,
            pairs: 500_000,
            restarts: 1,
            seed: Seed(0),
            keep: 0,
            by_pairs: None,
        }
    }
}

/// Scores, and what they were computed from.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Evaluation {
    /// The scores by name.
    pub scores: BTreeMap<String, f64>,
    /// Scores that do not exist for this data, and why.
    pub undefined: BTreeMap<String, String>,
    /// Queries there were.
    pub queries: usize,
    /// Of these, how many are of a class that the gallery has no row of to show them. They are in no average.
    pub lone: usize,
    /// Rows, of queries and of gallery, with a value that is not finite. Queries among them count as wrong.
    pub not_finite: (usize, usize),
    /// What the search found, if a score needed one or neighbors were to be kept.
    pub neighbors: Option<Neighbors>,
    /// Distances of pairs, if a score needed them.
    pub pairs: Option<PairDistances>,
    /// The curve of their errors.
    pub roc: Option<Roc>,
}

/// Computes scores by one search, one choice of pairs and one clustering, as far as they are needed.
///
/// A score that does not exist for this data is listed as undefined with the reason; the others are computed.
///
/// # Errors
/// When a score cannot be of this kind of subject, labels are missing, widths differ, or the distance fails.
///
/// ```
/// use nearfar_core::EmbeddingTable;
/// use nearfar_eval::{Score, Settings, Subject, evaluate};
///
/// let table = EmbeddingTable { vectors: vec![0.0, 1.0, 5.0, 6.5], dim: 1, labels: vec![0, 0, 1, 1], ids: vec![0, 1, 2, 3] };
/// let scores = ["recall_at_1", "map_at_r", "eer"].map(|name| name.parse::<Score>().unwrap());
/// let evaluation = evaluate(Subject::Within(&table), &scores, &Settings::default())?;
/// assert_eq!(evaluation.scores["recall_at_1"], 1.0);
/// assert_eq!(evaluation.scores["eer"], 0.0);
/// # Ok::<(), nearfar_eval::Error>(())
/// ```
pub fn evaluate(
    subject: Subject<'_>,
    scores: &[Score],
    settings: &Settings<'_>,
) -> Result<Evaluation> {
    let mut evaluation = Evaluation::default();
    match subject {
        Subject::Within(table) => {
            tables(
                &mut evaluation,
                table,
                table,
                Exclude::SameIndex,
                scores,
                settings,
            )?;
        }
        Subject::Between {
            queries,
            gallery,
            exclude,
        } => tables(&mut evaluation, queries, gallery, exclude, scores, settings)?,
        Subject::Sets { table, sets } => evaluation.sets(table, sets, scores, settings)?,
        Subject::Targets {
            table,
            targets,
            gallery,
        } => evaluation.targets(table, targets, gallery, scores, settings)?,
        Subject::Scored { predicted, given } => {
            for &score in scores {
                let value = match score {
                    Score::Pearson => pearson(predicted, given),
                    Score::Spearman => spearman(predicted, given),
                    Score::Kendall => kendall(predicted, given),
                    Score::MeanSquaredError => mean_squared_error(predicted, given),
                    other => return Err(wrong(other, "pairs with scores")),
                };
                evaluation.put(score, value)?;
            }
            evaluation.queries = predicted.len();
        }
        Subject::Pairs {
            scores: predicted,
            same,
        } => {
            if let Some(other) = scores.iter().find(|it| it.family() != Family::Verification) {
                return Err(wrong(*other, "pairs of one class or two"));
            }
            evaluation.verification(Roc::new(predicted, same), scores)?;
            evaluation.queries = predicted.len();
        }
    }
    Ok(evaluation)
}

fn wrong(score: Score, given: &'static str) -> Error {
    Error::WrongData {
        score: score.to_string(),
        wanted: match score.family() {
            Family::Retrieval | Family::Clustering => "rows with classes",
            Family::Verification => "rows with classes, or pairs of one class or two",
            Family::Correlation => "pairs with scores",
            Family::Regression => "rows with targets",
        },
        given,
    }
}

fn tables(
    evaluation: &mut Evaluation,
    queries: &EmbeddingTable,
    gallery: &EmbeddingTable,
    exclude: Exclude<'_>,
    scores: &[Score],
    settings: &Settings<'_>,
) -> Result<()> {
    if let Some(other) = scores
        .iter()
        .find(|it| matches!(it.family(), Family::Correlation | Family::Regression))
    {
        return Err(wrong(*other, "rows, each on its own"));
    }
    let wants = |family| scores.iter().any(|score| score.family() == family);
    if wants(Family::Retrieval) || settings.keep > 0 {
        let rank_all = scores
            .iter()
            .any(|score| score.family() == Family::Retrieval && score.neighbors() == 0);
        let farthest = scores.iter().map(|score| score.neighbors()).max();
        let rerank = settings.by_pairs.map_or(0, |it| it.rerank);
        let settings_of_search = Search {
            k: farthest.unwrap_or(0).max(settings.keep).max(rerank),
            exclude,
            rank_all,
            ..Search::default()
        };
        let mut neighbors = search(queries, gallery, settings.measure, &settings_of_search)?;
        if let Some(scorer) = settings.by_pairs.filter(|_| rerank > 0) {
            let id =
                |pair: &(u32, u32)| (queries.ids[pair.0 as usize], gallery.ids[pair.1 as usize]);
            let score =
                |pairs: &[(u32, u32)]| (scorer.score)(&pairs.iter().map(id).collect::<Vec<_>>());
            neighbors = neighbors.reranked(rerank, &score)?;
        }
        evaluation.retrieval(neighbors, scores)?;
    }
    if wants(Family::Verification) {
        let (limit, seed) = (settings.pairs, settings.seed);
        let pairs = match settings.by_pairs {
            None => pair_distances(gallery, settings.measure, limit, seed)?,
            Some(scorer) => scored_pairs(gallery, scorer, limit, seed)?,
        };
        evaluation.verification(Roc::of_distances(&pairs), scores)?;
        evaluation.pairs = Some(pairs);
    }
    if wants(Family::Clustering) {
        evaluation.clustering(gallery, scores, settings)?;
    }
    Ok(())
}

impl Evaluation {
    fn sets(
        &mut self,
        table: &EmbeddingTable,
        sets: &[Vec<u32>],
        scores: &[Score],
        settings: &Settings<'_>,
    ) -> Result<()> {
        let fits = |score: &&Score| {
            score.family() == Family::Retrieval && !matches!(score, Score::KnnAccuracy(_))
        };
        if let Some(other) = scores.iter().find(|score| !fits(score)) {
            return Err(wrong(*other, "rows with sets of labels"));
        }
        if sets.len() != table.len() {
            return Err(Error::Lengths {
                left: "rows",
                left_length: table.len(),
                right: "the sets of labels",
                right_length: sets.len(),
            });
        }
        let farthest = scores.iter().map(|score| score.neighbors()).max();
        let search = Search {
            k: farthest.unwrap_or(0).max(settings.keep),
            exclude: Exclude::SameIndex,
            ..Search::default()
        };
        let relevant = |query: usize, row: usize| share(&sets[query], &sets[row]);
        let neighbors = search_relevant(table, table, settings.measure, &search, &relevant)?;
        self.retrieval(neighbors, scores)
    }

    fn targets(
        &mut self,
        table: &EmbeddingTable,
        targets: &[f32],
        gallery: Option<(&EmbeddingTable, &[f32])>,
        scores: &[Score],
        settings: &Settings<'_>,
    ) -> Result<()> {
        self.queries = table.len();
        let wants = |family| scores.iter().any(|score| score.family() == family);
        if wants(Family::Correlation) {
            let (seed, limit) = (settings.seed, settings.pairs);
            let (distances, apart) = target_pairs(table, targets, settings.measure, limit, seed)?;
            for &score in scores {
                let value = match score {
                    Score::Pearson => pearson(&distances, &apart),
                    Score::Spearman => spearman(&distances, &apart),
                    Score::Kendall => kendall(&distances, &apart),
                    _ => continue,
                };
                self.put(score, value)?;
            }
        }
        let (rows, of_rows) = gallery.unwrap_or((table, targets));
        let search_for = Search {
            k: scores
                .iter()
                .map(|score| score.neighbors())
                .max()
                .unwrap_or(0),
            exclude: match gallery {
                Some(_) => Exclude::Nothing,
                None => Exclude::SameIndex,
            },
            ..Search::default()
        };
        let neighbors = search(table, rows, settings.measure, &search_for)?;
        self.not_finite = (
            neighbors.queries_not_finite.len(),
            neighbors.gallery_not_finite.len(),
        );
        for &score in scores {
            match score {
                Score::KnnError(k) => {
                    let mean = knn_error(&neighbors, k, targets, of_rows)?.mean();
                    let none = || Error::Undefined("there is no other row to estimate from".into());
                    self.put(score, mean.ok_or_else(none))?;
                }
                Score::Pearson | Score::Spearman | Score::Kendall => {}
                other => return Err(wrong(other, "rows with real targets")),
            }
        }
        Ok(())
    }

    fn put(&mut self, score: Score, value: Result<f64>) -> Result<()> {
        match value {
            Ok(value) => {
                self.scores.insert(score.to_string(), value);
            }
            Err(Error::Undefined(why)) => {
                self.undefined.insert(score.to_string(), why);
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn retrieval(&mut self, neighbors: Neighbors, scores: &[Score]) -> Result<()> {
        self.queries = neighbors.queries();
        self.lone = neighbors
            .relevant
            .iter()
            .filter(|relevant| **relevant == 0)
            .count();
        self.not_finite = (
            neighbors.queries_not_finite.len(),
            neighbors.gallery_not_finite.len(),
        );
        for &score in scores {
            let of: Result<PerQuery> = match score {
                Score::RecallAt(k) => recall_at(&neighbors, k),
                Score::PrecisionAt(k) => precision_at(&neighbors, k),
                Score::KnnAccuracy(k) => knn_accuracy(&neighbors, k),
                Score::RPrecision => r_precision(&neighbors),
                Score::MapAtR => map_at_r(&neighbors),
                Score::MeanAveragePrecision => mean_average_precision(&neighbors),
                Score::MeanReciprocalRank => mean_reciprocal_rank(&neighbors),
                _ => continue,
            };
            let mean = of?.mean().ok_or_else(|| {
                Error::Undefined(format!(
                    "none of {} queries has a row of its class to find",
                    self.queries
                ))
            });
            self.put(score, mean)?;
        }
        self.neighbors = Some(neighbors);
        Ok(())
    }

    fn verification(&mut self, roc: Result<Roc>, scores: &[Score]) -> Result<()> {
        let roc = match roc {
            Ok(roc) => roc,
            Err(Error::Undefined(why)) => {
                for score in scores
                    .iter()
                    .filter(|it| it.family() == Family::Verification)
                {
                    self.undefined.insert(score.to_string(), why.clone());
                }
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        for &score in scores {
            let value = match score {
                Score::Eer => Ok(roc.eer().rate),
                Score::Auc => Ok(roc.auc()),
                Score::TarAtFar(far) => roc.tar_at_far(far),
                Score::MinDcf => Ok(roc.min_dcf(DetectionCost::default())),
                _ => continue,
            };
            self.put(score, value)?;
        }
        self.roc = Some(roc);
        Ok(())
    }

    fn clustering(
        &mut self,
        table: &EmbeddingTable,
        scores: &[Score],
        settings: &Settings<'_>,
    ) -> Result<()> {
        if table.labels.is_empty() && !table.is_empty() {
            return Err(Error::NoLabels {
                what: "a score of clusters".into(),
                table: "table",
            });
        }
        let classes = std::collections::BTreeSet::from_iter(&table.labels).len();
        let clusters = k_means(
            table,
            KMeans {
                restarts: settings.restarts,
                ..KMeans::new(classes, settings.seed)
            },
        );
        let agreement = match clusters {
            Ok(clusters) => Agreement::new(&table.labels, &clusters.assignment)?,
            Err(error) => {
                for score in scores.iter().filter(|it| it.family() == Family::Clustering) {
                    self.undefined.insert(score.to_string(), error.to_string());
                }
                return Ok(());
            }
        };
        for &score in scores {
            let value = match score {
                Score::Nmi => agreement.nmi(),
                Score::Ami => agreement.ami(),
                Score::Ari => agreement.ari(),
                Score::Purity => agreement.purity(),
                _ => continue,
            };
            self.put(score, Ok(value))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(values: &[f32], labels: &[u32]) -> EmbeddingTable {
        EmbeddingTable {
            vectors: values.to_vec(),
            dim: 1,
            labels: labels.to_vec(),
            ids: (0..values.len() as u64).collect(),
        }
    }

    fn tabular() -> Vec<Score> {
        let all = Score::all().into_iter();
        all.filter(|score| !matches!(score.family(), Family::Correlation | Family::Regression))
            .collect()
    }

    #[test]
    fn two_clear_classes_are_perfect() {
        let table = table(&[0.0, 1.0, 10.0, 11.5], &[3, 3, 8, 8]);
        let evaluation =
            evaluate(Subject::Within(&table), &tabular(), &Settings::default()).unwrap();
        for (name, value) in &evaluation.scores {
            let score: Score = name.parse().unwrap();
            let perfect = match score {
                Score::PrecisionAt(10) => 0.1, // There is one other of the class.
                Score::KnnAccuracy(5) => 0.0, // All other rows are neighbors, and two of three are of the other class.
                score if score.higher_is_better() => 1.0,
                _ => 0.0,
            };
            assert!((value - perfect).abs() < 1e-9, "{name}: {value}");
        }
        assert_eq!(
            evaluation.undefined.keys().collect::<Vec<_>>(),
            ["tar_at_far_0.01"]
        );
        assert!(evaluation.undefined["tar_at_far_0.01"].contains("at least 100 pairs"));
        assert_eq!(evaluation.scores.len() + 1, tabular().len());
    }

    #[test]
    fn awkward_tables_have_undefined_scores_and_no_panic() {
        let nan = f32::NAN;
        for (name, table) in [
            ("no rows", table(&[], &[])),
            ("one row", table(&[1.0], &[0])),
            ("all alone", table(&[1.0, 2.0, 3.0], &[0, 1, 2])),
            ("one class", table(&[1.0, 2.0, 3.0], &[4, 4, 4])),
            ("all equal", table(&[1.0; 4], &[0, 0, 1, 1])),
            (
                "not finite",
                table(&[nan, 1.0, f32::INFINITY, 2.0], &[0, 0, 1, 1]),
            ),
            ("huge", table(&[3e38, -3e38, 1e38, 0.0], &[0, 0, 1, 1])),
            ("tiny", table(&[1e-45, 2e-45, 3e-45, 0.0], &[0, 0, 1, 1])),
        ] {
            for measure in [Measure::EUCLIDEAN, Measure::COSINE, Measure::DOT] {
                let settings = Settings {
                    measure,
                    keep: 3,
                    ..Settings::default()
                };
                let evaluation = evaluate(Subject::Within(&table), &tabular(), &settings)
                    .unwrap_or_else(|error| panic!("{name}: {error}"));
                assert_eq!(
                    evaluation.scores.len() + evaluation.undefined.len(),
                    tabular().len(),
                    "{name}"
                );
                assert!(
                    evaluation.scores.values().all(|value| value.is_finite()),
                    "{name}: {evaluation:?}"
                );
            }
        }
        let evaluation = evaluate(
            Subject::Within(&table(&[nan, 1.0, 1.5], &[0, 0, 0])),
            &[Score::RecallAt(1), Score::MeanAveragePrecision],
            &Settings::default(),
        )
        .unwrap();
        assert_eq!(evaluation.not_finite, (1, 1));
        assert!((evaluation.scores["recall_at_1"] - 2.0 / 3.0).abs() < 1e-12);
        assert!((evaluation.scores["mean_average_precision"] - 2.0 / 3.0).abs() < 1e-12);
    }

    #[test]
    fn a_score_of_the_wrong_kind_of_data_is_an_error() {
        let rows = table(&[0.0, 1.0], &[0, 0]);
        let error = evaluate(
            Subject::Within(&rows),
            &[Score::Pearson],
            &Settings::default(),
        )
        .unwrap_err();
        assert_eq!(
            error.to_string(),
            "the score `pearson` is computed from pairs with scores, and this data is rows, each on its own"
        );
        let scored = Subject::Scored {
            predicted: &[1.0, 1.0],
            given: &[1.0, 2.0],
        };
        assert!(evaluate(scored, &[Score::Eer], &Settings::default()).is_err());
        let evaluation = evaluate(
            scored,
            &[Score::Spearman, Score::MeanSquaredError],
            &Settings::default(),
        )
        .unwrap();
        assert_eq!(evaluation.scores["mean_squared_error"], 0.5);
        assert!(evaluation.undefined["spearman"].contains("constant"));
        let unlabelled = table(&[0.0, 1.0], &[]);
        for score in [Score::RecallAt(1), Score::MapAtR, Score::Eer, Score::Nmi] {
            let error = evaluate(Subject::Within(&unlabelled), &[score], &Settings::default());
            assert!(matches!(error, Err(Error::NoLabels { .. })), "{score}");
        }
    }

    #[test]
    fn sets_and_targets_have_scores_of_their_own() {
        let rows = table(&[0.0, 1.0, 3.0], &[]);
        let sets = [vec![1], vec![1, 2], vec![3]];
        let of_sets = Subject::Sets {
            table: &rows,
            sets: &sets,
        };
        let scores = [Score::MeanAveragePrecision, Score::RecallAt(1)];
        let evaluation = evaluate(of_sets, &scores, &Settings::default()).unwrap();
        assert_eq!(evaluation.scores["mean_average_precision"], 1.0);
        assert_eq!((evaluation.queries, evaluation.lone), (3, 1));
        for score in [Score::KnnAccuracy(1), Score::Nmi, Score::Spearman] {
            assert!(evaluate(of_sets, &[score], &Settings::default()).is_err());
        }
        let targets = [0.0, 2.0, 5.0];
        let of_targets = |gallery| Subject::Targets {
            table: &rows,
            targets: &targets,
            gallery,
        };
        let scores = [Score::Spearman, Score::KnnError(1)];
        let evaluation = evaluate(of_targets(None), &scores, &Settings::default()).unwrap();
        assert_eq!(evaluation.scores["spearman"], 1.0);
        assert_eq!(evaluation.scores["knn_error_1"], 7.0 / 3.0);
        let gallery = Some((&rows, &targets[..]));
        let evaluation = evaluate(of_targets(gallery), &scores, &Settings::default()).unwrap();
        assert_eq!(evaluation.scores["knn_error_1"], 0.0);
        assert!(
            evaluate(
                of_targets(None),
                &[Score::RecallAt(1)],
                &Settings::default()
            )
            .is_err()
        );
        let alone = table(&[0.0], &[]);
        let one = Subject::Targets {
            table: &alone,
            targets: &[1.0],
            gallery: None,
        };
        let evaluation = evaluate(one, &scores, &Settings::default()).unwrap();
        assert_eq!(evaluation.undefined.len(), 2);
    }

    #[test]
    fn a_scorer_of_pairs_takes_the_place_of_distances() {
        // Rows are near by the wrong coordinate; the scorer knows the classes.
        let rows = table(&[0.0, 1.0, 0.1, 1.1], &[0, 0, 1, 1]);
        let scores = ["recall_at_1", "mean_average_precision", "eer"];
        let scores = scores.map(|name| name.parse::<Score>().unwrap());
        let plain = evaluate(Subject::Within(&rows), &scores, &Settings::default()).unwrap();
        assert_eq!(plain.scores["recall_at_1"], 0.0);
        assert!(plain.scores["eer"] > 0.4);
        let score = |pairs: &[(u64, u64)]| {
            let same = |&(a, b): &(u64, u64)| f64::from(u8::from(a / 2 == b / 2));
            Ok(pairs.iter().map(same).collect())
        };
        let of = |rerank: usize| {
            let by_pairs = Some(ByPairs {
                score: &score,
                rerank,
            });
            let settings = Settings {
                by_pairs,
                ..Settings::default()
            };
            evaluate(Subject::Within(&rows), &scores, &settings).unwrap()
        };
        let (alone, reordered) = (of(0), of(3));
        assert_eq!(alone.scores["eer"], 0.0);
        assert_eq!(alone.scores["recall_at_1"], 0.0);
        assert_eq!(reordered.scores["recall_at_1"], 1.0);
        assert_eq!(reordered.scores["mean_average_precision"], 1.0);
    }

    #[test]
    fn queries_beside_a_gallery() {
        let (queries, gallery) = (
            table(&[0.1, 9.0], &[0, 1]),
            table(&[0.0, 0.2, 10.0], &[0, 1, 1]),
        );
        let subject = Subject::Between {
            queries: &queries,
            gallery: &gallery,
            exclude: Exclude::Nothing,
        };
        let scores = [
            Score::RecallAt(1),
            Score::MeanReciprocalRank,
            Score::MeanAveragePrecision,
        ];
        let evaluation = evaluate(subject, &scores, &Settings::default()).unwrap();
        assert_eq!(evaluation.scores["recall_at_1"], 1.0);
        // 0.0 and 0.2 are equally far from 0.1 but for rounding. The second query's rows are at ranks 1 and 2.
        assert_eq!(evaluation.scores["mean_average_precision"], 1.0);
    }
}
