//! Every miner on many random batches, against its rule said once more in the plainest way.

use std::collections::BTreeSet;

use candle_core::{DType, Device, Tensor};
use nearfar_core::{
    Candidates, Comparison, Embeddings, Finite, Fraction, Kind, Miner, NonNegative, Purpose, Rng,
    Seed, Tuples,
};
use nearfar_miners::{
    All, Angle, Angular, BatchEasyHard, BatchHard, Difficulty, DistanceWeighted, HardCluster, Hdc,
    Interval, ModeratePositive, MultiSimilarity, NHard, OnePerPair, Packaged, PairMargin,
    QuadrupletMiner, Random, Ranks, SemiHard, SoftHard, Strategy, TripletMargin, UniformHistogram,
};

/// A batch of up to 14 rows of up to 5 classes on a grid, so that many distances are equal, and its distances.
struct Drawn {
    rows: Embeddings,
    seen: Candidates,
    n: u32,
}

fn drawn(seed: u64) -> Drawn {
    let mut rng = Seed(seed).rng(Purpose::Generation, 0);
    let n = rng.below(15);
    let dim = 1 + rng.below(3);
    let classes = 1 + rng.below(5);
    let labels: Vec<u32> = (0..n).map(|_| rng.below(classes) as u32).collect();
    let grid = 1 + rng.below(6);
    let numbers: Vec<f64> = (0..n * dim).map(|_| rng.below(grid) as f64 - 1.0).collect();
    let vectors = Tensor::from_vec(numbers, (n, dim), &Device::Cpu).expect("full");
    let rows = Embeddings::labeled(vectors, labels).expect("a label each");
    let seen = seen(&rows);
    Drawn {
        rows,
        seen,
        n: n as u32,
    }
}

fn seen(rows: &Embeddings) -> Candidates {
    let x = &rows.vectors;
    let n = rows.len();
    let distances = if n == 0 {
        Tensor::zeros((0, 0), DType::F64, &Device::Cpu).expect("empty")
    } else {
        let differences = x
            .unsqueeze(1)
            .and_then(|a| a.broadcast_sub(&x.unsqueeze(0)?));
        differences
            .and_then(|it| it.sqr()?.sum(2)?.sqrt())
            .expect("a matrix")
    };
    Candidates::new(&distances, &Comparison::within(rows), "test").expect("classes")
}

impl Drawn {
    fn d(&self, a: u32, b: u32) -> f64 {
        self.seen.distance(a, b)
    }

    fn is(&self, kind: Kind, a: u32, b: u32) -> bool {
        self.seen.kind(a, b) == kind
    }

    /// All that are positive to a row, or negative.
    fn of(&self, kind: Kind, a: u32) -> Vec<u32> {
        (0..self.n).filter(|&b| self.is(kind, a, b)).collect()
    }

    /// Those triplets for which a rule holds, in order.
    fn triplets(&self, rule: impl Fn(u32, u32, u32) -> bool) -> Vec<(u32, u32, u32)> {
        let mut all = Vec::new();
        for a in 0..self.n {
            for p in self.of(Kind::Positive, a) {
                for n in self.of(Kind::Negative, a) {
                    if rule(a, p, n) {
                        all.push((a, p, n));
                    }
                }
            }
        }
        all
    }

    /// Those pairs of a kind for which a rule holds, in order.
    fn pairs(&self, kind: Kind, rule: impl Fn(u32, u32) -> bool) -> Vec<(u32, u32)> {
        let all = (0..self.n).flat_map(|a| self.of(kind, a).into_iter().map(move |b| (a, b)));
        all.filter(|&(a, b)| rule(a, b)).collect()
    }

    /// The first of the least.
    fn least(&self, a: u32, rows: &[u32]) -> Option<u32> {
        let least = rows.iter().map(|&b| self.d(a, b)).reduce(f64::min)?;
        rows.iter().copied().find(|&b| self.d(a, b) == least)
    }

