//! Neighbors in another order.

use std::fmt;

use crate::error::{Error, Result};
use crate::neighbors::{Neighbors, Ranking};

/// Scores of pairs of a query and a row of the gallery, one for each. Larger for what is more alike.
pub type ScorePairs<'a, T> = dyn Fn(&[(T, T)]) -> Result<Vec<f64>> + 'a;

/// What says of two rows how alike they are where that is no measure of their vectors: a learned scorer of pairs.
#[derive(Clone, Copy)]
pub struct ByPairs<'a> {
    /// Scores of pairs of rows, by their ids: of a query and of a row of the gallery. Larger for what is more alike.
    pub score: &'a ScorePairs<'a, u64>,
    /// How many of the nearest rows of each query are put in the order of their scores; the others stay where they are. 0 leaves all
    /// in the order of their distances.
    pub rerank: usize,
}

impl fmt::Debug for ByPairs<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ByPairs")
            .field("rerank", &self.rerank)
            .finish_non_exhaustive()
    }
}

impl Neighbors {
    /// The first `depth` neighbors of each query in the order of what `score` says of the pairs of query and row, largest first, equal
    /// ones in the order they had, NaN last; the others stay where they are.
    ///
    /// The distances go with their rows and are no longer in order. What is known of all ranks stays exact, because as many relevant rows
    /// are among the first `depth` as before.
    ///
    /// # Errors
    /// Those of `score`, and [`Error::Lengths`] when it does not give one for each pair.
    ///
    /// ```
    /// use nearfar_core::EmbeddingTable;
    /// use nearfar_eval::{Exclude, Measure, Search, search};
    ///
    /// let table = EmbeddingTable { vectors: vec![0.0, 1.0, 3.0], dim: 1, labels: vec![0, 1, 0], ids: vec![0, 1, 2] };
    /// let settings = Search { k: 2, exclude: Exclude::SameIndex, ..Search::default() };
    /// let neighbors = search(&table, &table, Measure::EUCLIDEAN, &settings)?;
    /// assert_eq!(neighbors.of(0).0, [1, 2]);
    /// let far = |pairs: &[(u32, u32)]| Ok(pairs.iter().map(|&(query, row)| f64::from(query.abs_diff(row))).collect());
    /// assert_eq!(neighbors.reranked(2, &far)?.of(0).0, [2, 1]);
    /// # Ok::<(), nearfar_eval::Error>(())
    /// ```
    pub fn reranked(mut self, depth: usize, score: &ScorePairs<'_, u32>) -> Result<Self> {
        for query in 0..self.queries() {
            let first = (self.found[query] as usize).min(depth);
            let row = query * self.k..query * self.k + first;
            let before = self.right(query);
            let pairs: Vec<(u32, u32)> = self.indices[row.clone()]
                .iter()
                .map(|&index| (query as u32, index))
                .collect();
            let scores = score(&pairs)?;
            if scores.len() != pairs.len() {
                return Err(Error::Lengths {
                    left: "pairs",
                    left_length: pairs.len(),
                    right: "scores",
                    right_length: scores.len(),
                });
            }
            let key = |at: &usize| match scores[*at] {
                score if score.is_nan() => f64::INFINITY,
                score => -score,
            };
            let mut order: Vec<usize> = (0..first).collect();
            order.sort_by(|a, b| key(a).total_cmp(&key(b)));
            reorder(&mut self.indices[row.clone()], &order);
            reorder(&mut self.distances[row.clone()], &order);
            if !self.alike.is_empty() {
                reorder(&mut self.alike[row], &order);
            }
            let after = self.right(query);
            if let (Some(rankings), false) = (&mut self.rankings, after.is_empty()) {
                rankings[query].moved(&before[..first], &after[..first]);
            }
        }
        Ok(self)
    }
}

fn reorder<T: Copy>(values: &mut [T], order: &[usize]) {
    let old = values.to_vec();
    for (value, &from) in values.iter_mut().zip(order) {
        *value = old[from];
    }
}

