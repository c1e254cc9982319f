//! Values of faiss, scikit-learn, scipy and pytorch-metric-learning, where `NEARFAR_GOLDEN` says they are.
#![allow(clippy::unwrap_used, clippy::print_stdout)] // A test that panics fails; one that is skipped says so.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use nearfar_core::EmbeddingTable;
use nearfar_eval::{
    Agreement, DetectionCost, Exclude, Measure, Neighbors, PerQuery, Roc, Search, kendall,
    knn_classes, map_at_r, mean_average_precision, mean_reciprocal_rank, pearson, precision_at,
    r_precision, recall_at, search, spearman,
};
use safetensors::tensor::{Dtype, SafeTensors};
use serde_json::Value;

fn folder() -> Option<PathBuf> {
    let Some(folder) = std::env::var_os("NEARFAR_GOLDEN") else {
        println!("skipped: golden values (NEARFAR_GOLDEN is not set)");
        return None;
    };
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    Some(root.join(folder))
}

struct Family {
    tensors: BTreeMap<String, (Vec<usize>, Vec<f64>)>,
    cases: Vec<Value>,
}

impl Family {
    fn read(folder: &Path, name: &str) -> Self {
        let bytes = std::fs::read(folder.join(format!("{name}.safetensors"))).unwrap();
        let tensors = SafeTensors::deserialize(&bytes).unwrap();
        let numbers = |name: &str| {
            let view = tensors.tensor(name).unwrap();
            let chunks = view.data().as_chunks::<8>().0.iter();
            let values = match view.dtype() {
                Dtype::F64 => chunks.map(|bytes| f64::from_le_bytes(*bytes)).collect(),
                Dtype::I64 => chunks
                    .map(|bytes| i64::from_le_bytes(*bytes) as f64)
                    .collect(),
                other => panic!("{other:?}"),
            };
            (view.shape().to_vec(), values)
        };
        let tensors = tensors
            .names()
            .iter()
            .map(|name| (name.to_string(), numbers(name)))
            .collect();
        let text = std::fs::read_to_string(folder.join(format!("{name}.json"))).unwrap();
        let manifest: Value = serde_json::from_str(&text).unwrap();
        Self {
            tensors,
            cases: manifest["cases"].as_array().unwrap().clone(),
        }
    }

    /// The input of a case whose name ends in a role.
    fn input(&self, case: &Value, role: &str) -> Option<&(Vec<usize>, Vec<f64>)> {
        let inputs = case["inputs"].as_array().unwrap();
        let name = inputs
            .iter()
            .map(|name| name.as_str().unwrap())
            .find(|name| name.ends_with(&format!("/{role}")))?;
        self.tensors.get(name)
    }

    fn table(&self, case: &Value, rows: &str, labels: Option<&str>) -> Option<EmbeddingTable> {
        let (shape, values) = self.input(case, rows)?;
        let labels = labels.and_then(|labels| self.input(case, labels));
        Some(EmbeddingTable {
            vectors: values.iter().map(|x| *x as f32).collect(),
            dim: shape[1],
            labels: labels
                .map(|(_, labels)| labels.iter().map(|x| *x as u32).collect())
                .unwrap_or_default(),
            ids: (0..shape[0] as u64).collect(),
        })
    }

    /// Compares an output as the manifest says.
    fn check(&self, case: &Value, role: &str, got: &[f64]) {
        let name = format!("{}/{role}", case["case"].as_str().unwrap());
        let Some((_, want)) = self.tensors.get(&name) else {
            assert!(case["peer_fails"].is_object(), "{name} is missing");
            return;
        };
        assert_eq!(got.len(), want.len(), "{name}");
        let (rtol, atol) = (
            case["rtol"].as_f64().unwrap(),
            case["atol"].as_f64().unwrap(),
        );
        let largest = want.iter().fold(0.0f64, |largest, x| largest.max(x.abs()));
        for (got, want) in got.iter().zip(want) {
            assert!(
                (got - want).abs() <= atol + rtol * largest,
                "{name}: {got} instead of {want}"
            );
        }
    }
}

fn peer(case: &Value) -> &str {
    let function = &case["function"];
    function["name"]
        .as_str()
        .or(function["peer"].as_str())
        .unwrap()
}

