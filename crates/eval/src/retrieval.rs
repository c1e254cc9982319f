//! Scores of retrieval: is what was found near of the query's class?
//!
//! Every score is a value for each query and none for a *lone* query, one of whose class the gallery has no row to show.
//! Lone queries are left out of all averages and counted, as in pytorch-metric-learning. A query that is not finite finds
//! nothing, and counts as wrong.

use std::collections::BTreeMap;

use crate::error::{Error, Result};
use crate::neighbors::{Neighbors, Ranking};

/// A score of each query.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PerQuery {
    /// The score; none for a lone query.
    pub values: Vec<Option<f64>>,
    /// The class of each query.
    pub labels: Vec<u32>,
}

impl PerQuery {
    /// The mean over queries that are not lone; none when all are.
    pub fn mean(&self) -> Option<f64> {
        mean(self.values.iter().flatten().copied())
    }

    /// The mean over all queries, with `value` for the lone ones: 0 is what open-metric-learning reports.
    pub fn mean_with_lone_as(&self, value: f64) -> Option<f64> {
        mean(self.values.iter().map(|score| score.unwrap_or(value)))
    }

    /// The mean of each class that has a query that is not lone, by class.
    pub fn per_class(&self) -> BTreeMap<u32, f64> {
        let mut classes = BTreeMap::<u32, Vec<f64>>::new();
        for (&label, value) in self.labels.iter().zip(&self.values) {
            if let Some(value) = value {
                classes.entry(label).or_default().push(*value);
            }
        }
        classes
            .into_iter()
            .filter_map(|(label, values)| Some((label, mean(values.into_iter())?)))
            .collect()
    }

    /// The mean of the classes' means, in which a rare class counts as much as a frequent one.
    pub fn mean_of_classes(&self) -> Option<f64> {
        mean(self.per_class().into_values())
    }

    /// How many queries are lone.
    pub fn lone(&self) -> usize {
        self.values.iter().filter(|value| value.is_none()).count()
    }
}

fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (sum, count) = values.fold((0.0, 0u64), |(sum, count), value| (sum + value, count + 1));
    (count > 0).then(|| sum / count as f64)
}

/// Recall@k: 1 for a query with a row of its class among its `k` nearest, else 0. The name is that of metric learning;
/// elsewhere it is the hit rate, or CMC@k, and recall is a share of what is relevant.
///
/// # Errors
/// When the tables had no labels, or the search kept fewer than `k` neighbors although there are more. Also of the
/// functions below.
pub fn recall_at(neighbors: &Neighbors, k: usize) -> Result<PerQuery> {
    first(neighbors, k, |right| {
        f64::from(u8::from(right.contains(&true)))
    })
}

/// Precision@k: the share of the `k` nearest that are of the query's class, of `k` even if there are fewer.
///
/// # Errors
/// As [`recall_at`].
pub fn precision_at(neighbors: &Neighbors, k: usize) -> Result<PerQuery> {
    first(neighbors, k, |right| {
        right.iter().filter(|right| **right).count() as f64 / k as f64
    })
}

/// Accuracy of the classifier by the `k` nearest neighbors: 1 for a query whose class has the most of them, else 0. Of
/// classes with equally many, the one with the nearest neighbor wins.
///
/// # Errors
/// As [`recall_at`].
pub fn knn_accuracy(neighbors: &Neighbors, k: usize) -> Result<PerQuery> {
    let predicted = knn_classes(neighbors, k)?;
    let right = neighbors.query_labels.iter().zip(predicted);
    Ok(not_lone(
        neighbors,
        right.map(|(label, predicted)| f64::from(u8::from(predicted == Some(*label)))),
    ))
}

