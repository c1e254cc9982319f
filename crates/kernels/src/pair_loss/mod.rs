//! Losses of pairs, triplets and lists without the list: one row of distances at a time.
//!
//! | tensors | version |
//! |---|---|
//! | `f32` on a CPU | `cpu.rs`: blocks of rows are made, turned into gradients in place and folded back; O(n d) memory |
//! | any other device or type | `reference.rs`: the whole matrix in candle operations, the rows on the host |

mod cpu;
pub mod ops;
mod reference;

use std::ops::Range;

use candle_core::{DType, Result, Tensor, bail};

pub use reference::reference;

use crate::differences;

/// A loss as one anchor sees it.
///
/// It must be a function of its row: rows are visited in any order, and on several threads at once.
pub trait RowFunctional: Send + Sync {
    /// Replaces the row's values by the gradient of its terms' sum with respect to them, 0 where a term does not depend
    /// on one. What is neither a positive nor a negative may be left as it is.
    ///
    /// Gives the terms; where positives and negatives are [apart](Self::apart), theirs each, and else all in the first.
    fn row(&self, row: Row<'_>) -> [RowSum; 2];

    /// Whether positives and negatives are two parts of the loss, each with its own terms, which depend on nothing of the
    /// other.
    fn apart(&self) -> bool {
        false
    }

    /// Whether an anchor is compared with itself too: the value [in its own column](Row::own) then has a gradient, which the
    /// functional gives.
    fn own(&self) -> bool {
        false
    }

    /// Whether it depends on [lengths](Row::lengths) beside the values. Then no anchor is among the references, and anchors are
    /// not seen [together](Self::together).
    fn lengths(&self) -> bool {
        false
    }

    /// Whether all anchors of a group are seen at once, by [`rows`](Self::rows).
    fn together(&self) -> bool {
        false
    }

    /// The rows of all anchors of one group, with the terms of each; by default one after the other.
    fn rows(&self, rows: Vec<Row<'_>>) -> Vec<[RowSum; 2]> {
        rows.into_iter().map(|row| self.row(row)).collect()
    }
}

/// What one anchor is compared with. References are sorted by their groups.
#[derive(Debug)]
pub struct Row<'a> {
    /// Its value with every reference: a distance or an inner product.
    pub values: &'a mut [f32],
    /// The references of the anchor's own group, but for the anchor itself.
    pub positives: Range<usize>,
    /// All references of other groups: those before and those after.
    pub negatives: [Range<usize>; 2],
    /// An opaque number for each reference.
    pub groups: &'a [u32],
    /// The anchor's.
    pub group: u32,
    /// Which of the anchors it is, as they were given.
    pub anchor: usize,
    /// The column of the anchor itself, if it is among the references.
    pub own: Option<usize>,
    /// The lengths of the anchor and of the first of its positives, as they are compared, for a functional that [depends on
    /// them](RowFunctional::lengths) and replaces them by its gradient. Else, and where there is no such row, 0.
    pub lengths: &'a mut [f32; 2],
    /// The reference of each column, but that the anchor's own and the first of its group have changed places.
    places: &'a [u32],
    /// Where the anchor's own column was.
    was: usize,
}

impl Row<'_> {
    /// Which of the references a column is, as they were given.
    pub fn place(&self, column: usize) -> usize {
        let there = match self.own {
            Some(own) if column == own => self.was,
            Some(own) if column == self.was => own,
            _ => column,
        };
        self.places[there] as usize
    }

    /// How many negatives there are.
    pub fn negatives_len(&self) -> usize {
        self.negatives[0].len() + self.negatives[1].len()
    }

    /// The values of positives, and of the negatives before and after them.
    pub fn split(&mut self) -> (&mut [f32], [&mut [f32]; 2]) {
        let (before, rest) = self.values.split_at_mut(self.negatives[0].end);
        let (own, after) = rest.split_at_mut(self.positives.end - self.negatives[0].end);
        let skipped = self.positives.start - self.negatives[0].end;
        (&mut own[skipped..], [before, after])
    }
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

/// What a row is made of: `scale · base + shift`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RowForm {
    /// Of what.
    pub base: Base,
    /// Times what.
    pub scale: f32,
    /// Plus what.
    pub shift: f32,
}

