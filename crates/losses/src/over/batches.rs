//! Losses that join themselves.

use std::fmt::Debug;

use candle_core::{Result, Tensor};
use nearfar_core::{
    Comparison, EmbeddingTable, Error, Evaluated, Loss, Parameter, Reducer, Relation, Rng, Span,
    Stateful, Terms, shape,
};

use crate::family::BatchLoss;
use crate::over::reduced;
use crate::{Defaults, Family, Join, Reads};

/// A formula of a whole batch, with whatever it owns.
pub(crate) trait Formula: Stateful + Debug + Send + Sync {
    /// As [`Loss::terms`].
    fn terms(&self, comparison: &Comparison<'_>, rng: &mut Rng) -> Result<Vec<Terms>>;
    /// As [`Loss::absorb`].
    fn absorb(&mut self, _comparison: &Comparison<'_>) -> Result<()> {
        Ok(())
    }
    /// As [`Loss::parameters`].
    fn parameters(&self) -> Vec<Parameter> {
        Vec::new()
    }
}

/// A formula of a whole batch as a loss: its terms, then the reducer.
#[derive(Debug)]
pub(crate) struct Whole<F> {
    pub(crate) formula: F,
    pub(crate) reducer: Reducer,
}

impl<F: Formula + 'static> Whole<F> {
    /// With the reducer that was asked for, or the usual one.
    pub(crate) fn boxed(formula: F, asked: Option<Reducer>, usual: Reducer) -> Box<dyn Loss> {
        Box::new(Self {
            formula,
            reducer: asked.unwrap_or(usual),
        })
    }
}

impl<F: Formula> Loss for Whole<F> {
    fn evaluate(&self, comparison: &Comparison<'_>, rng: &mut Rng) -> Result<Evaluated> {
        reduced(&self.terms(comparison, rng)?, &self.reducer)
    }

    fn terms(&self, comparison: &Comparison<'_>, rng: &mut Rng) -> Result<Vec<Terms>> {
        self.formula.terms(comparison, rng)
    }

    fn absorb(&mut self, comparison: &Comparison<'_>) -> Result<()> {
        self.formula.absorb(comparison)
    }

    fn parameters(&self) -> Vec<Parameter> {
        self.formula.parameters()
    }
}

impl<F: Formula> Stateful for Whole<F> {
    fn state(&self) -> std::collections::BTreeMap<String, Tensor> {
        self.formula.state()
    }

    fn restore(&mut self, state: &std::collections::BTreeMap<String, Tensor>) -> Result<()> {
        self.formula.restore(state)
    }

    fn interval(&self) -> Option<Span> {
        self.formula.interval()
    }

    fn refresh(&mut self, table: &EmbeddingTable, rng: &mut Rng) -> Result<()> {
        self.formula.refresh(table, rng)
    }
}

/// The classes of the anchors.
///
/// # Errors
/// When the batch has none.
pub(crate) fn classes<'a>(name: &str, comparison: &Comparison<'a>) -> Result<&'a [u32]> {
    let Relation::SameClass = comparison.relation else {
        return Err(comparison.cannot_read(name, Reads::Classes.name()))?;
    };
    comparison.check()?;
    Ok(&comparison.anchors.labels)
}

/// Squares of large numbers, which f32 may not hold: no larger than what can still be added up. There they have no gradient.
pub(crate) fn within_range(squares: &Tensor) -> Result<Tensor> {
    match squares.dtype() {
        candle_core::DType::F64 => Ok(squares.clone()),
        _ => squares.minimum(1e30f64),
    }
}

/// All views of each row, `(n, d)` each: the anchors, and of the references the first `n`, the next `n` and so on. Two or more.
///
/// # Errors
/// When there is one side only, or the references are no whole number of views as wide as the anchors.
pub(crate) fn all_views(name: &str, comparison: &Comparison<'_>) -> Result<Vec<Tensor>> {
    if std::ptr::eq(comparison.anchors, comparison.references) {
        Err(comparison.cannot_read(name, Reads::Views.name()))?;
    }
    let (x, y) = (&comparison.anchors.vectors, &comparison.references.vectors);
    let ((n, d), (m, width)) = (
        shape::matrix(name, ("first views", x))?,
        shape::matrix(name, ("other views", y))?,
    );
    let count = m.checked_div(n).unwrap_or(1);
    if d != width || m != count * n || count == 0 {
        Err(Error::Shape(format!(
            "{name}: the first views are {n} rows of {d} dimensions and the others {m} of {width}; the others must be as many, or several times as many"
        )))?;
    }
    let others = (0..count).map(|view| y.narrow(0, view * n, n));
    std::iter::once(Ok(x.clone())).chain(others).collect()
}

/// The terms of two views; of more than two views those of each two, divided by how many twos there are. Without a row there are
/// none of these parts.
///
/// # Errors
/// Those of [`all_views`], and of the formula.
pub(crate) fn each_two_views(
    name: &str,
    comparison: &Comparison<'_>,
    parts: &[&'static str],
    of_two: impl Fn(&Tensor, &Tensor) -> Result<Vec<Terms>>,
) -> Result<Vec<Terms>> {
    let views = all_views(name, comparison)?;
    if views[0].dim(0)? == 0 {
        let none = parts.iter().map(|part| Terms::none(part, comparison));
        return Ok(none.collect());
    }
    let twos = views.len() * (views.len() - 1) / 2;
    let mut all = Vec::new();
    for (place, first) in views.iter().enumerate() {
        for second in &views[place + 1..] {
            all.extend(of_two(first, second)?);
        }
    }
    if twos == 1 {
        return Ok(all);
    }
    let share = |terms: Terms| -> Result<Terms> {
        let values = terms.values.map(|it| it / twos as f64).transpose()?;
        Ok(Terms { values, ..terms })
    };
    all.into_iter().map(share).collect()
}

pub(crate) const FAMILY: Family = Family::Batches;

pub(crate) fn reads(loss: &impl BatchLoss) -> Reads {
    loss.reads()
}

pub(crate) fn defaults(loss: &impl BatchLoss) -> Defaults {
    Defaults {
        compares: loss.compares(),
        reducer: loss.reducer(),
    }
}

pub(crate) fn join(name: &'static str, loss: impl BatchLoss, join: Join) -> Result<Box<dyn Loss>> {
    loss.check()?;
    loss.build(name, join)
}

/// A score of a pair is no target.
pub(crate) fn estimate(_: &impl BatchLoss, _: &Tensor) -> Result<Option<Tensor>> {
    Ok(None)
}

pub(crate) fn check(loss: &impl BatchLoss) -> std::result::Result<(), Error> {
    loss.check()
}

/// Whether a miner can choose for it.
pub(crate) fn takes_miner(loss: &impl BatchLoss) -> bool {
    loss.takes_miner()
}

/// Whether a scorer of pairs can give it what it learns from.
pub(crate) fn takes_scorer(loss: &impl BatchLoss) -> bool {
    loss.takes_scorer()
}
