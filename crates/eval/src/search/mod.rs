//! Exact search, block by block.

use std::collections::{BTreeMap, BinaryHeap};
use std::fmt;

use candle_core::{DType, Device, Tensor};
use nearfar_core::{Distance, EmbeddingTable, Form, Gram, Similarity};
use rayon::prelude::*;

use crate::error::{Error, Result};
use crate::exact::{self, Rows};
use crate::neighbors::Neighbors;

mod row;

use row::{Found, Ranked, Row};

/// By what neighbors are near.
#[derive(Clone, Copy, Debug)]
pub enum Measure<'a> {
    /// A function of inner products, computed fused: what is reported is `‖x − y‖`, its square, `1 − cos(x, y)` or `−x·y`.
    Gram {
        /// Which function.
        kind: Gram,
        /// Whether rows are divided by their length first. A row of zeros stays as it is.
        unit_rows: bool,
    },
    /// Any distance, through [`Distance::matrix`].
    Distance(&'a dyn Distance),
    /// Any similarity `s`, through [`Similarity::matrix`]; what is reported is `−s`.
    Similarity(&'a dyn Similarity),
}

impl<'a> Measure<'a> {
    /// `‖x − y‖`
    pub const EUCLIDEAN: Self = Self::gram(Gram::Euclidean);
    /// `‖x − y‖²`
    pub const SQUARED_EUCLIDEAN: Self = Self::gram(Gram::Squared);
    /// `1 − cos(x, y)`, in `[0, 2]`
    pub const COSINE: Self = Self::gram(Gram::Cosine);
    /// `−x·y`: the largest inner product first
    pub const DOT: Self = Self::gram(Gram::Dot);

    const fn gram(kind: Gram) -> Self {
        Self::Gram {
            kind,
            unit_rows: false,
        }
    }

    /// The fused way for a distance that knows it is a function of inner products, `matrix` for any other.
    pub fn of(distance: &'a dyn Distance) -> Self {
        match distance.form() {
            Form::Gram { kind, unit_rows } => Self::Gram { kind, unit_rows },
            _ => Self::Distance(distance),
        }
    }

    /// As [`of`](Self::of), for a similarity: what is most similar is nearest. Cosine similarity is reported as `1 − cos`.
    pub fn of_similarity(similarity: &'a dyn Similarity) -> Self {
        match similarity.form() {
            Form::Gram {
                kind: kind @ (Gram::Cosine | Gram::Dot),
                unit_rows,
            } => Self::Gram { kind, unit_rows },
            _ => Self::Similarity(similarity),
        }
    }
}

/// Which rows of the gallery are not shown to a query.
#[derive(Clone, Copy, Default)]
pub enum Exclude<'a> {
    /// All are shown: the queries are not in the gallery.
    #[default]
    Nothing,
    /// Row `i` of the gallery is not shown to query `i`: the two tables are one and the same.
    SameIndex,
    /// A row with the query's id is not shown to it: the queries are a part of the gallery. Ids of the two tables must then
    /// be of one numbering.
    SameId,
    /// Rows for which this holds, given the index of the query and that of the row: the same person before the same camera.
    Where(&'a (dyn Fn(usize, usize) -> bool + Sync)),
}

impl fmt::Debug for Exclude<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nothing => "Nothing",
            Self::SameIndex => "SameIndex",
            Self::SameId => "SameId",
            Self::Where(_) => "Where(…)",
        })
    }
}

impl Exclude<'_> {
    pub(crate) fn excludes(
        &self,
        queries: &EmbeddingTable,
        gallery: &EmbeddingTable,
        query: usize,
        row: usize,
    ) -> bool {
        match self {
            Self::Nothing => false,
            Self::SameIndex => query == row,
            Self::SameId => queries.ids[query] == gallery.ids[row],
            Self::Where(excluded) => excluded(query, row),
        }
    }
}

