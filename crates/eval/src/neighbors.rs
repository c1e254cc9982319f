//! What a search finds.

/// The nearest rows of a gallery, for each query.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Neighbors {
    /// Neighbors wanted for each query, and the width of the lists below.
    pub k: usize,
    /// Neighbors found for each query: fewer than `k` where the gallery has no more, 0 for a query that is not finite.
    pub found: Vec<u32>,
    /// Rows of the gallery, `queries · k`, nearest first, equally near ones by their index; [`u32::MAX`] beyond `found`.
    pub indices: Vec<u32>,
    /// Their distances; NaN beyond `found`. They are computed in f64 from the f32 rows.
    pub distances: Vec<f64>,
    /// Classes of the queries and of the gallery, where both tables have them; else both are empty.
    pub query_labels: Vec<u32>,
    /// See `query_labels`.
    pub gallery_labels: Vec<u32>,
    /// Whether each row found is relevant, where [`search_relevant`](crate::search_relevant) was told; else empty, and labels say it.
    pub alike: Vec<bool>,
    /// For each query, how many rows of the gallery are of its class and shown to it; empty without labels.
    pub relevant: Vec<u32>,
    /// For each query, where those are among all ranks, if the search was asked for it.
    pub rankings: Option<Vec<Ranking>>,
    /// Queries with a value that is not finite. They find nothing, and count as wrong.
    pub queries_not_finite: Vec<u32>,
    /// Rows of the gallery with a value that is not finite. They are last in every list.
    pub gallery_not_finite: Vec<u32>,
}

/// Where the rows of a query's class are among the ranks of its neighbors. Ranks begin at 1.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Ranking {
    /// How many there are, `R`.
    pub relevant: u32,
    /// The rank of the first of them; none if it was not seen.
    pub first: Option<u32>,
    /// The smaller of `R` and the ranks that were looked at.
    pub cutoff: u32,
    /// How many are among the first `cutoff`.
    pub hits: u32,
    /// `1/R Σ P@i` over the ranks `i` where they are.
    pub average_precision: f64,
    /// The same over the first `cutoff` ranks only.
    pub average_precision_at_r: f64,
}

impl Ranking {
    /// From the ranks of what is relevant, ascending, of which there are `relevant`, when the first `depth` were looked at.
    pub fn new(ranks: impl Iterator<Item = u32>, relevant: u32, depth: u32) -> Self {
        let cutoff = relevant.min(depth);
        let mut ranking = Self {
            relevant,
            cutoff,
            ..Self::default()
        };
        for (seen, rank) in ranks.enumerate() {
            let precision = (seen + 1) as f64 / f64::from(rank);
            ranking.first = ranking.first.or(Some(rank));
            ranking.average_precision += precision;
            if rank <= cutoff {
                ranking.hits += 1;
                ranking.average_precision_at_r += precision;
            }
        }
        ranking.average_precision /= f64::from(relevant.max(1));
        ranking.average_precision_at_r /= f64::from(relevant.max(1));
        ranking
    }
}

impl Neighbors {
    /// Number of queries.
    pub fn queries(&self) -> usize {
        self.found.len()
    }

    /// The rows found for a query, nearest first, and their distances.
    pub fn of(&self, query: usize) -> (&[u32], &[f64]) {
        let row = query * self.k..query * self.k + self.found[query] as usize;
        (&self.indices[row.clone()], &self.distances[row])
    }

    /// Whether each row found for a query is of its class, or else relevant to it. Empty where neither is known.
    pub fn right(&self, query: usize) -> Vec<bool> {
        if !self.alike.is_empty() {
            return self.alike[query * self.k..][..self.found[query] as usize].to_vec();
        }
        let Some(label) = self.query_labels.get(query) else {
            return Vec::new();
        };
        let (indices, _) = self.of(query);
        indices
            .iter()
            .map(|&index| self.gallery_labels[index as usize] == *label)
            .collect()
    }

    /// As if the search had stopped after `k` neighbors, and all it knows of ranks came from them. This is what
    /// `AccuracyCalculator(k = …)` of pytorch-metric-learning sees.
    pub fn truncated(&self, k: usize) -> Self {
        let k = k.min(self.k);
        let mut kept = Self {
            k,
            indices: Vec::new(),
            distances: Vec::new(),
            alike: Vec::new(),
            found: self.found.iter().map(|&n| n.min(k as u32)).collect(),
            rankings: None,
            ..self.clone()
        };
        for query in 0..self.queries() {
            let row = query * self.k..query * self.k + k;
            kept.indices.extend_from_slice(&self.indices[row.clone()]);
            kept.distances
                .extend_from_slice(&self.distances[row.clone()]);
            if !self.alike.is_empty() {
                kept.alike.extend_from_slice(&self.alike[row]);
            }
        }
        if !self.relevant.is_empty() {
            let ranking = |query: usize| {
                let right = kept.right(query);
                let ranks = (1..).zip(right).filter(|(_, right)| *right);
                Ranking::new(
                    ranks.map(|(rank, _)| rank),
                    self.relevant[query],
                    kept.found[query],
                )
            };
            kept.rankings = Some((0..self.queries()).map(ranking).collect());
        }
        kept
    }
}
