//! `pytorch_metric_learning.miners` and what its `loss_and_miner_utils` do with tuples.

use std::collections::BTreeSet;

use candle_core::{DType, Device, Tensor};
use nearfar_core::{
    Candidates, Comparison, Distance, Embeddings, Finite, Fraction, Kind, Miner, NonNegative,
    Pairs, Positive, Purpose, Seed, SignedPairs, Triplets, Tuples,
};
use nearfar_miners::{
    Angle, Angular, BatchEasyHard, BatchHard, Difficulty, DistanceWeighted, Hdc, Interval,
    MultiSimilarity, Packaged, PairMargin, SemiHard, Strategy, TripletMargin, UniformHistogram,
};

use super::metric::Metric;
use super::{Claim, Mapper, Pass};
use crate::golden::{Array, Case, Given, Mapped, Outputs, Settings, Trouble};

const MINERS: &str = "pytorch_metric_learning.miners.";
const UTILS: &str = "pytorch_metric_learning.utils.loss_and_miner_utils.";

const NAMES: [&str; 10] = [
    "AngularMiner",
    "BatchEasyHardMiner",
    "BatchHardMiner",
    "DistanceWeightedMiner",
    "EmbeddingsAlreadyPackagedAsTriplets",
    "HDCMiner",
    "MultiSimilarityMiner",
    "PairMarginMiner",
    "TripletMarginMiner",
    "UniformHistogramMiner",
];
const UTIL_NAMES: [&str; 5] = [
    "get_all_pairs_indices",
    "get_all_triplets_indices",
    "convert_to_triplets",
    "convert_to_weights",
    "convert_to_pos_pairs_with_unique_labels",
];

/// Sets of tuples.
pub(super) struct Miners;

impl Mapper for Miners {
    fn claims(&self, case: &Case) -> Claim {
        let function = &case.function;
        match Claim::by_name(function, MINERS, &NAMES) {
            Claim::No => Claim::by_name(function, UTILS, &UTIL_NAMES),
            claim => claim,
        }
    }

    fn run(&self, given: &Given<'_>, _: Pass) -> Mapped<Outputs> {
        let function = &given.case.function;
        function.call().finish()?;
        let mut outputs = Outputs::default();
        match function.short() {
            "DistanceWeightedMiner" => weights(given, function.params(), &mut outputs)?,
            "UniformHistogramMiner" => histogram(given, function.params(), &mut outputs)?,
            name if UTIL_NAMES.contains(&name) => {
                function.params().finish()?;
                util(given, name, &mut outputs)?;
            }
            name => {
                let (miner, distance) = miner(name, function.params())?;
                let cut = name == "HDCMiner";
                let tuples = with_candidates(given, &*distance, |candidates| {
                    let tuples = miner.mine(candidates, &mut Seed(0).rng(Purpose::Mining, 0));
                    match cut {
                        true => up_to_ties(given, candidates, tuples.into_pairs()),
                        false => Ok(tuples),
                    }
                })??;
                put(tuples, given.wants("triplets"), &mut outputs);
            }
        }
        given.finish()?;
        Ok(outputs)
    }
}

/// A miner by its name and settings, and what it looks at.
pub(super) fn miner(
    name: &str,
    mut params: Settings,
) -> Mapped<(Box<dyn Miner>, Box<dyn Distance>)> {
    let default = match name {
        "MultiSimilarityMiner" => Metric::Cosine,
        _ => Metric::LP,
    };
    let metric = Metric::of_object(params.object("distance")?, default)?;
    let miner: Box<dyn Miner> = match name {
        "BatchHardMiner" => Box::new(BatchHard {}),
        "BatchEasyHardMiner" => {
            let mut strategy = |key: &str, default| match params.text(key)?.as_deref() {
                None => Ok(default),
                Some("easy") => Ok(Strategy::Easy),
                Some("hard") => Ok(Strategy::Hard),
                Some("semihard") => Ok(Strategy::SemiHard),
                Some("all") => Ok(Strategy::All),
                Some(other) => Err(Trouble::unmapped(format!("the strategy {other}"))),
            };
            let positive = strategy("pos_strategy", Strategy::Easy)?;
            let negative = strategy("neg_strategy", Strategy::SemiHard)?;
            let mut range = |key: &str| -> Mapped<Option<Interval>> {
                match params.numbers(key)?.as_deref() {
                    None => Ok(None),
                    Some(&[one, other]) => {
                        let (one, other) = (
                            metric.on_distance_scale(one),
                            metric.on_distance_scale(other),
                        );
                        Ok(Some(Interval::new(one.min(other), one.max(other))?))
                    }
                    Some(_) => Err(Trouble::unmapped(format!("{key} of other than two"))),
                }
            };
            let (positives, negatives) = (range("allowed_pos_range")?, range("allowed_neg_range")?);
            Box::new(BatchEasyHard::new(positive, negative)?.within(positives, negatives))
        }
        "PairMarginMiner" => {
            let mut margin = |key: &str, default| -> Mapped<Finite> {
                let value = params.number_or(key, default)?;
                Ok(Finite::new(metric.on_distance_scale(value))?)
            };
            Box::new(PairMargin {
                positive_margin: margin("pos_margin", 0.2)?,
                negative_margin: margin("neg_margin", 0.8)?,
            })
        }
        "HDCMiner" => Box::new(Hdc {
            fraction: Fraction::new(params.number_or("filter_percentage", 0.5)?)?,
        }),
        "AngularMiner" => Box::new(Angular {
            angle: Angle::new(params.number_or("angle", 20.0)?.to_radians())?,
        }),
        "EmbeddingsAlreadyPackagedAsTriplets" => Box::new(Packaged {}),
        "TripletMarginMiner" => {
            let margin = NonNegative::new(params.number_or("margin", 0.2)?)?;
            let kind = params.text("type_of_triplets")?;
            let of = |difficulty| Box::new(TripletMargin { margin, difficulty });
            match kind.as_deref() {
                None | Some("all") => of(Difficulty::Violating),
                Some("hard") => of(Difficulty::Hard),
                Some("easy") => of(Difficulty::Easy),
                // `TripletMargin` with `Difficulty::SemiHard` is the same, and tested beside it.
                Some("semihard") => Box::new(SemiHard {
                    margin,
                    one_per_pair: None,
                }),
                Some(other) => return Err(Trouble::unmapped(format!("{other} triplets"))),
            }
        }
        "MultiSimilarityMiner" => Box::new(MultiSimilarity {
            epsilon: NonNegative::new(params.number_or("epsilon", 0.1)?)?,
        }),
        other => return Err(Trouble::unmapped(format!("the miner {other}"))),
    };
    params.finish()?;
    Ok((miner, metric.distance()))
}

