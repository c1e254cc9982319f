//! `pytorch_metric_learning.losses`.

use candle_core::backprop::GradStore;
use candle_core::{DType, Tensor, Var};
use nearfar_core::{
    Candidates, Comparison, Embeddings, Finite, Loss, Miner, NonNegative, Pairs, Positive, Purpose,
    Reducer, Rng, Seed, SignedPairs, Stateful, Triplets, Tuples,
};
use nearfar_losses::{
    ArcFace, ClassificationLoss, Contrastive, Mining, MultiSimilarity, NTXent, OverClasses,
    OverLists, OverPairs, OverTriplets, PairForm, Power, Sum, TripletMargin,
};

use super::metric::{Metric, rows_of_zeros};
use super::regularizers::Regularizer;
use super::{Claim, Mapper, Pass, miners, reducers};
use crate::golden::{Array, Case, Given, Mapped, Object, Outputs, Settings, Tolerance, Trouble};

const PREFIX: &str = "pytorch_metric_learning.losses.";

/// Those without parameters of their own, which can be members of a `MultipleLosses`.
const TUPLES: [&str; 4] = [
    "TripletMarginLoss",
    "ContrastiveLoss",
    "MultiSimilarityLoss",
    "NTXentLoss",
];
const ARCFACE: &str = "ArcFaceLoss";
const MULTIPLE: &str = "MultipleLosses";

/// Values of losses, their gradients, and their terms before reduction.
///
/// A generic pair loss of the peer returns 0 when every index list has at most one entry. That is a quirk of its code and not
/// its definition; the cases that show it are marked as informative, and ours gives the value.
pub(super) struct Losses;

