//! Losses of losses, and of whole batches without classes.

use candle_core::{DType, Device, Tensor, Var};
use nearfar_core::{
    Comparison, Embeddings, Finite, Fraction, Loss, NonNegative, Positive, Reducer, Stateful,
};
use nearfar_losses::{
    CrossBatchMemory, Join, LossConfig, Manifold, Memory, Mining, SelfSupervised, SelfSupervision,
    VICReg,
};
use std::num::NonZeroUsize;

use super::{Member, added, gradient, is_kind, member, rng, tuples};
use crate::golden::{Array, Case, Given, Mapped, Object, Outputs, Settings, Trouble};
use crate::mapper::metric::rows_of_zeros;
use crate::mapper::{Claim, Pass, miners};

/// The peer's names of those that are ours.
pub(super) const NAMES: [&str; 4] = [
    "CrossBatchMemory",
    "ManifoldLoss",
    "SelfSupervisedLoss",
    "VICRegLoss",
];

/// Of a loss around a loss, whether the inner one is ours too.
pub(super) fn claims(case: &Case) -> Claim {
    let remembers = case.function.short() == "CrossBatchMemory";
    match case.function.params().object("loss") {
        Ok(Some(inner)) if remembers && inner.name == tuples::MARGIN => Claim::Ours,
        Ok(Some(inner)) if !is_kind(&inner.name) => Claim::NotWith(format!("with {}", inner.name)),
        _ => Claim::Ours,
    }
}

pub(super) fn run(name: &str, given: &Given<'_>, pass: Pass) -> Mapped<Outputs> {
    let params = given.case.function.params();
    given.case.function.call().finish()?;
    let outputs = match name {
        "CrossBatchMemory" => memory(given, params, pass),
        "ManifoldLoss" => manifold(given, params, pass),
        "SelfSupervisedLoss" => views(given, params, pass),
        _ => vicreg(given, params, pass),
    }?;
    given.finish()?;
    Ok(outputs)
}

/// The total in one of the two ways.
fn total(
    loss: &dyn Loss,
    reducer: &Reducer,
    comparison: &Comparison<'_>,
    pass: Pass,
) -> Mapped<Option<Tensor>> {
    if pass == Pass::Fast {
        return Ok(loss.evaluate(comparison, &mut rng())?.total()?);
    }
    let mut total = None;
    for terms in loss.terms(comparison, &mut rng())? {
        total = added(total, reducer.reduce(&terms)?.value)?;
    }
    Ok(total)
}

/// A total with the gradients of what it depends on.
fn put(
    total: Option<&Tensor>,
    loss: String,
    vars: &[(String, &Var)],
    outputs: &mut Outputs,
) -> Mapped<()> {
    let gradients = total.map(Tensor::backward).transpose()?;
    match total {
        Some(total) => outputs.put_tensor(loss, total)?,
        None => outputs.put(loss, Array::scalar(0.0)),
    }
    for (role, var) in vars {
        outputs.put_tensor(role.clone(), &gradient(&gradients, var)?)?;
    }
    Ok(())
}

fn inner(params: &mut Settings, mining: Option<Mining>, dtype: DType) -> Mapped<Member> {
    match params.object("loss")? {
        Some(Object { name, params }) if name == tuples::MARGIN => {
            tuples::margin_member(params, mining.unwrap_or_default(), dtype)
        }
        Some(Object { name, params }) => member(&name, params, mining),
        None => Err(Trouble::unmapped("a loss of no loss")),
    }
}

