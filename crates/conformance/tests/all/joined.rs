//! Losses joined to real distances and miners, and what they are shown.

use candle_core::{DType, Device, Result, Tensor};
use nearfar_core::{Comparison, Embeddings, Loss, Pairs, Purpose, Relation, Rng, Seed};
use nearfar_losses::{Compares, Join, LossConfig, Reads};
use nearfar_metrics::{DistanceConfig, SimilarityConfig};
use nearfar_miners::MinerConfig;

/// A loss with the metric that it takes by default.
pub(crate) fn joined(
    config: &LossConfig,
    miner: Option<&MinerConfig>,
    (classes, width): (usize, usize),
    dtype: DType,
) -> Box<dyn Loss> {
    build(config, miner, (classes, width), dtype).expect("it fits")
}

fn build(
    config: &LossConfig,
    miner: Option<&MinerConfig>,
    (classes, width): (usize, usize),
    dtype: DType,
) -> Result<Box<dyn Loss>> {
    let mut join = Join {
        classes: Some(classes),
        class_sizes: (1..=classes as u64).collect(),
        width,
        dtype,
        miner: miner.map(MinerConfig::build),
        ..Join::default()
    };
    match config.defaults().compares {
        Compares::Distance(name) => {
            let distance = DistanceConfig::of_name(name).expect("a default is known");
            join.distance = Some(distance.build());
        }
        Compares::Similarity(name) => {
            let similarity = SimilarityConfig::of_name(name).expect("a default is known");
            join.similarity = Some(similarity.build());
        }
        Compares::Centers | Compares::DistantCenters | Compares::Own => {}
    }
    config.build(join)
}

/// Each miner that a loss can take, and none.
pub(crate) fn miners_of(config: &LossConfig) -> Vec<Option<MinerConfig>> {
    let mut miners = vec![None];
    if takes_miner(config) {
        miners.extend(MinerConfig::all().into_iter().map(Some));
    }
    miners
}

/// Whether it learns from rows that are given in pairs, not from classes.
pub(crate) fn reads_pairs(config: &LossConfig) -> bool {
    matches!(config.reads(), Reads::ScoredPairs | Reads::Views)
}

/// Whether a loss can be joined to a miner; some take their tuples themselves.
pub(crate) fn takes_miner(config: &LossConfig) -> bool {
    let miners = MinerConfig::all();
    let miner = miners.first().expect("there are miners");
    build(config, Some(miner), (3, 4), DType::F32).is_ok()
}