#[test]
fn golden_nearest_neighbors() {
    let Some(folder) = folder() else { return };
    let family = Family::read(&folder, "knn");
    let mut checked = 0;
    for case in &family.cases {
        let mut queries = family.table(case, "queries", None).unwrap();
        let gallery = family.table(case, "database", None).unwrap();
        let params = &case["function"]["params"];
        let k = params["k"].as_u64().unwrap_or(0) as usize;
        if let Some(at) = params["nan_at"].as_array() {
            let at = |axis: usize| at[axis].as_u64().unwrap() as usize;
            queries.vectors[at(0) * queries.dim + at(1)] = f32::NAN;
            let found = search(
                &queries,
                &gallery,
                Measure::SQUARED_EUCLIDEAN,
                &Search {
                    k,
                    ..Search::default()
                },
            )
            .unwrap();
            assert_eq!(
                (found.found[at(0)], &found.queries_not_finite[..]),
                (0, &[at(0) as u32][..])
            );
            checked += 1;
            continue;
        }
        let manhattan = Manhattan;
        let (measure, sign, add) = match peer(case) {
            "faiss.IndexFlatL2" | "range_search" => (Measure::SQUARED_EUCLIDEAN, 1.0, 0.0),
            "faiss.IndexFlatIP" => (Measure::DOT, -1.0, 0.0),
            "cosine" => (Measure::COSINE, -1.0, 1.0),
            "l1" => (Measure::of(&manhattan), 1.0, 0.0),
            other => panic!("{other}"),
        };
        let search_for = |k: usize, block| {
            search(
                &queries,
                &gallery,
                measure,
                &Search {
                    k,
                    block,
                    ..Search::default()
                },
            )
            .unwrap()
        };
        checked += 1;
        if peer(case) == "range_search" {
            let radius = params["radius_squared"].as_f64().unwrap();
            let all = search_for(gallery.len(), (128, 2048));
            let (mut limits, mut ids) = (vec![0.0], Vec::new());
            for query in 0..queries.len() {
                let (indices, distances) = all.of(query);
                let within = distances
                    .iter()
                    .take_while(|distance| **distance < radius)
                    .count();
                let mut within = indices[..within].to_vec();
                within.sort_unstable();
                ids.extend(within.into_iter().map(f64::from));
                limits.push(ids.len() as f64);
            }
            family.check(case, "lims", &limits);
            family.check(case, "ids", &ids);
            continue;
        }
        for block in [(128, 2048), (7, 13)] {
            let found = search_for(k, block);
            if k > gallery.len() {
                assert_eq!(found.k, gallery.len(), "a shorter list");
                continue;
            }
            let ids: Vec<f64> = found
                .indices
                .iter()
                .map(|&index| f64::from(index))
                .collect();
            family.check(case, "ids", &ids);
            let distances: Vec<f64> = found.distances.iter().map(|d| add + sign * d).collect();
            family.check(case, "distances", &distances);
        }
    }
    println!("knn: {checked} of {} cases checked", family.cases.len());
    assert_eq!(checked, family.cases.len());
}

#[derive(Debug)]
struct Manhattan;

impl nearfar_core::Distance for Manhattan {
    fn matrix(
        &self,
        x: &candle_core::Tensor,
        y: &candle_core::Tensor,
    ) -> candle_core::Result<candle_core::Tensor> {
        x.unsqueeze(1)?
            .broadcast_sub(&y.unsqueeze(0)?)?
            .abs()?
            .sum(2)
    }
    fn paired(
        &self,
        x: &candle_core::Tensor,
        y: &candle_core::Tensor,
    ) -> candle_core::Result<candle_core::Tensor> {
        (x - y)?.abs()?.sum(1)
    }
    fn axioms(&self) -> nearfar_core::Axioms {
        nearfar_core::Axioms::METRIC
    }
}

fn reduced(case: &Value, score: &PerQuery) -> Vec<f64> {
    let params = &case["function"]["params"];
    if params["return_per_class"] == true {
        return score.per_class().into_values().collect();
    }
    let mean = if params["avg_of_avgs"] == true {
        score.mean_of_classes()
    } else {
        score.mean()
    };
    mean.into_iter().collect()
}

