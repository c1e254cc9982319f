//! Losses with class weights.

use std::num::{NonZeroU32, NonZeroUsize};

use candle_core::{Tensor, Var};
use nearfar_core::{Finite, NonNegative, Positive};
use nearfar_losses::{
    ArcFace, ClassificationLoss, Compat, CosFace, LSoftmax, Mining, NormalizedSoftmax, OverClasses,
    P2SGrad, ProxyAnchor, ProxyNCA, SoftTriple, SphereFace, SubCenterArcFace,
};

use super::{Member, Sides, Weights, added, chosen, fast, plainly};
use crate::golden::{Array, Given, Mapped, Outputs, Settings, Trouble};
use crate::mapper::metric::{Metric, rows_of_zeros};
use crate::mapper::regularizers::Regularizer;
use crate::mapper::{Pass, reducers};

/// The peer's names of those that are ours.
pub(super) const NAMES: [&str; 10] = [
    "ArcFaceLoss",
    "CosFaceLoss",
    "LargeMarginSoftmaxLoss",
    "NormalizedSoftmaxLoss",
    "P2SGradLoss",
    "ProxyAnchorLoss",
    "ProxyNCALoss",
    "SoftTripleLoss",
    "SphereFaceLoss",
    "SubCenterArcFaceLoss",
];

/// The loss that also says which rows look like mistakes.
pub(super) const OUTLIERS: &str = "SubCenterArcFaceLoss";

/// A loss with class weights, by its name and settings.
pub(super) fn run(
    name: &str,
    given: &Given<'_>,
    sides: &mut Sides,
    pass: Pass,
    outputs: &mut Outputs,
) -> Mapped<()> {
    let mut params = given.case.function.params();
    let steps = &mut params;
    let metric = |params: &mut Settings, default: Metric| -> Mapped<Metric> {
        Metric::of_object(params.object("distance")?, default)
    };
    match name {
        "ArcFaceLoss" => {
            let loss = ArcFace {
                margin: radians(steps)?,
                scale: positive(steps, "scale", 64.0)?,
            };
            finish(loss, params, given, sides, pass, outputs)
        }
        "CosFaceLoss" => {
            let loss = CosFace {
                margin: NonNegative::new(steps.number_or("margin", 0.35)?)?,
                scale: positive(steps, "scale", 64.0)?,
            };
            finish(loss, params, given, sides, pass, outputs)
        }
        "LargeMarginSoftmaxLoss" => {
            let loss = LSoftmax {
                margin: multiple(steps)?,
                scale: positive(steps, "scale", 1.0)?,
            };
            finish(loss, params, given, sides, pass, outputs)
        }
        "SphereFaceLoss" => {
            let loss = SphereFace {
                margin: multiple(steps)?,
                scale: positive(steps, "scale", 1.0)?,
            };
            finish(loss, params, given, sides, pass, outputs)
        }
        "NormalizedSoftmaxLoss" => {
            let temperature = steps.number_or("temperature", 0.05)?;
            // Of unit rows the squared distance is 2 − 2 cos: the same softmax at half the temperature.
            let (unit_rows, temperature) = match metric(steps, Metric::Cosine)? {
                it if it == Metric::LP_SQUARED => (true, temperature / 2.0),
                other => (other.normalizes(), temperature),
            };
            sides.normalized = unit_rows;
            let loss = NormalizedSoftmax {
                temperature: Positive::new(temperature)?,
                unit_rows,
            };
            finish(loss, params, given, sides, pass, outputs)
        }
        "P2SGradLoss" => {
            steps.count("descriptors_dim")?;
            finish(P2SGrad {}, params, given, sides, pass, outputs)
        }
        "ProxyAnchorLoss" => {
            let margin = steps.number_or("margin", 0.1)?;
            let alpha = positive(steps, "alpha", 32.0)?;
            let metric = metric(steps, Metric::Cosine)?;
            let margin = if metric.is_similarity() {
                margin
            } else {
                -margin
            };
            let loss = ProxyAnchor {
                margin: Finite::new(margin)?,
                alpha,
                compat: Some(Compat::Pml),
            };
            let built = start(loss, given, pass)?;
            let built = OverClasses {
                similarity: Some(metric.similarity()),
                ..built
            };
            evaluate(built, params, given, sides, pass, outputs)
        }
        "ProxyNCALoss" => {
            let scale = steps.number_or("softmax_scale", 1.0)?;
            // The scale is of squared distances of unit rows, 2 − 2 cos.
            let squared = Metric::LP_SQUARED;
            let scale = match metric(steps, squared)? {
                Metric::Cosine => scale / 2.0,
                other if other == squared => scale,
                other => return Err(Trouble::unmapped(format!("{other:?}"))),
            };
            let loss = ProxyNCA {
                scale: Positive::new(scale)?,
                exclude_target: false,
            };
            finish(loss, params, given, sides, pass, outputs)
        }
        "SoftTripleLoss" => {
            let loss = SoftTriple {
                centers: centers(steps, "centers_per_class", 10)?,
                scale: positive(steps, "la", 20.0)?,
                gamma: positive(steps, "gamma", 0.1)?,
                margin: NonNegative::new(steps.number_or("margin", 0.01)?)?,
                regularizer: NonNegative::literal(0.0), // It comes as a regularizer of weights.
            };
            finish(loss, params, given, sides, pass, outputs)
        }
        _ => {
            let loss = SubCenterArcFace {
                centers: centers(steps, "sub_centers", 3)?,
                margin: radians(steps)?,
                scale: positive(steps, "scale", 64.0)?,
            };
            finish(loss, params, given, sides, pass, outputs)
        }
    }
}