    /// The first of the greatest.
    fn greatest(&self, a: u32, rows: &[u32]) -> Option<u32> {
        let greatest = rows.iter().map(|&b| self.d(a, b)).reduce(f64::max)?;
        rows.iter().copied().find(|&b| self.d(a, b) == greatest)
    }

    /// A triplet for each anchor that has one by a rule.
    fn each(&self, rule: impl Fn(u32) -> Option<(u32, u32)>) -> Vec<(u32, u32, u32)> {
        let of = |a| rule(a).map(|(p, n)| (a, p, n));
        (0..self.n).filter_map(of).collect()
    }
}

const SEEDS: std::ops::Range<u64> = 0..150;

fn stream(seed: u64) -> Rng {
    Seed(seed).rng(Purpose::Mining, 7)
}

fn triplets(miner: &dyn Miner, batch: &Drawn, seed: u64) -> Vec<(u32, u32, u32)> {
    let Tuples::Triplets(triplets) = miner.mine(&batch.seen, &mut stream(seed)) else {
        panic!("{miner:?} gives pairs");
    };
    triplets.iter().collect()
}

type Listed = Vec<(u32, u32)>;

fn pairs(miner: &dyn Miner, batch: &Drawn, seed: u64) -> (Listed, Listed) {
    let Tuples::Pairs(pairs) = miner.mine(&batch.seen, &mut stream(seed)) else {
        panic!("{miner:?} gives triplets");
    };
    (
        pairs.positive.iter().collect(),
        pairs.negative.iter().collect(),
    )
}

const P: Kind = Kind::Positive;
const N: Kind = Kind::Negative;

#[test]
fn miners_of_triplets_take_those_of_their_rule() {
    for seed in SEEDS {
        let b = &drawn(seed);
        let check = |miner: &dyn Miner, rule: &dyn Fn(u32, u32, u32) -> bool| {
            let found = triplets(miner, b, seed);
            assert_eq!(found, b.triplets(rule), "{miner:?} at {seed}");
        };
        let margin = NonNegative::literal(1.0);
        let gap = |a, p, n| b.d(a, n) - b.d(a, p);
        let of = |difficulty| TripletMargin { margin, difficulty };
        check(&of(Difficulty::Violating), &|a, p, n| gap(a, p, n) <= 1.0);
        check(&of(Difficulty::Hard), &|a, p, n| gap(a, p, n) <= 0.0);
        check(&of(Difficulty::SemiHard), &|a, p, n| {
            0.0 < gap(a, p, n) && gap(a, p, n) <= 1.0
        });
        check(&of(Difficulty::Easy), &|a, p, n| gap(a, p, n) > 1.0);
        let semi_hard = SemiHard {
            margin,
            one_per_pair: None,
        };
        check(&semi_hard, &|a, p, n| {
            0.0 < gap(a, p, n) && gap(a, p, n) <= 1.0
        });
        check(
            &SemiHard {
                one_per_pair: Some(OnePerPair::Nearest),
                ..semi_hard
            },
            &|a, p, n| {
                let fits = |n| 0.0 < gap(a, p, n) && gap(a, p, n) <= 1.0;
                let fitting: Vec<u32> = b.of(N, a).into_iter().filter(|&n| fits(n)).collect();
                b.least(a, &fitting) == Some(n)
            },
        );
        check(
            &Angular {
                angle: Angle::new(0.7).expect("below π/2"),
            },
            &|a, p, n| {
                let row = |i| b.seen.reference(i);
                let square = |x: f64, y: f64| (x - y) * (x - y);
                let base: f64 = row(a).iter().zip(row(p)).map(|(x, y)| square(*x, *y)).sum();
                let middle = row(a).iter().zip(row(p)).map(|(x, y)| (x + y) / 2.0);
                let height: f64 = middle.zip(row(n)).map(|(x, y)| square(x, *y)).sum();
                // atan(0/0) is no angle, and not above any.
                (base.sqrt() / (2.0 * height.sqrt())).atan() > 0.7
            },
        );
        let ranks = |first, last| Ranks::new(first, last).expect("in order");
        let n_hard = NHard {
            positives: ranks(2, 3),
            negatives: ranks(1, 2),
        };
        check(&n_hard, &|a, p, n| {
            // How many come before it: those that are harder, and of equals those before it.
            let harder_positives = b
                .of(P, a)
                .into_iter()
                .filter(|&it| b.d(a, it) > b.d(a, p) || (b.d(a, it) == b.d(a, p) && it < p));
            let harder_negatives = b
                .of(N, a)
                .into_iter()
                .filter(|&it| b.d(a, it) < b.d(a, n) || (b.d(a, it) == b.d(a, n) && it < n));
            (1..=2).contains(&harder_positives.count()) && harder_negatives.count() <= 1
        });
    }
}

