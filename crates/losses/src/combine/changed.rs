//! The same comparison of other vectors.

use candle_core::Result;
use nearfar_core::{Comparison, Embeddings};

/// Calls `f` with the comparison of what `change` makes of the rows; rows that are compared with themselves are changed once.
pub(super) fn changed<T>(
    comparison: &Comparison<'_>,
    change: impl Fn(&Embeddings) -> Result<Embeddings>,
    f: impl FnOnce(&Comparison<'_>) -> Result<T>,
) -> Result<T> {
    let anchors = change(comparison.anchors)?;
    let relation = comparison.relation;
    if std::ptr::eq(comparison.anchors, comparison.references) {
        let (anchors, references) = (&anchors, &anchors);
        return f(&Comparison {
            anchors,
            references,
            relation,
        });
    }
    let references = change(comparison.references)?;
    f(&Comparison {
        anchors: &anchors,
        references: &references,
        relation,
    })
}
