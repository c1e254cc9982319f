//! The families of losses.
//!
//! Five are pure formulas. A formula knows neither labels nor tuples nor devices: it maps distances, similarities or scores to
//! values. What joins it to the rest is in [`crate::over`]. The sixth, [`BatchLoss`], is for losses that fit none of these: it
//! gives an implementation of [`nearfar_core::Loss`] of its own.

use std::fmt::Debug;

use candle_core::{Result, Tensor};
use nearfar_core::{Comparison, Error, Loss, Pairs, Reducer, Terms};
use nearfar_kernels::RowFunctional;

use crate::over::centers::{CenterStart, ToCenters};
use crate::over::rows::{AllRows, Functional};
use crate::{Compares, Join, Reads};

/// A loss of pairs, as a function of their distance.
///
/// A similarity comes as the distance `−s`. Each side gets all of its pairs at once, so that it may compare them with their mean.
pub trait PairLoss: Debug + Send + Sync {
    /// Distances of pairs that belong together, to losses: `(t) → (t)`.
    ///
    /// # Errors
    /// Those of candle.
    fn positive(&self, distance: &Tensor) -> Result<Tensor>;
    /// Distances of pairs that do not, to losses: `(t) → (t)`.
    ///
    /// # Errors
    /// Those of candle.
    fn negative(&self, distance: &Tensor) -> Result<Tensor>;
    /// Both sides, for a loss that compares the pairs of one with those of the other, or has another form for similarities.
    ///
    /// # Errors
    /// Those of candle.
    fn sides(&self, sides: &Sides<'_>) -> Result<[Option<Tensor>; 2]> {
        Ok([
            sides.positive.map(|it| self.positive(it)).transpose()?,
            sides.negative.map(|it| self.negative(it)).transpose()?,
        ])
    }
    /// How the terms of each of the two parts become one number where nobody says otherwise. The divisor of both is the
    /// number of all pairs.
    fn reducer(&self) -> Reducer {
        Reducer::Mean {}
    }
    /// The name of the distance it takes where nobody names one.
    fn distance(&self) -> &'static str {
        "euclidean"
    }
    /// What it takes where nobody says otherwise: that distance, unless it was made for similarities.
    fn compares(&self) -> Compares {
        Compares::Distance(self.distance())
    }
    /// Whether its settings fit together.
    ///
    /// # Errors
    /// [`Error::Settings`] with those that do not.
    fn check(&self) -> std::result::Result<(), Error> {
        Ok(())
    }
    /// The same as one anchor sees it, in f32, positives and negatives [apart](RowFunctional::apart); values are distances. None
    /// where there is only the plain way.
    fn by_row(&self) -> Option<Box<dyn RowFunctional>> {
        None
    }
    /// [`by_row`](Self::by_row) of a loss that must know all rows before it sees one; `negated` as in [`Sides`].
    ///
    /// # Errors
    /// Those of candle.
    fn by_rows(&self, _rows: &AllRows<'_>, _negated: bool) -> Result<Functional> {
        Ok(self.by_row())
    }
}

/// The distances of all pairs of each side.
#[derive(Clone, Copy, Debug)]
pub struct Sides<'a> {
    /// Of pairs that belong together, `(t)`; none where there is no such pair.
    pub positive: Option<&'a Tensor>,
    /// Of pairs that do not.
    pub negative: Option<&'a Tensor>,
    /// Whether they are similarities, negated.
    pub negated: bool,
}

/// A loss of triplets, as a function of their two distances.
pub trait TripletLoss: Debug + Send + Sync {
    /// Distances to the positives and to the negatives, to losses: `(t), (t) → (t)`.
    ///
    /// # Errors
    /// When the two are not of one shape.
    fn triplets(&self, positive: &Tensor, negative: &Tensor) -> Result<Tensor>;
    /// Whether a negative counts as near as the nearer of anchor and positive sees it (Balntas et al. 2016).
    fn swaps(&self) -> bool {
        false
    }
    /// How its terms become one number where nobody says otherwise.
    fn reducer(&self) -> Reducer {
        Reducer::Mean {}
    }
    /// The name of the distance it takes where nobody names one.
    fn distance(&self) -> &'static str {
        "euclidean"
    }
    /// How many triplets of each anchor are drawn where no miner chooses; all where there is none.
    fn triplets_per_anchor(&self) -> Option<usize> {
        None
    }
    /// The same over all triplets as one anchor sees it, in f32; values are distances. None where there is only the plain way.
    fn by_row(&self) -> Option<Box<dyn RowFunctional>> {
        None
    }
}