/// How to search.
#[derive(Clone, Copy, Debug)]
pub struct Search<'a> {
    /// Neighbors kept for each query. More than there are is all of them.
    pub k: usize,
    /// Rows that are not shown to a query.
    pub exclude: Exclude<'a>,
    /// Whether to find the rank of every row of the query's class too, for scores that look at all ranks. Costs about as
    /// much as the search itself; needs labels.
    pub rank_all: bool,
    /// Queries and rows of the gallery that are compared at once. Results do not depend on it; memory does.
    pub block: (usize, usize),
}

impl Default for Search<'_> {
    fn default() -> Self {
        Self {
            k: 10,
            exclude: Exclude::Nothing,
            rank_all: false,
            block: (128, 1024),
        }
    }
}

/// For each query the nearest rows of a gallery, exactly.
///
/// Ranks are ascending by distance, and equal distances by the index of the row. Distances are those of the f32 rows
/// computed in f64: a fused measure multiplies blocks in f32 to see which rows can matter, with a bound on the rounding
/// error, and computes those again, so that the result is the same for any block, machine and number of threads. Any
/// other distance is asked for its `matrix` in f64, or in f32 where it refuses. Distances that are not numbers are last.
///
/// Memory is that of the result and of one block for each thread.
///
/// # Errors
/// When the widths differ, when ranks of classes are wanted and there are no labels, or when the distance fails.
///
/// ```
/// use nearfar_core::EmbeddingTable;
/// use nearfar_eval::{Measure, Search, search};
///
/// let gallery = EmbeddingTable { vectors: vec![0.0, 3.0, 1.0], dim: 1, labels: vec![], ids: vec![0, 1, 2] };
/// let queries = EmbeddingTable { vectors: vec![0.9], dim: 1, labels: vec![], ids: vec![7] };
/// let neighbors = search(&queries, &gallery, Measure::EUCLIDEAN, &Search { k: 2, ..Search::default() })?;
/// assert_eq!(neighbors.of(0).0, [2, 0]);
/// # Ok::<(), nearfar_eval::Error>(())
/// ```
pub fn search(
    queries: &EmbeddingTable,
    gallery: &EmbeddingTable,
    measure: Measure<'_>,
    settings: &Search<'_>,
) -> Result<Neighbors> {
    if queries.dim != gallery.dim {
        return Err(Error::Width {
            queries: queries.dim,
            gallery: gallery.dim,
        });
    }
    u32::try_from(gallery.len().max(queries.len())).map_err(|_| {
        Error::Settings(format!(
            "a search takes up to {} rows; this one has {}",
            u32::MAX,
            gallery.len().max(queries.len())
        ))
    })?;
    let labelled = !queries.labels.is_empty() && !gallery.labels.is_empty();
    if settings.rank_all && !labelled && !queries.is_empty() && !gallery.is_empty() {
        let table = if queries.labels.is_empty() {
            "queries"
        } else {
            "gallery"
        };
        return Err(Error::NoLabels {
            what: "a ranking".into(),
            table,
        });
    }
    let mut classes = BTreeMap::<u32, Vec<u32>>::new();
    if labelled {
        for (index, &label) in (0..).zip(&gallery.labels) {
            classes.entry(label).or_default().push(index);
        }
    }
    let job = Job {
        queries,
        gallery,
        settings,
        classes,
        labelled,
        k: settings.k.min(gallery.len()),
    };
    let rows = match measure {
        Measure::Gram { kind, unit_rows } => job.fused(kind, unit_rows)?,
        Measure::Distance(distance) => job.general(&|x, y| distance.matrix(x, y))?,
        Measure::Similarity(similarity) => job.general(&|x, y| similarity.matrix(x, y)?.neg())?,
    };
    Ok(job.collect(rows))
}

/// [`search`] of a table in itself: each row finds the others.
///
/// # Errors
/// As [`search`].
pub fn search_within(
    table: &EmbeddingTable,
    measure: Measure<'_>,
    settings: &Search<'_>,
) -> Result<Neighbors> {
    let settings = Search {
        exclude: Exclude::SameIndex,
        ..*settings
    };
    search(table, table, measure, &settings)
}