fn memory(given: &Given<'_>, mut params: Settings, pass: Pass) -> Mapped<Outputs> {
    let size = params.count("memory_size")?.unwrap_or(1024);
    let size = NonZeroUsize::new(size).ok_or_else(|| Trouble::unmapped("no memory"))?;
    let width = params.count("embedding_size")?;
    let mining = match params.object("miner")? {
        None => None,
        Some(Object { name, params }) => {
            let (miner, distance) = miners::miner(&name, params)?;
            Some(Mining {
                miner: Some(miner),
                distance: Some(distance),
            })
        }
    };
    // The peer removes the comparison of a row with its own slot from lists of pairs; NCA reads none, and counts it.
    let remembered = match params.object("loss")? {
        Some(inner) if inner.name == "NCALoss" => 1_000_000,
        _ => 0,
    };
    let mut params = given.case.function.params();
    for read in ["memory_size", "embedding_size", "miner"] {
        params.value(read);
    }
    let Member { loss, reducer, .. } = inner(&mut params, mining, pass.dtype())?;
    params.finish()?;
    let settings = Memory { size, warmup: 0 };
    let width = width.unwrap_or(0);
    let mut loss = CrossBatchMemory::new(loss, settings, width, pass.dtype(), &Device::Cpu)?;
    let mut outputs = Outputs::default();
    let mut next_id = 0u64;
    for step in 0.. {
        let role = format!("embeddings.{step}");
        if given.find(&role).is_none() {
            break;
        }
        let vectors = Var::from_tensor(&given.tensor(&role, pass.dtype())?)?;
        let labels = given.indices(&format!("labels.{step}"))?;
        let mask = format!("enqueue_mask.{step}");
        let mask = match given.find(&mask) {
            None => None,
            Some(_) => Some(given.indices(&mask)?),
        };
        let n = labels.len() as u32;
        let rows = |keep: &dyn Fn(u32) -> bool| -> Mapped<Embeddings> {
            let kept: Vec<u32> = (0..n).filter(|&row| keep(row)).collect();
            let index = Tensor::from_slice(&kept, kept.len(), &Device::Cpu)?;
            let ids = kept.iter().map(|&row| next_id + u64::from(row)).collect();
            let labels = kept.iter().map(|&row| labels[row as usize]).collect();
            let chosen = match kept.len() == n as usize {
                true => vectors.as_tensor().clone(),
                false => vectors.index_select(&index, 0)?,
            };
            Ok(Embeddings::new(chosen, labels, ids)?)
        };
        // Of a mask, the rows in it are remembered, and the others are compared.
        let (mut absorbed, anchors) = match &mask {
            None => (rows(&|_| true)?, rows(&|_| true)?),
            Some(mask) => (
                rows(&|row| mask[row as usize] == 1)?,
                rows(&|row| mask[row as usize] == 0)?,
            ),
        };
        absorbed.ids.iter_mut().for_each(|id| *id += remembered);
        loss.absorb(&Comparison::within(&absorbed))?;
        let total = total(&loss, &reducer, &Comparison::within(&anchors), pass)?;
        let vars = [(format!("grad_embeddings.{step}"), &vectors)];
        put(total.as_ref(), format!("loss.{step}"), &vars, &mut outputs)?;
        next_id += u64::from(n);
    }
    let state = loss.state();
    outputs.put_tensor("embedding_memory", &state["memory.rows"])?;
    let labels = state["memory.labels"].to_vec1::<i64>()?;
    outputs.put("label_memory", Array::whole(&[labels.len()], labels));
    let next = state["memory.counters"].to_vec1::<i64>()?[0];
    let shape = given.shape_of_output("queue_idx").unwrap_or(&[]);
    outputs.put("queue_idx", Array::whole(shape, vec![next]));
    Ok(outputs)
}

/// The two views with their variables.
fn two_views(given: &Given<'_>, pass: Pass) -> Mapped<([Var; 2], [Embeddings; 2])> {
    let first = Var::from_tensor(&given.tensor("embeddings", pass.dtype())?)?;
    let second = Var::from_tensor(&given.tensor("ref_emb", pass.dtype())?)?;
    let side = |var: &Var, start: u64| -> Mapped<Embeddings> {
        let ids = (start..start + var.dim(0)? as u64).collect();
        Ok(Embeddings::new(var.as_tensor().clone(), Vec::new(), ids)?)
    };
    let sides = [side(&first, 0)?, side(&second, 1_000_000)?];
    Ok(([first, second], sides))
}

