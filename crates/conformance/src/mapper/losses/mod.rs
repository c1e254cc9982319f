//! `pytorch_metric_learning.losses`.

use candle_core::backprop::GradStore;
use candle_core::{Tensor, Var};
use nearfar_core::{
    Candidates, Comparison, Embeddings, Loss, Miner, NonNegative, Pairs, Purpose, Reducer, Rng,
    Seed, SignedPairs, Stateful, Triplets, Tuples,
};
use nearfar_losses::{Mining, Sum};

use crate::golden::{Array, Case, Given, Mapped, Object, Outputs, Settings, Tolerance, Trouble};
use crate::mapper::metric::{Metric, rows_of_zeros};
use crate::mapper::regularizers::Regularizer;
use crate::mapper::{Claim, Mapper, Pass, miners, reducers};

mod classes;
mod lists;
mod pairs;
mod triplets;
mod tuples;
mod wrappers;

const PREFIX: &str = "pytorch_metric_learning.losses.";

/// Those without parameters of their own, which can be members of a `MultipleLosses`: a module for each family.
const KINDS: [&dyn Kind; 3] = [&pairs::Pairs, &triplets::Triplets, &lists::Lists];
const MULTIPLE: &str = "MultipleLosses";
const SMOOTH_AP: &str = "smooth_ap";

/// Values of losses, their gradients, and their terms before reduction.
///
/// A generic pair loss of the peer returns 0 when every index list has at most one entry. That is a quirk of its code and not
/// its definition; the cases that show it are marked as informative, and ours gives the value.
pub(super) struct Losses;

impl Mapper for Losses {
    fn claims(&self, case: &Case) -> Claim {
        let function = &case.function;
        match function.path().strip_prefix(PREFIX) {
            // Of the authors, by the definition.
            None if function.path() == SMOOTH_AP => Claim::Ours,
            Some(name)
                if is_kind(name)
                    || classes::NAMES.contains(&name)
                    || tuples::NAMES.contains(&name) =>
            {
                Claim::Ours
            }
            Some(name) if wrappers::NAMES.contains(&name) => wrappers::claims(case),
            Some(MULTIPLE) => match function.params().objects("losses") {
                Ok(Some(members)) => {
                    let other = members.iter().find(|it| !is_kind(&it.name));
                    match other {
                        None => Claim::Ours,
                        Some(other) => Claim::NotWith(format!("with {}", other.name)),
                    }
                }
                _ => Claim::Ours, // And it fails, because it cannot be read.
            },
            _ => Claim::No,
        }
    }

    fn passes(&self) -> &'static [Pass] {
        &[Pass::Plain, Pass::Fast]
    }

    /// In f32 a rounded cosine or distance is off by some 1e-7, a sum of them by several of these, and a temperature or scale
    /// multiplies that: 1e-5 leaves room for a hundred roundings, and a scale of 64 takes ten times as much. Gradients of
    /// Euclidean distances divide by the distance, so they lose a digit where rows are near.
    fn tolerance(&self, case: &Case, pass: Pass) -> Tolerance {
        let name = case.function.short();
        match pass {
            // The peer computes the places of its nodes in f32, up to 2 in units of a bin of 0.02: to 6 · 10⁻⁶ of a bin.
            Pass::Plain if name == "HistogramLoss" => Tolerance {
                relative: 1e-5,
                absolute: 1e-8,
                rounded: false,
            },
            Pass::Plain => Tolerance {
                relative: case.rtol,
                absolute: case.atol,
                rounded: false,
            },
            // Between opposite rows the gradient is 0, as a difference of numbers of the size of scale and weight: 80 · 2.4 for
            // one, 64 for the other.
            Pass::Fast if ["CircleLoss", "InstanceLoss"].contains(&name) => Tolerance {
                relative: 1e-5,
                absolute: 2e-5,
                rounded: true,
            },
            Pass::Fast => {
                let mut params = case.function.params();
                let scale = params.number("scale").ok().flatten().unwrap_or(64.0);
                let steep = classes::NAMES.contains(&case.function.short()) && scale >= 64.0;
                let relative: f64 = if steep { 1e-4 } else { 1e-5 };
                // Where the peer itself computes in f32, its own tolerance is wider.
                Tolerance {
                    relative: relative.max(case.rtol),
                    absolute: f64::max(case.atol, 1e-6),
                    rounded: true,
                }
            }
        }
    }

    fn run(&self, given: &Given<'_>, pass: Pass) -> Mapped<Outputs> {
        let function = &given.case.function;
        if function.short() == classes::OUTLIERS && given.wants("outliers") {
            return classes::outliers(given, pass);
        }
        if wrappers::NAMES.contains(&function.short()) {
            return wrappers::run(function.short(), given, pass);
        }
        function.call().finish()?;
        if tuples::NAMES.contains(&function.short()) {
            let outputs = tuples::run(given, pass)?;
            given.finish()?;
            return Ok(outputs);
        }
        let mut sides = Sides::read(given, pass)?;
        let mut outputs = Outputs::default();
        match function.short() {
            MULTIPLE => {
                of_tuples(members(function.params())?, &sides, pass, &mut outputs)?;
            }
            name if classes::NAMES.contains(&name) => {
                classes::run(name, given, &mut sides, pass, &mut outputs)?;
            }
            name => {
                let name = if name == SMOOTH_AP {
                    "SmoothAPLoss"
                } else {
                    name
                };
                let mut chosen = chosen(given)?;
                if name == "HistogramLoss" {
                    // The peer turns pairs into triplets first, and so drops those of anchors that lack a side.
                    chosen = chosen.map(|it| Chosen(Tuples::Triplets(it.0.into_triplets())));
                }
                let default = default_metric(name);
                let metric = Metric::of_object(function.params().object("distance")?, default)?;
                sides.normalized = metric.normalizes();
                let member = member(name, function.params(), chosen.map(Mining::by))?;
                of_tuples(vec![member], &sides, pass, &mut outputs)?;
                if name == "SmoothAPLoss" {
                    of_one_class(&sides, &mut outputs)?;
                }
            }
        }
        given.finish()?;
        Ok(outputs)
    }
}