/// One search.
struct Job<'a> {
    queries: &'a EmbeddingTable,
    gallery: &'a EmbeddingTable,
    settings: &'a Search<'a>,
    /// Rows of the gallery of each class.
    classes: BTreeMap<u32, Vec<u32>>,
    labelled: bool,
    k: usize,
}

impl Job<'_> {
    fn excludes(&self, query: usize, index: usize) -> bool {
        self.settings
            .exclude
            .excludes(self.queries, self.gallery, query, index)
    }

    /// A query before it meets the gallery. `key` gives its key with any row of the gallery.
    fn row(&self, query: usize, key: impl Fn(usize) -> f64) -> Row {
        let finite = finite(self.queries.row(query));
        let mut row = Row {
            query,
            label: None,
            nearest: BinaryHeap::new(),
            relevant: Vec::new(),
            keys: Vec::new(),
            between: Vec::new(),
            count: 0,
        };
        if !self.labelled {
            return row;
        }
        let label = self.queries.labels[query];
        let class = self.classes.get(&label).map_or(&[][..], Vec::as_slice);
        let shown = class
            .iter()
            .map(|&index| index as usize)
            .filter(|&index| !self.excludes(query, index));
        if self.settings.rank_all && finite {
            row.relevant = shown.map(|index| Found::new(key(index), index)).collect();
            row.relevant.sort_unstable();
            row.keys = row.relevant.iter().map(|found| found.key).collect();
            row.between = vec![0; row.keys.len()];
            row.count = row.keys.len() as u32;
            row.label = Some(label);
        } else {
            row.count = shown.count() as u32;
        }
        row
    }

    /// Blocks of queries, each on its own.
    fn blocks<T: Send>(
        &self,
        size: usize,
        block: impl Fn(std::ops::Range<usize>) -> Result<Vec<T>> + Sync,
    ) -> Result<Vec<T>> {
        let starts: Vec<usize> = (0..self.queries.len()).step_by(size.max(1)).collect();
        let blocks: Vec<Vec<T>> = starts
            .into_par_iter()
            .with_max_len(1)
            .map(|start| block(start..(start + size.max(1)).min(self.queries.len())))
            .collect::<Result<_>>()?;
        Ok(blocks.into_iter().flatten().collect())
    }

    fn fused(&self, kind: Gram, unit_rows: bool) -> Result<Vec<Ranked>> {
        let (queries, gallery) = (
            Rows::new(self.queries, kind, unit_rows),
            Rows::new(self.gallery, kind, unit_rows),
        );
        let tile = self.settings.block.1.max(1);
        self.blocks(self.settings.block.0, |block| {
            let mut rows: Vec<Row> = block
                .clone()
                .map(|query| self.row(query, |index| exact::key(&queries, query, &gallery, index)))
                .collect();
            let mut seen = exact::Tile::default();
            for start in (0..self.gallery.len()).step_by(tile) {
                let tile = start..(start + tile).min(self.gallery.len());
                seen.fill(&queries, block.clone(), &gallery, tile.clone())?;
                for (row, values) in rows.iter_mut().zip(seen.values.chunks_exact(tile.len())) {
                    if queries.finite[row.query] {
                        let bounds = seen.bounds(&queries, row.query);
                        row.meet_all(self, &queries, &gallery, start, values, &bounds);
                    }
                }
            }
            let ranked = rows.into_iter().map(|row| {
                let mut ranked = row.rank(self.settings.rank_all);
                for found in &mut ranked.nearest {
                    found.key = exact::distance(kind, found.key);
                }
                ranked
            });
            Ok(ranked.collect())
        })
    }

    fn general(
        &self,
        matrix: &(dyn Fn(&Tensor, &Tensor) -> candle_core::Result<Tensor> + Sync),
    ) -> Result<Vec<Ranked>> {
        if self.queries.is_empty() || self.gallery.is_empty() {
            return Ok((0..self.queries.len())
                .map(|query| self.row(query, |_| f64::NAN).rank(self.settings.rank_all))
                .collect());
        }
        let dim = self.queries.dim;
        let tensor = |rows: &[f32], dtype| {
            Tensor::from_slice(rows, (rows.len() / dim.max(1), dim), &Device::Cpu)?.to_dtype(dtype)
        };
        // A distance with f32 tensors of its own refuses f64 rows.
        let first = |dtype| {
            matrix(
                &tensor(self.queries.row(0), dtype)?,
                &tensor(self.gallery.row(0), dtype)?,
            )
        };
        let dtype = if first(DType::F64).is_ok() {
            DType::F64
        } else {
            DType::F32
        };
        // Whole rows of distances, because the relevant ones must be known before the others are counted.
        let size = (ENTRIES / self.gallery.len()).clamp(1, self.settings.block.0.max(1));
        let tile = self.settings.block.1.max(1);
        self.blocks(size, |block| {
            let x = tensor(
                &self.queries.vectors[block.start * dim..block.end * dim],
                dtype,
            )?;
            let mut keys = vec![f64::NAN; block.len() * self.gallery.len()];
            for start in (0..self.gallery.len()).step_by(tile) {
                let end = (start + tile).min(self.gallery.len());
                let y = tensor(&self.gallery.vectors[start * dim..end * dim], dtype)?;
                let values = matrix(&x, &y)?.to_dtype(DType::F64)?.to_vec2::<f64>()?;
                for (keys, values) in keys.chunks_exact_mut(self.gallery.len()).zip(values) {
                    keys[start..end].copy_from_slice(&values);
                }
            }
            let ranked = block.clone().zip(keys.chunks_exact(self.gallery.len()));
            Ok(ranked
                .map(|(query, keys)| {
                    let mut row = self.row(query, |index| keys[index]);
                    if finite(self.queries.row(query)) {
                        for (index, &key) in keys.iter().enumerate() {
                            row.meet(self, index, key, 0.0, || key);
                        }
                    }
                    row.rank(self.settings.rank_all)
                })
                .collect())
        })
    }

    fn collect(&self, rows: Vec<Ranked>) -> Neighbors {
        let mut neighbors = Neighbors {
            k: self.k,
            rankings: self.settings.rank_all.then(Vec::new),
            queries_not_finite: not_finite(self.queries),
            gallery_not_finite: not_finite(self.gallery),
            ..Neighbors::default()
        };
        if self.labelled {
            neighbors.query_labels.clone_from(&self.queries.labels);
            neighbors.gallery_labels.clone_from(&self.gallery.labels);
        }
        for row in rows {
            let found = row.nearest.len();
            neighbors.found.push(found as u32);
            let nearest = row.nearest.iter();
            let missing = self.k - found;
            neighbors
                .indices
                .extend(nearest.clone().map(|found| found.index));
            neighbors
                .indices
                .extend(std::iter::repeat_n(u32::MAX, missing));
            neighbors.distances.extend(nearest.map(|found| found.key));
            neighbors
                .distances
                .extend(std::iter::repeat_n(f64::NAN, missing));
            if self.labelled {
                neighbors.relevant.push(row.relevant);
            }
            if let Some(rankings) = &mut neighbors.rankings {
                rankings.extend(row.ranking);
            }
        }
        neighbors
    }
}

