//! Scores of retrieval, verification, clusters and correlation.

use nearfar_core::{Distance, EmbeddingTable};
use nearfar_eval::{
    Agreement, DetectionCost, Exclude, Measure, Neighbors, PerQuery, Roc, Search, kendall,
    knn_classes, map_at_r, mean_average_precision, mean_reciprocal_rank, pearson, precision_at,
    r_precision, recall_at, search, spearman,
};
use nearfar_metrics::Manhattan;

use super::search::{counts, table};
use super::{Claim, Mapper, Pass};
use crate::golden::{Array, Case, Given, Mapped, Numbers, Outputs, Settings, Trouble};

const CALCULATOR: &str = "pytorch_metric_learning.utils.accuracy_calculator.AccuracyCalculator";
const CUSTOM_KNN: &str = "pytorch_metric_learning.utils.inference.CustomKNN";
const OML_RETRIEVAL: &str = "oml.functional.metrics calc_cmc, calc_map, calc_precision";
const AUC: &str = "sklearn.metrics.roc_auc_score";
const PARTITIONS: &str = "sklearn.metrics";
const CORRELATION: &str = "scipy.stats pearsonr, spearmanr, kendalltau";
const VOTE: &str = "sklearn.neighbors.KNeighborsClassifier";

const NAMES: [&str; 11] = [
    CALCULATOR,
    CUSTOM_KNN,
    OML_RETRIEVAL,
    AUC,
    PARTITIONS,
    CORRELATION,
    VOTE,
    "recall_at_k",
    "precision_at_k",
    "reid_cmc_map",
    "verification",
];

/// How good an embedding is.
pub(super) struct Scores;

impl Mapper for Scores {
    fn claims(&self, case: &Case) -> Claim {
        let function = &case.function;
        if function.path() == VOTE {
            let mut params = function.params();
            let (k, weights) = (params.count("n_neighbors"), params.text("weights"));
            if k != Ok(Some(1)) && weights == Ok(Some("distance".into())) {
                return Claim::NotWith("weights = distance".into());
            }
        }
        Claim::by_name(function, "", &NAMES)
    }

    fn run(&self, given: &Given<'_>, _: Pass) -> Mapped<Outputs> {
        let function = &given.case.function;
        let mut params = function.params();
        let mut call = function.call();
        let mut outputs = Outputs::default();
        match function.path() {
            CALCULATOR | CUSTOM_KNN => accuracy(given, &mut params, &mut call, &mut outputs)?,
            "recall_at_k" | "precision_at_k" | OML_RETRIEVAL => {
                hits(given, &mut params, &mut outputs)?;
            }
            "reid_cmc_map" => reidentification(given, &mut params, &mut outputs)?,
            "verification" | AUC => verification(given, &mut params, &mut outputs)?,
            PARTITIONS => {
                params.text("nmi")?; // The arithmetic mean and natural logarithms, as ours.
                params.text("ami")?;
                let classes = given.indices("labels")?;
                let clusters = given.indices("clusters")?;
                partitions(&Agreement::new(&classes, &clusters)?, given, &mut outputs);
            }
            CORRELATION => {
                params.text("kendall")?;
                let (x, y) = (given.input("x")?.to_real(), given.input("y")?.to_real());
                outputs.put("pearson", Array::scalar(pearson(&x, &y)?));
                outputs.put("spearman", Array::scalar(spearman(&x, &y)?));
                outputs.put("kendall_b", Array::scalar(kendall(&x, &y)?));
            }
            _ => vote(given, &mut params, &mut outputs)?,
        }
        params.finish()?;
        call.finish()?;
        given.finish()?;
        Ok(outputs)
    }
}

/// A table of queries with the gallery that they look at: another one, or itself.
struct Tables {
    queries: EmbeddingTable,
    gallery: Option<EmbeddingTable>,
}

impl Tables {
    fn read(given: &Given<'_>) -> Mapped<Self> {
        let queries = table(given, "query", Some("query_labels"))?;
        let gallery = match given.find("reference") {
            None => None,
            Some(_) => Some(table(given, "reference", Some("reference_labels"))?),
        };
        Ok(Self { queries, gallery })
    }