/// The peer's grouping error again, without a mark: of a batch of one class each row is a group of its own, and its loss is not 0. By
/// the definition no order of the rows is better than another.
fn of_one_class(sides: &Sides, outputs: &mut Outputs) -> Mapped<()> {
    let labels = &sides.anchors.labels;
    if labels.windows(2).all(|two| two[0] == two[1]) {
        outputs.define("loss", Array::scalar(0.0));
        outputs.define(
            "grad_embeddings",
            Array::of(&sides.embeddings.zeros_like()?)?,
        );
    }
    Ok(())
}

/// A family of losses without parameters of their own.
trait Kind: Sync {
    /// The peer's names of those that are ours.
    fn names(&self) -> &'static [&'static str];
    /// What the peer takes where a loss is given no distance.
    fn metric(&self, name: &str) -> Metric;
    /// What the peer takes where a loss is given no reducer.
    fn reducer(&self, name: &str) -> Reducer;
    /// A loss by its name; what is read of the settings is taken out of them.
    fn build(&self, name: &str, params: &mut Settings, parts: Parts) -> Mapped<Box<dyn Loss>>;
}

/// What the peer's losses have in common.
struct Parts {
    metric: Metric,
    mining: Mining,
    reducer: Reducer,
}

fn is_kind(name: &str) -> bool {
    KINDS.iter().any(|kind| kind.names().contains(&name))
}

fn default_metric(name: &str) -> Metric {
    let kind = KINDS.iter().find(|kind| kind.names().contains(&name));
    kind.map_or(Metric::Cosine, |kind| kind.metric(name))
}

/// Embeddings, compared with themselves or with references.
struct Sides {
    /// Whether rows are divided by their length; then one of zeros has no gradient by our definition.
    normalized: bool,
    embeddings: Var,
    references: Option<Var>,
    anchors: Embeddings,
    others: Option<Embeddings>,
}

impl Sides {
    fn read(given: &Given<'_>, pass: Pass) -> Mapped<Self> {
        let embeddings = Var::from_tensor(&given.tensor("embeddings", pass.dtype())?)?;
        let labels = given.indices("labels")?;
        let n = labels.len() as u64;
        let anchors = Embeddings::labeled(embeddings.as_tensor().clone(), labels)?;
        let (mut references, mut others) = (None, None);
        if let Some(found) = given.find("ref_emb") {
            let var = Var::from_tensor(&found.tensor(pass.dtype())?)?;
            let labels = given.indices("ref_labels")?;
            // With `ref_emb` an embedding is never taken for its own copy: no two rows share an id.
            let ids = (n..n + labels.len() as u64).collect();
            others = Some(Embeddings::new(var.as_tensor().clone(), labels, ids)?);
            references = Some(var);
        }
        Ok(Self {
            normalized: true,
            embeddings,
            references,
            anchors,
            others,
        })
    }

