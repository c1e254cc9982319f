//! Smooth ranks of each query's positives, some queries at a time.
//!
//! A rank is a sum over all rows, so those of all positives take `n·K·m` numbers for K positives of each query. A block of
//! queries is computed, with its gradient, and only the gradient is kept, `n·m` numbers.

use candle_core::{D, Result, Tensor, Var};
use nearfar_kernels::{Row, RowFunctional, RowSum, rows, sigmoid};

use crate::family::{Lists, Weighted};

/// What a block of queries may take for each of its few tensors, in numbers.
const BLOCK: usize = 1 << 20;

/// How the positives of some queries are ranked. A query's positives come first, what is beyond their count is filling.
pub(super) struct Ranks {
    /// 1 for a positive, 0 for filling, `(b, k)`.
    pub(super) there: Tensor,
    /// How many positives each query has, `(b)`; 1 where it has none.
    pub(super) count: Tensor,
    /// How many other positives are before each, `(b, k)`.
    pub(super) positives: Tensor,
    /// How many negatives are.
    pub(super) negatives: Tensor,
}

impl Ranks {
    /// The mean over each query's positives: `(b, k) → (b)`.
    pub(super) fn mean(&self, values: &Tensor) -> Result<Tensor> {
        (values * &self.there)?.sum(1)? / &self.count
    }
}

/// Ranks as smooth as the temperature is large.
pub(super) struct Ranking {
    /// By what a similarity is before another is divided, before a logistic function says how many that is.
    pub(super) temperature: f64,
    /// Whether a query that is among the references is a positive of itself.
    pub(super) include_self: bool,
}

impl Ranking {
    /// Values of queries that have a positive, each a function of how its positives are ranked.
    pub(super) fn values(
        &self,
        lists: &Lists<'_>,
        value: impl Fn(&Ranks) -> Result<Tensor>,
    ) -> Result<Weighted> {
        let similarity = lists.similarity.contiguous()?;
        let (n, m) = similarity.dims2()?;
        let positives = self.columns(lists)?;
        let mut blocks = Vec::new();
        let mut from = 0;
        while from < n {
            // As many queries as fit, but one at least.
            let (mut to, mut most) = (from, 1);
            while to < n {
                let with = most.max(positives[to].len());
                if to > from && (to + 1 - from) * with * m > BLOCK {
                    break;
                }
                (to, most) = (to + 1, with);
            }
            blocks.push(self.block(
                lists,
                &similarity,
                from,
                &positives[from..to],
                most,
                &value,
            )?);
            from = to;
        }
        let (values, gradients): (Vec<_>, Vec<_>) = blocks.into_iter().unzip();
        let (values, gradient) = (Tensor::cat(&values, 0)?, Tensor::cat(&gradients, 0)?);
        // The value as it was, with the gradient that was kept: what is added is 0.
        let moved = (&similarity - similarity.detach())?;
        let values = (values + (moved * gradient)?.sum(1)?)?;
        let weights: Vec<f32> = positives
            .iter()
            .map(|it| f32::from(!it.is_empty()))
            .collect();
        let weights =
            Tensor::from_vec(weights, n, similarity.device())?.to_dtype(similarity.dtype())?;
        Ok(Weighted { values, weights })
    }

    /// The columns of each query's positives.
    fn columns(&self, lists: &Lists<'_>) -> Result<Vec<Vec<u32>>> {
        let rows = lists
            .positive
            .to_dtype(candle_core::DType::F32)?
            .to_vec2::<f32>()?;
        let of_row = |(row, entries): (usize, &Vec<f32>)| {
            let own = lists
                .own
                .get(row)
                .copied()
                .flatten()
                .filter(|_| self.include_self);
            let columns = entries.iter().zip(0u32..);
            let kept = columns.filter(|&(&entry, column)| entry != 0.0 || own == Some(column));
            kept.map(|(_, column)| column).collect()
        };
        Ok(rows.iter().enumerate().map(of_row).collect())
    }

    /// Values `(b)` and gradients `(b, m)` of the queries from a row on.
    fn block(
        &self,
        lists: &Lists<'_>,
        similarity: &Tensor,
        from: usize,
        positives: &[Vec<u32>],
        most: usize,
        value: impl Fn(&Ranks) -> Result<Tensor>,
    ) -> Result<(Tensor, Tensor)> {
        let (rows, device, dtype) = (positives.len(), similarity.device(), similarity.dtype());
        let mut columns = vec![0u32; rows * most];
        let mut there = vec![0f32; rows * most];
        for (row, positives) in positives.iter().enumerate() {
            for (place, &column) in positives.iter().enumerate() {
                columns[row * most + place] = column;
                there[row * most + place] = 1.0;
            }
        }
        let columns = Tensor::from_vec(columns, (rows, most), device)?;
        let there = Tensor::from_vec(there, (rows, most), device)?.to_dtype(dtype)?;
        let similarity = Var::from_tensor(&similarity.narrow(0, from, rows)?.detach().copy()?)?;
        let of_positives = similarity.gather(&columns, 1)?; // (b, k)
        let ahead = similarity
            .unsqueeze(1)?
            .broadcast_sub(&of_positives.unsqueeze(2)?)?; // (b, k, m)
        let ahead = sigmoid(&(ahead / self.temperature)?)?;
        let sum = |mask: &Tensor| -> Result<Tensor> {
            // A product of matrices, (b, k, m) and (b, m, 1), is a sum without another tensor of their size.
            ahead
                .matmul(&mask.unsqueeze(2)?.contiguous()?)?
                .squeeze(D::Minus1)
        };
        let negative = lists
            .negative
            .narrow(0, from, rows)?
            .ne(0f64)?
            .to_dtype(dtype)?;
        // Of the positives themselves the mask has 1 at their columns; a positive is half ahead of itself.
        let own = Tensor::zeros_like(&similarity)?.scatter_add(&columns, &there, 1)?;
        let ranks = Ranks {
            count: there.sum(1)?.maximum(1f64)?,
            positives: ((sum(&own)? - 0.5)? * &there)?,
            negatives: (sum(&negative)? * &there)?,
            there,
        };
        let values = value(&ranks)?;
        let gradients = values.sum_all()?.backward()?;
        let gradient = match gradients.get(&similarity) {
            Some(gradient) => gradient.detach(),
            None => similarity.zeros_like()?,
        };
        Ok((values.detach(), gradient))
    }
}

