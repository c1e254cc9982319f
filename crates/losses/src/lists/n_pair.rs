//! N-pair loss.

use std::collections::BTreeMap;

use candle_core::{DType, Result, Tensor};
use nearfar_core::{Comparison, Pairs, Relation};
use nearfar_kernels::log_sum_exp;
use serde::{Deserialize, Serialize};

use crate::Compares;
use crate::family::{ListLoss, Lists, Weighted};

/// Wants to tell the positive of each class from those of all other classes.
///
/// ```text
/// l(i) = log(1 + Σ_{j ≠ i} exp(s(a_i, p_j) − s(a_i, p_i)))     (a_i, p_i): one positive pair for each class
/// ```
///
/// The pair of a class is the first in the order of the rows. Averaged over the pairs; with less than two there is nothing to
/// learn. Of listed pairs, which have no classes, each anchor's first positive is taken. Other pairs of the batch play no part:
/// batches of two rows in each class waste none.
///
/// Inner products of rows as they are can grow without end: the paper adds a penalty on the squared lengths of the embeddings,
/// here the regularizer `lp` with a power of 2. Searched by inner products, the longest rows answer
/// many queries whatever their class: search what was learned by cosines (in a run file, `similarity.cosine = {}` in `evaluation`).
///
/// Source: Sohn, "Improved deep metric learning with multi-class N-pair loss objective", NIPS 2016, equation 7. Agrees with
/// `NPairsLoss` of pytorch-metric-learning 2.9, whose inner product is a cosine unless told otherwise: there take the
/// similarity `cosine`.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// use nearfar_losses::{ListLoss, Lists, NPair};
///
/// // Two queries with their documents.
/// let similarity = Tensor::new(&[[1f64, 1.0], [0.0, 0.0]], &Device::Cpu)?;
/// let positive = Tensor::new(&[[1f64, 0.0], [0.0, 1.0]], &Device::Cpu)?;
/// let negative = Tensor::new(&[[0f64, 1.0], [1.0, 0.0]], &Device::Cpu)?;
/// let loss = NPair::default().lists(&similarity, &positive, &negative)?;
/// assert!(loss.values.to_vec1::<f64>()?.iter().all(|it| (it - 2f64.ln()).abs() < 1e-12)); // One of two.
/// # Ok::<(), candle_core::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NPair {}

/// The first positive pair of each class, or of each anchor where there are no classes: rows and columns.
fn pairs(positive: &Tensor, labels: &[u32]) -> Result<(Vec<u32>, Vec<u32>)> {
    let rows = positive.to_dtype(DType::F32)?.to_vec2::<f32>()?;
    let mut first = BTreeMap::new();
    for (row, entries) in rows.iter().enumerate() {
        if let Some(column) = entries.iter().position(|&entry| entry != 0.0) {
            let class = labels.get(row).copied().unwrap_or(row as u32);
            first.entry(class).or_insert((row as u32, column as u32));
        }
    }
    let mut pairs: Vec<(u32, u32)> = first.into_values().collect();
    pairs.sort_unstable();
    Ok(pairs.into_iter().unzip())
}

impl ListLoss for NPair {
    fn lists(&self, similarity: &Tensor, positive: &Tensor, negative: &Tensor) -> Result<Weighted> {
        self.lists_of(&Lists {
            similarity,
            positive,
            negative,
            own: &[],
            labels: &[],
        })
    }

    fn lists_of(&self, lists: &Lists<'_>) -> Result<Weighted> {
        let similarity = lists.similarity;
        let none = similarity.sum(1)?.zeros_like()?; // (n)
        let (rows, columns) = pairs(lists.positive, lists.labels)?;
        let count = rows.len();
        if count < 2 {
            return Ok(Weighted {
                values: none.clone(),
                weights: none.detach(),
            });
        }
        let index = |places: Vec<u32>| Tensor::from_vec(places, count, similarity.device());
        let (rows, columns) = (index(rows)?, index(columns)?);
        let similarity = similarity.contiguous()?;
        let square = similarity
            .index_select(&rows, 0)?
            .index_select(&columns, 1)?;
        let own = Tensor::arange(0u32, count as u32, similarity.device())?.unsqueeze(1)?;
        let own = square.gather(&own, 1)?.squeeze(1)?;
        let values = (log_sum_exp(&square)? - own)?;
        let weights = none
            .detach()
            .index_add(&rows, &values.detach().ones_like()?, 0)?;
        Ok(Weighted {
            values: none.index_add(&rows, &values, 0)?,
            weights,
        })
    }

    fn compares(&self) -> Compares {
        Compares::Similarity("dot")
    }

    fn pairs_of(&self, comparison: &Comparison<'_>) -> Option<Pairs> {
        if !matches!(comparison.relation, Relation::SameClass) {
            return None;
        }
        let (anchors, references) = (comparison.anchors, comparison.references);
        let mut of_class = BTreeMap::<u32, Vec<u32>>::new();
        for (place, &label) in (0..).zip(&references.labels) {
            of_class.entry(label).or_default().push(place);
        }
        let mut first = BTreeMap::new();
        for (row, label) in (0u32..).zip(&anchors.labels) {
            let id = anchors.ids[row as usize];
            let mut others = of_class.get(label).into_iter().flatten();
            let positive = others.find(|&&place| references.ids[place as usize] != id);
            if let Some(&positive) = positive {
                first.entry(label).or_insert((row, positive));
            }
        }
        let mut pairs: Vec<(u32, u32)> = first.into_values().collect();
        pairs.sort_unstable();
        Some(pairs.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn a_class_has_one_pair_and_one_pair_is_nothing_to_learn() -> Result<()> {
        let similarity = Tensor::new(
            &[[9f64, 1.0, 2.0], [1.0, 9.0, 3.0], [2.0, 3.0, 9.0]],
            &Device::Cpu,
        )?;
        let positive = Tensor::new(
            &[[0f64, 1.0, 1.0], [1.0, 0.0, 1.0], [1.0, 1.0, 0.0]],
            &Device::Cpu,
        )?;
        let none = positive.zeros_like()?;
        let lists = |labels| Lists {
            similarity: &similarity,
            positive: &positive,
            negative: &none,
            own: &[],
            labels,
        };
        let weights = NPair {}.lists_of(&lists(&[4, 4, 4]))?.weights;
        assert_eq!(weights.to_vec1::<f64>()?, [0.0; 3]);
        // Of three listed anchors the pairs are (0, 1), (1, 0) and (2, 0).
        let Weighted { values, weights } = NPair {}.lists_of(&lists(&[]))?;
        assert_eq!(weights.to_vec1::<f64>()?, [1.0; 3]);
        let wanted = (1f64.exp() + 2.0 * 9f64.exp()).ln() - 1.0;
        assert!((values.to_vec1::<f64>()?[0] - wanted).abs() < 1e-14);
        Ok(())
    }
}