    fn comparison(&self) -> Comparison<'_> {
        match &self.others {
            None => Comparison::within(&self.anchors),
            Some(others) => Comparison::between(&self.anchors, others),
        }
    }

    /// A total with its gradients. Nothing to learn is 0, with gradients of 0.
    fn put(
        &self,
        total: Option<&Tensor>,
        weights: Option<&Weights>,
        outputs: &mut Outputs,
    ) -> Mapped<()> {
        let gradients = total.map(Tensor::backward).transpose()?;
        match total {
            Some(total) => outputs.put_tensor("loss", total)?,
            None => outputs.put("loss", Array::scalar(0.0)),
        }
        for (role, var) in [
            ("grad_embeddings", Some(&self.embeddings)),
            ("grad_ref_emb", self.references.as_ref()),
        ] {
            let Some(var) = var else { continue };
            outputs.put_tensor(role, &gradient(&gradients, var)?)?;
            if self.normalized {
                outputs.zero_by_definition(role, rows_of_zeros(var)?);
            }
        }
        if let Some(weights) = weights {
            let found = gradient(&gradients, &weights.centers)?;
            let found = if weights.in_columns {
                found.t()?
            } else {
                found
            };
            outputs.put_tensor(weights.gradient, &found)?;
            if self.normalized && !weights.in_columns {
                outputs.zero_by_definition(weights.gradient, rows_of_zeros(&weights.centers)?);
            }
        }
        Ok(())
    }
}

/// Class centers as the peer stores them.
struct Weights {
    centers: Var,
    /// The role of their gradient.
    gradient: &'static str,
    /// Whether the peer has a column for each class, where ours is a row.
    in_columns: bool,
}

fn gradient(gradients: &Option<GradStore>, var: &Var) -> Mapped<Tensor> {
    match gradients.as_ref().and_then(|gradients| gradients.get(var)) {
        Some(gradient) => Ok(gradient.clone()),
        None => Ok(var.zeros_like()?),
    }
}

/// A loss with what is needed for both ways.
struct Member {
    weight: f64,
    loss: Box<dyn Loss>,
    reducer: Reducer,
    embeddings: Option<(Regularizer, f64)>,
    /// Whether the peer lists its terms by the class of their anchor and not by its row.
    by_class: bool,
}

/// Losses without parameters of their own, one or several.
fn of_tuples(members: Vec<Member>, sides: &Sides, pass: Pass, outputs: &mut Outputs) -> Mapped<()> {
    let comparison = sides.comparison();
    let mut regularizers = None;
    for member in &members {
        if let Some((regularizer, factor)) = member.embeddings {
            let value = regularizer.of_rows(sides.embeddings.as_tensor())?;
            regularizers = added(regularizers, Some((value * (member.weight * factor))?))?;
        }
    }
    let plain = plainly(&members, &comparison, outputs)?;
    let total = match pass {
        Pass::Plain => plain,
        Pass::Fast => fast(members, &comparison)?,
    };
    sides.put(added(total, regularizers)?.as_ref(), None, outputs)
}

/// Each member's terms, and then its reducer.
fn plainly(
    members: &[Member],
    comparison: &Comparison<'_>,
    outputs: &mut Outputs,
) -> Mapped<Option<Tensor>> {
    let mut total = None;
    for Member {
        weight,
        loss,
        reducer,
        by_class,
        ..
    } in members
    {
        for terms in loss.terms(comparison, &mut rng())? {
            if let Some(values) = &terms.values {
                let mut order: Vec<u32> = (0..).take(terms.len()).collect();
                if *by_class {
                    order.sort_by_key(|&term| terms.labels[terms.anchors[term as usize] as usize]);
                }
                let order = Tensor::from_vec(order, terms.len(), values.device())?;
                outputs.put_tensor(unreduced(terms.name), &values.index_select(&order, 0)?)?;
            }
            let value = reducer.reduce(&terms)?.value;
            let value = value.map(|value| value * *weight).transpose()?;
            total = added(total, value)?;
        }
    }
    Ok(total)
}