#[test]
fn miners_of_one_triplet_an_anchor_take_that_of_their_rule() {
    for seed in SEEDS {
        let b = &drawn(seed);
        let check = |miner: &dyn Miner, rule: &dyn Fn(u32) -> Option<(u32, u32)>| {
            let found = triplets(miner, b, seed);
            assert_eq!(found, b.each(rule), "{miner:?} at {seed}");
        };
        let hardest = |a| Some((b.greatest(a, &b.of(P, a))?, b.least(a, &b.of(N, a))?));
        check(&BatchHard {}, &hardest);
        check(&NHard::default(), &hardest);
        check(&ModeratePositive {}, &|a| {
            let n = b.least(a, &b.of(N, a))?;
            let nearer = |&p: &u32| b.d(a, p) < b.d(a, n);
            let moderate: Vec<u32> = b.of(P, a).into_iter().filter(nearer).collect();
            let p = b
                .greatest(a, &moderate)
                .or_else(|| b.least(a, &b.of(P, a)))?;
            Some((p, n))
        });
        for positive in [Strategy::Easy, Strategy::Hard, Strategy::SemiHard] {
            for negative in [Strategy::Easy, Strategy::Hard, Strategy::SemiHard] {
                let Ok(miner) = BatchEasyHard::new(positive, negative) else {
                    continue;
                };
                let interval = |least, greatest| Interval::new(least, greatest).ok();
                let miner = miner.within(interval(0.5, 3.0), interval(1.0, 2.5));
                check(&miner, &|a| {
                    let within = |kind, least: f64, greatest: f64| -> Vec<u32> {
                        let fits = |&it: &u32| least <= b.d(a, it) && b.d(a, it) <= greatest;
                        b.of(kind, a).into_iter().filter(fits).collect()
                    };
                    let (mut ps, mut ns) = (within(P, 0.5, 3.0), within(N, 1.0, 2.5));
                    if positive == Strategy::SemiHard {
                        let n = match negative {
                            Strategy::Easy => b.greatest(a, &ns)?,
                            _ => b.least(a, &ns)?,
                        };
                        ps.retain(|&p| b.d(a, p) < b.d(a, n));
                        return Some((b.greatest(a, &ps)?, n));
                    }
                    let p = match positive {
                        Strategy::Easy => b.least(a, &ps)?,
                        _ => b.greatest(a, &ps)?,
                    };
                    if negative == Strategy::SemiHard {
                        ns.retain(|&n| b.d(a, n) > b.d(a, p));
                    }
                    let n = match negative {
                        Strategy::Easy => b.greatest(a, &ns)?,
                        _ => b.least(a, &ns)?,
                    };
                    Some((p, n))
                });
            }
        }
    }
}