/// `Σ P@i` over the ranks `i` of what is relevant.
fn precisions(right: &[bool]) -> f64 {
    let ranks = (1..).zip(right).filter(|(_, right)| **right);
    ranks
        .zip(1..)
        .map(|((rank, _), seen)| f64::from(seen) / f64::from(rank))
        .sum()
}

impl Ranking {
    /// The first ranks have the same relevant rows in another order.
    fn moved(&mut self, before: &[bool], after: &[bool]) {
        let relevant = f64::from(self.relevant.max(1));
        let gained = (precisions(after) - precisions(before)) / relevant;
        self.average_precision += gained;
        let cutoff = self.cutoff as usize;
        if cutoff >= after.len() {
            self.average_precision_at_r += gained;
        } else {
            let seen = &after[..cutoff];
            self.hits = seen.iter().filter(|right| **right).count() as u32;
            self.average_precision_at_r = precisions(seen) / relevant;
        }
        if let Some(place) = after.iter().position(|right| *right) {
            self.first = Some(place as u32 + 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use nearfar_core::{EmbeddingTable, Purpose, Seed};

    use super::*;
    use crate::search::{Exclude, Measure, Search, search};

    #[test]
    fn what_is_known_of_all_ranks_stays_exact() {
        let mut rng = Seed(3).rng(Purpose::Evaluation, 0);
        let count = 30u32;
        let table = EmbeddingTable {
            vectors: (0..count).map(|_| rng.normal() as f32).collect(),
            dim: 1,
            labels: (0..count).map(|it| it % 4).collect(),
            ids: (0..u64::from(count)).collect(),
        };
        let all = Search {
            k: count as usize,
            exclude: Exclude::SameIndex,
            rank_all: true,
            ..Search::default()
        };
        let whole = search(&table, &table, Measure::EUCLIDEAN, &all).expect("finite");
        // The scores are anything, and say the same of a pair whenever they are asked.
        let score = |pairs: &[(u32, u32)]| {
            let of = |&(a, b): &(u32, u32)| f64::from((a * 31 + b * 17) % 13);
            Ok(pairs.iter().map(of).collect())
        };
        for depth in [0, 1, 5, 7, 12, 40] {
            let moved = whole.clone().reranked(depth, &score).expect("scores");
            let rankings = moved.rankings.as_ref().expect("asked for");
            for (query, ranking) in rankings.iter().enumerate() {
                let right = moved.right(query);
                let ranks = (1..).zip(&right).filter(|(_, right)| **right);
                let wanted = Ranking::new(
                    ranks.map(|(rank, _)| rank),
                    ranking.relevant,
                    right.len() as u32,
                );
                assert_eq!(
                    (ranking.first, ranking.hits, ranking.cutoff),
                    (wanted.first, wanted.hits, wanted.cutoff),
                    "query {query}, depth {depth}"
                );
                for (found, wanted) in [
                    (ranking.average_precision, wanted.average_precision),
                    (
                        ranking.average_precision_at_r,
                        wanted.average_precision_at_r,
                    ),
                ] {
                    assert!((found - wanted).abs() < 1e-12, "{found} {wanted}");
                }
            }
        }
    }

    #[test]
    fn equal_scores_keep_their_order_and_nan_is_last() {
        let neighbors = Neighbors {
            k: 4,
            found: vec![3],
            indices: vec![5, 6, 7, u32::MAX],
            distances: vec![0.1, 0.2, 0.3, f64::NAN],
            ..Neighbors::default()
        };
        let of = |scores: &'static [f64]| {
            let score = move |pairs: &[(u32, u32)]| Ok(scores[..pairs.len()].to_vec());
            let moved = neighbors.clone().reranked(9, &score).expect("scores");
            (moved.indices[..3].to_vec(), moved.distances[0])
        };
        assert_eq!(of(&[1.0, 1.0, 2.0]), (vec![7, 5, 6], 0.3));
        assert_eq!(of(&[f64::NAN, -9.0, -8.0]), (vec![7, 6, 5], 0.3));
    }
}