/// What is computed of two rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Base {
    /// Their Euclidean distance, with gradient 0 between rows that coincide.
    Euclidean,
    /// Their squared Euclidean distance.
    Squared,
    /// Their inner product; of rows of length one, the cosine.
    Dot,
}

impl From<Base> for RowForm {
    fn from(base: Base) -> Self {
        Self {
            base,
            scale: 1.0,
            shift: 0.0,
        }
    }
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
    /// The place of each anchor among the references, for those that are there, in its own group; empty if none is.
    pub own: &'a [Option<usize>],
    /// Whether anchors, and whether references, are divided by their lengths first, as by [`l2_normalize`](crate::l2_normalize).
    pub unit: [bool; 2],
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
    /// One part, or two where positives and negatives are apart.
    pub parts: Vec<PairPart>,
}

/// A part of a loss over all rows.
#[derive(Clone, Debug)]
pub struct PairPart {
    /// A differentiable scalar; none where there is no term, or nothing to divide by.
    pub value: Option<Tensor>,
    /// How many terms there were.
    pub terms: usize,
    /// How many of them were above zero.
    pub active: usize,
}

fn part(value: Option<Tensor>, sum: RowSum) -> PairPart {
    PairPart {
        value,
        terms: sum.terms,
        active: sum.active,
    }
}

/// The value and gradient of a loss that knows what to do with one row, in one pass over all rows.
///
/// Neither a list of pairs or triplets nor the matrix of distances is made: a block of rows is computed, turned into
/// gradients in place and folded back into the gradient of the embeddings. Time is O(n m d) and what `functional` takes;
/// memory O((n + m) d). The gradient is computed here and kept for the way back, if either tensor is part of a graph.
///
/// ```
/// # use candle_core::{DType, Device, Tensor};
/// use nearfar_kernels::{Base, Count, Fold, Row, RowFunctional, RowSum, Rows, pair_loss};
///
/// /// The distances to all positives.
/// struct Pull;
///
/// impl RowFunctional for Pull {
///     fn row(&self, row: Row<'_>) -> [RowSum; 2] {
///         let mut sum = RowSum::default();
///         for (column, value) in row.values.iter_mut().enumerate() {
///             let positive = row.positives.contains(&column);
///             if positive {
///                 sum.value += f64::from(*value);
///                 sum.terms += 1;
///                 sum.active += usize::from(*value > 0.0);
///             }
///             *value = if positive { 1.0 } else { 0.0 };
///         }
///         [sum, RowSum::default()]
///     }
/// }
///
/// let x = Tensor::new(&[[0f32, 0.0], [3.0, 4.0], [9.0, 9.0]], &Device::Cpu)?;
/// let (groups, own) = ([7, 7, 8], [Some(0), Some(1), Some(2)]);
/// let rows = Rows {
///     anchors: &x,
///     references: &x,
///     anchor_groups: &groups,
///     reference_groups: &groups,
///     own: &own,
///     unit: [false; 2],
/// };
/// let fold = Fold { weights: None, divide_by: Count::Terms };
/// let loss = pair_loss(Base::Euclidean.into(), &rows, &Pull, &fold)?.parts.remove(0);
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
    check(rows)?;
    check_weights(rows, fold)?;
    if functional.lengths() && (functional.together() || !rows.own.is_empty()) {
        bail!(
            "pair_loss: a loss of lengths is of anchors one by one, none of which is among the references"
        );
    }
    if serves(rows)
        && let Some(loss) = cpu::pair_loss(form, rows, functional, fold)?
    {
        return Ok(loss);
    }
    reference(form, rows, functional, fold)
}