/// What a miner sees of the embeddings that were given.
fn with_candidates<T>(
    given: &Given<'_>,
    distance: &dyn Distance,
    look: impl FnOnce(&Candidates) -> T,
) -> Mapped<T> {
    let vectors = given.tensor("embeddings", DType::F64)?;
    let labels = given.indices("labels")?;
    let n = labels.len() as u64;
    let anchors = Embeddings::labeled(vectors, labels)?;
    let references = match given.find("ref_emb") {
        None => None,
        Some(found) => {
            let labels = given.indices("ref_labels")?;
            let ids = (n..n + labels.len() as u64).collect(); // No two rows share an id.
            Some(Embeddings::new(found.tensor(DType::F64)?, labels, ids)?)
        }
    };
    let comparison = match &references {
        None => Comparison::within(&anchors),
        Some(references) => Comparison::between(&anchors, references),
    };
    let (x, y) = (&comparison.anchors.vectors, &comparison.references.vectors);
    let candidates = Candidates::new(&distance.matrix(x, y)?, &comparison, "golden")?;
    Ok(look(&candidates))
}

/// Pairs that are cut off by their distance. A pair is as far as its reverse, and where a cut goes between them the peer takes
/// either: `topk` has no order among equals. So where its pairs have the distances of ours, one by one, they are taken for ours.
fn up_to_ties(given: &Given<'_>, seen: &Candidates, ours: SignedPairs) -> Mapped<Tuples> {
    let same = |ours: Pairs, role: &str, kind: Kind| -> Mapped<Pairs> {
        let Some(&[count, 2]) = given.shape_of_output(role) else {
            return Ok(ours);
        };
        let numbers = given.start_of_output(role, 2 * count)?;
        let theirs: BTreeSet<(u32, u32)> = numbers
            .chunks(2)
            .map(|pair| (pair[0] as u32, pair[1] as u32))
            .collect();
        let possible = |&(a, b): &(u32, u32)| {
            a < seen.anchors().end && b < seen.references().end && seen.kind(a, b) == kind
        };
        if theirs.len() != ours.len() || !theirs.iter().all(possible) {
            return Ok(ours);
        }
        let distances = |pairs: &mut dyn Iterator<Item = (u32, u32)>| {
            let mut distances: Vec<f64> = pairs.map(|(a, b)| seen.distance(a, b)).collect();
            distances.sort_by(f64::total_cmp);
            distances
        };
        let one = distances(&mut ours.iter());
        let other = distances(&mut theirs.iter().copied());
        let equal = one
            .iter()
            .zip(&other)
            .all(|(x, y)| (x - y).abs() <= 1e-12 * (1.0 + x.abs()));
        Ok(if equal {
            theirs.into_iter().collect()
        } else {
            ours
        })
    };
    Ok(Tuples::Pairs(SignedPairs {
        positive: same(ours.positive, "pos_pairs", Kind::Positive)?,
        negative: same(ours.negative, "neg_pairs", Kind::Negative)?,
    }))
}