/// A loss of an anchor and all it is compared with, as a function of their similarities.
pub trait ListLoss: Debug + Send + Sync {
    /// Similarities and two masks, `(n, m)` each, to values. A mask says how often a pair counts: 0 or 1, or more where a
    /// miner lists a pair several times.
    ///
    /// # Errors
    /// When the three are not of one shape.
    fn lists(&self, similarity: &Tensor, positive: &Tensor, negative: &Tensor) -> Result<Weighted>;
    /// The same where more is known of the rows, for the few losses that ask for it.
    ///
    /// # Errors
    /// As [`lists`](Self::lists).
    fn lists_of(&self, lists: &Lists<'_>) -> Result<Weighted> {
        self.lists(lists.similarity, lists.positive, lists.negative)
    }
    /// What the choice of a miner means to it.
    fn mined(&self) -> Mined {
        Mined::Pairs
    }
    /// How its terms become one number where nobody says otherwise.
    fn reducer(&self) -> Reducer {
        Reducer::Mean {}
    }
    /// The name of the similarity it takes where nobody names one.
    fn similarity(&self) -> &'static str {
        "cosine"
    }
    /// What it takes where nobody says otherwise: that similarity, unless it was made for distances, which come as `−d`.
    fn compares(&self) -> Compares {
        Compares::Similarity(self.similarity())
    }
    /// Whether its settings fit together.
    ///
    /// # Errors
    /// [`Error::Settings`] with those that do not.
    fn check(&self) -> std::result::Result<(), Error> {
        Ok(())
    }
    /// The same as one anchor sees it, in f32, its own list only; values are similarities. It is asked where the batch has
    /// positive and negative pairs. None where there is only the plain way.
    fn by_row(&self) -> Option<Box<dyn RowFunctional>> {
        None
    }
    /// [`by_row`](Self::by_row) of a loss that must know all rows before it sees one.
    ///
    /// # Errors
    /// Those of candle.
    fn by_rows(&self, _rows: &AllRows<'_>) -> Result<Functional> {
        Ok(self.by_row())
    }
    /// The pairs of anchors with one positive each that a whole batch by class is for it, where it looks at no other rows: then
    /// its lists are those of these anchors and these positives, in this order. None where it looks at all.
    fn pairs_of(&self, _comparison: &Comparison<'_>) -> Option<Pairs> {
        None
    }
}

/// What a loss of lists may know of the rows that it compares.
#[derive(Clone, Copy, Debug)]
pub struct Lists<'a> {
    /// `(n, m)`
    pub similarity: &'a Tensor,
    /// How often a pair counts as a positive, `(n, m)`.
    pub positive: &'a Tensor,
    /// How often a pair counts as a negative, `(n, m)`.
    pub negative: &'a Tensor,
    /// The column of each anchor's own row, where it is among the references: `n` entries.
    pub own: &'a [Option<u32>],
    /// The classes of the anchors, where rows are compared by class; else empty.
    pub labels: &'a [u32],
}

/// What the choice of a miner means to a loss of lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mined {
    /// Lists are made of the chosen pairs.
    Pairs,
    /// Lists are whole, because ranks are: each anchor's value is multiplied by how often it was chosen, over the largest
    /// such count.
    Weights,
}

/// Values and how often each counts, of one shape: `(n)`, or `(n, m)` for a loss that averages over positive pairs, or a single
/// number, `()`, for one that has averaged over the whole batch by its own definition.
///
/// Weights are whole numbers. A weight of 0 is an anchor or a pair that is not there, which is not the same as a value of 0.
#[derive(Clone, Debug)]
pub struct Weighted {
    /// `(n)`, `(n, m)` or `()`
    pub values: Tensor,
    /// Of the same shape; without a gradient.
    pub weights: Tensor,
}

