//! `pytorch_metric_learning.distances`.

use candle_core::{DType, Tensor, Var};

use super::metric::{Metric, rows_of_zeros};
use super::{Claim, Mapper, Pass};
use crate::golden::{Case, Given, Mapped, Outputs, Trouble};

const PREFIX: &str = "pytorch_metric_learning.distances.";

/// Matrices of distances with their gradients, and distances of paired rows.
pub(super) struct Distances;

impl Mapper for Distances {
    fn claims(&self, case: &Case) -> Claim {
        let function = &case.function;
        let names = [
            "LpDistance",
            "CosineSimilarity",
            "DotProductSimilarity",
            "SNRDistance",
        ];
        match Claim::by_name(function, PREFIX, &names) {
            Claim::Ours => match Metric::of(function.short(), function.params()) {
                Err(Trouble::Unmapped(what)) => Claim::NotWith(what),
                _ => Claim::Ours,
            },
            other => other,
        }
    }

    fn run(&self, given: &Given<'_>, pass: Pass) -> Mapped<Outputs> {
        let function = &given.case.function;
        let metric = Metric::of(function.short(), function.params())?;
        let mut call = function.call();
        let method = call.text("method")?;
        call.finish()?;
        let (query, reference) = (
            given.tensor("query", pass.dtype())?,
            given
                .find("ref")
                .map(|it| it.tensor(pass.dtype()))
                .transpose()?,
        );
        let mut outputs = Outputs::default();
        match method.as_deref() {
            None => matrix(metric, given, &query, reference.as_ref(), &mut outputs)?,
            Some("pairwise_distance") => {
                let reference = reference.ok_or_else(|| Trouble::unmapped("paired with what?"))?;
                let rows = query.dim(0)?.min(reference.dim(0)?);
                let (x, y) = (query.narrow(0, 0, rows)?, reference.narrow(0, 0, rows)?);
                // It never normalizes and ignores the power; that of torch adds 1e-6 to each difference.
                let plain = metric.plain();
                let paired = match plain {
                    Metric::Lp { .. } => plain.distance().paired(&(x + 1e-6)?, &y)?,
                    Metric::Snr { .. } => plain.distance().paired(&x, &y)?,
                    _ => plain.similarity().paired(&x, &y)?,
                };
                outputs.put_tensor("values", &paired)?;
            }
            Some(other) => return Err(Trouble::unmapped(format!("the method `{other}`"))),
        }
        given.finish()?;
        Ok(outputs)
    }
}

fn matrix(
    metric: Metric,
    given: &Given<'_>,
    query: &Tensor,
    reference: Option<&Tensor>,
    outputs: &mut Outputs,
) -> Mapped<()> {
    let query = Var::from_tensor(query)?;
    let reference = reference.map(Var::from_tensor).transpose()?;
    let (x, y) = (
        query.as_tensor(),
        reference.as_ref().unwrap_or(&query).as_tensor(),
    );
    let matrix = if metric.is_similarity() {
        metric.similarity().matrix(x, y)?
    } else {
        metric.distance().matrix(x, y)?
    };
    outputs.put_tensor("matrix", &matrix)?;
    let Some(cotangent) = given.find("cotangent") else {
        return Ok(());
    };
    let cotangent = cotangent.tensor(DType::F64)?.to_dtype(matrix.dtype())?;
    let gradients = (matrix * cotangent)?.sum_all()?.backward()?;
    let mut put = |role: &'static str, var: &Var| -> Mapped<()> {
        if metric.normalizes() {
            outputs.zero_by_definition(role, rows_of_zeros(var)?);
        }
        match gradients.get(var) {
            Some(gradient) => outputs.put_tensor(role, gradient),
            None => outputs.put_tensor(role, &var.zeros_like()?),
        }
    };
    put("grad_query", &query)?;
    if let Some(reference) = &reference {
        put("grad_ref", reference)?;
    }
    Ok(())
}