/// Shows rows to a loss in the way that it reads: by class, the rows in pairs with a score each, or with sets, targets or masks
/// made of the classes.
pub(crate) fn shown<T>(
    config: &LossConfig,
    rows: &Embeddings,
    look: impl FnOnce(&Comparison<'_>) -> T,
) -> T {
    let within = Comparison::within(rows);
    let with = |relation| Comparison { relation, ..within };
    match config.reads() {
        Reads::Classes | Reads::ClassesOrPairs => look(&within),
        Reads::Views => {
            // Like the first, but for some noise: else all their columns correlate as well as they ever could.
            let mut rng = Seed(29).rng(Purpose::Generation, 0);
            let count = rows.vectors.elem_count();
            let noise: Vec<f64> = (0..count).map(|_| 0.5 * rng.normal()).collect();
            let second = Tensor::from_vec(noise, rows.vectors.shape(), &Device::Cpu)
                .and_then(|noise| noise.to_dtype(rows.vectors.dtype()))
                .and_then(|noise| rows.vectors.affine(0.7, 0.1)? + noise)
                .expect("numbers");
            let mut second = with_vectors(rows, second);
            second.ids.iter_mut().for_each(|id| *id += 1_000);
            look(&Comparison::between(rows, &second))
        }
        Reads::ScoredPairs => {
            let n = rows.len() as u32;
            // One anchor has two pairs.
            let another = (n > 2).then_some((0, 2));
            let next = (0..n).map(|row| (row, (row + 1) % n));
            let pairs: Pairs = next.chain(another).collect();
            let target = |row: u32| match config.name() {
                "softmax_nli" => (row % 3) as f32, // A class.
                _ => 1.0 + (row % 4) as f32,
            };
            let targets: Vec<f32> = (0..pairs.len() as u32).map(target).collect();
            look(&with(Relation::Scored {
                pairs: &pairs,
                targets: &targets,
            }))
        }
        Reads::Sets => {
            let labels = rows.labels.iter();
            let sets: Vec<Vec<u32>> = labels.map(|&it| vec![it, it / 2 + 9]).collect();
            look(&with(Relation::Sets {
                anchors: &sets,
                references: &sets,
            }))
        }
        Reads::Targets => {
            let targets: Vec<f32> = rows.labels.iter().map(|&it| it as f32 * 0.75).collect();
            look(&with(Relation::Targets {
                anchors: &targets,
                references: &targets,
            }))
        }
        Reads::Masks => {
            // One image of one row of pixels, whose vectors are the rows.
            let (n, d) = rows.vectors.dims2().expect("a matrix");
            let dense = rows.vectors.t().and_then(|it| it.reshape((1, d, 1, n)));
            let mut image = rows.clone();
            image.extra.insert("dense".into(), dense.expect("as large"));
            let ids = rows.labels.iter().map(|&it| it + 1).collect();
            let masks = Tensor::from_vec(ids, (1, 1, n), &Device::Cpu).expect("as large");
            let relation = Relation::Masks(&masks);
            look(&Comparison {
                relation,
                ..Comparison::within(&image)
            })
        }
    }
}

/// Normal numbers, always the same for the same seed.
pub(crate) fn noise(labels: &[u32], width: usize, seed: u64) -> Embeddings {
    let mut rng = Seed(seed).rng(Purpose::Generation, 0);
    let numbers: Vec<f64> = (0..labels.len() * width).map(|_| rng.normal()).collect();
    let vectors = Tensor::from_vec(numbers, (labels.len(), width), &Device::Cpu).expect("small");
    Embeddings::labeled(vectors, labels.to_vec()).expect("one label for each row")
}

/// Other vectors with the same labels.
pub(crate) fn with_vectors(rows: &Embeddings, vectors: Tensor) -> Embeddings {
    Embeddings {
        vectors,
        ..rows.clone()
    }
}

/// Where miners draw from.
pub(crate) fn stream() -> Rng {
    Seed(5).rng(Purpose::Mining, 0)
}

pub(crate) fn numbers(tensor: &Tensor) -> Vec<f64> {
    let flat = tensor.flatten_all().and_then(|it| it.to_dtype(DType::F64));
    flat.and_then(|it| it.to_vec1()).expect("numbers")
}

/// Labels, width and vectors of batches that are hard on code.
pub(crate) fn awkward_batches() -> Result<Vec<(&'static str, Embeddings)>> {
    let plain = noise(&[0, 0, 1, 1, 2, 2, 0, 3], 4, 1);
    let rows = plain.vectors.to_vec2::<f64>()?;
    let of = |rows: Vec<Vec<f64>>| -> Result<Embeddings> {
        Ok(with_vectors(&plain, Tensor::new(rows, &Device::Cpu)?))
    };
    let mut mixed = rows.clone();
    mixed[1] = mixed[0].clone(); // Of one class.
    mixed[4] = mixed[2].clone(); // Of two.
    mixed[3] = vec![0.0; 4];
    mixed[6] = mixed[5].iter().map(|x| -x).collect();
    let mut one_is_far = rows.clone();
    one_is_far[2].iter_mut().for_each(|x| *x *= 1e15);
    let scaled = |factor: f64| -> Result<Embeddings> {
        Ok(with_vectors(&plain, (&plain.vectors * factor)?))
    };
    Ok(vec![
        ("no row", noise(&[], 4, 2)),
        ("one row", noise(&[0], 4, 3)),
        ("two rows of one class", noise(&[1, 1], 4, 4)),
        ("two rows of two classes", noise(&[1, 2], 4, 5)),
        ("one class", noise(&[3; 6], 4, 6)),
        ("all distinct", noise(&[0, 1, 2, 3], 4, 7)),
        ("one row beside a class", noise(&[0, 0, 0, 0, 1], 4, 8)),
        ("coinciding rows", of(vec![rows[0].clone(); 8])?),
        ("rows of zeros", scaled(0.0)?),
        ("some coincide, are zero or opposite", of(mixed)?),
        ("huge rows", scaled(1e18)?),
        ("tiny rows", scaled(1e-30)?),
        ("one huge row", of(one_is_far)?),
        ("plain", plain.clone()),
    ])
}