/// The peer's margin is in degrees.
fn radians(params: &mut Settings) -> Mapped<NonNegative> {
    let degrees = params.number_or("margin", 28.6)?;
    Ok(NonNegative::new(degrees.to_radians())?)
}

fn positive(params: &mut Settings, key: &str, default: f64) -> Mapped<Positive> {
    Ok(Positive::new(params.number_or(key, default)?)?)
}

fn multiple(params: &mut Settings) -> Mapped<NonZeroU32> {
    let margin = params.count("margin")?.unwrap_or(4);
    NonZeroU32::new(margin as u32).ok_or_else(|| Trouble::unmapped("a margin of 0"))
}

fn centers(params: &mut Settings, key: &str, default: usize) -> Mapped<NonZeroUsize> {
    let centers = params.count(key)?.unwrap_or(default);
    NonZeroUsize::new(centers).ok_or_else(|| Trouble::unmapped("no center"))
}

/// The role of the weights among the inputs, that of their gradient, and whether a class is a column.
fn role(given: &Given<'_>) -> (&'static str, &'static str, bool) {
    match () {
        () if given.find("proxies").is_some() => ("proxies", "grad_proxies", false),
        () if given.find("fc").is_some() => ("fc", "grad_fc", true),
        () if given.find("weight").is_some() => ("weight", "grad_weight", true),
        () => ("W", "grad_W", true),
    }
}

fn start<L: ClassificationLoss>(loss: L, given: &Given<'_>, pass: Pass) -> Mapped<OverClasses<L>> {
    let (role, _, in_columns) = role(given);
    let weights = given.tensor(role, pass.dtype())?;
    let mut weights = if in_columns {
        weights.t()?.contiguous()?
    } else {
        weights
    };
    if loss.keeps_centers_unit() {
        // As torch does it: divided by a little more than the length.
        let length = weights.sqr()?.sum_keepdim(1)?.sqrt()?;
        let factor = (1e-5 / (length + 1e-7)?)?;
        weights = (weights.broadcast_mul(&factor)? * 1e5)?;
    }
    Ok(OverClasses::new(
        "classes",
        loss,
        Var::from_tensor(&weights)?,
    ))
}

fn finish<L: ClassificationLoss + 'static>(
    loss: L,
    params: Settings,
    given: &Given<'_>,
    sides: &Sides,
    pass: Pass,
    outputs: &mut Outputs,
) -> Mapped<()> {
    evaluate(
        start(loss, given, pass)?,
        params,
        given,
        sides,
        pass,
        outputs,
    )
}