#[test]
fn miners_of_pairs_take_those_of_their_rule() {
    for seed in SEEDS {
        let b = &drawn(seed);
        let check = |miner: &dyn Miner,
                     positive: &dyn Fn(u32, u32) -> bool,
                     negative: &dyn Fn(u32, u32) -> bool| {
            let found = pairs(miner, b, seed);
            let wanted = (b.pairs(P, positive), b.pairs(N, negative));
            assert_eq!(found, wanted, "{miner:?} at {seed}");
        };
        check(&All {}, &|_, _| true, &|_, _| true);
        check(
            &PairMargin {
                positive_margin: Finite::literal(1.0),
                negative_margin: Finite::literal(2.0),
            },
            &|a, p| b.d(a, p) > 1.0,
            &|a, n| b.d(a, n) < 2.0,
        );
        check(
            &MultiSimilarity {
                epsilon: NonNegative::literal(0.5),
            },
            &|a, p| b.of(N, a).iter().any(|&n| b.d(a, p) + 0.5 > b.d(a, n)),
            &|a, n| b.of(P, a).iter().any(|&p| b.d(a, n) - 0.5 < b.d(a, p)),
        );
        let all = |kind| b.pairs(kind, |_, _| true);
        // How many pairs come before one.
        let before = |kind, (a, it): (u32, u32), harder: &dyn Fn(f64, f64) -> bool| {
            let own = b.d(a, it);
            let first = all(kind)
                .into_iter()
                .filter(|&(x, y)| harder(b.d(x, y), own) || (b.d(x, y) == own && (x, y) < (a, it)));
            first.count()
        };
        check(
            &Hdc {
                fraction: Fraction::literal(0.3),
            },
            &|a, p| {
                let share = (0.3 * all(P).len() as f64).ceil() as usize;
                before(P, (a, p), &|one, other| one > other) < share
            },
            &|a, n| {
                let share = (0.3 * all(N).len() as f64).ceil() as usize;
                before(N, (a, n), &|one, other| one < other) < share
            },
        );
        // With all on one side, the other side is one row of each anchor.
        let hard_with_all = BatchEasyHard::new(Strategy::Hard, Strategy::All).expect("they fit");
        check(
            &hard_with_all,
            &|a, p| b.greatest(a, &b.of(P, a)) == Some(p),
            &|_, _| true,
        );
        let all_with_easy = BatchEasyHard::new(Strategy::All, Strategy::Easy).expect("they fit");
        check(&all_with_easy, &|_, _| true, &|a, n| {
            b.greatest(a, &b.of(N, a)) == Some(n)
        });
    }
}

#[test]
fn miners_that_draw_stay_within_their_rule() {
    for seed in SEEDS {
        let b = &drawn(seed);
        // Each anchor that has both gives one.
        let both = |a: u32| !b.of(P, a).is_empty() && !b.of(N, a).is_empty();
        let anchors: Vec<u32> = (0..b.n).filter(|&a| both(a)).collect();

        let random = triplets(&Random::default(), b, seed);
        assert!(random.iter().map(|it| it.0).eq(anchors.iter().copied()));
        let soft = triplets(&SoftHard {}, b, seed);
        assert!(soft.iter().map(|it| it.0).eq(anchors.iter().copied()));
        for (a, p, n) in soft {
            let near = b
                .of(N, a)
                .iter()
                .map(|&n| b.d(a, n))
                .fold(f64::MAX, f64::min);
            let far = b.of(P, a).iter().map(|&p| b.d(a, p)).fold(0.0, f64::max);
            assert!(b.d(a, p) > near || b.of(P, a).iter().all(|&p| b.d(a, p) <= near));
            assert!(b.d(a, n) < far || b.of(N, a).iter().all(|&n| b.d(a, n) >= far));
        }
        // Each pair of which the anchor has negatives that can be drawn gives one.
        let miner = DistanceWeighted::default();
        let drawn = triplets(&miner, b, seed);
        let possible = |a: u32| miner.probabilities(&b.seen, a);
        let wanted = b.pairs(P, |a, _| possible(a).iter().any(|&it| it > 0.0));
        assert!(drawn.iter().map(|&(a, p, _)| (a, p)).eq(wanted));
        assert!(drawn.iter().all(|&(a, _, n)| possible(a)[n as usize] > 0.0));

        let miner = UniformHistogram {
            bins: 4.try_into().expect("some"),
            positives_per_bin: 3,
            negatives_per_bin: 2,
        };
        let (positive, negative) = pairs(&miner, b, seed);
        for (kind, found, per_bin) in [(P, positive, 3), (N, negative, 2)] {
            let distances: Vec<f64> = b
                .pairs(kind, |_, _| true)
                .iter()
                .map(|it| b.d(it.0, it.1))
                .collect();
            let filled = miner
                .counts(&distances)
                .iter()
                .filter(|&&it| it > 0)
                .count();
            assert_eq!(found.len(), filled * per_bin);
            let of_found: Vec<f64> = found.iter().map(|it| b.d(it.0, it.1)).collect();
            let edges = miner.edges(&distances);
            for bin in 0..4 {
                let last = bin == 3;
                let within = |&it: &f64| edges[bin] <= it && (it < edges[bin + 1] || last);
                let (all, taken) = (
                    distances.iter().filter(|it| within(it)).count(),
                    of_found.iter().filter(|it| within(it)).count(),
                );
                if distances.is_empty() {
                    break;
                }
                if edges[0] < edges[4] {
                    assert_eq!(
                        taken,
                        if all > 0 { per_bin } else { 0 },
                        "bin {bin} at {seed}"
                    );
                }
            }
            assert!(found.iter().all(|&(a, it)| b.is(kind, a, it)));
        }
    }
}

