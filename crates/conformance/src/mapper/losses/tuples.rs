//! Losses of tuples with parameters or state of their own.

use candle_core::{DType, Var};
use nearfar_core::{Comparison, Embeddings, Finite, Fraction, Loss, NonNegative, Reducer};
use nearfar_losses::{Compat, DynamicSoftMargin, GapNegatives, Join, LossConfig, Margin, Mining};

use super::{Member, Sides, added, chosen, gradient, rng};
use crate::golden::{Array, Given, Mapped, Outputs, Settings};
use crate::mapper::metric::Metric;
use crate::mapper::{Pass, reducers};

/// The peer's names of those that are ours.
pub(super) const NAMES: [&str; 2] = ["DynamicSoftMarginLoss", MARGIN];

pub(super) fn run(given: &Given<'_>, pass: Pass) -> Mapped<Outputs> {
    let params = given.case.function.params();
    match given.case.function.short() {
        MARGIN => margin(given, params, pass),
        _ => dynamic_soft_margin(given, params, pass),
    }
}

/// By distances and tuples as the case gives them.
fn joined(given: &Given<'_>, metric: Metric, pass: Pass) -> Mapped<Join> {
    let Mining { miner, distance } = chosen(given)?.map(Mining::by).unwrap_or_default();
    Ok(Join {
        distance: Some(metric.distance()),
        miner,
        miner_distance: distance,
        dtype: pass.dtype(),
        ..Join::default()
    })
}

/// The one of them that can be a member of another loss.
pub(super) const MARGIN: &str = "MarginLoss";

/// It, with a boundary that is not learned.
pub(super) fn margin_member(mut params: Settings, mining: Mining, dtype: DType) -> Mapped<Member> {
    let metric = Metric::of_object(params.object("distance")?, Metric::LP)?;
    let settings = margin_settings(&mut params, metric)?;
    let reducer = reducers::of_object(params.object("reducer")?, Reducer::Divisor {})?;
    params.finish()?;
    let loss = LossConfig::Margin(settings).build(Join {
        distance: Some(metric.distance()),
        miner: mining.miner,
        miner_distance: mining.distance,
        reducer: Some(reducer.clone()),
        dtype,
        ..Join::default()
    })?;
    Ok(Member {
        weight: 1.0,
        loss,
        reducer,
        embeddings: None,
        by_class: false,
    })
}

fn margin_settings(params: &mut Settings, metric: Metric) -> Mapped<Margin> {
    Ok(Margin {
        margin: NonNegative::new(params.number_or("margin", 0.2)?)?,
        beta: Finite::new(metric.on_distance_scale(params.number_or("beta", 1.2)?))?,
        learn_beta: params.flag_or("learn_beta", false)?,
        per_class: false,
        nu: NonNegative::new(params.number_or("nu", 0.0)?)?,
    })
}

fn margin(given: &Given<'_>, mut params: Settings, pass: Pass) -> Mapped<Outputs> {
    let mut sides = Sides::read(given, pass)?;
    let mut outputs = Outputs::default();
    let metric = Metric::of_object(params.object("distance")?, Metric::LP)?;
    sides.normalized = metric.normalizes();
    let classes = params.count("num_classes")?;
    let settings = Margin {
        per_class: classes.is_some(),
        ..margin_settings(&mut params, metric)?
    };
    let reducer = reducers::of_object(params.object("reducer")?, Reducer::Divisor {})?;
    params.finish()?;
    let loss = LossConfig::Margin(settings).build(Join {
        reducer: Some(reducer.clone()),
        classes,
        ..joined(given, metric, pass)?
    })?;
    let beta = loss.parameters().pop().map(|it| it.var);
    if let (Some(beta), true) = (&beta, given.find("beta").is_some()) {
        beta.set(&given.tensor("beta", pass.dtype())?.flatten_all()?)?;
    }
    let comparison = sides.comparison();
    let mut total = None;
    for terms in loss.terms(&comparison, &mut rng())? {
        if let (Some(values), "triplet") = (&terms.values, terms.name) {
            outputs.put_tensor("unreduced.margin_loss", values)?;
        }
        total = added(total, reducer.reduce(&terms)?.value)?;
    }
    if pass == Pass::Fast {
        total = loss.evaluate(&comparison, &mut rng())?.total()?;
    }
    sides.put(total.as_ref(), None, &mut outputs)?;
    if let Some(beta) = beta {
        let gradients = total.as_ref().map(|it| it.backward()).transpose()?;
        outputs.put_tensor("grad_beta", &gradient(&gradients, &beta)?)?;
    }
    Ok(outputs)
}