    fn gallery(&self) -> &EmbeddingTable {
        self.gallery.as_ref().unwrap_or(&self.queries)
    }

    fn search(&self, k: usize, measure: Measure<'_>, includes_query: bool) -> Mapped<Neighbors> {
        let itself = self.gallery.is_none() || includes_query;
        let settings = Search {
            k,
            exclude: if itself {
                Exclude::SameIndex
            } else {
                Exclude::Nothing
            },
            rank_all: true,
            ..Search::default()
        };
        Ok(search(&self.queries, self.gallery(), measure, &settings)?)
    }
}

fn accuracy(
    given: &Given<'_>,
    params: &mut Settings,
    call: &mut Settings,
    outputs: &mut Outputs,
) -> Mapped<()> {
    if given.find("cluster_labels").is_some() {
        params.value("include");
        let classes = given.indices("query_labels")?;
        let clusters = given.indices("cluster_labels")?;
        let agreement = Agreement::new(&classes, &clusters)?;
        outputs.put("NMI", Array::scalar(agreement.nmi()));
        outputs.put("AMI", Array::scalar(agreement.ami()));
        return Ok(());
    }
    let manhattan: &dyn Distance = &Manhattan {};
    let measure = match params.text("distance")?.as_deref() {
        None => Measure::SQUARED_EUCLIDEAN,
        Some("cosine") => Measure::COSINE,
        Some("dot") => Measure::DOT,
        Some("l1") => Measure::of(manhattan),
        Some(other) => return Err(Trouble::unmapped(format!("the distance `{other}`"))),
    };
    let tables = Tables::read(given)?;
    let mut call_settings = call.settings("call")?;
    let includes_query = call_settings.flag_or("ref_includes_query", false)?;
    call_settings.flag_or("reference", false)?; // Whether one was given, which the inputs say too.
    call_settings.finish()?;
    let itself = tables.gallery.is_none() || includes_query;
    let k = match params.value("k") {
        None => None,
        Some(serde_json::Value::String(name)) if name == "max_bin_count" => {
            let largest = counts(&tables.gallery().labels)
                .into_values()
                .max()
                .unwrap_or(0);
            Some((largest - usize::from(itself)).max(1))
        }
        Some(other) => match other.as_u64() {
            Some(k) => Some(k as usize),
            None => return Err(Trouble::unmapped(format!("k = {other}"))),
        },
    };
    let of_classes = params.flag_or("avg_of_avgs", false)?;
    let per_class = params.flag_or("return_per_class", false)?;
    params.value("include"); // What was asked for is what is stored.

    let all = tables.gallery().len();
    let found = tables.search(k.unwrap_or(all), measure, includes_query)?;
    // The peer knows of ranks what it finds in its list of `k`.
    let found = k.map_or(found.clone(), |k| found.truncated(k));
    let scores: [(&str, PerQuery); 5] = [
        ("precision_at_1", precision_at(&found, 1)?),
        ("r_precision", r_precision(&found)?),
        ("mean_average_precision", mean_average_precision(&found)?),
        ("mean_average_precision_at_r", map_at_r(&found)?),
        ("mean_reciprocal_rank", mean_reciprocal_rank(&found)?),
    ];
    for (role, score) in scores {
        if per_class {
            let classes: Vec<f64> = score.per_class().into_values().collect();
            outputs.put(role, Array::real(&[classes.len()], classes));
        } else {
            let mean = if of_classes {
                score.mean_of_classes()
            } else {
                score.mean()
            };
            match mean {
                Some(mean) => outputs.put(role, Array::scalar(mean)),
                None => return Err(Trouble::Refused("every query is lone".into())),
            }
        }
    }
    Ok(())
}

