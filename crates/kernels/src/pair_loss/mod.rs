//! Losses of pairs, triplets and lists without the list: one row of distances at a time.
//!
//! | tensors | version |
//! |---|---|
//! | `f32` on a CPU | `cpu.rs`: blocks of rows are made, turned into gradients in place and folded back; O(n d) memory |
//! | any other device or type | `reference.rs`: the whole matrix in candle operations, the rows on the host |

mod cpu;
mod reference;

use candle_core::{DType, Result, Tensor, bail};

pub use reference::reference;

use crate::differences::{self, Kind};

/// A loss as one anchor sees it.
///
/// It must be a function of its row: rows are visited in any order, and on several threads at once.
pub trait RowFunctional: Send + Sync {
    /// Replaces the row's values by the gradient of its terms' sum with respect to them, 0 where a term does not depend
    /// on one.
    fn row(&self, row: Row<'_>) -> RowSum;
}

/// What one anchor is compared with.
#[derive(Debug)]
pub struct Row<'a> {
    /// Its distance to every reference, or its inner product with every reference.
    pub values: &'a mut [f32],
    /// An opaque number for each reference. One of the anchor's own `group` is a positive.
    pub groups: &'a [u32],
    /// The anchor's group.
    pub group: u32,
    /// The column of the anchor itself, which is neither a positive nor a negative. Its gradient does not count.
    pub own: Option<usize>,
}

/// The terms of one row.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct RowSum {
    /// Their sum.
    pub value: f64,
    /// How many there are.
    pub terms: usize,
    /// How many of them are above zero.
    pub active: usize,
}

/// What a row is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowForm {
    /// Euclidean distances, with gradient 0 between rows that coincide.
    Euclidean,
    /// Squared Euclidean distances.
    Squared,
    /// Inner products; of rows of length one, the cosines.
    Dot,
}

/// Anchors and references, with what makes them belong together.
#[derive(Clone, Copy, Debug)]
pub struct Rows<'a> {
    /// `(n, d)`
    pub anchors: &'a Tensor,
    /// `(m, d)`; the very tensor of the anchors when a batch is compared with itself.
    pub references: &'a Tensor,
    /// Group of each anchor.
    pub anchor_groups: &'a [u32],
    /// Group of each reference.
    pub reference_groups: &'a [u32],
    /// The column of each anchor among the references, for those that are there; empty if none is.
    pub own: &'a [Option<usize>],
}

/// How rows become one number.
#[derive(Clone, Copy, Debug)]
pub struct Fold<'a> {
    /// What each anchor's terms are multiplied by.
    pub weights: Option<&'a [f32]>,
    /// What the sum is divided by.
    pub divide_by: Count,
}

/// What a sum is divided by.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Count {
    /// Nothing: the sum.
    One,
    /// The number of terms.
    Terms,
    /// The number of terms above zero.
    Active,
    /// A given number.
    Given(f64),
}

/// The value of a loss over all rows.
#[derive(Clone, Debug)]
pub struct PairLoss {
    /// A differentiable scalar; none where there is no term, or nothing to divide by.
    pub value: Option<Tensor>,
    /// How many terms there were, and how many were above zero.
    pub terms: usize,
    /// Terms above zero.
    pub active: usize,
}