fn put_views(loss: &dyn Loss, reducer: &Reducer, given: &Given<'_>, pass: Pass) -> Mapped<Outputs> {
    let ([first, second], sides) = two_views(given, pass)?;
    let comparison = Comparison::between(&sides[0], &sides[1]);
    let mut outputs = Outputs::default();
    for terms in loss.terms(&comparison, &mut rng())? {
        let role = match terms.name {
            "invariance" => "unreduced.invariance_loss",
            "variance_first" => "unreduced.variance_loss1",
            "variance_second" => "unreduced.variance_loss2",
            _ => continue,
        };
        if let Some(values) = &terms.values {
            outputs.put_tensor(role, values)?;
        }
    }
    let total = total(loss, reducer, &comparison, pass)?;
    let vars = [
        ("grad_embeddings".to_owned(), &first),
        ("grad_ref_emb".to_owned(), &second),
    ];
    put(total.as_ref(), "loss".into(), &vars, &mut outputs)?;
    Ok(outputs)
}

fn views(given: &Given<'_>, mut params: Settings, pass: Pass) -> Mapped<Outputs> {
    let symmetric = params.flag_or("symmetric", true)?;
    let Member { loss, reducer, .. } = inner(&mut params, None, pass.dtype())?;
    params.finish()?;
    let settings = SelfSupervision { symmetric };
    let loss = SelfSupervised { loss, settings };
    put_views(&loss, &reducer, given, pass)
}

fn vicreg(given: &Given<'_>, mut params: Settings, pass: Pass) -> Mapped<Outputs> {
    let settings = VICReg {
        invariance: NonNegative::new(params.number_or("invariance_lambda", 25.0)?)?,
        variance: NonNegative::new(params.number_or("variance_mu", 25.0)?)?,
        covariance: NonNegative::new(params.number_or("covariance_v", 1.0)?)?,
        eps: Positive::new(params.number_or("eps", 1e-4)?)?,
    };
    params.finish()?;
    let loss = LossConfig::VICReg(settings).build(Join::default())?;
    put_views(&*loss, &Reducer::Mean {}, given, pass)
}

fn manifold(given: &Given<'_>, mut params: Settings, pass: Pass) -> Mapped<Outputs> {
    let proxies = given.tensor("proxies", pass.dtype())?;
    let (k, width) = proxies.dims2()?;
    params.count("l")?;
    params.count("K")?;
    let settings = Manifold {
        proxies: NonZeroUsize::new(k).ok_or_else(|| Trouble::unmapped("no proxy"))?,
        alpha: Fraction::new(params.number_or("alpha", 0.8)?)?,
        margin: Finite::new(params.number_or("margin", 5e-4)?)?,
        context_weight: NonNegative::new(params.number_or("lambdaC", 1.0)?)?,
    };
    params.finish()?;
    // As many classes as proxies: the meta-classes are the classes.
    let loss = LossConfig::Manifold(settings).build(Join {
        classes: Some(k),
        width,
        dtype: pass.dtype(),
        ..Join::default()
    })?;
    let centers = loss.parameters().swap_remove(0).var;
    centers.set(&proxies)?;
    let vectors = Var::from_tensor(&given.tensor("embeddings", pass.dtype())?)?;
    let labels = given.indices("meta_classes")?;
    let rows = Embeddings::labeled(vectors.as_tensor().clone(), labels)?;
    let total = total(&*loss, &Reducer::Mean {}, &Comparison::within(&rows), pass)?;
    let mut outputs = Outputs::default();
    let vars = [
        ("grad_embeddings".to_owned(), &vectors),
        ("grad_proxies".to_owned(), &centers),
    ];
    put(total.as_ref(), "loss".into(), &vars, &mut outputs)?;
    outputs.zero_by_definition("grad_embeddings", rows_of_zeros(&vectors)?);
    Ok(outputs)
}