fn hits(given: &Given<'_>, params: &mut Settings, outputs: &mut Outputs) -> Mapped<()> {
    let tables = Tables::read(given)?;
    let found = tables.search(tables.gallery().len(), Measure::SQUARED_EUCLIDEAN, false)?;
    let whole = |numbers: Vec<f64>| numbers.into_iter().map(|k| k as usize).collect::<Vec<_>>();
    if let Some(k) = params.count("k")? {
        // Queries without a match count as 0 here, and are left out by default.
        let score = precision_at(&found, k)?;
        let per_query: Vec<f64> = score.values.iter().map(|it| it.unwrap_or(0.0)).collect();
        outputs.put(
            "precision",
            Array::scalar(score.mean_with_lone_as(0.0).unwrap_or(0.0)),
        );
        outputs.put("per_query", Array::real(&[per_query.len()], per_query));
    } else if let Some(ks) = params.numbers("K")? {
        let recall = whole(ks)
            .into_iter()
            .map(|k| Ok(recall_at(&found, k)?.mean().unwrap_or(0.0)));
        let recall = recall.collect::<Mapped<Vec<f64>>>()?;
        outputs.put("recall", Array::real(&[recall.len()], recall));
        let valid = found
            .relevant
            .iter()
            .filter(|&&relevant| relevant > 0)
            .count();
        outputs.put("valid_queries", Array::whole(&[], vec![valid as i64]));
        let rankings = found.rankings.as_deref().unwrap_or_default();
        let first = rankings.iter().map(|it| it.first.map_or(0, i64::from));
        outputs.put(
            "first_hit_rank",
            Array::whole(&[rankings.len()], first.collect()),
        );
    } else if let Some(ks) = params.numbers("top_k")? {
        let cmc = whole(ks).into_iter().map(|k| {
            let score = recall_at(&found, k)?;
            Ok(score.mean_with_lone_as(0.0).unwrap_or(0.0))
        });
        let cmc = cmc.collect::<Mapped<Vec<f64>>>()?;
        outputs.put("cmc", Array::real(&[cmc.len()], cmc));
        outputs.leave_out("map"); // Over the relevant items found within k.
        outputs.leave_out("precision"); // Over min(k, R).
    }
    Ok(())
}

fn reidentification(given: &Given<'_>, params: &mut Settings, outputs: &mut Outputs) -> Mapped<()> {
    let whole = |role: &str| match &given.input(role)?.numbers {
        Numbers::Whole(values) => Ok(values.clone()),
        Numbers::Real(_) => Err(Trouble::unmapped(format!("`{role}` has no whole numbers"))),
    };
    let (query_ids, query_cameras) = (whole("query_ids")?, whole("query_cams")?);
    let (gallery_ids, gallery_cameras) = (whole("gallery_ids")?, whole("gallery_cams")?);
    let labels = |ids: &[i64]| ids.iter().map(|&id| (id + 1) as u32).collect(); // Junk is −1.
    let queries = EmbeddingTable {
        labels: labels(&query_ids),
        ..table(given, "query", None)?
    };
    let gallery = EmbeddingTable {
        labels: labels(&gallery_ids),
        ..table(given, "gallery", None)?
    };
    let dropped = |query: usize, row: usize| {
        gallery_ids[row] == -1
            || (query_ids[query] == gallery_ids[row]
                && query_cameras[query] == gallery_cameras[row])
    };
    let ranks = params.count("ranks")?.unwrap_or(1);
    let settings = Search {
        k: ranks,
        exclude: Exclude::Where(&dropped),
        rank_all: true,
        ..Search::default()
    };
    let found = search(&queries, &gallery, Measure::SQUARED_EUCLIDEAN, &settings)?;
    let cmc = (1..=ranks).map(|k| Ok(recall_at(&found, k)?.mean().unwrap_or(0.0)));
    let cmc = cmc.collect::<Mapped<Vec<f64>>>()?;
    outputs.put("cmc", Array::real(&[ranks], cmc));
    let precision = mean_average_precision(&found)?;
    outputs.put("map", Array::scalar(precision.mean().unwrap_or(0.0)));
    let valid = precision.values.iter().map(|it| i64::from(it.is_some()));
    outputs.put("valid", Array::whole(&[queries.len()], valid.collect()));
    // One for each query, or for each valid one.
    let all = given.shape_of_output("ap") == Some(&[queries.len()][..]);
    let values: Vec<f64> = match all {
        true => precision
            .values
            .iter()
            .map(|it| it.unwrap_or(0.0))
            .collect(),
        false => precision.values.iter().flatten().copied().collect(),
    };
    outputs.put("ap", Array::real(&[values.len()], values));
    outputs.leave_out("map_market_trapezoid");
    Ok(())
}

