//! What losses of rows and their answers have in common.

use std::fmt::Debug;

use candle_core::{Result, Tensor};
use nearfar_core::{Comparison, Error, Loss, Reducer, Rng, Similarity, Stateful, Terms, shape};

use crate::over::batches::{Formula, Whole};
use crate::{Join, Reads};

/// A formula of rows that each look for their answer.
pub(super) trait Seeking: Debug + Send + Sync {
    /// The names of its parts.
    fn parts(&self) -> &'static [&'static str];
    /// The values of each part, one for each row, `(n)`; none where there is nothing to compare. There is a row.
    fn values(&self, seen: &Seen<'_>) -> Result<Vec<Option<Tensor>>>;
}

/// Rows with their answers.
pub(super) struct Seen<'a> {
    /// The loss, in messages.
    pub(super) name: &'static str,
    /// What they are compared by.
    pub(super) similarity: &'a dyn Similarity,
    /// `(n, d)`
    pub(super) rows: &'a Tensor,
    /// `(m, d)`, the answer of row `i` in row `i`; behind them those that are nobody's.
    pub(super) answers: &'a Tensor,
    /// All that is known of both.
    pub(super) comparison: &'a Comparison<'a>,
}

impl Seen<'_> {
    /// The column of each row's own answer, `(n, 1)`.
    pub(super) fn own(&self) -> Result<Tensor> {
        let n = self.rows.dim(0)?;
        Tensor::arange(0u32, n as u32, self.rows.device())?.reshape((n, 1))
    }
}

/// Joins a formula to a similarity, cosines by default.
pub(super) fn join(
    name: &'static str,
    formula: impl Seeking + 'static,
    mut join: Join,
) -> Result<Box<dyn Loss>> {
    join.refuse_scorer(name, "similarities of all rows of a batch")?;
    join.refuse_miner(name)?;
    let formula = Answers {
        name,
        formula,
        similarity: join.similarity(name, "cosine")?,
    };
    Ok(Whole::boxed(formula, join.reducer.take(), Reducer::Mean {}))
}

#[derive(Debug)]
struct Answers<F> {
    name: &'static str,
    formula: F,
    similarity: Box<dyn Similarity>,
}

impl<F: Seeking> Stateful for Answers<F> {}

impl<F: Seeking> Formula for Answers<F> {
    fn terms(&self, comparison: &Comparison<'_>, _: &mut Rng) -> Result<Vec<Terms>> {
        let (rows, answers) = sides(self.name, comparison)?;
        let n = rows.dim(0)?;
        let parts = self.formula.parts();
        if n == 0 {
            let none = parts.iter().map(|part| Terms::none(part, comparison));
            return Ok(none.collect());
        }
        let values = self.formula.values(&Seen {
            name: self.name,
            similarity: &*self.similarity,
            rows,
            answers,
            comparison,
        })?;
        let parts = parts.iter().zip(values);
        let terms = parts.map(|(part, values)| match values {
            None => Ok(Terms::none(part, comparison)),
            Some(values) => Terms::of_anchors(part, values, (0..n as u32).collect(), comparison),
        });
        terms.collect()
    }
}

/// Rows `(n, d)` and at least as many answers `(m, d)`: the two sides of the batch, whatever its relation says.
fn sides<'a>(name: &str, comparison: &Comparison<'a>) -> Result<(&'a Tensor, &'a Tensor)> {
    if std::ptr::eq(comparison.anchors, comparison.references) {
        Err(comparison.cannot_read(name, Reads::Views.name()))?;
    }
    let (x, y) = (&comparison.anchors.vectors, &comparison.references.vectors);
    let ((n, d), (m, width)) = (
        shape::matrix(name, ("rows", x))?,
        shape::matrix(name, ("answers", y))?,
    );
    if d != width || m < n {
        Err(Error::Shape(format!(
            "{name}: there are {n} rows of {d} dimensions and {m} answers of {width}; each row needs an answer as wide"
        )))?;
    }
    Ok((x, y))
}

/// The usual [`BatchLoss`](crate::BatchLoss) of such a formula.
macro_rules! seeking_loss {
    ($loss:ident) => {
        impl $crate::BatchLoss for $loss {
            fn reads(&self) -> $crate::Reads {
                $crate::Reads::Views
            }

            fn compares(&self) -> $crate::Compares {
                $crate::Compares::Similarity("cosine")
            }

            fn takes_miner(&self) -> bool {
                false
            }

            fn build(
                &self,
                name: &'static str,
                join: $crate::Join,
            ) -> ::candle_core::Result<Box<dyn ::nearfar_core::Loss>> {
                super::answers::join(name, self.clone(), join)
            }
        }
    };
}
pub(super) use seeking_loss;
