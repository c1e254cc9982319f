//! The way without lists: one row of values at a time, by [`nearfar_kernels::pair_loss`].
//!
//! It serves whole batches by class. What it does not serve — a miner's choice, listed pairs, other distances, reducers that
//! look at single terms — goes the plain way, which is also what it is tested against.

use std::collections::BTreeMap;

use candle_core::{DType, Result};
use nearfar_core::{Comparison, Evaluated, Form, Gram, Part, Reducer, Relation};
use nearfar_kernels::{
    Base, Count, Fold, PairPart, Row, RowForm, RowFunctional, Rows, pair_loss, row_survey,
};

/// What rows are compared by, as the engine computes it, and whether they are normalized first.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Way {
    pub(crate) form: RowForm,
    pub(crate) unit_rows: bool,
}

/// All rows of a batch, for a functional that must know them before it sees one.
#[derive(Debug)]
pub struct AllRows<'a> {
    form: RowForm,
    rows: Rows<'a>,
}

impl<'a> AllRows<'a> {
    /// What is seen of each row, in the order of the anchors, by one matrix product.
    ///
    /// # Errors
    /// Those of candle.
    pub fn look<T: Send>(&self, look: impl Fn(Row<'_>) -> T + Sync) -> Result<Vec<T>> {
        row_survey(self.form, &self.rows, &look)
    }

    /// The place of each anchor among the references, for those that are there.
    pub fn own(&self) -> &'a [Option<usize>] {
        self.rows.own
    }

    /// Whether anchors and references are the same rows in the same order.
    pub fn within(&self) -> bool {
        let own = self.rows.own;
        own.len() == self.rows.reference_groups.len()
            && own.iter().enumerate().all(|(row, own)| *own == Some(row))
    }

    /// The classes of the anchors.
    pub fn labels(&self) -> &'a [u32] {
        self.rows.anchor_groups
    }
}

/// What a loss may give for all rows: what it does to one.
pub(crate) type Functional = Option<Box<dyn RowFunctional>>;

impl Way {
    /// Of a distance; none if it is no function of inner products.
    pub(crate) fn of_distance(form: Form) -> Option<Self> {
        match form {
            Form::Gram { kind, unit_rows } => Some(Self::gram(kind, unit_rows, false)),
            Form::Negative { kind, unit_rows } => Some(Self::negative(kind, unit_rows, true)),
            Form::General => None,
        }
    }

    /// Of a similarity.
    pub(crate) fn of_similarity(form: Form) -> Option<Self> {
        match form {
            Form::Gram { kind, unit_rows } => Some(Self::gram(kind, unit_rows, true)),
            Form::Negative { kind, unit_rows } => Some(Self::negative(kind, unit_rows, false)),
            Form::General => None,
        }
    }

    /// A distance or a similarity of this kind.
    fn gram(kind: Gram, unit_rows: bool, similarity: bool) -> Self {
        let (base, scale, shift) = match kind {
            Gram::Euclidean => (Base::Euclidean, 1.0, 0.0),
            Gram::Squared => (Base::Squared, 1.0, 0.0),
            Gram::Cosine if !similarity => (Base::Dot, -1.0, 1.0),
            Gram::Cosine | Gram::Dot => (Base::Dot, 1.0, 0.0),
        };
        Self {
            form: RowForm { base, scale, shift },
            unit_rows: unit_rows || kind == Gram::Cosine,
        }
    }

    /// The negative of a distance or a similarity of this kind.
    fn negative(kind: Gram, unit_rows: bool, similarity: bool) -> Self {
        let mut way = Self::gram(kind, unit_rows, similarity);
        way.form.scale *= -1.0;
        way.form.shift *= -1.0;
        way
    }
}

/// On which tensors the way without lists is taken.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Where {
    /// f32 in the CPU's memory.
    Cpu,
    /// f32 anywhere: elsewhere by the matrix, with its rows on the host, for what would be a long list there.
    Anywhere,
}