/// What is seen of each row, in the order of the anchors, for a functional that must know all of them before it sees one.
///
/// As [`pair_loss`], in one matrix product and without a gradient.
///
/// # Errors
///
/// If a shape or length does not fit the others.
pub fn row_survey<T: Send>(
    form: RowForm,
    rows: &Rows<'_>,
    look: &(dyn Fn(Row<'_>) -> T + Sync),
) -> Result<Vec<T>> {
    check(rows)?;
    if serves(rows)
        && let Some(seen) = cpu::row_survey(form, rows, look)?
    {
        return Ok(seen);
    }
    reference::row_survey(form, rows, look)
}

fn serves(rows: &Rows<'_>) -> bool {
    rows.anchors.device().is_cpu() && rows.anchors.dtype() == DType::F32
}

fn check_weights(rows: &Rows<'_>, fold: &Fold<'_>) -> Result<()> {
    let n = rows.anchors.dim(0)?;
    if let Some(weights) = fold.weights.filter(|weights| weights.len() != n) {
        bail!(
            "pair_loss: there are {} `weights` for {n} anchors; they must agree",
            weights.len()
        );
    }
    Ok(())
}

fn check(rows: &Rows<'_>) -> Result<()> {
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
    for (anchor, own) in rows.own.iter().enumerate() {
        let Some(own) = *own else { continue };
        if own >= m {
            bail!("pair_loss: `own` names row {own} of {m} references");
        }
        if rows.reference_groups[own] != rows.anchor_groups[anchor] {
            bail!("pair_loss: anchor {anchor} and reference {own} are one row with two groups");
        }
    }
    Ok(())
}

/// Some anchor of a group: which it is, and its own column where it has one.
type Anchor = (usize, Option<usize>);

/// References in the order of their groups.
#[derive(Clone, Copy)]
struct Columns<'a> {
    groups: &'a [u32],
    places: &'a [u32],
}

impl<'a> Columns<'a> {
    /// Where those of a group are.
    fn run(&self, group: u32) -> Range<usize> {
        let begin = self.groups.partition_point(|&other| other < group);
        let end = self.groups.partition_point(|&other| other <= group);
        begin..end
    }

    /// What a functional sees of an anchor whose group has this run of columns.
    fn row<'r>(
        self,
        (anchor, own): Anchor,
        group: u32,
        run: &Range<usize>,
        (values, lengths): (&'r mut [f32], &'r mut [f32; 2]),
    ) -> Row<'r>
    where
        'a: 'r,
    {
        if let Some(own) = own {
            values.swap(run.start, own);
        }
        Row {
            positives: run.start + usize::from(own.is_some())..run.end,
            negatives: [0..run.start, run.end..values.len()],
            values,
            groups: self.groups,
            group,
            anchor,
            own: own.map(|_| run.start),
            lengths,
            places: self.places,
            was: own.unwrap_or(run.start),
        }
    }
}

impl Rows<'_> {
    /// The column of each anchor among references that were put in an order.
    fn own_in(&self, order: &[u32]) -> Vec<Option<usize>> {
        let mut columns = vec![0; order.len()];
        for (column, &row) in order.iter().enumerate() {
            columns[row as usize] = column;
        }
        let own = self.own.iter();
        own.map(|own| own.map(|own| columns[own])).collect()
    }

    /// Calls the functional for some anchors of one group with their values in the order of groups and their
    /// [lengths](Row::lengths), and gives their weights to what comes back.
    fn visit(
        functional: &dyn RowFunctional,
        fold: &Fold<'_>,
        (anchors, group): (&[Anchor], u32),
        columns: Columns<'_>,
        (values, lengths): (&mut [&mut [f32]], &mut [[f32; 2]]),
    ) -> [RowSum; 2] {
        let run = columns.run(group);
        let mut total = [RowSum::default(); 2];
        let mut found = Vec::new();
        if functional.together() {
            let numbers = values.iter_mut().zip(&mut *lengths);
            let rows = anchors
                .iter()
                .zip(numbers)
                .map(|(&anchor, (values, lengths))| {
                    columns.row(anchor, group, &run, (values, lengths))
                });
            found = functional.rows(rows.collect());
        }
        let numbers = values.iter_mut().zip(lengths);
        for (place, (&(anchor, own), (values, lengths))) in anchors.iter().zip(numbers).enumerate()
        {
            let mut sums = match found.get(place) {
                Some(sums) => *sums,
                None => functional.row(columns.row((anchor, own), group, &run, (values, lengths))),
            };
            if let Some(own) = own {
                if !functional.own() {
                    values[run.start] = 0.0;
                }
                values.swap(run.start, own);
            }
            if let Some(weights) = fold.weights {
                let weight = weights[anchor];
                sums.iter_mut()
                    .for_each(|sum| sum.value *= f64::from(weight));
                let gradients = values.iter_mut().chain(lengths);
                gradients.for_each(|gradient| *gradient *= weight);
            }
            for (total, sum) in total.iter_mut().zip(sums) {
                *total += sum;
            }
        }
        total
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