/// The value and gradient of a loss that knows what to do with one row, in one pass over all rows.
///
/// Neither a list of pairs or triplets nor the matrix of distances is made: a block of rows is computed, turned into
/// gradients in place and folded back into the gradient of the embeddings. Time is O(n m d) and what `functional` takes;
/// memory O((n + m) d). The gradient is computed here and kept for the way back, if either tensor is part of a graph.
///
/// ```
/// # use candle_core::{DType, Device, Tensor};
/// use nearfar_kernels::{Count, Fold, Row, RowForm, RowFunctional, RowSum, Rows, pair_loss};
///
/// /// The distances to all positives.
/// struct Pull;
///
/// impl RowFunctional for Pull {
///     fn row(&self, row: Row<'_>) -> RowSum {
///         let mut sum = RowSum::default();
///         for (column, value) in row.values.iter_mut().enumerate() {
///             let positive = row.groups[column] == row.group && row.own != Some(column);
///             if positive {
///                 sum.value += f64::from(*value);
///                 sum.terms += 1;
///                 sum.active += usize::from(*value > 0.0);
///             }
///             *value = if positive { 1.0 } else { 0.0 };
///         }
///         sum
///     }
/// }
///
/// let x = Tensor::new(&[[0f32, 0.0], [3.0, 4.0], [9.0, 9.0]], &Device::Cpu)?;
/// let (groups, own) = ([7, 7, 8], [Some(0), Some(1), Some(2)]);
/// let rows = Rows { anchors: &x, references: &x, anchor_groups: &groups, reference_groups: &groups, own: &own };
/// let fold = Fold { weights: None, divide_by: Count::Terms };
/// let loss = pair_loss(RowForm::Euclidean, &rows, &Pull, &fold)?;
/// assert_eq!(loss.terms, 2); // (0, 1) and (1, 0)
/// assert_eq!(loss.value.expect("there are positives").to_scalar::<f32>()?, 5.0);
/// # Ok::<(), candle_core::Error>(())
/// ```
///
/// # Errors
///
/// If a shape or length does not fit the others.
pub fn pair_loss(
    form: RowForm,
    rows: &Rows<'_>,
    functional: &dyn RowFunctional,
    fold: &Fold<'_>,
) -> Result<PairLoss> {
    check(rows, fold)?;
    if rows.anchors.device().is_cpu() && rows.anchors.dtype() == DType::F32 {
        cpu::pair_loss(form, rows, functional, fold)
    } else {
        reference(form, rows, functional, fold)
    }
}

fn check(rows: &Rows<'_>, fold: &Fold<'_>) -> Result<()> {
    differences::check("pair_loss", rows.anchors, rows.references)?;
    let (n, m) = (rows.anchors.dim(0)?, rows.references.dim(0)?);
    if rows.anchor_groups.len() != n || rows.reference_groups.len() != m {
        bail!(
            "pair_loss: {n} anchors have {} groups and {m} references {}; they must agree",
            rows.anchor_groups.len(),
            rows.reference_groups.len()
        );
    }
    if !rows.own.is_empty() && rows.own.len() != n {
        bail!(
            "pair_loss: `own` has {} entries for {n} anchors; it must have none or one for each",
            rows.own.len()
        );
    }
    if let Some(own) = rows.own.iter().flatten().find(|own| **own >= m) {
        bail!("pair_loss: `own` names column {own} of {m}");
    }
    if let Some(weights) = fold.weights.filter(|weights| weights.len() != n) {
        bail!(
            "pair_loss: there are {} `weights` for {n} anchors; they must agree",
            weights.len()
        );
    }
    Ok(())
}

impl RowForm {
    fn kind(self) -> Kind {
        match self {
            Self::Euclidean => Kind::Euclidean,
            Self::Squared => Kind::Squared,
            Self::Dot => Kind::Dot,
        }
    }
}

impl Rows<'_> {
    /// Calls the functional for one anchor, with its weight, and makes its own column's gradient zero.
    fn visit(
        &self,
        functional: &dyn RowFunctional,
        fold: &Fold<'_>,
        anchor: usize,
        values: &mut [f32],
    ) -> RowSum {
        let own = self.own.get(anchor).copied().flatten();
        let row = Row {
            values,
            groups: self.reference_groups,
            group: self.anchor_groups[anchor],
            own,
        };
        let mut sum = functional.row(row);
        if let Some(weights) = fold.weights {
            let weight = weights[anchor];
            sum.value *= f64::from(weight);
            values.iter_mut().for_each(|gradient| *gradient *= weight);
        }
        if let Some(own) = own {
            values[own] = 0.0;
        }
        sum
    }
}

impl Fold<'_> {
    /// What the sum is divided by; none where there is nothing to learn.
    fn divisor(&self, total: RowSum) -> Option<f64> {
        let divisor = match self.divide_by {
            Count::One => 1.0,
            Count::Terms => total.terms as f64,
            Count::Active => total.active as f64,
            Count::Given(divisor) => divisor,
        };
        (total.terms > 0 && divisor != 0.0).then_some(divisor)
    }
}

impl std::ops::AddAssign for RowSum {
    fn add_assign(&mut self, other: Self) {
        self.value += other.value;
        self.terms += other.terms;
        self.active += other.active;
    }
}