/// The probability with which each reference is drawn, a row for each anchor.
fn weights(given: &Given<'_>, mut params: Settings, outputs: &mut Outputs) -> Mapped<()> {
    let miner = DistanceWeighted {
        cutoff: Positive::new(params.number_or("cutoff", 0.5)?)?,
        nonzero_loss_cutoff: Positive::new(params.number_or("nonzero_loss_cutoff", 1.4)?)?,
    };
    params.finish()?;
    let weights = with_candidates(given, &*Metric::LP.distance(), |candidates| {
        let rows = candidates
            .anchors()
            .flat_map(|row| miner.probabilities(candidates, row));
        let size = [candidates.anchors().len(), candidates.references().len()];
        Array::real(&size, rows.collect())
    })?;
    outputs.put("weights", weights);
    Ok(())
}

/// The bounds of the bins of each sign, and how many pairs each has.
fn histogram(given: &Given<'_>, mut params: Settings, outputs: &mut Outputs) -> Mapped<()> {
    let bins = params.count("num_bins")?.unwrap_or(100);
    let miner = UniformHistogram {
        bins: bins
            .try_into()
            .map_err(|_| Trouble::unmapped("a histogram without a bin"))?,
        ..UniformHistogram::default()
    };
    params.finish()?;
    let (positive, negative) = with_candidates(given, &*Metric::LP.distance(), |candidates| {
        let (mut positive, mut negative) = (Vec::new(), Vec::new());
        for anchor in candidates.anchors() {
            positive.extend(candidates.positives(anchor).map(|it| it.distance));
            negative.extend(candidates.negatives(anchor).map(|it| it.distance));
        }
        (positive, negative)
    })?;
    for (sign, distances) in [("pos", positive), ("neg", negative)] {
        let edges = miner.edges(&distances);
        if edges.is_empty() {
            continue; // There is no such pair.
        }
        let counts: Vec<i64> = miner
            .counts(&distances)
            .iter()
            .map(|&it| it as i64)
            .collect();
        outputs.put(format!("{sign}_edges"), Array::real(&[edges.len()], edges));
        outputs.put(
            format!("{sign}_counts"),
            Array::whole(&[counts.len()], counts),
        );
    }
    Ok(())
}

fn util(given: &Given<'_>, name: &str, outputs: &mut Outputs) -> Mapped<()> {
    let labels = given.indices("labels")?;
    let vectors = Tensor::zeros((labels.len(), 1), DType::F64, &Device::Cpu)?;
    let rows = Embeddings::labeled(vectors, labels)?;
    let comparison = Comparison::within(&rows);
    let listed = |suffix: &str| -> Mapped<SignedPairs> {
        let pairs = |anchors: &str, references: &str| -> Mapped<Pairs> {
            Ok(Pairs {
                anchors: given.indices(&format!("{anchors}{suffix}"))?,
                references: given.indices(&format!("{references}{suffix}"))?,
            })
        };
        Ok(SignedPairs {
            positive: pairs("anchor1", "positive")?,
            negative: pairs("anchor2", "negative")?,
        })
    };
    let tuples = match name {
        "convert_to_weights" => {
            let weights = Tuples::Pairs(listed("_")?).weights(rows.len(), true);
            outputs.put("weights", Array::real(&[weights.len()], weights));
            return Ok(());
        }
        "convert_to_pos_pairs_with_unique_labels" => {
            let all = SignedPairs::all(&comparison, "golden")?;
            let first = all.positive.first_of_each_class(&rows.labels);
            for (role, column) in [("anchor", first.anchors), ("positive", first.references)] {
                let column: Vec<i64> = column.into_iter().map(i64::from).collect();
                outputs.put(role, Array::whole(&[column.len()], column));
            }
            return Ok(());
        }
        "get_all_pairs_indices" => Tuples::Pairs(SignedPairs::all(&comparison, "golden")?),
        "get_all_triplets_indices" => Tuples::Triplets(Triplets::all(&comparison, "golden")?),
        _ => Tuples::Pairs(listed("")?),
    };
    put(tuples, given.wants("triplets"), outputs);
    Ok(())
}

/// Tuples as sets: rows in order, each once.
fn put(tuples: Tuples, as_triplets: bool, outputs: &mut Outputs) {
    if as_triplets {
        let triplets = tuples.into_triplets();
        outputs.put("triplets", set(triplets.iter().map(|(a, p, n)| [a, p, n])));
        return;
    }
    let pairs = tuples.into_pairs();
    outputs.put("pos_pairs", set(pairs.positive.iter().map(|(a, b)| [a, b])));
    outputs.put("neg_pairs", set(pairs.negative.iter().map(|(a, b)| [a, b])));
}

fn set<const WIDTH: usize>(rows: impl Iterator<Item = [u32; WIDTH]>) -> Array {
    let mut rows: Vec<[u32; WIDTH]> = rows.collect();
    rows.sort_unstable();
    rows.dedup();
    let size = [rows.len(), WIDTH];
    Array::whole(&size, rows.into_iter().flatten().map(i64::from).collect())
}
