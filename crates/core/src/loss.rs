//! What is minimized.

use std::fmt::Debug;

use candle_core::{Result, Tensor};

use crate::{Comparison, Error, Parameter, Rng, Stateful};

/// What is minimized.
pub trait Loss: Stateful + Debug + Send + Sync {
    /// One batch to its value, part by part. A function: the same arguments and state give the same value.
    ///
    /// # Errors
    /// When it cannot read the comparison's relation, or the rows do not fit it.
    fn evaluate(&self, comparison: &Comparison<'_>, rng: &mut Rng) -> Result<Evaluated>;
    /// The same before reduction: the readable way, and the oracle of the fast one.
    ///
    /// # Errors
    /// As [`evaluate`](Self::evaluate).
    fn terms(&self, comparison: &Comparison<'_>, rng: &mut Rng) -> Result<Vec<Terms>>;
    /// Takes a batch into the loss's own state, before it is evaluated: memories, running histograms. By default nothing.
    ///
    /// # Errors
    /// When the rows do not fit what is remembered.
    fn absorb(&mut self, _comparison: &Comparison<'_>) -> Result<()> {
        Ok(())
    }
    /// Tensors of the loss itself, such as class centers. By default none.
    fn parameters(&self) -> Vec<Parameter> {
        Vec::new()
    }
}

/// A loss of one batch.
#[derive(Clone, Debug)]
pub struct Evaluated {
    /// Averaged and logged on their own; always listed, present or not.
    pub parts: Vec<Part>,
}

/// One part of a loss, reduced to a number.
#[derive(Clone, Debug)]
pub struct Part {
    /// `positive`, `triplet`, …
    pub name: &'static str,
    /// A differentiable scalar; none when there was nothing to average.
    pub value: Option<Tensor>,
    /// How many terms there were.
    pub terms: usize,
    /// How many of them were above zero.
    pub active: usize,
}

impl Evaluated {
    /// The sum of the parts that are there; none when there is nothing to learn.
    ///
    /// # Errors
    /// Those of candle.
    pub fn total(&self) -> Result<Option<Tensor>> {
        let mut total: Option<Tensor> = None;
        for value in self.parts.iter().filter_map(|part| part.value.as_ref()) {
            total = Some(match total {
                None => value.clone(),
                Some(sum) => (sum + value)?,
            });
        }
        Ok(total)
    }
}

/// What one term stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// A pair, a triplet or another tuple; several may share an anchor.
    Tuple,
    /// One anchor.
    Anchor,
    /// The whole batch: the loss has averaged by its own definition, and reducers leave it as it is.
    Batch,
}

/// One part of a loss before reduction.
#[derive(Clone, Debug)]
pub struct Terms {
    /// `positive`, `triplet`, …
    pub name: &'static str,
    /// What one term stands for.
    pub unit: Unit,
    /// One for each term, `(t)`; none where there is no term.
    pub values: Option<Tensor>,
    /// The anchor's row of each term; empty for [`Unit::Batch`].
    pub anchors: Vec<u32>,
    /// Class of each of the batch's anchors, for reducers that weigh classes; empty where there are none.
    pub labels: Vec<u32>,
    /// Number of anchors in the batch.
    pub rows: usize,
    /// What the loss itself divides its sum by, if it says.
    pub divisor: Option<f64>,
}

impl Terms {
    /// Terms of tuples: values `(t)` with the anchor's row of each.
    ///
    /// # Errors
    /// When there is not one anchor for each value.
    pub fn tuples(
        name: &'static str,
        values: Tensor,
        anchors: Vec<u32>,
        comparison: &Comparison<'_>,
    ) -> Result<Self> {
        Self::new(name, Unit::Tuple, values, anchors, comparison)
    }

    /// Terms of anchors: values `(t)` with the row of each.
    ///
    /// # Errors
    /// When there is not one anchor for each value.
    pub fn of_anchors(
        name: &'static str,
        values: Tensor,
        anchors: Vec<u32>,
        comparison: &Comparison<'_>,
    ) -> Result<Self> {
        Self::new(name, Unit::Anchor, values, anchors, comparison)
    }

    /// A term for the whole batch: a scalar, or `(1)`.
    ///
    /// # Errors
    /// When it is more than one number.
    pub fn of_batch(
        name: &'static str,
        value: &Tensor,
        comparison: &Comparison<'_>,
    ) -> Result<Self> {
        let values = value.reshape(1)?;
        Ok(Self {
            unit: Unit::Batch,
            values: Some(values),
            ..Self::none(name, comparison)
        })
    }

    /// No term.
    pub fn none(name: &'static str, comparison: &Comparison<'_>) -> Self {
        Self {
            name,
            unit: Unit::Tuple,
            values: None,
            anchors: Vec::new(),
            labels: comparison.anchors.labels.clone(),
            rows: comparison.anchors.len(),
            divisor: None,
        }
    }

    fn new(
        name: &'static str,
        unit: Unit,
        values: Tensor,
        anchors: Vec<u32>,
        comparison: &Comparison<'_>,
    ) -> Result<Self> {
        if values.dims() != [anchors.len()] {
            Err(Error::Shape(format!(
                "{name}: values have shape {:?}, but there are {} anchors",
                values.dims(),
                anchors.len()
            )))?;
        }
        let values = if anchors.is_empty() {
            None
        } else {
            Some(values)
        };
        Ok(Self {
            unit,
            values,
            anchors,
            ..Self::none(name, comparison)
        })
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.values.as_ref().map_or(0, Tensor::elem_count)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