/// The same of one query: what it costs how its positives are ranked.
pub(super) struct OfQuery<F> {
    /// One over the temperature.
    pub(super) by: f32,
    /// Whether a query that is among the references is a positive of itself.
    pub(super) include_self: bool,
    /// Whether positives are ranked among themselves, and not only among negatives.
    pub(super) among_positives: bool,
    /// The value of a query; how many positives are before each, and how many negatives, become its slopes.
    pub(super) cost: F,
}

impl<F: Fn(&mut [f32], &mut [f32]) -> f32 + Send + Sync> RowFunctional for OfQuery<F> {
    fn row(&self, row: Row<'_>) -> [RowSum; 2] {
        let first = match row.own {
            Some(own) if self.include_self => own,
            _ => row.positives.start,
        };
        let (before, rest) = row.values.split_at_mut(row.negatives[0].end);
        let (own, after) = rest.split_at_mut(row.positives.end - row.negatives[0].end);
        let positives = &mut own[first - row.negatives[0].end..];
        if positives.is_empty() {
            before.fill(0.0);
            after.fill(0.0);
            return [RowSum::default(); 2];
        }
        let items = positives.to_vec();
        let (mut of_positives, mut of_negatives) = (vec![0.0; items.len()], vec![0.0; items.len()]);
        if self.among_positives {
            rows::ranks(&items, &items, self.by, &mut of_positives);
            of_positives.iter_mut().for_each(|rank| *rank -= 0.5); // A positive is half ahead of itself.
        }
        rows::ranks(&items, before, self.by, &mut of_negatives);
        rows::ranks(&items, after, self.by, &mut of_negatives);
        let value = (self.cost)(&mut of_positives, &mut of_negatives);
        positives.fill(0.0);
        if self.among_positives {
            let mut ahead = vec![0.0; items.len()];
            rows::rank_slopes(
                &items,
                &items,
                self.by,
                &of_positives,
                positives,
                &mut ahead,
            );
            rows::add_times(positives, 1.0, &ahead);
        }
        for negatives in [before, after] {
            let values = negatives.to_vec();
            negatives.fill(0.0);
            rows::rank_slopes(
                &items,
                &values,
                self.by,
                &of_negatives,
                positives,
                negatives,
            );
        }
        let sum = RowSum {
            value: f64::from(value),
            terms: 1,
            active: usize::from(value > 0.0),
        };
        [sum, RowSum::default()]
    }

    fn own(&self) -> bool {
        self.include_self
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};

    use super::*;

    /// A batch of more than one block has the values and gradients of each query alone.
    #[test]
    fn blocks_are_put_together() -> Result<()> {
        let n = 120; // 40 positives each.
        let numbers: Vec<f64> = (0..n * n)
            .map(|it| ((it * 7919 + it / n) % 1009) as f64 / 1009.0)
            .collect();
        let similarity = Var::from_tensor(&Tensor::from_vec(numbers, (n, n), &Device::Cpu)?)?;
        let mask = |kept: &dyn Fn(usize, usize) -> bool| {
            let entries = (0..n * n).map(|it| f64::from(u8::from(kept(it / n, it % n))));
            Tensor::from_vec(entries.collect(), (n, n), &Device::Cpu)
        };
        let positive = mask(&|row, column| row != column && row % 3 == column % 3)?;
        let negative = mask(&|row, column| row % 3 != column % 3)?;
        let ranking = Ranking {
            temperature: 0.1,
            include_self: false,
        };
        let run = |similarity: &Tensor, positive: &Tensor, negative: &Tensor| {
            let lists = Lists {
                similarity,
                positive,
                negative,
                own: &[],
                labels: &[],
            };
            ranking.values(&lists, |ranks| {
                ranks.mean(&(&ranks.negatives * &ranks.positives)?)
            })
        };
        let all = run(&similarity, &positive, &negative)?;
        let gradients = all.values.sum_all()?.backward()?;
        let gradient = gradients
            .get(&similarity)
            .expect("it depends on them")
            .to_vec2::<f64>()?;
        let values = all.values.to_dtype(DType::F64)?.to_vec1::<f64>()?;
        for row in [0, 59, 119] {
            let one = Var::from_tensor(&similarity.narrow(0, row, 1)?)?;
            let alone = run(
                &one,
                &positive.narrow(0, row, 1)?,
                &negative.narrow(0, row, 1)?,
            )?
            .values;
            assert!((alone.to_vec1::<f64>()?[0] - values[row]).abs() < 1e-9 * values[row]);
            let gradients = alone.backward()?;
            let alone = gradients
                .get(&one)
                .expect("it depends on them")
                .to_vec2::<f64>()?;
            let pairs = alone[0].iter().zip(&gradient[row]);
            assert!(
                pairs
                    .into_iter()
                    .all(|(one, other)| (one - other).abs() < 1e-9)
            );
        }
        Ok(())
    }
}