/// A loss of a row and the centers of all classes.
///
/// Most are the cross-entropy of a softmax, and give its [`logits`](Self::logits); others give their own
/// [`values`](Self::values) or [`terms`](Self::terms).
pub trait ClassificationLoss: Debug + Send + Sync {
    /// What rows and centers are to one another, to the logits of a softmax over the classes: `(n, c)`.
    ///
    /// A row whose class is not known has no own class in the mask; its logits are those that a prediction takes.
    ///
    /// # Errors
    /// When what it is shown does not fit its settings.
    fn logits(&self, to: &ToCenters) -> Result<Tensor>;
    /// The loss of each row, `(n)`: by default the cross-entropy of the logits, with the labels smoothed as asked.
    ///
    /// # Errors
    /// As [`logits`](Self::logits).
    fn values(&self, to: &ToCenters) -> Result<Tensor> {
        to.cross_entropy(&self.logits(to)?)
    }
    /// Its terms; by default the values as the one part `class`, a term for each row, times the row's weight where a miner
    /// gives one, `(n)`.
    ///
    /// # Errors
    /// As [`logits`](Self::logits).
    fn terms(
        &self,
        to: &ToCenters,
        weights: Option<&Tensor>,
        comparison: &Comparison<'_>,
    ) -> Result<Vec<Terms>> {
        let mut values = self.values(to)?;
        if let Some(weights) = weights {
            values = (values * weights)?;
        }
        let anchors = (0..values.elem_count() as u32).collect();
        let mut terms = vec![Terms::of_anchors("class", values, anchors, comparison)?];
        terms.extend(self.beside(&to.centers, comparison)?);
        Ok(terms)
    }
    /// What it adds of the centers alone, as parts after the first.
    ///
    /// # Errors
    /// Those of candle.
    fn beside(&self, _centers: &Tensor, _comparison: &Comparison<'_>) -> Result<Vec<Terms>> {
        Ok(Vec::new())
    }
    /// The names of its parts, as [`terms`](Self::terms) gives them.
    fn parts(&self) -> &'static [&'static str] {
        &["class"]
    }
    /// The same as one row sees the centers of all classes, in f32; values are what rows and centers are compared by. None where
    /// there is only the plain way.
    fn by_row(&self, _head: &Head<'_>) -> Option<ByRow> {
        None
    }
    /// Whether it is a softmax over the classes, whose labels can be smoothed.
    fn is_softmax(&self) -> bool {
        true
    }
    /// How many centers a class has.
    fn centers_per_class(&self) -> usize {
        1
    }
    /// How the centers start where nobody says otherwise.
    fn centers(&self) -> CenterStart {
        CenterStart::Normal
    }
    /// Whether centers are kept at length 1, by division before each step; then the dot product with them is taken as it is.
    fn keeps_centers_unit(&self) -> bool {
        false
    }
    /// What rows and centers are compared by where nobody says otherwise. A loss of cosines lets nobody say otherwise.
    fn compares(&self) -> Compares {
        Compares::Centers
    }
    /// Whether only the anchors of a miner's tuples give rows a weight, not all of their rows.
    fn weighs_anchors(&self) -> bool {
        false
    }
    /// Whether it must be told how many training samples each class has.
    fn wants_class_sizes(&self) -> bool {
        false
    }
    /// Whether its settings fit together.
    ///
    /// # Errors
    /// [`Error::Settings`] with those that do not.
    fn check(&self) -> std::result::Result<(), Error> {
        Ok(())
    }
    /// How its terms become one number where nobody says otherwise.
    fn reducer(&self) -> Reducer {
        Reducer::Mean {}
    }
}

/// What a [`ByRow`] may know of the centers.
#[derive(Clone, Copy, Debug)]
pub struct Head<'a> {
    /// How much of each label is spread over all classes.
    pub label_smoothing: f32,
    /// How many training samples each class has; empty where nobody said.
    pub class_sizes: &'a [u64],
}