fn accuracy(family: &Family, case: &Value, measure: Measure<'_>) {
    if let Some((_, clusters)) = family.input(case, "cluster_labels") {
        let numbers = |list: &[f64]| list.iter().map(|x| *x as u32).collect::<Vec<_>>();
        let classes = &family.input(case, "query_labels").unwrap().1;
        let agreement = Agreement::new(&numbers(classes), &numbers(clusters)).unwrap();
        family.check(case, "AMI", &[agreement.ami()]);
        family.check(case, "NMI", &[agreement.nmi()]);
        return;
    }
    let queries = family.table(case, "query", Some("query_labels")).unwrap();
    let reference = family.table(case, "reference", Some("reference_labels"));
    let (gallery, exclude) = match &reference {
        // The peer drops the nearest when the references include the queries, which it finds by place here.
        Some(reference) if case["function"]["call"]["ref_includes_query"] == true => {
            (reference, Exclude::SameIndex)
        }
        Some(reference) => (reference, Exclude::Nothing),
        None => (&queries, Exclude::SameIndex),
    };
    let mut counts = BTreeMap::<u32, usize>::new();
    gallery
        .labels
        .iter()
        .for_each(|label| *counts.entry(*label).or_default() += 1);
    let k = match &case["function"]["params"]["k"] {
        Value::Number(k) => Some(k.as_u64().unwrap() as usize),
        Value::String(_) => {
            let largest = counts.values().max().copied().unwrap_or(0);
            Some((largest - usize::from(matches!(exclude, Exclude::SameIndex))).max(1))
        }
        _ => None,
    };
    let settings = Search {
        k: k.unwrap_or(gallery.len()),
        exclude,
        rank_all: true,
        ..Search::default()
    };
    let all = search(&queries, gallery, measure, &settings).unwrap();
    let seen: Neighbors = if let Some(k) = k {
        all.truncated(k)
    } else {
        all.clone()
    };
    if k.is_none() {
        assert_eq!(
            all.truncated(gallery.len()).rankings,
            all.rankings,
            "lists and counts agree"
        );
    }
    let scores: [(&str, PerQuery); 5] = [
        ("precision_at_1", precision_at(&seen, 1).unwrap()),
        ("r_precision", r_precision(&seen).unwrap()),
        (
            "mean_average_precision",
            mean_average_precision(&seen).unwrap(),
        ),
        ("mean_average_precision_at_r", map_at_r(&seen).unwrap()),
        ("mean_reciprocal_rank", mean_reciprocal_rank(&seen).unwrap()),
    ];
    let wanted = case["function"]["params"]["include"].as_array();
    for (name, score) in scores {
        if wanted.is_some_and(|wanted| !wanted.contains(&name.into())) {
            continue;
        }
        let got = reduced(case, &score);
        if case["peer_fails"]["kind"] == "nan" {
            assert!(got.is_empty(), "all queries are lone");
        } else {
            family.check(case, name, &got);
        }
    }
}

fn verification(family: &Family, case: &Value) {
    let scores = &family.input(case, "scores").unwrap().1;
    let same: Vec<bool> = family
        .input(case, "is_same")
        .unwrap()
        .1
        .iter()
        .map(|x| *x == 1.0)
        .collect();
    let roc = Roc::new(scores, &same);
    if case["outputs"].as_array().unwrap().is_empty() {
        assert!(
            roc.unwrap_err()
                .to_string()
                .contains("pairs of one class and pairs of two")
        );
        return;
    }
    let roc = roc.unwrap();
    let far: Vec<f64> = case["function"]["params"]["far"]
        .as_array()
        .unwrap()
        .iter()
        .map(|x| x.as_f64().unwrap())
        .collect();
    family.check(case, "eer", &[roc.eer().rate]);
    family.check(case, "roc_auc", &[roc.auc()]);
    family.check(
        case,
        "tar_at_far",
        &far.iter()
            .map(|&far| roc.largest_tar(far))
            .collect::<Vec<_>>(),
    );
    family.check(
        case,
        "far",
        &roc.points.iter().map(|point| point.far).collect::<Vec<_>>(),
    );
    family.check(
        case,
        "tar",
        &roc.points
            .iter()
            .map(|point| 1.0 - point.frr)
            .collect::<Vec<_>>(),
    );
    family.check(case, "best_accuracy", &[roc.best_accuracy().0]);
    for target in [0.01, 0.05, 0.5] {
        let cost = DetectionCost {
            target,
            ..DetectionCost::default()
        };
        family.check(case, &format!("min_dcf.{target}"), &[roc.min_dcf(cost)]);
    }
}

fn reid(family: &Family, case: &Value) {
    let queries = family.table(case, "query", None).unwrap();
    let gallery = family.table(case, "gallery", None).unwrap();
    let column = |role: &str| family.input(case, role).unwrap().1.clone();
    let (query_ids, query_cams) = (column("query_ids"), column("query_cams"));
    let (gallery_ids, gallery_cams) = (column("gallery_ids"), column("gallery_cams"));
    let label = |id: &f64| (*id + 1.0) as u32; // Junk is −1.
    let queries = EmbeddingTable {
        labels: query_ids.iter().map(label).collect(),
        ..queries
    };
    let gallery = EmbeddingTable {
        labels: gallery_ids.iter().map(label).collect(),
        ..gallery
    };
    let skip = |query: usize, row: usize| {
        gallery_ids[row] == -1.0
            || (query_ids[query] == gallery_ids[row] && query_cams[query] == gallery_cams[row])
    };
    let settings = Search {
        k: 20,
        exclude: Exclude::Where(&skip),
        rank_all: true,
        ..Search::default()
    };
    let found = search(&queries, &gallery, Measure::SQUARED_EUCLIDEAN, &settings).unwrap();
    let cmc: Vec<f64> = (1..=20)
        .map(|k| recall_at(&found, k).unwrap().mean().unwrap())
        .collect();
    family.check(case, "cmc", &cmc);
    let ap = mean_average_precision(&found).unwrap();
    family.check(case, "map", &[ap.mean().unwrap()]);
}

