//! Instance loss.

use std::collections::{BTreeMap, BTreeSet};

use candle_core::{Result, Tensor};
use nearfar_core::{Loss, Positive, Reducer};
use nearfar_kernels::rows::Sloped;
use nearfar_kernels::{Row, RowFunctional, RowSum, log_sum_exp, rows};
use serde::{Deserialize, Serialize};

use crate::classes::softmax::softmax_over_classes;
use crate::family::{BatchLoss, ClassificationLoss, ListLoss, Lists, Weighted};
use crate::family::{ByRow, Head};
use crate::over::rows::{AllRows, Functional};
use crate::{Compares, Compat, Join, Reads, ToCenters};

/// Wants to tell each instance of the data from all others: a softmax over one center for each.
///
/// ```text
/// l(a) = −log( exp(scale · cos(a, c_i)) / Σ_j exp(scale · cos(a, c_j)) )     c_i: the center of a's own instance
/// ```
///
/// The label of a row is its instance: an image by itself, or an image with the sentences that describe it. So there are as many
/// centers, which are parameters, as there are instances. Averaged over all rows.
///
/// `compat = "pml"`: there are no centers. A row is compared with all rows of its batch, itself too, and the column that is
/// wanted is the place of its label among those of the batch, in order: an unrelated row where labels repeat.
///
/// Source: Zheng et al., "Dual-path convolutional image-text embeddings with instance loss", ACM TOMM 2020,
/// <https://arxiv.org/abs/1711.05535>, equation 5. With `compat = "pml"` it agrees with `InstanceLoss` of pytorch-metric-learning
/// 2.9.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// use nearfar_losses::{ClassificationLoss, Instance, ToCenters};
///
/// let row = Tensor::new(&[[0f32, 2.0]], &Device::Cpu)?;
/// let centers = Tensor::new(&[[0f32, 1.0], [1.0, 0.0]], &Device::Cpu)?;
/// let to = ToCenters::new(&row, &centers, 1, &[0])?;
/// assert_eq!(Instance::default().logits(&to)?.to_vec2::<f32>()?, [[64.0, 0.0]]);
/// # Ok::<(), candle_core::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Instance {
    /// What cosines are multiplied by before the softmax.
    pub scale: Positive,
    /// Another library's convention.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compat: Option<Compat>,
}

impl Default for Instance {
    /// 64, as in pytorch-metric-learning; the paper has none, and rows as they are.
    fn default() -> Self {
        Self {
            scale: Positive::literal(64.0),
            compat: None,
        }
    }
}

impl ClassificationLoss for Instance {
    fn logits(&self, to: &ToCenters) -> Result<Tensor> {
        &to.cosine * self.scale.get()
    }

    fn by_row(&self, head: &Head<'_>) -> Option<ByRow> {
        let scale = self.scale.get();
        Some(ByRow::cosines(softmax_over_classes(
            scale,
            head,
            |own, _| Sloped {
                value: own,
                slope: 1.0,
            },
        )))
    }
}

/// The form without centers.
impl ListLoss for Instance {
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
        let (n, m) = lists.similarity.dims2()?;
        let distinct: BTreeSet<u32> = lists.labels.iter().copied().collect();
        let wanted = (0..n).map(|row| match lists.labels.get(row) {
            Some(&label) => distinct.range(..label).count(),
            None => row,
        });
        let wanted: Vec<usize> = wanted.collect();
        let device = lists.similarity.device();
        let there = wanted.iter().map(|&column| f32::from(column < m)).collect();
        let columns = wanted
            .iter()
            .map(|&column| column.min(m.max(1) - 1) as u32)
            .collect();
        let columns = Tensor::from_vec(columns, (n, 1), device)?;
        let logits = (lists.similarity * self.scale.get())?.contiguous()?;
        Ok(Weighted {
            values: (log_sum_exp(&logits)? - logits.gather(&columns, 1)?.squeeze(1)?)?,
            weights: Tensor::from_vec(there, n, device)?.to_dtype(logits.dtype())?,
        })
    }

    fn by_rows(&self, all: &AllRows<'_>) -> Result<Functional> {
        if !all.within() {
            return Ok(None);
        }
        let distinct: BTreeSet<u32> = all.labels().iter().copied().collect();
        let ranks: BTreeMap<u32, usize> = distinct.into_iter().zip(0..).collect();
        let wanted = all.labels().iter().map(|label| ranks[label]).collect();
        let scale = self.scale.get() as f32;
        Ok(Some(Box::new(OfRow { scale, wanted })))
    }
}

/// A softmax over all rows, itself too.
struct OfRow {
    scale: f32,
    /// The place of the row that each is told from the others as.
    wanted: Vec<usize>,
}

impl RowFunctional for OfRow {
    fn row(&self, row: Row<'_>) -> [RowSum; 2] {
        let wanted = self.wanted[row.anchor];
        let columns = 0..row.values.len();
        let Some(column) = columns.into_iter().find(|&it| row.place(it) == wanted) else {
            row.values.fill(0.0);
            return [RowSum::default(); 2];
        };
        let logit = self.scale * row.values[column];
        let all = rows::log_sum_exp(&mut [&mut *row.values], self.scale);
        rows::multiply(row.values, self.scale);
        row.values[column] -= self.scale;
        let value = f64::from(all - logit);
        let sum = RowSum {
            value,
            terms: 1,
            active: usize::from(value > 0.0),
        };
        [sum, RowSum::default()]
    }

    fn own(&self) -> bool {
        true
    }
}

impl BatchLoss for Instance {
    fn reads(&self) -> Reads {
        Reads::Classes
    }

    fn compares(&self) -> Compares {
        match self.compat {
            None => Compares::Centers,
            Some(Compat::Pml) => Compares::Similarity("cosine"),
        }
    }

    fn reducer(&self) -> Reducer {
        Reducer::Mean {}
    }

    fn build(&self, name: &'static str, join: Join) -> Result<Box<dyn Loss>> {
        match self.compat {
            None => crate::over::classes::join(name, self.clone(), join),
            Some(Compat::Pml) => crate::over::lists::join(name, self.clone(), join),
        }
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    /// Defect of the peer: the column of a label's rank is that of another row.
    #[test]
    fn the_compatible_form_wants_the_column_of_the_label_s_rank() -> Result<()> {
        let similarity = Tensor::new(
            &[[1f64, 0.0, 0.0], [0.0, 1.0, 0.5], [0.0, 0.5, 1.0]],
            &Device::Cpu,
        )?;
        let none = similarity.zeros_like()?;
        let loss = Instance {
            scale: Positive::literal(1.0),
            compat: Some(Compat::Pml),
        };
        let values = loss.lists_of(&Lists {
            similarity: &similarity,
            positive: &none,
            negative: &none,
            own: &[],
            labels: &[7, 3, 7],
        })?;
        let values = values.values.to_vec1::<f64>()?;
        // Label 3 is the first, 7 the second: columns 1, 0 and 1.
        let sums = [1f64.exp() + 2.0, 1.0 + 1f64.exp() + 0.5f64.exp()].map(f64::ln);
        for (found, wanted) in values.iter().zip([sums[0], sums[1], sums[1] - 0.5]) {
            assert!((found - wanted).abs() < 1e-14, "{found} {wanted}");
        }
        Ok(())
    }
}
