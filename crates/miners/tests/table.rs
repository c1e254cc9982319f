//! Every miner on every awkward batch.

use candle_core::{DType, Device, Result, Tensor};
use nearfar_core::{
    Candidates, Comparison, Embeddings, Fraction, Kind, Pairs, Purpose, Relation, Rng, Seed,
    SignedPairs, Tuples,
};
use nearfar_miners::{
    Base, BatchEasyHard, Difficulty, MinerConfig, NHard, OnePerPair, Random, Ranks, RhoSwitch,
    SemiHard, Shape, Strategy, TripletMargin,
};

/// Every miner with its defaults, and the settings that choose another way.
fn miners() -> Vec<MinerConfig> {
    let mut miners = MinerConfig::all();
    miners.push(MinerConfig::Random(Random {
        shape: Shape::Pairs,
        ..Random::default()
    }));
    for one_per_pair in [OnePerPair::Nearest, OnePerPair::Random] {
        miners.push(MinerConfig::SemiHard(SemiHard {
            one_per_pair: Some(one_per_pair),
            ..SemiHard::default()
        }));
    }
    for difficulty in [Difficulty::Hard, Difficulty::SemiHard, Difficulty::Easy] {
        miners.push(MinerConfig::TripletMargin(TripletMargin {
            difficulty,
            ..TripletMargin::default()
        }));
    }
    let strategies = [
        Strategy::Easy,
        Strategy::Hard,
        Strategy::SemiHard,
        Strategy::All,
    ];
    for positive in strategies {
        let both = strategies.map(|negative| BatchEasyHard::new(positive, negative));
        miners.extend(both.into_iter().flatten().map(MinerConfig::BatchEasyHard));
    }
    let ranks = |first, last| Ranks::new(first, last).expect("in order");
    miners.push(MinerConfig::NHard(NHard {
        positives: ranks(2, 3),
        negatives: ranks(1, 4),
    }));
    miners.push(MinerConfig::RhoSwitch(RhoSwitch {
        base: Base::Random(Random::default()),
        probability: Fraction::literal(0.5),
    }));
    miners
}

fn random_rows(n: usize, d: usize, labels: Vec<u32>, rng: &mut Rng) -> Embeddings {
    let numbers: Vec<f32> = (0..n * d).map(|_| rng.normal() as f32).collect();
    let vectors = Tensor::from_vec(numbers, (n, d), &Device::Cpu).expect("full");
    Embeddings::labeled(vectors, labels).expect("a label each")
}

fn awkward_batches() -> Vec<(&'static str, Embeddings)> {
    let mut rng = Seed(11).rng(Purpose::Generation, 0);
    let rng = &mut rng;
    let scaled = |rows: Embeddings, factor: f64| Embeddings {
        vectors: (&rows.vectors * factor).expect("a number times a matrix"),
        ..rows
    };
    let labels = vec![0, 0, 1, 1, 2, 2, 0, 3];
    let plain = random_rows(8, 3, labels.clone(), rng);
    vec![
        ("no row", random_rows(0, 3, vec![], rng)),
        ("one row", random_rows(1, 3, vec![0], rng)),
        ("one class", random_rows(6, 3, vec![4; 6], rng)),
        ("all distinct", random_rows(6, 3, (0..6).collect(), rng)),
        ("coinciding rows", scaled(plain.clone(), 0.0)),
        ("huge rows", scaled(plain.clone(), 1e18)),
        ("tiny rows", scaled(plain.clone(), 1e-30)),
        ("one dimension", random_rows(8, 1, labels.clone(), rng)),
        ("two dimensions", random_rows(8, 2, labels, rng)),
        (
            "many rows",
            random_rows(64, 16, (0..64).map(|row| row % 9).collect(), rng),
        ),
        ("not a number", scaled(plain.clone(), f64::NAN)),
        ("plain", plain),
    ]
}

fn candidates(comparison: &Comparison<'_>) -> Result<Candidates> {
    let (x, y) = (&comparison.anchors.vectors, &comparison.references.vectors);
    let differences = x.unsqueeze(1)?.broadcast_sub(&y.unsqueeze(0)?)?;
    let distances = differences.to_dtype(DType::F64)?.sqr()?.sum(2)?.sqrt()?;
    Candidates::new(&distances, comparison, "test")
}

