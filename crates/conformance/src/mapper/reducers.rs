//! `pytorch_metric_learning.reducers`.

use candle_core::Var;
use nearfar_core::{Reducer, Terms, Then, Unit};

use super::{Claim, Mapper, Pass};
use crate::golden::{Array, Case, Function, Given, Mapped, Object, Outputs, Settings, Trouble};

const PREFIX: &str = "pytorch_metric_learning.reducers.";

const NAMES: [&str; 8] = [
    "MeanReducer",
    "SumReducer",
    "AvgNonZeroReducer",
    "ThresholdReducer",
    "ClassWeightedReducer",
    "DivisorReducer",
    "PerAnchorReducer",
    "MultipleReducers",
];

/// Terms to one number, with its gradient.
pub(super) struct Reducers;

impl Mapper for Reducers {
    fn claims(&self, case: &Case) -> Claim {
        let function = &case.function;
        Claim::by_name(function, PREFIX, &NAMES)
    }

    fn run(&self, given: &Given<'_>, pass: Pass) -> Mapped<Outputs> {
        let function = &given.case.function;
        let mut call = function.call();
        let mut outputs = Outputs::default();
        if function.short() == "MultipleReducers" {
            call.finish()?;
            several(given, function.params(), pass, &mut outputs)?;
        } else {
            let reducer = reducer(function.short(), function.params())?;
            let kind = call.text("reduction_type")?.unwrap_or_default();
            let divisor = call.number("divisor")?;
            call.finish()?;
            let unit = match kind.as_str() {
                "element" => Unit::Anchor,
                "pos_pair" | "neg_pair" | "triplet" => Unit::Tuple,
                "already_reduced" => Unit::Batch,
                other => return Err(Trouble::unmapped(format!("the terms `{other}`"))),
            };
            let part = Part::read(given, "", unit, divisor, pass)?;
            let value = part.reduced(&reducer, "grad_losses", &mut outputs)?;
            outputs.put("value", Array::scalar(value));
        }
        given.finish()?;
        Ok(outputs)
    }
}

/// A reducer for each part, and another for those that are not named.
fn several(
    given: &Given<'_>,
    mut params: Settings,
    pass: Pass,
    outputs: &mut Outputs,
) -> Mapped<()> {
    let named = params.value("reducers").unwrap_or_default();
    let default = of_object(params.object("default_reducer")?, Reducer::Mean {})?;
    params.finish()?;
    let mut total = 0.0;
    let parts = given.case.inputs.iter().filter_map(|name| {
        let role = name.rsplit('/').next()?;
        role.strip_prefix("losses_")
    });
    for name in parts {
        let reducer = match named.get(name) {
            None => default.clone(),
            Some(object) => {
                let object = serde_json::json!({ "it": object });
                let function = serde_json::json!({ "name": name, "params": object });
                let function: Function = serde_json::from_value(function)
                    .map_err(|error| Trouble::unmapped(error.to_string()))?;
                of_object(function.params().object("it")?, default.clone())?
            }
        };
        let indices = given.find(&format!("indices_{name}"));
        let unit = match indices.map(|it| it.shape.len()) {
            None => Unit::Anchor,
            Some(1) => Unit::Anchor,
            Some(_) => Unit::Tuple,
        };
        let part = Part::read(given, &format!("_{name}"), unit, None, pass)?;
        total += part.reduced(&reducer, &format!("grad_{name}"), outputs)?;
    }
    outputs.put("value", Array::scalar(total));
    Ok(())
}

/// Terms before reduction.
struct Part {
    losses: Var,
    terms: Terms,
}

impl Part {
    fn read(
        given: &Given<'_>,
        suffix: &str,
        unit: Unit,
        divisor: Option<f64>,
        pass: Pass,
    ) -> Mapped<Self> {
        let losses = Var::from_tensor(&given.tensor(&format!("losses{suffix}"), pass.dtype())?)?;
        let rows = given.input("embeddings")?.shape[0];
        let labels = given.indices("labels")?;
        let anchors = match (unit, given.find(&format!("indices{suffix}"))) {
            (Unit::Batch, _) => Vec::new(),
            // Without a list every row has its own term.
            (_, None) => (0..losses.elem_count() as u32).collect(),
            (_, Some(indices)) => {
                // The anchor is the first of a tuple.
                let width = indices.shape.get(1).copied().unwrap_or(1);
                let all = given.indices(&format!("indices{suffix}"))?;
                all.chunks(width).map(|tuple| tuple[0]).collect()
            }
        };
        let values = losses.as_tensor().flatten_all()?;
        let terms = Terms {
            name: "golden",
            unit,
            values: Some(values),
            anchors,
            labels,
            rows,
            divisor,
        };
        Ok(Self { losses, terms })
    }

    /// The value; the gradient is added to the outputs. Nothing to learn is 0, with a gradient of 0.
    fn reduced(&self, reducer: &Reducer, role: &str, outputs: &mut Outputs) -> Mapped<f64> {
        let losses = self.losses.as_tensor();
        let Some(value) = reducer.reduce(&self.terms)?.value else {
            outputs.put_tensor(role, &losses.zeros_like()?)?;
            return Ok(0.0);
        };
        let gradients = value.backward()?;
        match gradients.get(losses) {
            Some(gradient) => outputs.put_tensor(role, gradient)?,
            None => outputs.put_tensor(role, &losses.zeros_like()?)?,
        }
        Ok(Array::of(&value)?.to_real()[0])
    }
}

/// What a loss was given as its reducer.
pub(super) fn of_object(object: Option<Object>, default: Reducer) -> Mapped<Reducer> {
    match object {
        None => Ok(default),
        Some(Object { name, params }) => reducer(&name, params),
    }
}

/// A reducer by its name and settings.
fn reducer(name: &str, mut params: Settings) -> Mapped<Reducer> {
    let reducer = match name {
        "MeanReducer" => Reducer::Mean {},
        "SumReducer" => Reducer::Sum {},
        "AvgNonZeroReducer" => Reducer::AvgNonzero {},
        "DivisorReducer" => Reducer::Divisor {},
        "ThresholdReducer" => Reducer::Threshold {
            low: params.number("low")?,
            high: params.number("high")?,
        },
        "ClassWeightedReducer" => {
            let weights = params.numbers("weights")?;
            let weights = weights.ok_or_else(|| Trouble::unmapped("there are no weights"))?;
            Reducer::ClassWeighted { weights }
        }
        "PerAnchorReducer" => {
            let then = match of_object(params.object("reducer")?, Reducer::Mean {})? {
                Reducer::Mean {} => Then::Mean,
                Reducer::AvgNonzero {} => Then::AvgNonzero,
                other => return Err(Trouble::unmapped(format!("per anchor, then {other:?}"))),
            };
            Reducer::PerAnchor { then }
        }
        other => return Err(Trouble::unmapped(format!("the reducer {other}"))),
    };
    params.finish()?;
    Ok(reducer)
}
