//! The preset `peer` beside the peer's values at its own defaults: no setting is told, and none is translated.

use std::collections::BTreeSet;

use candle_core::{DType, Tensor, Var};
use nearfar_conformance::golden::{Array, Case, Folder, Given, Mapped, Outputs};
use nearfar_conformance::mapper::{Claim, MAPPERS, Pass};
use nearfar_core::{Comparison, Embeddings};
use nearfar_losses::{Compares, Join, LossConfig, Preset, Reads};
use nearfar_metrics::{DistanceConfig, SimilarityConfig};

use crate::joined::stream;

/// The peer's names of losses, and ours.
const NAMES: [(&str, &str); 33] = [
    ("AngularLoss", "angular"),
    ("ArcFaceLoss", "arcface"),
    ("CircleLoss", "circle"),
    ("ContrastiveLoss", "contrastive"),
    ("CosFaceLoss", "cosface"),
    ("DynamicSoftMarginLoss", "dynamic_soft_margin"),
    ("FastAPLoss", "fast_ap"),
    ("GeneralizedLiftedStructureLoss", "lifted_generalized"),
    ("HistogramLoss", "histogram"),
    ("InstanceLoss", "instance"),
    ("IntraPairVarianceLoss", "intra_pair_variance"),
    ("LargeMarginSoftmaxLoss", "l_softmax"),
    ("LiftedStructureLoss", "lifted"),
    ("MarginLoss", "margin"),
    ("MultiSimilarityLoss", "multi_similarity"),
    ("NCALoss", "nca"),
    ("NPairsLoss", "n_pair"),
    ("NTXentLoss", "nt_xent"),
    ("NormalizedSoftmaxLoss", "normalized_softmax"),
    ("PNPLoss", "pnp"),
    ("ProxyAnchorLoss", "proxy_anchor"),
    ("ProxyNCALoss", "proxy_nca"),
    ("SignalToNoiseRatioContrastiveLoss", "snr_contrastive"),
    ("SmoothAPLoss", "smooth_ap"),
    ("SoftTripleLoss", "soft_triple"),
    ("SphereFaceLoss", "sphereface"),
    ("SubCenterArcFaceLoss", "subcenter_arcface"),
    ("SupConLoss", "supcon"),
    ("ThresholdConsistentMarginLoss", "tcm"),
    ("TripletMarginLoss", "triplet_margin"),
    ("TupletMarginLoss", "tuplet_margin"),
    ("VICRegLoss", "vicreg"),
    ("RankedListLoss", "ranked_list"),
];

/// The inputs of a batch without chosen tuples.
const BATCH: [&str; 8] = [
    "embeddings",
    "labels",
    "ref_emb",
    "ref_labels",
    "W",
    "weight",
    "proxies",
    "fc",
];

/// Outputs beside the value and its gradients.
const BESIDE: [&str; 10] = [
    "unreduced.margin_loss",
    "logits",
    "hist_after",
    "weight_after",
    "unreduced.loss",
    "unreduced.pos_loss",
    "unreduced.neg_loss",
    "unreduced.invariance_loss",
    "unreduced.variance_loss1",
    "unreduced.variance_loss2",
];

/// Our loss of a case of the peer's defaults.
fn ours(case: &Case) -> Option<LossConfig> {
    let name = case.function.path();
    let name = name.strip_prefix("pytorch_metric_learning.losses.")?;
    let (_, ours) = NAMES.iter().find(|(theirs, _)| *theirs == name)?;
    let mut params = case.function.params();
    for key in ["num_classes", "embedding_size"] {
        params.value(key);
    }
    if *ours == "ranked_list" {
        // The peer wants to be told these two; those of the paper are ours.
        let told = (params.number("margin").ok()?, params.number("Tn").ok()?);
        (told == (Some(0.4), Some(10.0))).then_some(())?;
    }
    params.finish().ok()?;
    case.function.call().finish().ok()?;
    let batch = |input: &String| BATCH.contains(&input.rsplit('/').next().unwrap_or(input));
    case.inputs.iter().all(batch).then_some(())?;
    LossConfig::of_name(ours).ok()
}