fn verification(given: &Given<'_>, params: &mut Settings, outputs: &mut Outputs) -> Mapped<()> {
    let scores = given.input("scores")?.to_real();
    let same: Vec<bool> = given
        .indices("is_same")?
        .iter()
        .map(|&same| same == 1)
        .collect();
    let far = params.numbers("far")?.unwrap_or_default();
    let roc = Roc::new(&scores, &same)?;
    outputs.put("eer", Array::scalar(roc.eer().rate));
    outputs.put("roc_auc", Array::scalar(roc.auc()));
    let accepted: Vec<f64> = far.iter().map(|&far| roc.largest_tar(far)).collect();
    outputs.put("tar_at_far", Array::real(&[far.len()], accepted));
    let points = roc.points.len();
    let of = |rate: fn(&nearfar_eval::RocPoint) -> f64| {
        Array::real(&[points], roc.points.iter().map(rate).collect())
    };
    outputs.put("far", of(|point| point.far));
    outputs.put("tar", of(|point| 1.0 - point.frr));
    outputs.put("best_accuracy", Array::scalar(roc.best_accuracy().0));
    for role in given.outputs_that_begin("min_dcf.") {
        let target = role["min_dcf.".len()..].parse();
        let target = target.map_err(|_| Trouble::unmapped(format!("the output `{role}`")))?;
        let cost = DetectionCost {
            target,
            ..DetectionCost::default()
        };
        outputs.put(role, Array::scalar(roc.min_dcf(cost)));
    }
    outputs.leave_out("tar_at_far_interp");
    outputs.leave_out("average_precision");
    Ok(())
}

fn partitions(agreement: &Agreement, given: &Given<'_>, outputs: &mut Outputs) {
    outputs.put("nmi", Array::scalar(agreement.nmi()));
    outputs.put("v_measure", Array::scalar(agreement.nmi())); // By another way of counting, the same.
    outputs.put("ami", Array::scalar(agreement.ami()));
    outputs.put("ari", Array::scalar(agreement.ari()));
    if given.wants("mutual_info") {
        outputs.put("mutual_info", Array::scalar(agreement.mutual_information()));
    }
    for role in [
        "homogeneity",
        "completeness",
        "fowlkes_mallows",
        "nmi_max",
        "nmi_geometric",
    ] {
        outputs.leave_out(role);
    }
}

fn vote(given: &Given<'_>, params: &mut Settings, outputs: &mut Outputs) -> Mapped<()> {
    let k = params.count("n_neighbors")?.unwrap_or(5);
    params.text("weights")?; // Of a single neighbor the weight does not matter.
    let train = table(given, "train", Some("train_labels"))?;
    let test = table(given, "test", Some("test_labels"))?;
    let settings = Search {
        k,
        ..Search::default()
    };
    let found = search(&test, &train, Measure::EUCLIDEAN, &settings)?;
    let mut predicted = Vec::new();
    for (query, ours) in knn_classes(&found, k)?.into_iter().enumerate() {
        let labels: Vec<u32> = found
            .of(query)
            .0
            .iter()
            .map(|&row| train.labels[row as usize])
            .collect();
        let votes = counts(&labels);
        let ours = ours.ok_or_else(|| Trouble::unmapped("a query found nothing"))?;
        // Of equal votes the peer takes the smallest label, and ours the one with the nearest row.
        let tied = votes.iter().filter(|(_, count)| **count == votes[&ours]);
        predicted.push(*tied.map(|(label, _)| label).next().unwrap_or(&ours));
    }
    let right = predicted
        .iter()
        .zip(&test.labels)
        .filter(|(a, b)| a == b)
        .count();
    outputs.put("accuracy", Array::scalar(right as f64 / test.len() as f64));
    let size = [predicted.len()];
    outputs.put(
        "predicted",
        Array::whole(&size, predicted.into_iter().map(i64::from).collect()),
    );
    Ok(())
}