#[test]
fn golden_scores() {
    let Some(folder) = folder() else { return };
    let family = Family::read(&folder, "metrics");
    let mut checked = 0;
    let mut later = BTreeMap::<&str, usize>::new();
    for case in &family.cases {
        checked += 1;
        match peer(case) {
            "pytorch_metric_learning.utils.accuracy_calculator.AccuracyCalculator" => {
                accuracy(&family, case, Measure::SQUARED_EUCLIDEAN);
            }
            "pytorch_metric_learning.utils.inference.CustomKNN" => {
                let measure = match case["function"]["params"]["distance"].as_str().unwrap() {
                    "cosine" => Measure::COSINE,
                    "dot" => Measure::DOT,
                    "l1" => Measure::Distance(&Manhattan),
                    other => panic!("{other}"),
                };
                accuracy(&family, case, measure);
            }
            "recall_at_k" | "precision_at_k" => {
                let queries = family.table(case, "query", Some("query_labels")).unwrap();
                let reference = family.table(case, "reference", Some("reference_labels"));
                let exclude = if reference.is_some() {
                    Exclude::Nothing
                } else {
                    Exclude::SameIndex
                };
                let gallery = reference.as_ref().unwrap_or(&queries);
                let settings = Search {
                    k: 100,
                    exclude,
                    rank_all: true,
                    ..Search::default()
                };
                let found =
                    search(&queries, gallery, Measure::SQUARED_EUCLIDEAN, &settings).unwrap();
                let params = &case["function"]["params"];
                if let Some(k) = params["k"].as_u64() {
                    let score = precision_at(&found, k as usize).unwrap();
                    family.check(case, "precision", &[score.mean_with_lone_as(0.0).unwrap()]);
                    continue;
                }
                let ks = params["K"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(|k| k.as_u64().unwrap() as usize);
                let recall: Vec<f64> = ks
                    .map(|k| recall_at(&found, k).unwrap().mean().unwrap())
                    .collect();
                family.check(case, "recall", &recall);
                let valid = found
                    .relevant
                    .iter()
                    .filter(|relevant| **relevant > 0)
                    .count();
                family.check(case, "valid_queries", &[valid as f64]);
            }
            "verification" | "sklearn.metrics.roc_auc_score" => verification(&family, case),
            "reid_cmc_map" => reid(&family, case),
            "sklearn.metrics" => {
                let labels = |role: &str| {
                    family
                        .input(case, role)
                        .unwrap()
                        .1
                        .iter()
                        .map(|x| *x as u32)
                        .collect::<Vec<_>>()
                };
                let agreement = Agreement::new(&labels("labels"), &labels("clusters")).unwrap();
                family.check(case, "nmi", &[agreement.nmi()]);
                family.check(case, "ami", &[agreement.ami()]);
                family.check(case, "ari", &[agreement.ari()]);
                family.check(case, "mutual_info", &[agreement.mutual_information()]);
            }
            "scipy.stats pearsonr, spearmanr, kendalltau" => {
                let (x, y) = (
                    &family.input(case, "x").unwrap().1,
                    &family.input(case, "y").unwrap().1,
                );
                let scores = [
                    ("pearson", pearson(x, y)),
                    ("spearman", spearman(x, y)),
                    ("kendall_b", kendall(x, y)),
                ];
                for (name, score) in scores {
                    match score {
                        Ok(score) => family.check(case, name, &[score]),
                        Err(_) => assert!(case["peer_fails"].is_object(), "{case}"),
                    }
                }
            }
            "sklearn.neighbors.KNeighborsClassifier"
                if case["function"]["params"]["n_neighbors"] == 1 =>
            {
                let train = family.table(case, "train", Some("train_labels")).unwrap();
                let test = family.table(case, "test", Some("test_labels")).unwrap();
                let found = search(
                    &test,
                    &train,
                    Measure::EUCLIDEAN,
                    &Search {
                        k: 1,
                        ..Search::default()
                    },
                )
                .unwrap();
                let predicted = knn_classes(&found, 1).unwrap();
                family.check(
                    case,
                    "predicted",
                    &predicted
                        .iter()
                        .map(|it| f64::from(it.unwrap()))
                        .collect::<Vec<_>>(),
                );
            }
            other => {
                checked -= 1;
                *later.entry(other).or_default() += 1;
            }
        }
    }
    println!(
        "metrics: {checked} of {} cases checked; not yet: {later:?}",
        family.cases.len()
    );
}
