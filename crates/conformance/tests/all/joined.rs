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
    let mut join = Join {
        classes: Some(classes),
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
        Compares::Centers => {}
    }
    config.build(join).expect("it fits")
}

/// Each miner that a loss can take, and none.
pub(crate) fn miners_of(config: &LossConfig) -> Vec<Option<MinerConfig>> {
    let mut miners = vec![None];
    if config.reads() != Reads::ScoredPairs {
        miners.extend(MinerConfig::all().into_iter().map(Some));
    }
    miners
}

/// Shows rows to a loss in the way that it reads: by class, or the rows in pairs with a score each.
pub(crate) fn shown<T>(
    config: &LossConfig,
    rows: &Embeddings,
    look: impl FnOnce(&Comparison<'_>) -> T,
) -> T {
    if config.reads() != Reads::ScoredPairs {
        return look(&Comparison::within(rows));
    }
    let n = rows.len() as u32;
    let pairs: Pairs = (0..n).map(|row| (row, (row + 1) % n)).collect();
    let targets: Vec<f32> = (0..n).map(|row| 1.0 + (row % 4) as f32).collect();
    let relation = Relation::Scored {
        pairs: &pairs,
        targets: &targets,
    };
    look(&Comparison {
        relation,
        ..Comparison::within(rows)
    })
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