#[test]
fn miners_by_classes_and_places_take_what_they_say() {
    for seed in SEEDS {
        let b = &drawn(seed);
        let packaged = triplets(&Packaged {}, b, seed);
        let wanted = (0..b.n / 3).map(|k| (3 * k, 3 * k + 1, 3 * k + 2));
        assert!(packaged.into_iter().eq(wanted));

        // The means of the classes, and who is how far from them.
        let labels = &b.rows.labels;
        let members = |label: u32| -> Vec<u32> {
            (0..b.n).filter(|&i| labels[i as usize] == label).collect()
        };
        let mean = |label: u32| -> Vec<f64> {
            let rows = members(label);
            let sum = |k| {
                rows.iter()
                    .map(|&i| b.seen.reference(i)[k] / rows.len() as f64)
                    .sum()
            };
            (0..b.seen.dim()).map(sum).collect()
        };
        let far =
            |x: &[f64], y: &[f64]| -> f64 { x.iter().zip(y).map(|(x, y)| (x - y) * (x - y)).sum() };
        for (a, p, n) in triplets(&HardCluster {}, b, seed) {
            let (own, other) = (labels[a as usize], labels[n as usize]);
            let from = |label: u32, row: u32| far(&mean(label), b.seen.reference(row));
            let close = 1e-9;
            assert!(
                members(own)
                    .iter()
                    .all(|&it| from(own, a) <= from(own, it) + close)
            );
            let others = members(own).into_iter().filter(|&it| it != a);
            assert!(
                others
                    .clone()
                    .all(|it| from(own, p) >= from(own, it) - close)
                    && p != a
            );
            assert!(
                members(other)
                    .iter()
                    .all(|&it| from(other, n) <= from(other, it) + close)
            );
            let apart = far(&mean(own), &mean(other));
            let nearer =
                |&label: &u32| label != own && far(&mean(own), &mean(label)) < apart - close;
            assert!(!labels.iter().any(nearer));
        }
        let classes: BTreeSet<u32> = labels.iter().copied().collect();
        let of_two = classes.iter().filter(|&&it| members(it).len() > 1).count();
        let wanted = if classes.len() > 1 { of_two } else { 0 };
        assert_eq!(triplets(&HardCluster {}, b, seed).len(), wanted);

        let found = QuadrupletMiner::default().mine(&b.seen, &mut stream(seed));
        let hardest = triplets(&BatchHard {}, b, seed);
        let mut next = found.iter();
        for (a, p, n) in hardest {
            let of_a_third = |&it: &u32| {
                let label = labels[it as usize];
                label != labels[a as usize] && label != labels[n as usize]
            };
            let thirds: Vec<u32> = (0..b.n).filter(of_a_third).collect();
            if let Some(second) = b.least(n, &thirds) {
                assert_eq!(next.next(), Some((a, p, n, second)));
            }
        }
        assert_eq!(next.next(), None);
    }
}
