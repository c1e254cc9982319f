//! Pairs and triplets of rows, as lists of indices.

use candle_core::{Result, Tensor};

use crate::{Comparison, Kind};

/// Pairs of an anchor and a reference, by row.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pairs {
    /// Row of each anchor.
    pub anchors: Vec<u32>,
    /// Row of each reference.
    pub references: Vec<u32>,
}

impl Pairs {
    /// Adds one.
    pub fn push(&mut self, anchor: u32, reference: u32) {
        self.anchors.push(anchor);
        self.references.push(reference);
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.anchors.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.anchors.is_empty()
    }

    /// Each as `(anchor, reference)`.
    pub fn iter(&self) -> impl Iterator<Item = (u32, u32)> + '_ {
        self.anchors
            .iter()
            .copied()
            .zip(self.references.iter().copied())
    }

    /// Their entries of a matrix of anchors by references: `(n, m) → (t)`, on its device and differentiable.
    ///
    /// # Errors
    /// When a row is not in the matrix.
    pub fn select(&self, matrix: &Tensor) -> Result<Tensor> {
        entries(matrix, &self.anchors, &self.references)
    }

    /// The first pair of each class, by the class of its anchor; classes ascend. What a loss of N pairs of N classes takes.
    ///
    /// Pairs whose anchor has no label are left out. Agrees with `convert_to_pos_pairs_with_unique_labels` of
    /// pytorch-metric-learning 2.9.
    ///
    /// ```
    /// use nearfar_core::Pairs;
    ///
    /// let positive = Pairs::from_iter([(0, 2), (1, 3), (2, 0), (3, 1)]);
    /// let first = positive.first_of_each_class(&[7, 4, 7, 4]);
    /// assert_eq!(first.iter().collect::<Vec<_>>(), [(1, 3), (0, 2)]);
    /// ```
    pub fn first_of_each_class(&self, labels: &[u32]) -> Self {
        let mut first = std::collections::BTreeMap::new();
        for (anchor, reference) in self.iter() {
            if let Some(label) = labels.get(anchor as usize) {
                first.entry(label).or_insert((anchor, reference));
            }
        }
        first.into_values().collect()
    }
}

impl FromIterator<(u32, u32)> for Pairs {
    fn from_iter<I: IntoIterator<Item = (u32, u32)>>(pairs: I) -> Self {
        let mut list = Self::default();
        pairs
            .into_iter()
            .for_each(|(anchor, reference)| list.push(anchor, reference));
        list
    }
}

/// Pairs that belong together, and pairs that do not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SignedPairs {
    /// Those that do.
    pub positive: Pairs,
    /// Those that do not.
    pub negative: Pairs,
}

impl SignedPairs {
    /// All pairs of a comparison, row-major.
    ///
    /// # Errors
    /// As [`Comparison::kinds`]; `place` is the one that asked.
    pub fn all(comparison: &Comparison<'_>, place: &str) -> Result<Self> {
        let m = comparison.references.len();
        let mut pairs = Self::default();
        for (index, kind) in comparison.kinds(place)?.into_iter().enumerate() {
            let (anchor, reference) = ((index / m) as u32, (index % m) as u32);
            match kind {
                Kind::Positive => pairs.positive.push(anchor, reference),
                Kind::Negative => pairs.negative.push(anchor, reference),
                Kind::Nothing => {}
            }
        }
        Ok(pairs)
    }

    /// Every positive with every negative that shares its anchor, in the order of the positives, then of the negatives.
    pub fn joined_by_anchor(&self) -> Triplets {
        let mut negatives = std::collections::BTreeMap::<u32, Vec<u32>>::new();
        for (anchor, negative) in self.negative.iter() {
            negatives.entry(anchor).or_default().push(negative);
        }
        let mut triplets = Triplets::default();
        for (anchor, positive) in self.positive.iter() {
            for &negative in negatives.get(&anchor).into_iter().flatten() {
                triplets.push(anchor, positive, negative);
            }
        }
        triplets
    }

    /// How many, of both signs.
    pub fn len(&self) -> usize {
        self.positive.len() + self.negative.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// An anchor with a positive and a negative, by row.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Triplets {
    anchors: Vec<u32>,
    positives: Vec<u32>,
    negatives: Vec<u32>,
}

impl Triplets {
    /// Adds one.
    pub fn push(&mut self, anchor: u32, positive: u32, negative: u32) {
        self.anchors.push(anchor);
        self.positives.push(positive);
        self.negatives.push(negative);
    }

