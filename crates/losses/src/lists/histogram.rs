//! Histogram loss.

use std::num::NonZeroU32;

use candle_core::{Result, Tensor};
use nearfar_kernels::{Row, RowFunctional, RowSum, rows};
use serde::{Deserialize, Serialize};

use crate::family::{ListLoss, Lists, Weighted};
use crate::lists::any;
use crate::lists::bins::{AtNode, Bins};
use crate::over::rows::{AllRows, Functional};

/// The probability that a negative pair drawn at random is at least as similar as a positive one.
///
/// ```text
/// l = Σ_r h−(r) Σ_{q ≤ r} h+(q)     h+ and h−: histograms of the similarities of all positive and all negative pairs
/// ```
///
/// One number for the whole batch, which no reducer changes: it compares no pairs with one another but two distributions, and
/// has no margin to set. The nodes of the histograms lie from −1 to 1, both included, and a pair counts for the two nodes it is
/// between. What is beyond, as a rounded cosine may be, counts for the end. The pairs of a batch count once, in either order.
/// The gradient of a pair is constant between two nodes, and zero where no pair of the other kind is at them; so batches should
/// have many pairs, of 64 rows or more. Without positives or without negatives there is nothing to learn.
///
/// Source: Ustinova, Lempitsky, "Learning deep embeddings with histogram loss", NIPS 2016, <https://arxiv.org/abs/1611.00822>,
/// equations 2 to 5. Agrees with `HistogramLoss` of pytorch-metric-learning 2.9, which fails on rows that coincide, and leaves
/// out pairs of two rows that both have no positive.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// use nearfar_losses::{Histogram, ListLoss};
///
/// let loss = Histogram::default();
/// let positive = Tensor::new(&[[0f64, 1.0, 0.0]], &Device::Cpu)?;
/// let negative = Tensor::new(&[[0f64, 0.0, 1.0]], &Device::Cpu)?;
/// let value = |positive_at: f64| {
///     let similarity = Tensor::new(&[[1.0, positive_at, 0.5]], &Device::Cpu)?;
///     loss.lists(&similarity, &positive, &negative)?.values.to_scalar::<f64>()
/// };
/// assert_eq!((value(0.9)?, value(0.1)?), (0.0, 1.0));
/// # Ok::<(), candle_core::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Histogram {
    /// Into how many bins −1 to 1 is divided: one less than there are nodes.
    pub bins: NonZeroU32,
}

impl Default for Histogram {
    /// 100, as in pytorch-metric-learning; the paper has 150 and 200, which made no difference.
    fn default() -> Self {
        Self {
            bins: NonZeroU32::new(100).expect("it is not zero"),
        }
    }
}

impl ListLoss for Histogram {
    fn lists(&self, similarity: &Tensor, positive: &Tensor, negative: &Tensor) -> Result<Weighted> {
        let once = |mask: &Tensor| mask.ne(0f64)?.to_dtype(similarity.dtype());
        let (positive, negative) = (once(positive)?, once(negative)?);
        let bins = self.bins.get();
        let half = f64::from(bins) / 2.0;
        let places = Bins {
            count: bins as usize,
            at_node: AtNode::Above,
        };
        let density = |counts: &Tensor, mask: &Tensor| -> Result<Tensor> {
            let pairs = mask.sum_all()?.maximum(1f64)?;
            counts.sum_keepdim(0)?.broadcast_div(&pairs) // (1, nodes)
        };
        let positions = similarity.affine(half, half)?;
        let values = places.value(
            &positions,
            [&positive, &negative],
            |of_positives, of_negatives| {
                let below = density(of_positives, &positive)?.cumsum(1)?;
                (density(of_negatives, &negative)? * below)?.sum_all()
            },
        )?;
        let weights = (any(&positive)? * any(&negative)?)?;
        Ok(Weighted { values, weights })
    }

    fn lists_of(&self, lists: &Lists<'_>) -> Result<Weighted> {
        let (n, m) = lists.similarity.dims2()?;
        let within = n == m && (0..).zip(lists.own).all(|(row, own)| *own == Some(row));
        if !within {
            return self.lists(lists.similarity, lists.positive, lists.negative);
        }
        // Both orders of a pair are one.
        let dtype = lists.positive.dtype();
        let device = lists.positive.device();
        let upper = (Tensor::triu2(n, dtype, device)? - Tensor::eye(n, dtype, device)?)?;
        let once = |mask: &Tensor| (mask + mask.t()?)? * &upper;
        self.lists(
            lists.similarity,
            &once(lists.positive)?,
            &once(lists.negative)?,
        )
    }

