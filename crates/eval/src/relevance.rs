//! Retrieval where something else than a class says what is right: sets of labels, real targets.

use nearfar_core::{EmbeddingTable, Purpose, Seed};

use crate::error::{Error, Result};
use crate::neighbors::{Neighbors, Ranking};
use crate::retrieval::PerQuery;
use crate::search::{Exclude, Measure, Search, search};
use crate::verification::listed;

/// For each query the nearest rows of a gallery, as [`search`] finds them, and the ranks of all that are `relevant` to it by its
/// index and theirs. Labels of the tables are not looked at.
///
/// Queries are searched a block at a time, so that memory is that of one block and of the result.
///
/// # Errors
/// As [`search`].
///
/// ```
/// use nearfar_core::EmbeddingTable;
/// use nearfar_eval::{Exclude, Measure, Search, mean_average_precision, search_relevant, share};
///
/// let table = EmbeddingTable { vectors: vec![0.0, 1.0, 3.0], dim: 1, labels: vec![], ids: vec![0, 1, 2] };
/// let sets = [vec![4, 7], vec![5], vec![7]]; // The first and the last share a label.
/// let settings = Search { exclude: Exclude::SameIndex, ..Search::default() };
/// let relevant = |query: usize, row: usize| share(&sets[query], &sets[row]);
/// let found = search_relevant(&table, &table, Measure::EUCLIDEAN, &settings, &relevant)?;
/// // Each finds the other second; the one in the middle has nothing to find, and is in no average.
/// assert_eq!(mean_average_precision(&found)?.values, [Some(0.5), None, Some(0.5)]);
/// # Ok::<(), nearfar_eval::Error>(())
/// ```
pub fn search_relevant(
    queries: &EmbeddingTable,
    gallery: &EmbeddingTable,
    measure: Measure<'_>,
    settings: &Search<'_>,
    relevant: &(dyn Fn(usize, usize) -> bool + Sync),
) -> Result<Neighbors> {
    /// Queries whose distances to the whole gallery are held at once.
    const BLOCK: usize = 64;
    let k = settings.k.min(gallery.len());
    let mut all = Neighbors {
        k,
        rankings: Some(Vec::new()),
        ..Neighbors::default()
    };
    let unlabelled = |table: &EmbeddingTable| EmbeddingTable {
        labels: Vec::new(),
        ..table.clone()
    };
    let gallery = &unlabelled(gallery);
    for start in (0..queries.len()).step_by(BLOCK) {
        let end = (start + BLOCK).min(queries.len());
        let block = EmbeddingTable {
            vectors: queries.vectors[start * queries.dim..end * queries.dim].to_vec(),
            dim: queries.dim,
            labels: Vec::new(),
            ids: queries.ids[start..end].to_vec(),
        };
        let excluded = |query: usize, row: usize| {
            (settings.exclude).excludes(queries, gallery, start + query, row)
        };
        let whole = Search {
            k: gallery.len(),
            exclude: Exclude::Where(&excluded),
            rank_all: false,
            block: settings.block,
        };
        let found = search(&block, gallery, measure, &whole)?;
        for query in 0..block.len() {
            let shown = (0..gallery.len()).filter(|&row| !excluded(query, row));
            let count = shown.filter(|&row| relevant(start + query, row)).count() as u32;
            let (indices, distances) = found.of(query);
            let right = indices
                .iter()
                .map(|&row| relevant(start + query, row as usize));
            let right: Vec<bool> = right.collect();
            let ranks = (1..).zip(&right).filter(|(_, right)| **right);
            let ranking = Ranking::new(ranks.map(|(rank, _)| rank), count, right.len() as u32);
            let kept = k.min(right.len());
            all.found.push(kept as u32);
            all.indices.extend(&indices[..kept]);
            all.distances.extend(&distances[..kept]);
            all.alike.extend(&right[..kept]);
            all.indices.extend(std::iter::repeat_n(u32::MAX, k - kept));
            all.distances
                .extend(std::iter::repeat_n(f64::NAN, k - kept));
            all.alike.extend(std::iter::repeat_n(false, k - kept));
            all.relevant.push(count);
            all.rankings
                .as_mut()
                .expect("it began with some")
                .push(ranking);
        }
        let not_finite = found.queries_not_finite.iter();
        all.queries_not_finite
            .extend(not_finite.map(|&query| query + start as u32));
        all.gallery_not_finite = found.gallery_not_finite;
    }
    Ok(all)
}