fn dynamic_soft_margin(given: &Given<'_>, mut params: Settings, pass: Pass) -> Mapped<Outputs> {
    let mut outputs = Outputs::default();
    let paired = given.find("ref_emb.0").is_some();
    let bins = params.count("num_bins")?.unwrap_or(10);
    let settings = DynamicSoftMargin {
        low: Finite::new(params.number_or("min_val", -2.0)?)?,
        bins,
        momentum: Fraction::new(params.number_or("momentum", 0.01)?)?,
        negatives: if paired {
            GapNegatives::Hardest
        } else {
            GapNegatives::All
        },
        compat: Some(Compat::Pml),
    };
    params.finish()?;
    let join = joined(given, Metric::LP, pass)?;
    let mut loss = LossConfig::DynamicSoftMargin(settings).build(join)?;
    if given.find("embeddings").is_some() {
        let sides = Sides::read(given, pass)?;
        let total = step(loss.as_mut(), &sides.comparison(), pass)?;
        sides.put(total.as_ref(), None, &mut outputs)?;
        put_histogram(loss.as_ref(), "hist_after", bins, &mut outputs)?;
        return Ok(outputs);
    }
    for number in 0.. {
        let role = |name: &str| format!("{name}.{number}");
        if given.find(&role("embeddings")).is_none() {
            break;
        }
        let vectors = Var::from_tensor(&given.tensor(&role("embeddings"), pass.dtype())?)?;
        let rows = vectors.dim(0)? as u32;
        let (labels, others) = if paired {
            // Rows of one number are a pair.
            let others = given.tensor(&role("ref_emb"), pass.dtype())?;
            let ids = (rows.into()..2 * u64::from(rows)).collect();
            let others = Embeddings::new(others, (0..rows).collect(), ids)?;
            ((0..rows).collect(), Some(others))
        } else {
            (given.indices("labels")?, None)
        };
        let anchors = Embeddings::labeled(vectors.as_tensor().clone(), labels)?;
        let comparison = match &others {
            None => Comparison::within(&anchors),
            Some(others) => Comparison::between(&anchors, others),
        };
        let total = step(loss.as_mut(), &comparison, pass)?;
        match &total {
            Some(total) => outputs.put_tensor(role("loss"), total)?,
            None => outputs.put(role("loss"), Array::scalar(0.0)),
        }
        let gradients = total.as_ref().map(|it| it.backward()).transpose()?;
        let name = role("grad_embeddings");
        outputs.put_tensor(&name, &gradient(&gradients, &vectors)?)?;
        put_histogram(loss.as_ref(), &role("hist_after"), bins, &mut outputs)?;
    }
    Ok(outputs)
}

fn step(
    loss: &mut dyn Loss,
    comparison: &Comparison<'_>,
    pass: Pass,
) -> Mapped<Option<candle_core::Tensor>> {
    loss.absorb(comparison)?;
    if pass == Pass::Fast {
        return Ok(loss.evaluate(comparison, &mut rng())?.total()?);
    }
    let mut total = None;
    for terms in loss.terms(comparison, &mut rng())? {
        total = added(total, Reducer::Mean {}.reduce(&terms)?.value)?;
    }
    Ok(total)
}

/// What is remembered; the peer's starts with zeros.
fn put_histogram(loss: &dyn Loss, role: &str, bins: usize, outputs: &mut Outputs) -> Mapped<()> {
    match loss.state().get("histogram") {
        Some(histogram) => outputs.put_tensor(role, histogram)?,
        None => outputs.put(role, Array::real(&[bins], vec![0.0; bins])),
    }
    Ok(())
}
