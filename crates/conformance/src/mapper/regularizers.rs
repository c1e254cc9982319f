//! `pytorch_metric_learning.regularizers`.

use candle_core::{Tensor, Var};
use std::num::NonZeroUsize;

use nearfar_core::{Positive, Reducer};

use super::metric::rows_of_zeros;
use super::{Claim, Mapper, Pass, reducers};
use crate::golden::{Case, Given, Mapped, Object, Outputs, Settings, Trouble};

const PREFIX: &str = "pytorch_metric_learning.regularizers.";

const NAMES: [&str; 5] = [
    "CenterInvariantRegularizer",
    "LpRegularizer",
    "RegularFaceRegularizer",
    "SparseCentersRegularizer",
    "ZeroMeanRegularizer",
];

/// Costs of rows by themselves, with their gradients.
pub(super) struct Regularizers;

impl Mapper for Regularizers {
    fn claims(&self, case: &Case) -> Claim {
        Claim::by_name(&case.function, PREFIX, &NAMES)
    }

    fn run(&self, given: &Given<'_>, pass: Pass) -> Mapped<Outputs> {
        let function = &given.case.function;
        function.call().finish()?;
        let regularizer = Regularizer::of(function.short(), function.params())?;
        let rows = Var::from_tensor(&given.tensor("weights", pass.dtype())?)?;
        let value = regularizer.of_rows(rows.as_tensor())?;
        let mut outputs = Outputs::default();
        outputs.put_tensor("value", &value)?;
        let gradients = value.backward()?;
        let gradient = match gradients.get(&rows) {
            Some(gradient) => gradient.clone(),
            None => rows.zeros_like()?,
        };
        outputs.put_tensor("grad_weights", &gradient)?;
        if regularizer.is_of_directions() {
            outputs.zero_by_definition("grad_weights", rows_of_zeros(&rows)?);
        }
        given.finish()?;
        Ok(outputs)
    }
}

/// A regularizer of rows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Regularizer {
    ours: nearfar_losses::Regularizer,
    /// Whether its terms are added up in place of their mean.
    sums: bool,
}

impl Regularizer {
    pub(super) fn of_object(object: Option<Object>) -> Mapped<Option<Self>> {
        match object {
            None => Ok(None),
            Some(Object { name, params }) => Ok(Some(Self::of(&name, params)?)),
        }
    }

    fn of(name: &str, mut params: Settings) -> Mapped<Self> {
        use nearfar_losses::Regularizer as Ours;
        let ours = match name {
            "CenterInvariantRegularizer" => Ours::CenterInvariant {},
            "LpRegularizer" => Ours::Lp {
                p: Positive::new(params.number_or("p", 2.0)?)?,
                power: Positive::new(params.number_or("power", 1.0)?)?,
            },
            "RegularFaceRegularizer" => Ours::RegularFace {},
            "SparseCentersRegularizer" => {
                params.count("num_classes")?;
                let centers = params.count("centers_per_class")?;
                let centers = centers.and_then(NonZeroUsize::new);
                Ours::SparseCenters {
                    centers: centers.ok_or_else(|| Trouble::unmapped("how many centers?"))?,
                }
            }
            "ZeroMeanRegularizer" => Ours::ZeroMean {},
            other => return Err(Trouble::unmapped(format!("the regularizer {other}"))),
        };
        let sums = match reducers::of_object(params.object("reducer")?, Reducer::Mean {})? {
            Reducer::Mean {} => false,
            Reducer::Sum {} => true,
            other => return Err(Trouble::unmapped(format!("the reducer {other:?}"))),
        };
        params.finish()?;
        Ok(Self { ours, sums })
    }

    /// Whether it looks at directions; then a row of zeros has no gradient by our definition.
    fn is_of_directions(self) -> bool {
        use nearfar_losses::Regularizer as Ours;
        matches!(self.ours, Ours::RegularFace {} | Ours::SparseCenters { .. })
    }

    /// Rows `(n, d)` to a scalar; 0 where there is nothing that costs.
    pub(super) fn of_rows(self, rows: &Tensor) -> Mapped<Tensor> {
        let value = match self.sums {
            false => self.ours.value(rows)?,
            true => self.ours.terms(rows)?.map(|it| it.sum_all()).transpose()?,
        };
        match value {
            Some(value) => Ok(value),
            None => Ok((rows * rows.zeros_like()?)?.sum_all()?),
        }
    }
}
