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

    /// Number of rows, `n`.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }
}
