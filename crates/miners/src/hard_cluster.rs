//! Classes by their means.

use std::collections::BTreeMap;

use nearfar_core::{Candidate, Candidates, Kind, Miner, Rng, Stateful, Tuples};
use serde::{Deserialize, Serialize};

use crate::nearer::{farthest, nearest};

/// For each class, its mean with its farthest member and the nearest mean of another class.
///
/// A tuple names rows, and a mean is none of them: the row nearest to it stands for it.
///
/// ```text
/// anchor    the row of class c nearest to its mean μ_c
/// positive  the row of class c farthest from μ_c
/// negative  the row of class k nearest to its mean μ_k, where k ≠ c has the nearest mean to μ_c
/// ```
///
/// It gives one triplet for each class, so it is for batches of many samples of a class, and little moved by one wrong label.
/// It looks at the rows as they are, by Euclidean distance, and needs classes: of listed pairs it takes nothing. Of two
/// sets, anchors have the mean of the anchors of their class, and references that of the references.
///
/// As `HardClusterMiner` of open-metric-learning 4.0, which gives the means themselves in the place of their rows.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HardCluster {}

/// The rows of each class.
fn members(labels: &[u32]) -> BTreeMap<u32, Vec<u32>> {
    let mut members = BTreeMap::<u32, Vec<u32>>::new();
    for (row, &label) in (0..).zip(labels) {
        members.entry(label).or_default().push(row);
    }
    members
}

fn mean<'a>(dim: usize, rows: impl ExactSizeIterator<Item = &'a [f64]>) -> Vec<f64> {
    let count = rows.len() as f64;
    let mut mean = vec![0.0; dim];
    for row in rows {
        for (sum, x) in mean.iter_mut().zip(row) {
            *sum += x / count;
        }
    }
    mean
}

/// By Euclidean distance from a point.
fn seen_from<'a>(
    point: &'a [f64],
    rows: impl Iterator<Item = (u32, &'a [f64])> + Clone + 'a,
) -> impl Iterator<Item = Candidate> + Clone + 'a {
    rows.map(move |(index, row)| Candidate {
        index,
        distance: point.iter().zip(row).map(|(a, b)| (a - b).powi(2)).sum(),
    })
}

impl Stateful for HardCluster {}

impl Miner for HardCluster {
    fn mine(&self, candidates: &Candidates, _: &mut Rng) -> Tuples {
        let dim = candidates.dim();
        let anchors = members(candidates.anchor_labels());
        let references = members(candidates.reference_labels());
        let rows_of = |members: &[u32]| -> Vec<(u32, &[f64])> {
            let row = |&index: &u32| (index, candidates.reference(index));
            members.iter().map(row).collect()
        };
        let means: Vec<(u32, Vec<f64>)> = references
            .iter()
            .map(|(&label, members)| {
                let rows = members.iter().map(|&row| candidates.reference(row));
                (label, mean(dim, rows))
            })
            .collect();

        let mut triplets: Vec<(u32, u32, u32)> = Vec::new();
        for (&label, members) in &anchors {
            let center = mean(dim, members.iter().map(|&row| candidates.anchor(row)));
            let own = members.iter().map(|&row| (row, candidates.anchor(row)));
            let Some(anchor) = nearest(seen_from(&center, own)) else {
                continue;
            };
            let anchor = anchor.index;
            let others = means.iter().zip(0..).filter(|((it, _), _)| *it != label);
            let others = others.map(|((_, mean), place)| (place, &mean[..]));
            let of_kind = |members: &[u32], kind: Kind| {
                let rows = rows_of(members).into_iter();
                rows.filter(move |&(row, _)| candidates.kind(anchor, row) == kind)
            };
            let negative = nearest(seen_from(&center, others)).and_then(|found| {
                let (label, mean) = &means[found.index as usize];
                nearest(seen_from(mean, of_kind(&references[label], Kind::Negative)))
            });
            let members = references.get(&label).map_or(&[][..], Vec::as_slice);
            let positives = of_kind(members, Kind::Positive);
            let positive = farthest(seen_from(&center, positives));
            if let (Some(positive), Some(negative)) = (positive, negative) {
                triplets.push((anchor, positive.index, negative.index));
            }
        }
        triplets.sort_unstable();
        Tuples::Triplets(triplets.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_batches::{line, mined};

    #[test]
    fn rows_stand_for_the_means_of_their_classes() {
        // Means: 2 of class 0, 6 of class 1, 20 of class 2; the last class has one row.
        let rows = line(
            &[0.0, 1.0, 5.0, 4.0, 6.5, 7.5, 20.0],
            &[0, 0, 0, 1, 1, 1, 2],
        );
        let triplets = mined(&HardCluster {}, &rows).into_triplets();
        // Class 0: row 1 is nearest to 2, row 2 is farthest, and 6 is the nearest mean, for which row 4 stands.
        assert_eq!(triplets.iter().collect::<Vec<_>>(), [(1, 2, 4), (4, 3, 1)]);
    }
}