fn fast(members: Vec<Member>, comparison: &Comparison<'_>) -> Mapped<Option<Tensor>> {
    if let [member] = &members[..]
        && member.weight == 1.0
    {
        return Ok(member.loss.evaluate(comparison, &mut rng())?.total()?);
    }
    let mut sum = Sum::default();
    for Member { weight, loss, .. } in members {
        sum.push(NonNegative::new(weight)?, loss);
    }
    Ok(sum.evaluate(comparison, &mut rng())?.total()?)
}

/// Nothing that the peer's cases call is random.
fn rng() -> Rng {
    Seed(0).rng(Purpose::Mining, 0)
}

fn added(total: Option<Tensor>, value: Option<Tensor>) -> Mapped<Option<Tensor>> {
    Ok(match (total, value) {
        (Some(total), Some(value)) => Some((total + value)?),
        (total, value) => total.or(value),
    })
}

/// The role of the peer's sub-loss.
fn unreduced(part: &str) -> &'static str {
    match part {
        "positive" => "unreduced.pos_loss",
        "negative" => "unreduced.neg_loss",
        _ => "unreduced.loss",
    }
}

/// A loss by its name and settings.
fn member(name: &str, mut params: Settings, mining: Option<Mining>) -> Mapped<Member> {
    let kind = KINDS
        .iter()
        .find(|kind| kind.names().contains(&name))
        .ok_or_else(|| Trouble::unmapped(format!("the loss {name}")))?;
    let metric = Metric::of_object(params.object("distance")?, kind.metric(name))?;
    let reducer = reducers::of_object(params.object("reducer")?, kind.reducer(name))?;
    let embeddings = Regularizer::of_object(params.object("embedding_regularizer")?)?;
    let factor = params.number_or("embedding_reg_weight", 1.0)?;
    let parts = Parts {
        metric,
        mining: mining.unwrap_or_default(),
        reducer: reducer.clone(),
    };
    let loss = kind.build(name, &mut params, parts)?;
    params.finish()?;
    Ok(Member {
        weight: 1.0,
        loss,
        reducer,
        embeddings: embeddings.map(|regularizer| (regularizer, factor)),
        by_class: name == "NPairsLoss",
    })
}

/// The members of a `MultipleLosses`, each with its miner, which has its own distance.
fn members(mut params: Settings) -> Mapped<Vec<Member>> {
    let losses = params.objects("losses")?.unwrap_or_default();
    let miners = params.objects("miners")?;
    let weights = params.numbers("weights")?;
    params.finish()?;
    let mut members = Vec::new();
    for (index, Object { name, params }) in losses.into_iter().enumerate() {
        let mining = match miners.as_ref().and_then(|miners| miners.get(index)) {
            None => None,
            Some(Object { name, params }) => {
                let (miner, distance) = miners::miner(name, params.clone())?;
                Some(Mining {
                    miner: Some(miner),
                    distance: Some(distance),
                })
            }
        };
        let weight = weights.as_ref().and_then(|weights| weights.get(index));
        members.push(Member {
            weight: weight.copied().unwrap_or(1.0),
            ..member(&name, params, mining)?
        });
    }
    Ok(members)
}

/// Tuples that were given, as a miner that chooses them.
#[derive(Debug)]
struct Chosen(Tuples);

impl Stateful for Chosen {}

impl Miner for Chosen {
    fn mine(&self, _: &Candidates, _: &mut Rng) -> Tuples {
        self.0.clone()
    }
}

/// The `indices_tuple`: three lists are triplets, four are pairs.
fn chosen(given: &Given<'_>) -> Mapped<Option<Chosen>> {
    if given.find("anchor").is_some() {
        let (anchors, positives, negatives) = (
            given.indices("anchor")?,
            given.indices("positive")?,
            given.indices("negative")?,
        );
        let triplets = anchors.into_iter().zip(positives).zip(negatives);
        let triplets: Triplets = triplets.map(|((a, p), n)| (a, p, n)).collect();
        return Ok(Some(Chosen(Tuples::Triplets(triplets))));
    }
    if given.find("anchor1").is_some() {
        let pairs = |anchors: &str, references: &str| -> Mapped<Pairs> {
            Ok(Pairs {
                anchors: given.indices(anchors)?,
                references: given.indices(references)?,
            })
        };
        let pairs = SignedPairs {
            positive: pairs("anchor1", "positive")?,
            negative: pairs("anchor2", "negative")?,
        };
        return Ok(Some(Chosen(Tuples::Pairs(pairs))));
    }
    Ok(None)
}
