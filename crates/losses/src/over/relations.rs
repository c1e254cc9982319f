//! Sets of labels and real targets, as losses read them.

use std::collections::BTreeMap;

use candle_core::Result;
use nearfar_core::{Comparison, Error, Relation};

/// The targets of anchors and references; finite, or an error.
pub(crate) fn targets<'a>(
    name: &str,
    comparison: &Comparison<'a>,
) -> Result<(&'a [f32], &'a [f32])> {
    let Relation::Targets {
        anchors,
        references,
    } = comparison.relation
    else {
        return Err(comparison.cannot_read(name, "real targets"))?;
    };
    comparison.check()?;
    for (side, targets) in [("anchor", anchors), ("reference", references)] {
        if let Some(row) = targets.iter().position(|it| !it.is_finite()) {
            Err(Error::Input(format!(
                "{name}: the target of {side} {row} is {}; targets must be finite",
                targets[row]
            )))?;
        }
    }
    Ok((anchors, references))
}

/// Refuses all but sets of labels.
pub(crate) fn by_sets(name: &str, comparison: &Comparison<'_>) -> Result<()> {
    match comparison.relation {
        Relation::Sets { .. } => comparison.check(),
        _ => Err(comparison.cannot_read(name, "sets of labels"))?,
    }
}

/// Which entries compare a row with itself, row-major.
pub(crate) fn own(comparison: &Comparison<'_>) -> Vec<bool> {
    let (ours, theirs) = (&comparison.anchors.ids, &comparison.references.ids);
    let mut own = Vec::with_capacity(ours.len() * theirs.len());
    for id in ours {
        own.extend(theirs.iter().map(|other| id == other));
    }
    own
}

/// How much the labels of each anchor and each reference overlap, `|A ∩ B| / |A ∪ B|`, row-major; of two empty sets 1.
///
/// # Errors
/// When the relation has no sets.
pub(crate) fn overlaps(name: &str, comparison: &Comparison<'_>) -> Result<Vec<f64>> {
    let common = common_labels(name, comparison)?.into_iter();
    let overlap = |(both, any)| match any {
        0 => 1.0,
        any => f64::from(both) / f64::from(any),
    };
    Ok(common.map(overlap).collect())
}

/// How many labels each anchor has in common with each reference, and how many the two have together, row-major.
///
/// # Errors
/// When the relation has no sets.
pub(crate) fn common_labels(name: &str, comparison: &Comparison<'_>) -> Result<Vec<(u32, u32)>> {
    by_sets(name, comparison)?;
    let Relation::Sets {
        anchors,
        references,
    } = comparison.relation
    else {
        return Ok(Vec::new()); // Refused above.
    };
    // Labels are numbered anew, so that a set is a few words of bits.
    let mut numbers = BTreeMap::new();
    for &label in anchors.iter().chain(references).flatten() {
        let next = numbers.len();
        numbers.entry(label).or_insert(next);
    }
    let words = numbers.len().div_ceil(64).max(1);
    let bits = |sets: &[Vec<u32>]| {
        let mut bits = vec![0u64; sets.len() * words];
        for (row, set) in sets.iter().enumerate() {
            for label in set {
                let number = numbers[label];
                bits[row * words + number / 64] |= 1 << (number % 64);
            }
        }
        bits
    };
    let (ours, theirs) = (bits(anchors), bits(references));
    let mut common = Vec::with_capacity(anchors.len() * references.len());
    for one in ours.chunks(words) {
        for other in theirs.chunks(words) {
            let (mut both, mut any) = (0, 0);
            for (x, y) in one.iter().zip(other) {
                both += (x & y).count_ones();
                any += (x | y).count_ones();
            }
            common.push((both, any));
        }
    }
    Ok(common)
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device, Tensor};
    use nearfar_core::Embeddings;

    use super::*;

    #[test]
    fn overlaps_are_those_of_sets() -> Result<()> {
        let rows = Tensor::zeros((4, 1), DType::F32, &Device::Cpu)?;
        let rows = Embeddings::labeled(rows, vec![0; 4])?;
        let sets = [vec![1, 900], vec![], vec![900, 1, 1], vec![900, 4, 5]];
        let comparison = Comparison {
            relation: Relation::Sets {
                anchors: &sets,
                references: &sets,
            },
            ..Comparison::within(&rows)
        };
        let found = overlaps("test", &comparison)?;
        assert_eq!(found[..4], [1.0, 0.0, 1.0, 0.25]);
        assert_eq!(found[5], 1.0, "two empty sets");
        assert_eq!(own(&comparison)[..5], [true, false, false, false, false]);
        let error = targets("rnc", &comparison).expect_err("sets").to_string();
        assert_eq!(
            error,
            "rnc learns from real targets, but the batch has sets of labels"
        );
        Ok(())
    }
}