fn run(given: &Given<'_>, loss: &LossConfig) -> Mapped<Outputs> {
    let var = |role: &str| -> Mapped<Option<Var>> {
        let found = given.find(role).map(|it| it.tensor(DType::F64));
        Ok(found
            .transpose()?
            .map(|it| Var::from_tensor(&it))
            .transpose()?)
    };
    let embeddings = Var::from_tensor(&given.tensor("embeddings", DType::F64)?)?;
    let (n, width) = embeddings.dims2()?;
    let views = loss.reads() == Reads::Views;
    let labels = if views {
        Vec::new()
    } else {
        given.indices("labels")?
    };
    let anchors = Embeddings::new(
        embeddings.as_tensor().clone(),
        labels,
        (0..n as u64).collect(),
    )?;
    let ref_emb = var("ref_emb")?;
    let references = match &ref_emb {
        None => None,
        Some(var) => {
            let labels = if views {
                Vec::new()
            } else {
                given.indices("ref_labels")?
            };
            let ids = (0..var.dim(0)?).map(|id| (n + id) as u64).collect();
            Some(Embeddings::new(var.as_tensor().clone(), labels, ids)?)
        }
    };
    let comparison = match &references {
        None => Comparison::within(&anchors),
        Some(references) => Comparison::between(&anchors, references),
    };

    let convention = loss.convention(Preset::Peer);
    let (by, unit_rows) = match convention.compared {
        Some(compared) => (compared.by, compared.unit_rows),
        None => (convention.loss.defaults().compares, false),
    };
    let mut join = Join {
        width,
        reducer: convention.reducer.clone(),
        dtype: DType::F64,
        ..Join::default()
    };
    match by {
        Compares::Distance(name) => {
            let mut config = DistanceConfig::of_name(name);
            if unit_rows {
                config = config.and_then(DistanceConfig::on_unit_rows);
            }
            join.distance = config.map(|it| it.build());
        }
        Compares::Similarity(name) => {
            let mut config = SimilarityConfig::of_name(name);
            if unit_rows {
                config = config.and_then(SimilarityConfig::on_unit_rows);
            }
            join.similarity = config.map(|it| it.build());
        }
        Compares::Centers | Compares::DistantCenters | Compares::Own => {}
    }
    join.classes = given.case.function.params().count("num_classes")?;
    let mut loss = convention.loss.build(join)?;
    // The peer has a column for each class, but for proxies.
    let mut centers = None;
    for (role, gradient, in_columns) in [
        ("proxies", "grad_proxies", false),
        ("fc", "grad_fc", true),
        ("weight", "grad_weight", true),
        ("W", "grad_W", true),
    ] {
        if let Some(weights) = given.find(role) {
            let weights = weights.tensor(DType::F64)?;
            let weights = if in_columns {
                weights.t()?.contiguous()?
            } else {
                weights
            };
            let var = loss.parameters().swap_remove(0).var;
            var.set(&weights)?;
            centers = Some((var, gradient, in_columns));
        }
    }
    loss.absorb(&comparison)?;
    let total = loss.evaluate(&comparison, &mut stream())?.total()?;

    let mut outputs = Outputs::default();
    match &total {
        Some(total) => outputs.put_tensor("loss", total)?,
        None => outputs.put("loss", Array::scalar(0.0)),
    }
    let gradients = total.map(|it| it.backward()).transpose()?;
    let mut put = |role: &'static str, var: &Var, in_columns: bool| -> Mapped<()> {
        let found = gradients.as_ref().and_then(|it| it.get(var));
        let found: Tensor = found.map_or_else(|| var.zeros_like(), |it| Ok(it.clone()))?;
        let found = if in_columns { found.t()? } else { found };
        outputs.put_tensor(role, &found)?;
        // A row of zeros has no direction, and so no gradient where only directions count; the peer's is 10¹² times too long.
        if !views && !in_columns {
            let lengths = var.sqr()?.sum(1)?.sqrt()?.to_vec1::<f64>()?;
            let zeros: Vec<bool> = lengths.into_iter().map(|it| it < 1e-12).collect();
            if convention.compared.is_none_or(|it| it.unit_rows) {
                outputs.zero_by_definition(role, zeros);
            }
        }
        Ok(())
    };
    put("grad_embeddings", &embeddings, false)?;
    if let Some(var) = &ref_emb {
        put("grad_ref_emb", var, false)?;
    }
    if let Some((var, role, in_columns)) = &centers {
        put(role, var, *in_columns)?;
    }
    for role in BESIDE {
        outputs.leave_out(role);
    }
    // The peer groups the rows of one class each on its own.
    if convention.loss.name() == "smooth_ap" && anchors.labels.windows(2).all(|it| it[0] == it[1]) {
        outputs.define("loss", Array::scalar(0.0));
        outputs.define("grad_embeddings", Array::of(&embeddings.zeros_like()?)?);
    }
    Ok(outputs)
}

#[test]
fn with_the_preset_peer_the_peers_defaults_come_out() {
    let Some(folder) = Folder::from_env() else {
        return;
    };
    let (mut wrong, mut seen, mut checked) = (Vec::new(), BTreeSet::new(), 0);
    for family in folder.families().expect("a folder of golden values") {
        for case in &family.cases {
            let Some(loss) = ours(case) else { continue };
            let mapper = MAPPERS.iter().find(|it| it.claims(case) == Claim::Ours);
            let tolerance = mapper.expect("it is claimed").tolerance(case, Pass::Plain);
            let given = family.given(case);
            let got = run(&given, &loss);
            let found = given.compare(&got, tolerance);
            wrong.extend(
                found
                    .into_iter()
                    .map(|what| format!("{}: {what}", case.name)),
            );
            seen.insert(loss.name());
            checked += 1;
        }
    }
    eprintln!(
        "\npresets: {} losses of the peer in {checked} cases\n",
        seen.len()
    );
    assert!(
        wrong.is_empty(),
        "{} are wrong:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}