/// What a loss of centers does to one row.
pub struct ByRow {
    /// What it does.
    pub functional: Box<dyn RowFunctional>,
    /// Whether rows, and whether centers, are divided by their lengths first, where nothing else says what they are compared
    /// by.
    pub unit: [bool; 2],
    /// Whether it is asked of each center, with all rows of the batch, and not of each row with all centers.
    pub of_centers: bool,
}

impl Debug for ByRow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut shown = f.debug_struct("ByRow");
        shown.field("unit", &self.unit);
        shown.field("of_centers", &self.of_centers);
        shown.finish_non_exhaustive()
    }
}

impl ByRow {
    /// Of each row's cosines with all centers.
    pub fn cosines(functional: impl RowFunctional + 'static) -> Self {
        Self {
            functional: Box::new(functional),
            unit: [true; 2],
            of_centers: false,
        }
    }
}

/// A loss of the score that a pair has and the one that it should have.
pub trait ScoreLoss: Debug + Send + Sync {
    /// Scores, larger for closer, and targets, to losses: `(t), (t) → (t)`, or `(1)` where the whole batch is one term.
    ///
    /// # Errors
    /// When the two are not of one shape.
    fn scores(&self, score: &Tensor, target: &Tensor) -> Result<Tensor>;
    /// The target that a score stands for, in the unit of the targets: what is compared with them after training.
    ///
    /// # Errors
    /// Those of candle.
    fn estimate(&self, score: &Tensor) -> Result<Tensor> {
        Ok(score.clone())
    }
    /// Whether its settings fit together.
    ///
    /// # Errors
    /// [`Error::Settings`] with those that do not.
    fn check(&self) -> std::result::Result<(), Error> {
        Ok(())
    }
    /// How its terms become one number where nobody says otherwise.
    fn reducer(&self) -> Reducer {
        Reducer::Mean {}
    }
    /// What it takes its scores from where nobody says otherwise.
    fn compares(&self) -> Compares {
        Compares::Similarity("cosine")
    }
}

/// The settings of a loss that fits no other family, because it sees whole batches, remembers, or has parameters of its own
/// kind: it is built as it likes.
pub trait BatchLoss: Debug + Send + Sync {
    /// What a batch must say for it.
    fn reads(&self) -> Reads;
    /// What rows are compared by where nobody says otherwise.
    fn compares(&self) -> Compares;
    /// How its terms become one number where nobody says otherwise.
    fn reducer(&self) -> Reducer {
        Reducer::Mean {}
    }
    /// Whether its settings fit together.
    ///
    /// # Errors
    /// [`Error::Settings`] with those that do not.
    fn check(&self) -> std::result::Result<(), Error> {
        Ok(())
    }
    /// Whether a miner can choose for it.
    fn takes_miner(&self) -> bool {
        true
    }
    /// Whether a scorer of pairs can give it what it learns from.
    fn takes_scorer(&self) -> bool {
        false
    }
    /// The loss itself. Settings were checked.
    ///
    /// # Errors
    /// [`Error::Settings`] when what it needs is missing, too much, or does not fit; `name` is what messages call it.
    fn build(&self, name: &'static str, join: Join) -> Result<Box<dyn Loss>>;
}

/// The usual [`BatchLoss`] of a formula of the whole matrix of distances.
macro_rules! batch_loss {
    ($loss:ident, $reads:ident, $distance:literal) => {
        impl $crate::BatchLoss for $loss {
            fn reads(&self) -> $crate::Reads {
                $crate::Reads::$reads
            }

            fn compares(&self) -> $crate::Compares {
                $crate::Compares::Distance($distance)
            }

            fn build(
                &self,
                name: &'static str,
                join: $crate::Join,
            ) -> ::candle_core::Result<Box<dyn ::nearfar_core::Loss>> {
                $crate::over::matrix::join(name, self, join)
            }
        }
    };
}
pub(crate) use batch_loss;
