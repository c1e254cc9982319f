//! Choices of tuples, on plain numbers.

use std::fmt::Debug;

use candle_core::{DType, Result, Tensor};

use crate::{Comparison, Embeddings, Kind, Relation, Rng, Stateful, Tuples, shape};

/// A choice of the tuples worth learning from: an ordinary loop over numbers that cannot fail and touches no tensor.
pub trait Miner: Stateful + Debug + Send + Sync {
    /// The tuples, by row. They are of pairs that the candidates know as positive or negative, unless the miner's purpose is to
    /// say otherwise: rows that came packaged as triplets, or a class that is to be spread. What it says counts.
    fn mine(&self, candidates: &Candidates, rng: &mut Rng) -> Tuples;

    /// Whether it takes everything, so that no list needs to be made for a loss that can do without.
    fn takes_all(&self) -> bool {
        false
    }
}

/// A matrix of distances on the host, seen from each anchor.
///
/// Distances may be negated similarities: smaller is closer, below zero is possible.
#[derive(Clone, Debug)]
pub struct Candidates {
    anchors: usize,
    references: usize,
    distances: Vec<f64>,
    kinds: Vec<Kind>,
    within: bool,
    anchor_labels: Vec<u32>,
    reference_labels: Vec<u32>,
    dim: usize,
    anchor_rows: Vec<f64>,
    reference_rows: Vec<f64>,
}

/// A reference as an anchor sees it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Candidate {
    /// Its row.
    pub index: u32,
    /// Its distance to the anchor.
    pub distance: f64,
}

impl Candidates {
    /// Copies the distances `(n, m)` and the rows of a comparison to the host, once.
    ///
    /// # Errors
    /// When the matrix is not of the comparison's size, or the relation says neither classes nor lists; `place` is the one that asked.
    pub fn new(distances: &Tensor, comparison: &Comparison<'_>, place: &str) -> Result<Self> {
        let (n, m) = shape::matrix(place, ("distances", distances))?;
        shape::length(
            place,
            ("rows of the distances", n),
            ("anchors", comparison.anchors.len()),
        )?;
        shape::length(
            place,
            ("columns of the distances", m),
            ("references", comparison.references.len()),
        )?;
        let host = |tensor: &Tensor| {
            tensor
                .detach()
                .to_dtype(DType::F64)?
                .flatten_all()?
                .to_vec1::<f64>()
        };
        let labels = |rows: &Embeddings| match comparison.relation {
            Relation::SameClass => rows.labels.clone(),
            _ => Vec::new(), // Who belongs together is said otherwise.
        };
        Ok(Self {
            anchors: n,
            references: m,
            distances: host(distances)?,
            kinds: comparison.kinds(place)?,
            within: comparison.anchors.ids == comparison.references.ids,
            anchor_labels: labels(comparison.anchors),
            reference_labels: labels(comparison.references),
            dim: comparison.anchors.vectors.dim(1)?,
            anchor_rows: host(&comparison.anchors.vectors)?,
            reference_rows: host(&comparison.references.vectors)?,
        })
    }

    /// The rows that are looked from.
    pub fn anchors(&self) -> std::ops::Range<u32> {
        0..self.anchors as u32
    }

    /// The rows that are looked at.
    pub fn references(&self) -> std::ops::Range<u32> {
        0..self.references as u32
    }

    /// The positives of an anchor, by row.
    pub fn positives(&self, anchor: u32) -> impl Iterator<Item = Candidate> + Clone + '_ {
        self.of_kind(anchor, Kind::Positive)
    }

    /// The negatives of an anchor, by row.
    pub fn negatives(&self, anchor: u32) -> impl Iterator<Item = Candidate> + Clone + '_ {
        self.of_kind(anchor, Kind::Negative)
    }

    /// What a reference is to an anchor.
    pub fn kind(&self, anchor: u32, reference: u32) -> Kind {
        self.kinds[anchor as usize * self.references + reference as usize]
    }

    /// The distance from an anchor to a reference.
    pub fn distance(&self, anchor: u32, reference: u32) -> f64 {
        self.distances[anchor as usize * self.references + reference as usize]
    }

    /// Whether anchors and references are the same rows, in one order, so that an index names a row on either side.
    pub fn is_within(&self) -> bool {
        self.within
    }

    /// Class of each anchor; empty where it is not classes that say who belongs together.
    pub fn anchor_labels(&self) -> &[u32] {
        &self.anchor_labels
    }

    /// Class of each reference; empty where it is not classes that say who belongs together.
    pub fn reference_labels(&self) -> &[u32] {
        &self.reference_labels
    }

    /// The dimension of the rows.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// An anchor's own row.
    pub fn anchor(&self, index: u32) -> &[f64] {
        &self.anchor_rows[index as usize * self.dim..][..self.dim]
    }

    /// A reference's own row.
    pub fn reference(&self, index: u32) -> &[f64] {
        &self.reference_rows[index as usize * self.dim..][..self.dim]
    }

    fn of_kind(&self, anchor: u32, wanted: Kind) -> impl Iterator<Item = Candidate> + Clone + '_ {
        let row = anchor as usize * self.references..(anchor as usize + 1) * self.references;
        self.kinds[row.clone()]
            .iter()
            .zip(&self.distances[row])
            .enumerate()
            .filter(move |(_, (kind, _))| **kind == wanted)
            .map(|(index, (_, &distance))| Candidate {
                index: index as u32,
                distance,
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    #[test]
    fn candidates_are_seen_from_each_anchor() -> Result<()> {
        let vectors = Tensor::new(&[[0f32], [1.], [3.]], &Device::Cpu)?;
        let rows = Embeddings::labeled(vectors, vec![0, 0, 1])?;
        let distances = Tensor::new(&[[0f32, 1., 3.], [1., 0., 2.], [3., 2., 0.]], &Device::Cpu)?;
        let candidates = Candidates::new(&distances, &Comparison::within(&rows), "test")?;
        assert_eq!(
            candidates.positives(1).collect::<Vec<_>>(),
            [Candidate {
                index: 0,
                distance: 1.0
            }]
        );
        assert_eq!(
            candidates.negatives(1).collect::<Vec<_>>(),
            [Candidate {
                index: 2,
                distance: 2.0
            }]
        );
        assert_eq!(candidates.positives(2).count(), 0);
        assert_eq!((candidates.dim(), candidates.anchor(2)), (1, &[3.0][..]));
        assert_eq!(candidates.kind(0, 0), Kind::Nothing);
        assert_eq!(candidates.anchor_labels(), [0, 0, 1]);
        assert!(candidates.is_within());
        Ok(())
    }
}
