//! `pytorch_metric_learning.miners` and what its `loss_and_miner_utils` do with tuples.

use candle_core::{DType, Device, Tensor};
use nearfar_core::{
    Candidates, Comparison, Distance, Embeddings, Miner, NonNegative, Pairs, Positive, Purpose,
    Seed, SignedPairs, Triplets, Tuples,
};
use nearfar_miners::{
    BatchHard, Difficulty, DistanceWeighted, MultiSimilarity, SemiHard, TripletMargin,
};

use super::metric::Metric;
use super::{Claim, Mapper, Pass};
use crate::golden::{Array, Case, Given, Mapped, Outputs, Settings, Trouble};

const MINERS: &str = "pytorch_metric_learning.miners.";
const UTILS: &str = "pytorch_metric_learning.utils.loss_and_miner_utils.";

const NAMES: [&str; 4] = [
    "BatchHardMiner",
    "TripletMarginMiner",
    "MultiSimilarityMiner",
    "DistanceWeightedMiner",
];
const HARDEST_PAIRS: &str = "BatchEasyHardMiner";
const UTIL_NAMES: [&str; 3] = [
    "get_all_pairs_indices",
    "get_all_triplets_indices",
    "convert_to_triplets",
];

/// Sets of tuples.
pub(super) struct Miners;

impl Mapper for Miners {
    fn claims(&self, case: &Case) -> Claim {
        let function = &case.function;
        if function.path().strip_prefix(MINERS) == Some(HARDEST_PAIRS) {
            // The hardest of both is our batch hard, as pairs; the other strategies are not ours.
            let mut params = function.params();
            let mut is_hard = |key: &str| params.text(key) == Ok(Some("hard".into()));
            let both = is_hard("pos_strategy") && is_hard("neg_strategy");
            let _ = params.object("distance");
            return match params.finish() {
                Ok(()) if both => Claim::Ours,
                _ => Claim::NotWith("but for the hardest of both".into()),
            };
        }
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
            name if UTIL_NAMES.contains(&name) => {
                function.params().finish()?;
                util(given, name, &mut outputs)?;
            }
            name => {
                let mut params = function.params();
                if name == HARDEST_PAIRS {
                    params.text("pos_strategy")?;
                    params.text("neg_strategy")?;
                }
                let (miner, distance) = miner(name, params)?;
                let tuples = with_candidates(given, &*distance, |candidates| {
                    miner.mine(candidates, &mut Seed(0).rng(Purpose::Mining, 0))
                })?;
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
        "BatchHardMiner" | HARDEST_PAIRS => Box::new(BatchHard {}),
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

fn util(given: &Given<'_>, name: &str, outputs: &mut Outputs) -> Mapped<()> {
    let labels = given.indices("labels")?;
    let vectors = Tensor::zeros((labels.len(), 1), DType::F64, &Device::Cpu)?;
    let rows = Embeddings::labeled(vectors, labels)?;
    let comparison = Comparison::within(&rows);
    let tuples = match name {
        "get_all_pairs_indices" => Tuples::Pairs(SignedPairs::all(&comparison, "golden")?),
        "get_all_triplets_indices" => Tuples::Triplets(Triplets::all(&comparison, "golden")?),
        _ => {
            let pairs = |anchors: &str, references: &str| -> Mapped<Pairs> {
                Ok(Pairs {
                    anchors: given.indices(anchors)?,
                    references: given.indices(references)?,
                })
            };
            Tuples::Pairs(SignedPairs {
                positive: pairs("anchor1", "positive")?,
                negative: pairs("anchor2", "negative")?,
            })
        }
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
