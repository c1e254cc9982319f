//! Vectors with what is known of their rows.

use std::collections::BTreeMap;

use candle_core::{Result, Tensor};

use crate::shape;

/// Embeddings of some rows, with what is known of those rows on the host.
#[derive(Clone, Debug)]
pub struct Embeddings {
    /// `(n, d)`
    pub vectors: Tensor,
    /// What the encoder gave beside them, by name: parts, hidden layers, dense maps.
    pub extra: BTreeMap<String, Tensor>,
    /// Class of each row; empty where the supervision has no classes.
    pub labels: Vec<u32>,
    /// Identity of each row: two rows of a run never share one.
    pub ids: Vec<u64>,
}

impl Embeddings {
    /// Rows with classes, numbered from 0.
    ///
    /// # Errors
    /// When `vectors` is no matrix, or there is not one label for each row.
    pub fn labeled(vectors: Tensor, labels: Vec<u32>) -> Result<Self> {
        let ids = (0..labels.len() as u64).collect();
        Self::new(vectors, labels, ids)
    }

    /// Rows with classes (or none at all) and identities.
    ///
    /// # Errors
    /// When `vectors` is no matrix, or the lists are not of its length.
    pub fn new(vectors: Tensor, labels: Vec<u32>, ids: Vec<u64>) -> Result<Self> {
        let (n, _) = shape::matrix("embeddings", ("vectors", &vectors))?;
        if !labels.is_empty() {
            shape::length("embeddings", ("labels", labels.len()), ("vectors", n))?;
        }
        shape::length("embeddings", ("ids", ids.len()), ("vectors", n))?;
        Ok(Self {
            vectors,
            extra: BTreeMap::new(),
            labels,
            ids,
        })
    }

    /// The rows of several sides, one side after the other: views beyond the second stand behind it. What the encoder gave beside the
    /// vectors is kept where all sides have it.
    ///
    /// # Errors
    /// When the sides are not of one width, or there is none.
    pub fn stacked(sides: &[Self]) -> Result<Self> {
        let vectors: Vec<&Tensor> = sides.iter().map(|side| &side.vectors).collect();
        let mut stacked = Self::new(
            Tensor::cat(&vectors, 0)?,
            sides.iter().flat_map(|side| side.labels.clone()).collect(),
            sides.iter().flat_map(|side| side.ids.clone()).collect(),
        )?;
        for name in sides.iter().take(1).flat_map(|side| side.extra.keys()) {
            let found: Option<Vec<&Tensor>> =
                sides.iter().map(|side| side.extra.get(name)).collect();
            if let Some(found) = found {
                stacked.extra.insert(name.clone(), Tensor::cat(&found, 0)?);
            }
        }
        Ok(stacked)
    }

    /// Number of rows, `n`.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn sides_are_stacked_with_what_belongs_to_their_rows() -> Result<()> {
        let side = |start: f32, label: u32, id: u64| -> Result<Embeddings> {
            let vectors = Tensor::new(&[[start], [start + 1.0]], &Device::Cpu)?;
            let mut side = Embeddings::new(vectors.clone(), vec![label; 2], vec![id, id + 1])?;
            side.extra.insert("guide".into(), vectors);
            Ok(side)
        };
        let (first, mut second) = (side(1.0, 4, 10)?, side(7.0, 5, 20)?);
        let both = Embeddings::stacked(&[first.clone(), second.clone()])?;
        assert_eq!(both.vectors.to_vec2::<f32>()?, [[1.0], [2.0], [7.0], [8.0]]);
        assert_eq!(
            (both.labels, both.ids),
            (vec![4, 4, 5, 5], vec![10, 11, 20, 21])
        );
        assert_eq!(both.extra["guide"].dims(), [4, 1]);
        second.extra.clear();
        assert!(Embeddings::stacked(&[first, second])?.extra.is_empty());
        assert!(Embeddings::stacked(&[]).is_err());
        Ok(())
    }
}