/// Whether two sets of labels have one in common.
pub fn share(one: &[u32], other: &[u32]) -> bool {
    one.iter().any(|label| other.contains(label))
}

/// How far the mean target of the `k` nearest rows is from the query's own, for each query: the absolute error of regression by
/// nearest neighbors. Of fewer than `k` neighbors all count; a query that found nothing has no value.
///
/// # Errors
/// When the search kept fewer than `k` neighbors although there are more, or there is not one target for each row.
pub fn knn_error(
    neighbors: &Neighbors,
    k: usize,
    query_targets: &[f32],
    gallery_targets: &[f32],
) -> Result<PerQuery> {
    if k == 0 || k > neighbors.k && neighbors.k < gallery_targets.len() {
        return Err(Error::TooFewNeighbors {
            wanted: k,
            kept: neighbors.k,
        });
    }
    lengths("queries", neighbors.queries(), query_targets)?;
    let error = |(query, target): (usize, &f32)| {
        let (indices, _) = neighbors.of(query);
        let nearest = &indices[..k.min(indices.len())];
        let sum: f64 = nearest
            .iter()
            .map(|&row| f64::from(gallery_targets[row as usize]))
            .sum();
        let mean = sum / nearest.len() as f64;
        (!nearest.is_empty()).then(|| (mean - f64::from(*target)).abs())
    };
    Ok(PerQuery {
        values: query_targets.iter().enumerate().map(error).collect(),
        labels: Vec::new(),
    })
}

/// Distances of pairs of rows, and how far their targets are: all pairs in the order of rows, or, where there are more than `limit`,
/// so many that are drawn with replacement. Rows that are not finite are left out.
///
/// # Errors
/// When there is not one target for each row, or the distance fails.
pub fn target_pairs(
    table: &EmbeddingTable,
    targets: &[f32],
    measure: Measure<'_>,
    limit: usize,
    seed: Seed,
) -> Result<(Vec<f64>, Vec<f64>)> {
    lengths("rows", table.len(), targets)?;
    let finite = |row: &u32| {
        let row = *row as usize;
        targets[row].is_finite() && table.row(row).iter().all(|value| value.is_finite())
    };
    let rows: Vec<u32> = (0..table.len() as u32).filter(finite).collect();
    let count = rows.len() as u64 * (rows.len() as u64).saturating_sub(1) / 2;
    let pairs: Vec<(u32, u32)> = if count <= limit as u64 {
        let firsts = rows.iter().enumerate();
        firsts
            .flat_map(|(place, &one)| rows[place + 1..].iter().map(move |&other| (one, other)))
            .collect()
    } else {
        let mut rng = seed.rng(Purpose::Evaluation, PAIRS);
        let draw = |_| {
            let one = rng.below(rows.len());
            let other = rng.below(rows.len() - 1);
            (rows[one], rows[other + usize::from(other >= one)])
        };
        (0..limit).map(draw).collect()
    };
    let distances = listed(table, table, &pairs, measure)?;
    let apart = |&(one, other): &(u32, u32)| {
        (f64::from(targets[one as usize]) - f64::from(targets[other as usize])).abs()
    };
    Ok((distances, pairs.iter().map(apart).collect()))
}

/// The position of the random numbers that draw pairs.
const PAIRS: u64 = u64::MAX - 2;