/// The parts of a loss, or none where only the plain way serves. `both` wants a positive and a negative pair in the batch.
pub(crate) fn evaluate(
    names: &[&'static str],
    way: Option<Way>,
    functional: impl FnOnce(&AllRows<'_>) -> Result<Functional>,
    comparison: &Comparison<'_>,
    reducer: &Reducer,
    on: Where,
    both: bool,
) -> Result<Option<Evaluated>> {
    let (anchors, references) = (comparison.anchors, comparison.references);
    let Some(way) = way else { return Ok(None) };
    let serves = anchors.vectors.dtype() == DType::F32
        && references.vectors.dtype() == DType::F32
        && (on == Where::Anywhere || anchors.vectors.device().is_cpu())
        && matches!(comparison.relation, Relation::SameClass);
    if !serves || anchors.is_empty() || references.is_empty() {
        return Ok(None);
    }
    comparison.check()?;
    let Some(own) = own(comparison) else {
        return Ok(None);
    };
    let pairs = Pairs::of(comparison, &own);
    if both && (pairs.positive == 0 || pairs.negative == 0) {
        return Ok(None);
    }
    let divide_by = match reducer {
        Reducer::Mean {} => Count::Terms,
        Reducer::Sum {} => Count::One,
        Reducer::AvgNonzero {} => Count::Active,
        Reducer::Divisor {} => Count::Given((pairs.positive + pairs.negative) as f64),
        _ => return Ok(None),
    };
    let all = AllRows {
        form: way.form,
        rows: Rows {
            anchors: &anchors.vectors,
            references: &references.vectors,
            anchor_groups: &anchors.labels,
            reference_groups: &references.labels,
            own: &own,
            unit: [way.unit_rows; 2],
        },
    };
    let Some(functional) = functional(&all)? else {
        return Ok(None);
    };
    // Of a pair there are two parts, which have the number of all pairs as their divisor.
    if *reducer == (Reducer::Divisor {}) && !functional.apart() {
        return Ok(None);
    }
    let fold = Fold {
        weights: None,
        divide_by,
    };
    let loss = pair_loss(way.form, &all.rows, &*functional, &fold)?;
    Ok(Some(named(names, loss.parts)))
}

/// Parts with their names.
pub(crate) fn named(names: &[&'static str], parts: Vec<PairPart>) -> Evaluated {
    let parts = names.iter().zip(parts).map(|(&name, part)| Part {
        name,
        value: part.value,
        terms: part.terms,
        active: part.active,
    });
    Evaluated {
        parts: parts.collect(),
    }
}

/// The place of each anchor among the references; none where one is there twice, or in another class.
fn own(comparison: &Comparison<'_>) -> Option<Vec<Option<usize>>> {
    let (anchors, references) = (comparison.anchors, comparison.references);
    let mut places = BTreeMap::new();
    for (place, &id) in references.ids.iter().enumerate() {
        if places.insert(id, place).is_some() {
            return None;
        }
    }
    let own: Vec<Option<usize>> = anchors
        .ids
        .iter()
        .map(|id| places.get(id).copied())
        .collect();
    let fits = own
        .iter()
        .zip(&anchors.labels)
        .all(|(place, label)| place.is_none_or(|place| references.labels[place] == *label));
    fits.then_some(own)
}

/// How many pairs there are.
struct Pairs {
    positive: usize,
    negative: usize,
}

impl Pairs {
    fn of(comparison: &Comparison<'_>, own: &[Option<usize>]) -> Self {
        let mut sizes = BTreeMap::new();
        for label in &comparison.references.labels {
            *sizes.entry(label).or_insert(0usize) += 1;
        }
        let mut pairs = Self {
            positive: 0,
            negative: 0,
        };
        for (label, own) in comparison.anchors.labels.iter().zip(own) {
            let alike = sizes.get(label).copied().unwrap_or(0);
            pairs.positive += alike - usize::from(own.is_some());
            pairs.negative += comparison.references.len() - alike;
        }
        pairs
    }
}
