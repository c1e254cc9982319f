//! Embeddings at rest.

use candle_core::{DType, Result, Tensor};

use crate::{Error, shape};

/// Embeddings on the host, with labels and ids.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EmbeddingTable {
    /// Row-major, `n · d`.
    pub vectors: Vec<f32>,
    /// The dimension, `d`.
    pub dim: usize,
    /// Class of each row; empty where there are none.
    pub labels: Vec<u32>,
    /// Identity of each row: the sample's index in its data set.
    pub ids: Vec<u64>,
}

impl EmbeddingTable {
    /// An empty table of a dimension.
    pub fn new(dim: usize) -> Self {
        Self {
            dim,
            ..Self::default()
        }
    }

    /// Adds rows `(b, d)` with their classes (or none at all) and ids.
    ///
    /// # Errors
    /// When the width is another than the table's, or the lists are not of the rows' length.
    pub fn append(&mut self, rows: &Tensor, labels: &[u32], ids: &[u64]) -> Result<()> {
        let (b, d) = shape::matrix("embedding table", ("rows", rows))?;
        if d != self.dim {
            Err(Error::Shape(format!(
                "embedding table: rows have {d} dimensions, the table {}",
                self.dim
            )))?;
        }
        shape::length("embedding table", ("ids", ids.len()), ("rows", b))?;
        let wanted = match (self.is_empty(), self.labels.is_empty()) {
            (true, _) if labels.is_empty() => 0, // A table without labels begins.
            (true, _) | (false, false) => b,
            (false, true) => 0,
        };
        if labels.len() != wanted {
            Err(Error::Shape(format!(
                "embedding table: {} labels for {b} rows, {wanted} wanted; give all rows a label, or none",
                labels.len()
            )))?;
        }
        self.vectors
            .extend(rows.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()?);
        self.labels.extend_from_slice(labels);
        self.ids.extend_from_slice(ids);
        Ok(())
    }

    /// Number of rows, `n`.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// One row.
    pub fn row(&self, index: usize) -> &[f32] {
        &self.vectors[index * self.dim..][..self.dim]
    }

    /// The rows for which `keep` holds, by index.
    pub fn filter(&self, keep: impl Fn(usize) -> bool) -> Self {
        let mut kept = Self::new(self.dim);
        for index in (0..self.len()).filter(|&index| keep(index)) {
            kept.vectors.extend_from_slice(self.row(index));
            kept.labels.extend(self.labels.get(index));
            kept.ids.push(self.ids[index]);
        }
        kept
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    #[test]
    fn rows_are_appended_and_filtered_with_what_belongs_to_them() -> Result<()> {
        let mut table = EmbeddingTable::new(2);
        table.append(
            &Tensor::new(&[[1f32, 2.], [3., 4.]], &Device::Cpu)?,
            &[7, 8],
            &[0, 1],
        )?;
        assert_eq!(table.row(1), [3., 4.]);
        let kept = table.filter(|index| table.labels[index] == 8);
        assert_eq!(
            (kept.vectors, kept.labels, kept.ids),
            (vec![3., 4.], vec![8], vec![1])
        );
        assert!(
            table
                .append(&Tensor::new(&[[1f32]], &Device::Cpu)?, &[7], &[2])
                .is_err()
        );
        assert!(
            table
                .append(&Tensor::new(&[[1f32, 1.]], &Device::Cpu)?, &[], &[2])
                .is_err(),
            "labels cannot stop"
        );
        assert!(
            table
                .append(&Tensor::new(&[[1f32, 1.]], &Device::Cpu)?, &[1, 2], &[2])
                .is_err()
        );
        assert_eq!(table.len(), 2);
        let mut plain = EmbeddingTable::new(1);
        plain.append(&Tensor::new(&[[1f32]], &Device::Cpu)?, &[], &[0])?;
        assert!(
            plain
                .append(&Tensor::new(&[[1f32]], &Device::Cpu)?, &[3], &[1])
                .is_err(),
            "labels cannot begin later"
        );
        Ok(())
    }
}