/// The class that most of the `k` nearest neighbors of each query have; of classes with equally many, the one with the
/// nearest neighbor. None for a query that found nothing.
///
/// # Errors
/// As [`recall_at`].
pub fn knn_classes(neighbors: &Neighbors, k: usize) -> Result<Vec<Option<u32>>> {
    check(neighbors, k)?;
    if neighbors.query_labels.is_empty() && neighbors.queries() > 0 {
        return Err(Error::NoLabels {
            what: "a vote for classes".into(),
            table: "queries and of the gallery",
        });
    }
    let class = |query: usize| {
        let (indices, _) = neighbors.of(query);
        // Votes and, for the tie, how early the first one came.
        let mut votes = BTreeMap::<u32, (usize, std::cmp::Reverse<usize>)>::new();
        for (place, &index) in indices.iter().take(k).enumerate() {
            let label = neighbors.gallery_labels[index as usize];
            votes
                .entry(label)
                .or_insert((0, std::cmp::Reverse(place)))
                .0 += 1;
        }
        votes
            .into_iter()
            .max_by_key(|(_, votes)| *votes)
            .map(|(label, _)| label)
    };
    Ok((0..neighbors.queries()).map(class).collect())
}

/// R-precision: the share of the first `R` ranks that are of the query's class, where `R` is the number of rows of its
/// class.
///
/// # Errors
/// When the search did not rank all. Also of the functions below.
pub fn r_precision(neighbors: &Neighbors) -> Result<PerQuery> {
    ranked(neighbors, |ranking| {
        f64::from(ranking.hits) / f64::from(ranking.cutoff.max(1))
    })
}

/// MAP@R: `1/R Σ P@i` over those of the first `R` ranks `i` that are of the query's class (Musgrave, Belongie, Lim, "A
/// Metric Learning Reality Check", ECCV 2020, <https://arxiv.org/abs/2003.08505>, section 3.2).
///
/// # Errors
/// As [`r_precision`].
pub fn map_at_r(neighbors: &Neighbors) -> Result<PerQuery> {
    ranked(neighbors, |ranking| ranking.average_precision_at_r)
}

/// Mean average precision over all ranks: `1/R Σ P@i` over all ranks `i` that are of the query's class.
///
/// # Errors
/// As [`r_precision`].
pub fn mean_average_precision(neighbors: &Neighbors) -> Result<PerQuery> {
    ranked(neighbors, |ranking| ranking.average_precision)
}

/// Mean reciprocal rank: 1 over the rank of the first row of the query's class; 0 if it was not seen.
///
/// # Errors
/// As [`r_precision`].
pub fn mean_reciprocal_rank(neighbors: &Neighbors) -> Result<PerQuery> {
    ranked(neighbors, |ranking| {
        ranking.first.map_or(0.0, |rank| 1.0 / f64::from(rank))
    })
}

fn check(neighbors: &Neighbors, k: usize) -> Result<()> {
    if k == 0 {
        return Err(Error::Settings(
            "a score at 0 neighbors says nothing; the first is at 1".into(),
        ));
    }
    if neighbors.query_labels.is_empty() && neighbors.alike.is_empty() && neighbors.queries() > 0 {
        return Err(Error::NoLabels {
            what: "a score of retrieval".into(),
            table: "queries and of the gallery",
        });
    }
    if k > neighbors.k && neighbors.k < neighbors.gallery_labels.len() {
        return Err(Error::TooFewNeighbors {
            wanted: k,
            kept: neighbors.k,
        });
    }
    Ok(())
}

/// A function of whether each of the first `k` is right.
fn first(neighbors: &Neighbors, k: usize, score: impl Fn(&[bool]) -> f64) -> Result<PerQuery> {
    check(neighbors, k)?;
    let scores = (0..neighbors.queries()).map(|query| {
        let right = neighbors.right(query);
        score(&right[..k.min(right.len())])
    });
    Ok(not_lone(neighbors, scores))
}

/// A function of where the right ones are.
fn ranked(neighbors: &Neighbors, score: impl Fn(&Ranking) -> f64) -> Result<PerQuery> {
    let rankings = neighbors.rankings.as_ref().ok_or(Error::NotRanked)?;
    Ok(not_lone(neighbors, rankings.iter().map(score)))
}

