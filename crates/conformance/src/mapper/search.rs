//! Nearest neighbors: faiss, and the authors' own.

use std::collections::BTreeMap;

use nearfar_core::{Distance, EmbeddingTable};
use nearfar_eval::{Measure, Search, search};
use nearfar_metrics::Manhattan;

use super::{Claim, Mapper, Pass};
use crate::golden::{Array, Case, Given, Mapped, Outputs, Trouble};

const NAMES: [&str; 4] = ["faiss.IndexFlatL2", "faiss.IndexFlatIP", "cosine", "l1"];

/// The nearest rows of a database.
pub(super) struct Neighbors;

impl Mapper for Neighbors {
    fn claims(&self, case: &Case) -> Claim {
        let function = &case.function;
        Claim::by_name(function, "", &NAMES)
    }

    fn run(&self, given: &Given<'_>, _: Pass) -> Mapped<Outputs> {
        let function = &given.case.function;
        function.call().finish()?;
        let mut params = function.params();
        let k = params.count("k")?.unwrap_or(1);
        let nan_at = params.numbers("nan_at")?;
        params.finish()?;
        let mut queries = table(given, "queries", None)?;
        let database = table(given, "database", None)?;
        if let Some(at) = &nan_at {
            let [row, column] = at[..] else {
                return Err(Trouble::unmapped("`nan_at` is a row and a column"));
            };
            queries.vectors[row as usize * queries.dim + column as usize] = f32::NAN;
        }
        let manhattan: &dyn Distance = &Manhattan {};
        // What is reported is a distance, and the peer's value is `base + sign · distance`.
        let (measure, base, sign) = match function.path() {
            "faiss.IndexFlatL2" => (Measure::SQUARED_EUCLIDEAN, 0.0, 1.0),
            "faiss.IndexFlatIP" => (Measure::DOT, 0.0, -1.0),
            "cosine" => (Measure::COSINE, 1.0, -1.0),
            _ => (Measure::of(manhattan), 0.0, 1.0),
        };
        let settings = Search {
            k,
            ..Search::default()
        };
        let found = search(&queries, &database, measure, &settings)?;
        if found.k != k.min(database.len()) {
            return Err(Trouble::unmapped("a list is as long as there are rows"));
        }
        given.finish()?;
        if nan_at.is_some() && found.queries_not_finite.is_empty() {
            return Err(Trouble::unmapped("a query that is not finite is not told"));
        }
        let mut outputs = Outputs::default();
        if nan_at.is_none() {
            let size = [queries.len(), found.k];
            let ids = found
                .indices
                .iter()
                .map(|&index| i64::from(index))
                .collect();
            outputs.put("ids", Array::whole(&size, ids));
            let values = found
                .distances
                .iter()
                .map(|distance| base + sign * distance);
            outputs.put("distances", Array::real(&size, values.collect()));
        }
        Ok(outputs)
    }
}

/// Rows with their labels, if there are any. The stored rows are numbers of f32.
pub(super) fn table(given: &Given<'_>, rows: &str, labels: Option<&str>) -> Mapped<EmbeddingTable> {
    let array = given.input(rows)?;
    let [n, dim] = array.shape[..] else {
        return Err(Trouble::unmapped(format!("`{rows}` is no matrix")));
    };
    let labels = match labels {
        Some(role) => given.indices(role)?,
        None => Vec::new(),
    };
    Ok(EmbeddingTable {
        vectors: array
            .to_real()
            .into_iter()
            .map(|value| value as f32)
            .collect(),
        dim,
        labels,
        ids: (0..n as u64).collect(),
    })
}

/// How often each label is there.
pub(super) fn counts(labels: &[u32]) -> BTreeMap<u32, usize> {
    let mut counts = BTreeMap::new();
    for &label in labels {
        *counts.entry(label).or_default() += 1;
    }
    counts
}