impl Mapper for Losses {
    fn claims(&self, case: &Case) -> Claim {
        let function = &case.function;
        match function.path().strip_prefix(PREFIX) {
            Some(name) if TUPLES.contains(&name) || name == ARCFACE => Claim::Ours,
            Some(MULTIPLE) => match function.params().objects("losses") {
                Ok(Some(members)) => {
                    let other = members
                        .iter()
                        .find(|it| !TUPLES.contains(&it.name.as_str()));
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
        match pass {
            Pass::Plain => Tolerance {
                relative: case.rtol,
                absolute: case.atol,
                rounded: false,
            },
            Pass::Fast => {
                let mut params = case.function.params();
                let scale = params.number("scale").ok().flatten().unwrap_or(64.0);
                let steep = case.function.short() == ARCFACE && scale >= 64.0;
                let relative = if steep { 1e-4 } else { 1e-5 };
                Tolerance {
                    relative,
                    absolute: 1e-6,
                    rounded: true,
                }
            }
        }
    }

    fn run(&self, given: &Given<'_>, pass: Pass) -> Mapped<Outputs> {
        let function = &given.case.function;
        function.call().finish()?;
        let mut sides = Sides::read(given, pass)?;
        let mut outputs = Outputs::default();
        match function.short() {
            ARCFACE => arcface(given, function.params(), &sides, pass, &mut outputs)?,
            MULTIPLE => {
                of_tuples(members(function.params())?, &sides, pass, &mut outputs)?;
            }
            name => {
                let chosen = chosen(given)?;
                let default = default_metric(name);
                let metric = Metric::of_object(function.params().object("distance")?, default)?;
                sides.normalized = metric.normalizes();
                let member = member(name, function.params(), chosen.map(Mining::by))?;
                of_tuples(vec![member], &sides, pass, &mut outputs)?;
            }
        }
        given.finish()?;
        Ok(outputs)
    }
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
        weights: Option<&Var>,
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
        if let Some(centers) = weights {
            // Class weights are stored a column for each class, ours a row.
            outputs.put_tensor("grad_W", &gradient(&gradients, centers)?.t()?)?;
        }
        Ok(())
    }
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
        ..
    } in members
    {
        for terms in loss.terms(comparison, &mut rng())? {
            if let Some(values) = &terms.values {
                outputs.put_tensor(unreduced(terms.name), values)?;
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

/// What the peer takes where a loss is given no distance.
fn default_metric(name: &str) -> Metric {
    match name {
        "TripletMarginLoss" | "ContrastiveLoss" => Metric::LP,
        _ => Metric::Cosine,
    }
}

/// A loss by its name and settings.
fn member(name: &str, mut params: Settings, mining: Option<Mining>) -> Mapped<Member> {
    let metric = Metric::of_object(params.object("distance")?, default_metric(name))?;
    let default = match name {
        "TripletMarginLoss" | "ContrastiveLoss" => Reducer::AvgNonzero {},
        _ => Reducer::Mean {},
    };
    let reducer = reducers::of_object(params.object("reducer")?, default)?;
    let embeddings = Regularizer::of_object(params.object("embedding_regularizer")?)?;
    let factor = params.number_or("embedding_reg_weight", 1.0)?;
    let mining = mining.unwrap_or_default();
    let loss: Box<dyn Loss> = match name {
        "TripletMarginLoss" => {
            let loss = TripletMargin {
                // A gap, so it is the same for a cosine and its distance.
                margin: NonNegative::new(params.number_or("margin", 0.05)?)?,
                swap: params.flag_or("swap", false)?,
                smooth: params.flag_or("smooth_loss", false)?,
                power: Power::One,
            };
            match params.text("triplets_per_anchor")?.as_deref() {
                None | Some("all") => {}
                Some(other) => {
                    let what = format!("{other} triplets per anchor");
                    return Err(Trouble::unmapped(what));
                }
            }
            Box::new(OverTriplets {
                mining,
                reducer: reducer.clone(),
                ..OverTriplets::new("triplet_margin", loss, metric.distance())
            })
        }
        "ContrastiveLoss" => {
            // The peer's defaults are for distances.
            let (positive, negative) = (
                params.number_or("pos_margin", 0.0)?,
                params.number_or("neg_margin", 1.0)?,
            );
            let loss = Contrastive {
                form: PairForm::Linear,
                positive_margin: Finite::new(metric.on_distance_scale(positive))?,
                negative_margin: Finite::new(metric.on_distance_scale(negative))?,
            };
            Box::new(OverPairs {
                mining,
                reducer: reducer.clone(),
                ..OverPairs::new("contrastive", loss, metric.distance())
            })
        }
        "MultiSimilarityLoss" => {
            let loss = MultiSimilarity {
                alpha: Positive::new(params.number_or("alpha", 2.0)?)?,
                beta: Positive::new(params.number_or("beta", 50.0)?)?,
                base: Finite::new(metric.on_similarity_scale(params.number_or("base", 0.5)?))?,
            };
            Box::new(OverLists {
                mining,
                reducer: reducer.clone(),
                ..OverLists::new("multi_similarity", loss, metric.similarity())
            })
        }
        "NTXentLoss" => {
            let loss = NTXent {
                temperature: Positive::new(params.number_or("temperature", 0.07)?)?,
            };
            Box::new(OverLists {
                mining,
                reducer: reducer.clone(),
                ..OverLists::new("nt_xent", loss, metric.similarity())
            })
        }
        other => return Err(Trouble::unmapped(format!("the loss {other}"))),
    };
    params.finish()?;
    Ok(Member {
        weight: 1.0,
        loss,
        reducer,
        embeddings: embeddings.map(|regularizer| (regularizer, factor)),
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

fn arcface(
    given: &Given<'_>,
    mut params: Settings,
    sides: &Sides,
    pass: Pass,
    outputs: &mut Outputs,
) -> Mapped<()> {
    let (classes, width) = (
        params.count("num_classes")?,
        params.count("embedding_size")?,
    );
    let weights = given.tensor("W", pass.dtype())?.t()?.contiguous()?;
    if let (Some(classes), Some(width)) = (classes, width)
        && weights.dims() != [classes, width]
    {
        return Err(Trouble::unmapped(
            "W is not of the size that the settings say",
        ));
    }
    let centers = Var::from_tensor(&weights)?;
    let scale = params.number_or("scale", 64.0)?;
    let margin = params.number_or("margin", 28.6)?;
    let regularizer = Regularizer::of_object(params.object("weight_regularizer")?)?;
    let factor = params.number_or("weight_reg_weight", 1.0)?;
    let loss = ArcFace {
        margin: NonNegative::new(margin.to_radians())?, // The peer's is in degrees.
        scale: Positive::new(scale)?,
    };
    let reducer = reducers::of_object(params.object("reducer")?, Reducer::Mean {})?;
    params.finish()?;
    let mining = chosen(given)?.map(Mining::by).unwrap_or_default();
    let loss = OverClasses {
        mining,
        reducer: reducer.clone(),
        ..OverClasses::new("arcface", loss, centers.clone())
    };
    if given.wants("logits") {
        // The peer's are those of a row whose class is not known, so they have no margin.
        let cosines = loss.cosines(sides.embeddings.as_tensor())?;
        let own = cosines.zeros_like()?.to_dtype(DType::U8)?;
        let logits = loss.loss.logits(&cosines, &own)?;
        outputs.put_tensor("logits", &logits)?;
    }
    let comparison = sides.comparison();
    let member = Member {
        weight: 1.0,
        loss: Box::new(loss),
        reducer,
        embeddings: None,
    };
    let plain = plainly(std::slice::from_ref(&member), &comparison, outputs)?;
    let total = match pass {
        Pass::Plain => plain,
        Pass::Fast => fast(vec![member], &comparison)?,
    };
    let regularizer = regularizer.map(|regularizer| regularizer.of_rows(centers.as_tensor()));
    let regularizer = regularizer.transpose()?.map(|value| value * factor);
    let total = added(total, regularizer.transpose()?)?;
    sides.put(total.as_ref(), Some(&centers), outputs)
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