/// Distances that a block of another distance than a fused one may hold: 32 MiB.
const ENTRIES: usize = 4 << 20;

fn finite(row: &[f32]) -> bool {
    row.iter().all(|value| value.is_finite())
}

fn not_finite(table: &EmbeddingTable) -> Vec<u32> {
    (0..table.len())
        .filter(|&index| !finite(table.row(index)))
        .map(|index| index as u32)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::neighbors::Ranking;
    use nearfar_core::{Axioms, Purpose, Seed};
    use proptest::prelude::*;

    /// Rows of small whole numbers, so that many distances are equal, or of any numbers, far from zero or not.
    fn table(seed: u64, rows: usize, dim: usize, whole: bool, offset: f32) -> EmbeddingTable {
        let mut rng = Seed(seed).rng(Purpose::Generation, 0);
        let mut value = || {
            if whole {
                rng.below(3) as f32
            } else {
                rng.normal() as f32 + offset
            }
        };
        EmbeddingTable {
            vectors: (0..rows * dim).map(|_| value()).collect(),
            dim,
            labels: (0..rows).map(|row| (row * 7 % 5) as u32).collect(),
            ids: (0..rows as u64).map(|row| row / 2).collect(),
        }
    }

    /// What a search is, in a few lines.
    fn plainly(
        queries: &EmbeddingTable,
        gallery: &EmbeddingTable,
        key: impl Fn(usize, usize) -> f64,
        settings: &Search<'_>,
    ) -> (Vec<u32>, Vec<Ranking>) {
        let (mut indices, mut rankings) = (Vec::new(), Vec::new());
        for query in 0..queries.len() {
            let shown = |row: &usize| !settings.exclude.excludes(queries, gallery, query, *row);
            let mut order: Vec<usize> = (0..gallery.len()).filter(shown).collect();
            order.sort_by(|&a, &b| key(query, a).total_cmp(&key(query, b)));
            let right = |row: &usize| gallery.labels[*row] == queries.labels[query];
            let ranks: Vec<u32> = (1..)
                .zip(&order)
                .filter(|(_, row)| right(row))
                .map(|(rank, _)| rank)
                .collect();
            rankings.push(Ranking::new(
                ranks.iter().copied(),
                ranks.len() as u32,
                u32::MAX,
            ));
            let found = order
                .iter()
                .map(|&row| row as u32)
                .chain(std::iter::repeat(u32::MAX));
            indices.extend(found.take(settings.k.min(gallery.len())));
        }
        (indices, rankings)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(150))]

        #[test]
        fn a_search_finds_what_sorting_all_distances_finds(
            seed: u64, rows in 1..40usize, others in 1..60usize, dim in 1..200usize, whole: bool,
            far: bool, kind in 0..4usize, unit_rows: bool, k in 0..70usize, exclude in 0..4usize,
        ) {
            let offset = if far { 100.0 } else { 0.0 };
            let gallery = table(seed, others, dim, whole, offset);
            let queries = if exclude == 1 { gallery.clone() } else { table(seed ^ 1, rows, dim, whole, offset) };
            let skip = |query: usize, row: usize| (query + row).is_multiple_of(3);
            let exclude = [Exclude::Nothing, Exclude::SameIndex, Exclude::SameId, Exclude::Where(&skip)][exclude];
            let settings = Search { k, exclude, rank_all: true, ..Search::default() };
            let kind = [Gram::Euclidean, Gram::Squared, Gram::Cosine, Gram::Dot][kind];
            let found = search(&queries, &gallery, Measure::Gram { kind, unit_rows }, &settings).unwrap();
            let (x, y) = (Rows::new(&queries, kind, unit_rows), Rows::new(&gallery, kind, unit_rows));
            let key = |query: usize, row: usize| exact::key(&x, query, &y, row) + 0.0;
            let (indices, rankings) = plainly(&queries, &gallery, key, &settings);
            prop_assert_eq!(&found.indices, &indices);
            prop_assert_eq!(found.rankings.as_ref(), Some(&rankings));
            let small = Search { block: (3, 7), ..settings };
            let in_small_blocks = search(&queries, &gallery, Measure::Gram { kind, unit_rows }, &small).unwrap();
            prop_assert_eq!(&in_small_blocks.indices, &indices, "blocks must not matter");
            prop_assert_eq!(in_small_blocks.rankings, Some(rankings));
        }
    }

    /// `max |x − y|`, which is no function of inner products.
    #[derive(Debug)]
    struct Chebyshev {
        dtype: DType,
    }

    impl Distance for Chebyshev {
        fn matrix(&self, x: &Tensor, y: &Tensor) -> candle_core::Result<Tensor> {
            if x.dtype() != self.dtype {
                candle_core::bail!("another dtype");
            }
            x.unsqueeze(1)?
                .broadcast_sub(&y.unsqueeze(0)?)?
                .abs()?
                .max(2)
        }

        fn paired(&self, x: &Tensor, y: &Tensor) -> candle_core::Result<Tensor> {
            (x - y)?.abs()?.max(1)
        }

        fn axioms(&self) -> Axioms {
            Axioms::METRIC
        }
    }

    #[test]
    fn any_other_distance_is_asked_for_its_matrix() {
        for dtype in [DType::F64, DType::F32] {
            let (gallery, queries) = (table(1, 30, 3, true, 0.0), table(2, 11, 3, true, 0.0));
            let distance = Chebyshev { dtype };
            let settings = Search {
                k: 30,
                rank_all: true,
                block: (4, 9),
                ..Search::default()
            };
            let found = search(&queries, &gallery, Measure::of(&distance), &settings).unwrap();
            let key = |query: usize, row: usize| {
                let pairs = queries.row(query).iter().zip(gallery.row(row));
                pairs
                    .map(|(x, y)| f64::from((x - y).abs()))
                    .fold(0.0, f64::max)
            };
            let (indices, rankings) = plainly(&queries, &gallery, key, &settings);
            assert_eq!((found.indices, found.rankings), (indices, Some(rankings)));
        }
    }

    #[test]
    fn the_number_of_threads_changes_nothing() {
        let table = table(3, 500, 40, false, 3.0);
        let settings = Search {
            rank_all: true,
            ..Search::default()
        };
        let with = |threads| {
            let pool = rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .build()
                .unwrap();
            pool.install(|| search_within(&table, Measure::EUCLIDEAN, &settings).unwrap())
        };
        let one = with(1);
        assert_eq!(one, with(2));
        assert_eq!(one, with(5));
    }

    #[test]
    fn what_is_not_a_number_is_last_and_reported() {
        let gallery = EmbeddingTable {
            vectors: vec![f32::NAN, 5.0, f32::INFINITY, 1.0, f32::NAN],
            dim: 1,
            labels: vec![0, 0, 1, 1, 0],
            ids: vec![0; 5],
        };
        let queries = EmbeddingTable {
            vectors: vec![0.0, f32::NAN],
            dim: 1,
            labels: vec![0, 0],
            ids: vec![0; 2],
        };
        let settings = Search {
            rank_all: true,
            ..Search::default()
        };
        let found = search(&queries, &gallery, Measure::EUCLIDEAN, &settings).unwrap();
        assert_eq!(found.of(0).0, [3, 1, 2, 0, 4]);
        assert!(found.of(0).1[3].is_nan());
        assert_eq!(found.of(1).0, [0u32; 0]);
        assert_eq!(
            (&found.queries_not_finite[..], &found.gallery_not_finite[..]),
            (&[1][..], &[0, 2, 4][..])
        );
        let rankings = found.rankings.unwrap();
        assert_eq!(
            rankings[0],
            Ranking::new([2, 4, 5].into_iter(), 3, u32::MAX)
        );
        assert_eq!((rankings[1].relevant, rankings[1].first), (3, None));
    }

    #[test]
    fn widths_and_labels_are_checked() {
        let (a, b) = (table(1, 3, 2, true, 0.0), table(1, 3, 4, true, 0.0));
        let error = search(&a, &b, Measure::DOT, &Search::default()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the queries have 2 dimensions, the gallery 4; they must agree"
        );
        let plain = EmbeddingTable {
            labels: Vec::new(),
            ..a.clone()
        };
        let settings = Search {
            rank_all: true,
            ..Search::default()
        };
        assert!(matches!(
            search(&a, &plain, Measure::DOT, &settings),
            Err(Error::NoLabels {
                table: "gallery",
                ..
            })
        ));
        let none = EmbeddingTable::new(2);
        assert_eq!(
            search(&a, &none, Measure::DOT, &Search::default())
                .unwrap()
                .found,
            [0, 0, 0]
        );
        assert_eq!(
            search(&none, &a, Measure::DOT, &Search::default())
                .unwrap()
                .queries(),
            0
        );
    }
}