fn lengths(left: &'static str, left_length: usize, targets: &[f32]) -> Result<()> {
    if left_length != targets.len() {
        return Err(Error::Lengths {
            left,
            left_length,
            right: "the targets",
            right_length: targets.len(),
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::retrieval::{map_at_r, precision_at, r_precision, recall_at};

    fn line(values: &[f32]) -> EmbeddingTable {
        EmbeddingTable {
            vectors: values.to_vec(),
            dim: 1,
            labels: Vec::new(),
            ids: (0..values.len() as u64).collect(),
        }
    }

    const WITHIN: Search<'static> = Search {
        k: 2,
        exclude: Exclude::SameIndex,
        rank_all: false,
        block: (8, 8),
    };

    #[test]
    fn with_sets_of_one_label_it_is_the_search_by_class() {
        let mut rng = Seed(3).rng(Purpose::Evaluation, 0);
        let mut table = line(&(0..90).map(|_| rng.normal() as f32).collect::<Vec<_>>());
        let labels: Vec<u32> = (0..90).map(|it| it % 7).collect();
        let relevant = |query: usize, row: usize| labels[query] == labels[row];
        let found =
            search_relevant(&table, &table, Measure::EUCLIDEAN, &WITHIN, &relevant).unwrap();
        table.labels = labels.clone();
        let settings = Search {
            rank_all: true,
            ..WITHIN
        };
        let by_class = search(&table, &table, Measure::EUCLIDEAN, &settings).unwrap();
        assert_eq!(found.rankings, by_class.rankings);
        assert_eq!(
            (&found.indices, &found.relevant),
            (&by_class.indices, &by_class.relevant)
        );
        for query in 0..90 {
            assert_eq!(found.right(query), by_class.right(query));
        }
        assert_eq!(
            recall_at(&found, 1).unwrap().values,
            recall_at(&by_class, 1).unwrap().values
        );
    }

    #[test]
    fn rows_that_share_a_label_are_relevant() {
        let table = line(&[0.0, 1.0, 2.5, f32::NAN]);
        let sets = [vec![1, 2], vec![2, 3], vec![3], vec![1]];
        let relevant = |query: usize, row: usize| share(&sets[query], &sets[row]);
        let found =
            search_relevant(&table, &table, Measure::EUCLIDEAN, &WITHIN, &relevant).unwrap();
        // To the first its neighbor is relevant and the row that is not finite, which comes last.
        assert_eq!(found.relevant, [2, 2, 1, 1]);
        assert_eq!(recall_at(&found, 1).unwrap().mean(), Some(0.75)); // A row that is no number finds nothing.
        assert_eq!(precision_at(&found, 2).unwrap().values[1], Some(1.0));
        assert_eq!(r_precision(&found).unwrap().values[0], Some(0.5));
        assert_eq!(map_at_r(&found).unwrap().values[0], Some(0.5));
        assert_eq!(found.queries_not_finite, [3]);
        assert!(!share(&[], &[]));
        assert!(search_relevant(&line(&[]), &table, Measure::COSINE, &WITHIN, &relevant).is_ok());
    }

    #[test]
    fn targets_are_estimated_from_neighbors_and_pairs_are_compared() {
        let table = line(&[0.0, 1.0, 3.0]);
        let targets = [10.0, 20.0, 60.0];
        let found = search(&table, &table, Measure::EUCLIDEAN, &WITHIN).unwrap();
        let error = knn_error(&found, 1, &targets, &targets).unwrap();
        assert_eq!(error.values, [Some(10.0), Some(10.0), Some(40.0)]);
        assert_eq!(
            knn_error(&found, 2, &targets, &targets).unwrap().values[0],
            Some(30.0)
        );
        assert!(knn_error(&found, 1, &targets[1..], &targets).is_err());
        let all = target_pairs(&table, &targets, Measure::EUCLIDEAN, 10, Seed(0)).unwrap();
        assert_eq!(all, (vec![1.0, 3.0, 2.0], vec![10.0, 50.0, 40.0]));
        let drawn = target_pairs(&table, &targets, Measure::EUCLIDEAN, 2, Seed(0)).unwrap();
        assert_eq!(drawn.0.len(), 2);
        assert!(drawn.1.iter().all(|it| [10.0, 40.0, 50.0].contains(it)));
    }
}