    /// All triplets of a comparison: anchor outermost, then positive, then negative.
    ///
    /// # Errors
    /// As [`Comparison::kinds`]; `place` is the one that asked.
    pub fn all(comparison: &Comparison<'_>, place: &str) -> Result<Self> {
        let m = comparison.references.len();
        let mut triplets = Self::default();
        if m == 0 {
            return Ok(triplets);
        }
        for (anchor, row) in comparison.kinds(place)?.chunks(m).enumerate() {
            let of = |wanted: Kind| {
                row.iter()
                    .enumerate()
                    .filter(move |(_, kind)| **kind == wanted)
                    .map(|(index, _)| index as u32)
            };
            for positive in of(Kind::Positive) {
                for negative in of(Kind::Negative) {
                    triplets.push(anchor as u32, positive, negative);
                }
            }
        }
        Ok(triplets)
    }

    /// Row of each anchor.
    pub fn anchors(&self) -> &[u32] {
        &self.anchors
    }

    /// Row of each positive.
    pub fn positives(&self) -> &[u32] {
        &self.positives
    }

    /// Row of each negative.
    pub fn negatives(&self) -> &[u32] {
        &self.negatives
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.anchors.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.anchors.is_empty()
    }

    /// Each as `(anchor, positive, negative)`.
    pub fn iter(&self) -> impl Iterator<Item = (u32, u32, u32)> + '_ {
        self.anchors
            .iter()
            .zip(&self.positives)
            .zip(&self.negatives)
            .map(|((a, p), n)| (*a, *p, *n))
    }

    /// Their entries of a matrix of anchors by references: distances to the positives and to the negatives, `(t)` each.
    ///
    /// # Errors
    /// When a row is not in the matrix.
    pub fn select(&self, matrix: &Tensor) -> Result<(Tensor, Tensor)> {
        Ok((
            entries(matrix, &self.anchors, &self.positives)?,
            entries(matrix, &self.anchors, &self.negatives)?,
        ))
    }

    /// The pair of anchor and positive, and the pair of anchor and negative, of each; pairs that several share are repeated.
    pub fn split_into_pairs(&self) -> SignedPairs {
        let pairs = |references: &[u32]| Pairs {
            anchors: self.anchors.clone(),
            references: references.to_vec(),
        };
        SignedPairs {
            positive: pairs(&self.positives),
            negative: pairs(&self.negatives),
        }
    }
}

impl FromIterator<(u32, u32, u32)> for Triplets {
    fn from_iter<I: IntoIterator<Item = (u32, u32, u32)>>(triplets: I) -> Self {
        let mut list = Self::default();
        triplets
            .into_iter()
            .for_each(|(anchor, positive, negative)| list.push(anchor, positive, negative));
        list
    }
}

/// What a miner chose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tuples {
    /// Pairs with their signs.
    Pairs(SignedPairs),
    /// Triplets.
    Triplets(Triplets),
}

impl Tuples {
    /// As triplets: pairs are [joined by anchor](SignedPairs::joined_by_anchor).
    pub fn into_triplets(self) -> Triplets {
        match self {
            Self::Pairs(pairs) => pairs.joined_by_anchor(),
            Self::Triplets(triplets) => triplets,
        }
    }

    /// As pairs: triplets are [split](Triplets::split_into_pairs), with repeats.
    pub fn into_pairs(self) -> SignedPairs {
        match self {
            Self::Pairs(pairs) => pairs,
            Self::Triplets(triplets) => triplets.split_into_pairs(),
        }
    }

    /// How often each of `n` anchors is in a tuple, over the largest such count: what a row weighs in a loss that knows no
    /// tuples, such as one of class centers.
    ///
    /// `within` says that references are rows of the same set, and count like anchors; of two sets only anchors count.
    /// Without a tuple all weigh 1. Rows beyond `n` are left out. Agrees with `convert_to_weights` of
    /// pytorch-metric-learning 2.9.
    ///
    /// ```
    /// use nearfar_core::{Triplets, Tuples};
    ///
    /// let tuples = Tuples::Triplets(Triplets::from_iter([(0, 1, 2), (0, 1, 3)]));
    /// assert_eq!(tuples.weights(5, true), [1.0, 1.0, 0.5, 0.5, 0.0]);
    /// assert_eq!(tuples.weights(2, false), [1.0, 0.0]);
    /// ```
    pub fn weights(&self, n: usize, within: bool) -> Vec<f64> {
        let (anchors, others) = match self {
            Self::Triplets(it) => ([it.anchors(), &[]], [it.positives(), it.negatives()]),
            Self::Pairs(it) => (
                [&it.positive.anchors[..], &it.negative.anchors[..]],
                [&it.positive.references[..], &it.negative.references[..]],
            ),
        };
        let mut counts = vec![0u64; n];
        let others = others.into_iter().filter(|_| within);
        for &row in anchors.into_iter().chain(others).flatten() {
            if let Some(count) = counts.get_mut(row as usize) {
                *count += 1;
            }
        }
        match counts.iter().max() {
            None | Some(0) => vec![1.0; n],
            Some(&largest) => counts
                .into_iter()
                .map(|count| count as f64 / largest as f64)
                .collect(),
        }
    }
}