fn evaluate<L: ClassificationLoss + 'static>(
    loss: OverClasses<L>,
    mut params: Settings,
    given: &Given<'_>,
    sides: &Sides,
    pass: Pass,
    outputs: &mut Outputs,
) -> Mapped<()> {
    let (classes, width) = (
        params.count("num_classes")?,
        params.count("embedding_size")?,
    );
    if classes.is_some_and(|classes| classes != loss.classes())
        || width.is_some_and(|width| width != loss.centers.dims()[1])
    {
        return Err(Trouble::unmapped(
            "the weights are not of the size that the settings say",
        ));
    }
    let of_weights = Regularizer::of_object(params.object("weight_regularizer")?)?;
    let weight_factor = params.number_or("weight_reg_weight", 1.0)?;
    let of_rows = Regularizer::of_object(params.object("embedding_regularizer")?)?;
    let row_factor = params.number_or("embedding_reg_weight", 1.0)?;
    let reducer = reducers::of_object(params.object("reducer")?, loss.loss.reducer())?;
    params.finish()?;
    let loss = OverClasses {
        mining: chosen(given)?.map(Mining::by).unwrap_or_default(),
        reducer: reducer.clone(),
        ..loss
    };
    if given.wants("logits") {
        // The peer's are those of a row whose class is not known, so they have no margin.
        outputs.put_tensor("logits", &peers_logits(&loss, given, sides)?)?;
    }
    if given.wants("weight_after") {
        outputs.put_tensor("weight_after", &loss.centers.as_tensor().t()?)?;
    }
    let (_, gradient, in_columns) = role(given);
    let weights = Weights {
        centers: loss.centers.clone(),
        gradient,
        in_columns,
    };
    let comparison = sides.comparison();
    let member = Member {
        weight: 1.0,
        loss: Box::new(loss),
        reducer,
        embeddings: None,
        by_class: false,
    };
    let plain = plainly(std::slice::from_ref(&member), &comparison, outputs)?;
    let mut total = match pass {
        Pass::Plain => plain,
        Pass::Fast => fast(vec![member], &comparison)?,
    };
    for (regularizer, rows, factor) in [
        (of_weights, weights.centers.as_tensor(), weight_factor),
        (of_rows, sides.embeddings.as_tensor(), row_factor),
    ] {
        if let Some(regularizer) = regularizer {
            total = added(total, Some((regularizer.of_rows(rows)? * factor)?))?;
        }
    }
    sides.put(total.as_ref(), Some(&weights), outputs)
}

/// The peer's logits, which of some losses are not those of the softmax.
fn peers_logits<L: ClassificationLoss>(
    loss: &OverClasses<L>,
    given: &Given<'_>,
    sides: &Sides,
) -> Mapped<Tensor> {
    let ours = loss.logits(sides.embeddings.as_tensor())?;
    let mut params = given.case.function.params();
    let distance = params.object("distance")?;
    let squared = distance.is_some_and(|it| it.name == "LpDistance");
    Ok(match given.case.function.short() {
        // Similarities, before their scale.
        "SoftTripleLoss" => (ours / params.number_or("la", 20.0)?)?,
        // −(2 − 2 cos)/τ
        "NormalizedSoftmaxLoss" if squared => {
            (ours - 2.0 / params.number_or("temperature", 0.05)?)?
        }
        // A distance, where ours is the similarity −d.
        "ProxyAnchorLoss" if squared => ours.neg()?,
        "ProxyNCALoss" => {
            let scale = params.number_or("softmax_scale", 1.0)?;
            match given.case.function.params().object("distance")? {
                // Squared distances: 2 − 2 cos, and of a row of zeros, which has no direction, 1.
                None => {
                    let zeros = rows_of_zeros(&sides.embeddings)?;
                    let less: Vec<f64> = zeros.into_iter().map(f64::from).collect();
                    let less = Tensor::from_vec(less, (ours.dim(0)?, 1), ours.device())?;
                    (ours / -scale)?.broadcast_sub(&less.to_dtype(sides.embeddings.dtype())?)?
                }
                Some(_) => ((ours + scale)? / scale)?, // Cosines.
            }
        }
        _ => ours,
    })
}

/// Rows far from the dominant center of their class.
pub(super) fn outliers(given: &Given<'_>, pass: Pass) -> Mapped<Outputs> {
    let function = &given.case.function;
    let mut call = function.call();
    call.text("method")?;
    let degrees = call.settings("args")?.number_or("threshold", 75.0)?;
    call.finish()?;
    let mut params = function.params();
    let k = centers(&mut params, "sub_centers", 3)?.get();
    let rows = given.tensor("embeddings", pass.dtype())?;
    let labels = given.indices("labels")?;
    let weights = given.tensor("W", pass.dtype())?.t()?.contiguous()?;
    let found = nearfar_losses::outliers(&rows, &weights, k, &labels, degrees)?;
    let mut outputs = Outputs::default();
    let listed: Vec<i64> = found.rows.iter().map(|&row| row as i64).collect();
    outputs.put("outliers", Array::whole(&[listed.len()], listed));
    let dominant: Vec<u32> = found
        .dominant
        .iter()
        .map(|&(label, center)| label * k as u32 + center as u32)
        .collect();
    let index = Tensor::from_slice(&dominant, dominant.len(), rows.device())?;
    let dominant = weights.index_select(&index, 0)?.t()?;
    outputs.put_tensor("dominant_centers_of_present", &dominant)?;
    given.finish()?;
    Ok(outputs)
}
