//! What joins a formula to the rest: one type for each family. They implement [`nearfar_core::Loss`].

pub(crate) mod batches;
pub(crate) mod centers;
pub(crate) mod classes;
pub(crate) mod counting;
pub(crate) mod dense;
pub(crate) mod known;
pub(crate) mod lists;
pub(crate) mod matrix;
pub(crate) mod mining;
pub(crate) mod pairs;
pub(crate) mod relations;
pub(crate) mod rows;
pub(crate) mod scores;
pub(crate) mod triplets;

use candle_core::{Result, Tensor};
use nearfar_core::{Comparison, Evaluated, Pairs, Reducer, Terms};

/// Terms to parts, each on its own.
pub(crate) fn reduced(terms: &[Terms], reducer: &Reducer) -> Result<Evaluated> {
    let parts = terms
        .iter()
        .map(|terms| reducer.reduce(terms))
        .collect::<Result<_>>()?;
    Ok(Evaluated { parts })
}

/// The two rows of each pair, `(t, d)` each.
pub(crate) fn rows_of_pairs(
    comparison: &Comparison<'_>,
    pairs: &Pairs,
) -> Result<(Tensor, Tensor)> {
    let (anchors, references) = (&comparison.anchors.vectors, &comparison.references.vectors);
    let index = |rows: &[u32]| Tensor::from_slice(rows, rows.len(), anchors.device());
    Ok((
        anchors
            .contiguous()?
            .index_select(&index(&pairs.anchors)?, 0)?,
        references
            .contiguous()?
            .index_select(&index(&pairs.references)?, 0)?,
    ))
}