    /// Both orders of a pair count where each would once: that changes no share. The first row gives the value.
    fn by_rows(&self, all: &AllRows<'_>) -> Result<Functional> {
        let bins = self.bins.get() as usize;
        let half = f64::from(self.bins.get()) as f32 / 2.0;
        let nodes = rows::Nodes {
            bins,
            scale: half,
            shift: half,
            at_node: true,
        };
        let seen = all.look(|mut row| {
            let mut counts = vec![0f32; 2 * (bins + 1)];
            let (own, others) = counts.split_at_mut(bins + 1);
            let (positives, [before, after]) = row.split();
            nodes.count(positives, own);
            nodes.count(before, others);
            nodes.count(after, others);
            counts
        })?;
        let mut total = vec![0f64; 2 * (bins + 1)];
        for counts in &seen {
            for (total, count) in total.iter_mut().zip(counts) {
                *total += f64::from(*count);
            }
        }
        let (own, others) = total.split_at_mut(bins + 1);
        let (pulls, pushes) = (own.iter().sum::<f64>(), others.iter().sum::<f64>());
        // Shares of positives up to each node, and of negatives from it on.
        let (mut value, mut to) = (0.0, 0.0);
        let mut of_others = Vec::with_capacity(bins + 1);
        for (&own, &others) in own.iter().zip(&*others) {
            to += own / pulls;
            value += to * others / pushes;
            of_others.push((to / pushes) as f32);
        }
        let (mut from, mut of_own) = (0.0, vec![0f32; bins + 1]);
        for (of_own, others) in of_own.iter_mut().zip(&*others).rev() {
            from += others / pushes;
            *of_own = (from / pulls) as f32;
        }
        Ok(Some(Box::new(OfPairs {
            nodes,
            value,
            of_own,
            of_others,
        })))
    }
}

/// What each pair of the batch is moved by.
struct OfPairs {
    nodes: rows::Nodes,
    /// Of the whole batch.
    value: f64,
    of_own: Vec<f32>,
    of_others: Vec<f32>,
}

impl RowFunctional for OfPairs {
    fn row(&self, mut row: Row<'_>) -> [RowSum; 2] {
        let first = row.anchor == 0;
        let (positives, [before, after]) = row.split();
        self.nodes.slopes(positives, &self.of_own);
        self.nodes.slopes(before, &self.of_others);
        self.nodes.slopes(after, &self.of_others);
        let sum = RowSum {
            value: if first { self.value } else { 0.0 },
            terms: usize::from(first),
            active: usize::from(first && self.value > 0.0),
        };
        [sum, RowSum::default()]
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Var};

    use super::*;

    fn loss(bins: u32) -> Histogram {
        Histogram {
            bins: NonZeroU32::new(bins).expect("some"),
        }
    }

    /// Defect of the peer: an index out of bounds.
    #[test]
    fn rows_that_coincide_or_are_opposite_count_for_the_ends() -> Result<()> {
        let similarity = Var::new(&[[1f64, 1.0 + 1e-15, -1.0, 0.0]], &Device::Cpu)?;
        let positive = Tensor::new(&[[1f64, 1.0, 0.0, 0.0]], &Device::Cpu)?;
        let negative = Tensor::new(&[[0f64, 0.0, 1.0, 1.0]], &Device::Cpu)?;
        let Weighted { values, weights } = loss(4).lists(&similarity, &positive, &negative)?;
        assert_eq!(
            (values.to_scalar::<f64>()?, weights.to_scalar::<f64>()?),
            (0.0, 1.0)
        );
        let turned = loss(4).lists(&similarity, &negative, &positive)?.values;
        assert_eq!(turned.to_scalar::<f64>()?, 1.0);
        Ok(())
    }

    #[test]
    fn a_pair_is_moved_by_the_pairs_of_the_other_kind_at_its_nodes() -> Result<()> {
        // Nodes at −1, −½, 0, ½, 1: a positive at 0.1 and 0.3, a negative at 0.2.
        let similarity = Var::new(&[[0.1f64, 0.3, 0.2]], &Device::Cpu)?;
        let positive = Tensor::new(&[[1f64, 1.0, 0.0]], &Device::Cpu)?;
        let negative = Tensor::new(&[[0f64, 0.0, 1.0]], &Device::Cpu)?;
        let value = loss(4).lists(&similarity, &positive, &negative)?.values;
        // h+ is (0.8 + 0.4)/2 at 0 and 0.4 at ½; h− is 0.6 and 0.4: 0.6 · 0.6 + 0.4 · 1.
        assert!((value.to_scalar::<f64>()? - 0.76).abs() < 1e-15);
        let gradients = value.backward()?;
        let gradient = gradients
            .get(&similarity)
            .expect("it depends on them")
            .to_vec2::<f64>()?;
        // −h−(0)/(Δ P) for positives, h+(½)/(Δ N) for negatives.
        for (found, wanted) in gradient[0].iter().zip([-0.6, -0.6, 0.8]) {
            assert!((found - wanted).abs() < 1e-14, "{gradient:?}");
        }
        Ok(())
    }
}