fn not_lone(neighbors: &Neighbors, scores: impl Iterator<Item = f64>) -> PerQuery {
    let values = scores
        .zip(&neighbors.relevant)
        .map(|(score, relevant)| (*relevant > 0).then_some(score));
    PerQuery {
        values: values.collect(),
        labels: neighbors.query_labels.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::search::{Measure, Search, search_within};
    use nearfar_core::EmbeddingTable;

    /// Eight rows whose scores another implementation gave, to 9 digits.
    fn eight(last: u32) -> Neighbors {
        let table = EmbeddingTable {
            vectors: vec![
                0.9, 0.1, 0.2, 0.2, 0.7, -0.3, 0.8, 0.5, 0.1, -0.1, 0.9, 0.4, 0.7, -0.4, 0.6, 0.1,
                0.3, 0.8, 0.5, 0.6, 0.6, -0.3, 0.2, 0.9,
            ],
            dim: 3,
            labels: vec![0, 0, 1, 1, 2, 2, 0, last],
            ids: (0..8).collect(),
        };
        let settings = Search {
            rank_all: true,
            ..Search::default()
        };
        search_within(&table, Measure::COSINE, &settings).unwrap()
    }

    #[test]
    fn scores_agree_with_pytorch_metric_learning() {
        let scores = |neighbors: &Neighbors| {
            [
                recall_at(neighbors, 1),
                precision_at(neighbors, 1),
                r_precision(neighbors),
                map_at_r(neighbors),
                mean_average_precision(neighbors),
                mean_reciprocal_rank(neighbors),
            ]
            .map(|score| score.unwrap().mean().unwrap())
        };
        let close = |got: [f64; 6], want: [f64; 6]| {
            assert!(
                got.iter()
                    .zip(want)
                    .all(|(got, want)| (got - want).abs() < 1e-8),
                "{got:?} instead of {want:?}"
            );
        };
        let all = eight(2);
        close(
            scores(&all),
            [0.25, 0.25, 0.1875, 0.15625, 0.425_148_810, 0.477_083_333],
        );
        // The last row now is alone with its class. It stays in the gallery.
        let lone = eight(3);
        assert_eq!(recall_at(&lone, 1).unwrap().lone(), 1);
        close(
            scores(&lone),
            [0.0, 0.0, 0.0, 0.0, 0.314_455_782, 0.295_238_095],
        );
        assert_eq!(
            all.truncated(all.k).rankings,
            all.rankings,
            "lists and counts of all ranks agree"
        );
    }

    #[test]
    fn averages_leave_out_lone_queries() {
        let score = PerQuery {
            values: vec![Some(1.0), Some(0.0), None, Some(1.0)],
            labels: vec![4, 4, 5, 6],
        };
        assert_eq!(score.mean(), Some(2.0 / 3.0));
        assert_eq!(score.mean_with_lone_as(0.0), Some(0.5));
        assert_eq!(score.per_class(), BTreeMap::from([(4, 0.5), (6, 1.0)]));
        assert_eq!(score.mean_of_classes(), Some(0.75));
        assert_eq!((score.lone(), PerQuery::default().mean()), (1, None));
    }

    #[test]
    fn the_nearest_of_tied_classes_wins() {
        let neighbors = Neighbors {
            k: 4,
            found: vec![4, 0],
            indices: vec![0, 1, 2, 3, u32::MAX, u32::MAX, u32::MAX, u32::MAX],
            distances: vec![0.0; 8],
            query_labels: vec![9, 9],
            gallery_labels: vec![9, 3, 3, 9],
            relevant: vec![2, 2],
            ..Neighbors::default()
        };
        assert_eq!(knn_classes(&neighbors, 3).unwrap(), [Some(3), None]);
        assert_eq!(knn_classes(&neighbors, 4).unwrap(), [Some(9), None]);
        assert_eq!(knn_accuracy(&neighbors, 4).unwrap().mean(), Some(0.5));
        assert_eq!(
            precision_at(&neighbors, 3).unwrap().values,
            [Some(1.0 / 3.0), Some(0.0)]
        );
    }

    #[test]
    fn what_the_search_did_not_keep_is_asked_for_in_vain() {
        let neighbors = eight(2).truncated(2);
        assert!(matches!(
            recall_at(&neighbors, 3),
            Err(Error::TooFewNeighbors { wanted: 3, kept: 2 })
        ));
        assert!(recall_at(&neighbors, 0).is_err());
        let plain = Neighbors {
            rankings: None,
            ..neighbors
        };
        assert!(matches!(map_at_r(&plain), Err(Error::NotRanked)));
    }
}