/// Entries of a matrix by row and column.
fn entries(matrix: &Tensor, rows: &[u32], columns: &[u32]) -> Result<Tensor> {
    let (n, m) = crate::shape::matrix("tuples", ("matrix", matrix))?;
    if let Some((row, column)) = rows
        .iter()
        .zip(columns)
        .find(|&(&row, &column)| row as usize >= n || column as usize >= m)
    {
        Err(crate::Error::Shape(format!(
            "a tuple has the entry ({row}, {column}), but the matrix has shape [{n}, {m}]"
        )))?;
    }
    if n * m > u32::MAX as usize {
        // candle's index tensors are 32 bits wide where they are fast; such a matrix would take 16 GiB.
        Err(crate::Error::Shape(format!(
            "a matrix of {n} by {m} is too large; use smaller batches"
        )))?;
    }
    let flat: Vec<u32> = rows
        .iter()
        .zip(columns)
        .map(|(&row, &column)| row * m as u32 + column)
        .collect();
    let index = Tensor::from_vec(flat, rows.len(), matrix.device())?;
    matrix.flatten_all()?.index_select(&index, 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Embeddings;
    use candle_core::{DType, Device};

    fn rows(labels: &[u32]) -> Embeddings {
        let vectors = Tensor::zeros((labels.len(), 1), DType::F32, &Device::Cpu).expect("small");
        Embeddings::labeled(vectors, labels.to_vec()).expect("one label for each row")
    }

    #[test]
    fn all_triplets_are_in_order_and_pairs_join_to_them() -> Result<()> {
        let rows = rows(&[0, 0, 1]);
        let comparison = Comparison::within(&rows);
        let triplets = Triplets::all(&comparison, "test")?;
        assert_eq!(triplets.iter().collect::<Vec<_>>(), [(0, 1, 2), (1, 0, 2)]);
        let pairs = SignedPairs::all(&comparison, "test")?;
        assert_eq!(pairs.positive.iter().collect::<Vec<_>>(), [(0, 1), (1, 0)]);
        assert_eq!(
            pairs.negative.iter().collect::<Vec<_>>(),
            [(0, 2), (1, 2), (2, 0), (2, 1)]
        );
        assert_eq!(pairs.joined_by_anchor(), triplets);
        assert_eq!(
            triplets
                .split_into_pairs()
                .negative
                .iter()
                .collect::<Vec<_>>(),
            [(0, 2), (1, 2)]
        );
        Ok(())
    }

    #[test]
    fn rows_weigh_as_often_as_they_are_in_tuples() {
        let triplets = Tuples::Triplets(Triplets::from_iter([(0, 1, 2), (0, 1, 3)]));
        assert_eq!(triplets.weights(5, true), [1.0, 1.0, 0.5, 0.5, 0.0]);
        let of_two_sets = triplets.weights(2, false);
        assert_eq!(of_two_sets, [1.0, 0.0], "only the anchors count");
        let pairs = Tuples::Pairs(SignedPairs {
            positive: Pairs::from_iter([(0, 1)]),
            negative: Pairs::from_iter([(1, 2), (1, 0)]),
        });
        assert_eq!(pairs.weights(3, true), [2.0 / 3.0, 1.0, 1.0 / 3.0]);
        let none = Tuples::Triplets(Triplets::default());
        assert_eq!(none.weights(2, true), [1.0, 1.0]);
        assert!(none.weights(0, true).is_empty());
    }

    #[test]
    fn each_class_has_one_pair_and_rows_without_a_label_none() {
        let pairs = Pairs::from_iter([(2, 0), (1, 3), (0, 2), (9, 1)]);
        let first = pairs.first_of_each_class(&[5, 1, 5, 1]);
        assert_eq!(first.iter().collect::<Vec<_>>(), [(1, 3), (2, 0)]);
        assert!(Pairs::default().first_of_each_class(&[]).is_empty());
    }

    #[test]
    fn selected_entries_are_the_matrix_s_and_rows_outside_are_refused() -> Result<()> {
        let matrix = Tensor::new(&[[1f32, 2., 3.], [4., 5., 6.]], &Device::Cpu)?;
        let pairs: Pairs = [(1, 0), (0, 2), (1, 0)].into_iter().collect();
        assert_eq!(pairs.select(&matrix)?.to_vec1::<f32>()?, [4., 3., 4.]);
        let outside: Pairs = [(0, 3)].into_iter().collect();
        assert!(outside.select(&matrix).is_err());
        assert_eq!(Pairs::default().select(&matrix)?.dims(), [0]);
        Ok(())
    }
}