/// Every miner gives valid tuples, and the same ones for the same seed.
fn check(name: &str, comparison: &Comparison<'_>) -> Result<()> {
    let candidates = candidates(comparison)?;
    let valid = |anchor: u32, reference: u32, kind: Kind| {
        (anchor as usize) < comparison.anchors.len()
            && (reference as usize) < comparison.references.len()
            && candidates.kind(anchor, reference) == kind
    };
    for config in miners() {
        let miner = config.build();
        let tuples = miner.mine(&candidates, &mut Seed(3).rng(Purpose::Mining, 5));
        let again = config
            .build()
            .mine(&candidates, &mut Seed(3).rng(Purpose::Mining, 5));
        assert_eq!(tuples, again, "{config:?} on {name}");
        match tuples {
            Tuples::Pairs(SignedPairs { positive, negative }) => {
                assert!(
                    positive.iter().all(|(a, p)| valid(a, p, Kind::Positive)),
                    "{config:?} on {name}"
                );
                assert!(
                    negative.iter().all(|(a, n)| valid(a, n, Kind::Negative)),
                    "{config:?} on {name}"
                );
            }
            Tuples::Triplets(triplets) => {
                for (a, p, n) in triplets.iter() {
                    let holds = match config {
                        // Its places count, and not its labels.
                        MinerConfig::Packaged(_) => {
                            (p, n) == (a + 1, a + 2) && (n as usize) < comparison.references.len()
                        }
                        // Its negatives may be of the anchor's class.
                        MinerConfig::RhoSwitch(_) => {
                            valid(a, p, Kind::Positive)
                                && (valid(a, n, Kind::Negative) || valid(a, n, Kind::Positive))
                                && p != n
                        }
                        _ => valid(a, p, Kind::Positive) && valid(a, n, Kind::Negative),
                    };
                    assert!(holds, "{config:?} on {name}: {:?}", (a, p, n));
                }
            }
        }
        assert!(
            miner.state().is_empty() && miner.interval().is_none(),
            "{config:?} remembers nothing"
        );
    }
    Ok(())
}

#[test]
fn every_miner_gives_valid_tuples_and_the_same_ones_for_the_same_seed() -> Result<()> {
    for (name, rows) in awkward_batches() {
        check(name, &Comparison::within(&rows))?;
    }
    Ok(())
}

#[test]
fn rows_of_two_sides_and_listed_pairs_are_mined_too() -> Result<()> {
    let mut rng = Seed(12).rng(Purpose::Generation, 0);
    let queries = random_rows(3, 4, vec![0, 1, 2], &mut rng);
    let mut documents = random_rows(7, 4, vec![0, 1, 1, 0, 5, 5, 0], &mut rng);
    documents.ids = (1..8).collect(); // Two of them are queries.
    check("two sides", &Comparison::between(&queries, &documents))?;
    check(
        "no references",
        &Comparison::between(&queries, &random_rows(0, 4, vec![], &mut rng)),
    )?;
    let pairs = SignedPairs {
        positive: Pairs::from_iter([(0, 1), (2, 2)]),
        negative: Pairs::from_iter([(0, 3), (1, 6)]),
    };
    let listed = Comparison {
        relation: Relation::Listed(&pairs),
        ..Comparison::between(&queries, &documents)
    };
    check("listed pairs", &listed)
}

#[test]
fn a_batch_with_nothing_to_choose_gives_nothing() -> Result<()> {
    for (name, rows) in awkward_batches() {
        if ["no row", "one row", "one class", "all distinct"].contains(&name) {
            let candidates = candidates(&Comparison::within(&rows))?;
            for config in miners() {
                if matches!(config, MinerConfig::Packaged(_)) {
                    continue; // It has nothing to choose, ever.
                }
                let tuples = config
                    .build()
                    .mine(&candidates, &mut Seed(0).rng(Purpose::Mining, 0));
                assert!(tuples.into_triplets().is_empty(), "{config:?} on {name}");
            }
        }
    }
    Ok(())
}
