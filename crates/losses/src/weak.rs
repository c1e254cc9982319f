//! Tuples from the order of documents, without labels.

use nearfar_core::{Error, SignedPairs};

/// The pairs of weakly supervised triplets: sentences of one section belong together, sentences of other sections of the same document
/// do not, and of other documents nothing is known.
///
/// `documents` and `sections` say of each row where it is from; sections are numbered in their order within a document. With
/// `neighbors` only the sections next to the anchor's are negatives, which are the hardest. A loss of triplets joins the pairs of each
/// anchor: `Relation::Listed(&pairs)`. The pairs are in the order of the rows.
///
/// Source: Ein Dor et al., "Learning Thematic Similarity Metric from Article Sections Using Triplet Networks", ACL 2018,
/// <https://aclanthology.org/P18-2009>, section 3.
///
/// ```
/// use nearfar_losses::weak_triplets;
///
/// // Two sentences of a section, one of the next, one of another article.
/// let pairs = weak_triplets(&[7, 7, 7, 8], &[0, 0, 1, 0], false)?;
/// assert_eq!(pairs.positive.iter().collect::<Vec<_>>(), [(0, 1), (1, 0)]);
/// assert_eq!(pairs.negative.iter().collect::<Vec<_>>(), [(0, 2), (1, 2), (2, 0), (2, 1)]);
/// # Ok::<(), nearfar_core::Error>(())
/// ```
///
/// # Errors
/// [`Error::Shape`] when there is not one section for each document.
pub fn weak_triplets(
    documents: &[u32],
    sections: &[u32],
    neighbors: bool,
) -> Result<SignedPairs, Error> {
    if documents.len() != sections.len() {
        return Err(Error::Shape(format!(
            "weak triplets: there are {} documents and {} sections; each row needs one of each",
            documents.len(),
            sections.len()
        )));
    }
    let mut pairs = SignedPairs::default();
    for (anchor, (document, section)) in documents.iter().zip(sections).enumerate() {
        for (row, (other_document, other)) in documents.iter().zip(sections).enumerate() {
            if document != other_document || anchor == row {
                continue;
            }
            match section.abs_diff(*other) {
                0 => pairs.positive.push(anchor as u32, row as u32),
                1 => pairs.negative.push(anchor as u32, row as u32),
                _ if !neighbors => pairs.negative.push(anchor as u32, row as u32),
                _ => {}
            }
        }
    }
    Ok(pairs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_sections_next_to_the_anchor_s_are_neighbors() {
        let sections = [0, 1, 2, 2];
        let pairs = weak_triplets(&[1; 4], &sections, true).expect("as long");
        let negative: Vec<_> = pairs.negative.iter().collect();
        assert_eq!(negative, [(0, 1), (1, 0), (1, 2), (1, 3), (2, 1), (3, 1)]);
        assert_eq!(pairs.positive.iter().count(), 2);
        let all = weak_triplets(&[1; 4], &sections, false).expect("as long");
        assert_eq!(all.negative.iter().count(), 10);
        assert!(weak_triplets(&[1; 4], &sections[..3], true).is_err());
        assert!(
            weak_triplets(&[], &[], true)
                .expect("nothing")
                .positive
                .is_empty()
        );
    }
}
