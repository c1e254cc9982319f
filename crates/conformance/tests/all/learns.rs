//! Losses that do not learn from classes alone, each shown to learn: one small run on data that fit, which must be better than a
//! named plain way by a margin.
//!
//! `cargo test -p nearfar-conformance learns -- --nocapture` prints the table. What a loss is given follows from what it
//! [`Reads`]; a loss that is added to the registry is in here from then on.

use std::time::Instant;

use candle_core::{DType, Device, Tensor};
use nearfar_core::{
    Batch, EmbeddingTable, Encoder, Finite, Input, Loss, Mode, Pairs, Purpose, Rng, Seed,
    SignedPairs, Supervision,
};
use nearfar_datasets::{Dataset, Glyphs, Scenes, Value};
use nearfar_eval::{
    Measure, Roc, Score, Settings, Subject, evaluate, paired_distances, pixel_pairs,
};
use nearfar_losses::{
    Beside, Compares, LossConfig, PairRegression, Reads, SelfSupervised, SelfSupervision,
};
use nearfar_metrics::{DistanceConfig, Euclidean, SimilarityConfig};
use nearfar_models::{Conv4, DenseConv, InputShape, Mlp, Params};
use nearfar_trainer::{OptimizerConfig, Options, ScheduleConfig, Trainer};

use crate::joined::joined;

const SEED: Seed = Seed(23);
/// Numbers in an embedding.
const WIDTH: usize = 8;
/// Numbers in a sample that say something, and numbers that say nothing but are larger.
const SIGNAL: usize = 8;
const NOISE: usize = 12;

/// What came of one run.
struct Learned {
    /// Who learned.
    loss: String,
    /// From what.
    data: &'static str,
    /// How it is scored; more is better.
    score: &'static str,
    /// The best of the plain ways, and its score.
    plain: (&'static str, f64),
    /// The score of what was learned, and by how much it must be better.
    learned: f64,
    margin: f64,
    seconds: f64,
}

impl Learned {
    fn has(&self) -> bool {
        self.learned >= self.plain.1 + self.margin
    }
}

/// What a loss is given, by what it reads; none for those of classes, which have runs of their own.
fn run_of(config: &LossConfig) -> Option<Learned> {
    let start = Instant::now();
    let mut learned = match (config.reads(), config.name()) {
        (Reads::Sets, _) => of_sets(config),
        (Reads::Targets, _) => of_targets(config),
        (Reads::ScoredPairs, _) => of_scored_pairs(config),
        (Reads::Views, _) => of_views(config.name().into(), || loss_of(config)),
        (Reads::Masks, _) => of_masks(config),
        (_, "correlated") => of_domains(config),
        (_, "contrastive_tension" | "neculoiu") => of_pairs(config),
        (Reads::Classes | Reads::ClassesOrPairs, _) => return None,
    };
    learned.seconds = start.elapsed().as_secs_f64();
    Some(learned)
}

fn loss_of(config: &LossConfig) -> Box<dyn Loss> {
    joined(config, None, (1, WIDTH), DType::F32)
}

#[test]
#[allow(clippy::print_stdout)] // The table is for whoever asks for it.
fn every_loss_that_reads_more_than_classes_learns() {
    let all = LossConfig::all();
    let named = |name: &str| {
        all.iter()
            .find(|it| it.name() == name)
            .expect("it is known")
    };
    let mut rows: Vec<Learned> = all.iter().filter_map(run_of).collect();
    let mut timed = |run: &dyn Fn() -> Learned| {
        let start = Instant::now();
        let learned = run();
        let seconds = start.elapsed().as_secs_f64();
        rows.push(Learned { seconds, ..learned });
    };
    let self_supervised = || -> Box<dyn Loss> {
        Box::new(SelfSupervised {
            loss: loss_of(named("nt_xent")),
            settings: SelfSupervision::default(),
        })
    };
    timed(&|| of_views("nt_xent, self_supervised".into(), self_supervised));
    timed(&|| of_beside(named("triplet_margin"), "part.0"));
    timed(&|| of_beside(named("triplet_margin"), "hidden.0"));

    println!("| loss | learns from | score | the best plain way | has | learned | seconds |");
    println!("|---|---|---|---|---|---|---|");
    for row in &rows {
        println!(
            "| {} | {} | {} | {} | {:.3} | {:.3} | {:.1} |",
            row.loss, row.data, row.score, row.plain.0, row.plain.1, row.learned, row.seconds
        );
    }
    let total: f64 = rows.iter().map(|row| row.seconds).sum();
    println!("{} runs in {total:.0} s", rows.len());
    let idle: Vec<String> = rows
        .iter()
        .filter(|row| !row.has())
        .map(|row| {
            format!(
                "{}: {:.3}, where {} has {:.3} and {:.2} more is wanted",
                row.loss, row.learned, row.plain.0, row.plain.1, row.margin
            )
        })
        .collect();
    assert!(idle.is_empty(), "{}", idle.join("\n"));
}

// Data.

/// Rows of numbers.
type Rows = Vec<Vec<f32>>;

/// A stream for data, or for batches.
fn stream(position: u64) -> Rng {
    SEED.rng(Purpose::Generation, position)
}

/// A row that says something, with some noise, and behind it numbers that say nothing.
fn sample(signal: &[f64], rng: &mut Rng) -> Vec<f32> {
    let told = signal.iter().map(|x| x + 0.2 * rng.normal());
    let mut row: Vec<f32> = told.map(|x| x as f32).collect();
    row.extend((0..NOISE).map(|_| 1.5 * rng.normal() as f32));
    row
}

/// So many directions of length 1.
fn directions(count: usize, width: usize, rng: &mut Rng) -> Vec<Vec<f64>> {
    let direction = |_| {
        let numbers: Vec<f64> = (0..width).map(|_| rng.normal()).collect();
        let length = numbers.iter().map(|x| x * x).sum::<f64>().sqrt();
        numbers.into_iter().map(|x| x / length).collect()
    };
    (0..count).map(direction).collect()
}

fn tensor(rows: &[Vec<f32>]) -> Tensor {
    let width = rows.first().map_or(0, Vec::len);
    Tensor::from_vec(rows.concat(), (rows.len(), width), &Device::Cpu).expect("rows of one length")
}

fn table(rows: &[Vec<f32>], labels: &[u32]) -> EmbeddingTable {
    EmbeddingTable {
        vectors: rows.concat(),
        dim: rows.first().map_or(0, Vec::len),
        labels: labels.to_vec(),
        ids: (0..rows.len() as u64).collect(),
    }
}

/// So many different rows of `count`.
fn drawn(size: usize, count: usize, rng: &mut Rng) -> Vec<usize> {
    let order = rng.permutation(count);
    order[..size].iter().map(|&it| it as usize).collect()
}

fn at<T: Clone>(all: &[T], places: &[usize]) -> Vec<T> {
    places.iter().map(|&place| all[place].clone()).collect()
}

/// A batch of one or two inputs.
fn batch(inputs: Vec<Tensor>, supervision: Supervision) -> Batch {
    let ids = inputs.iter().zip(0u64..).map(|(input, side)| {
        let rows = input.dim(0).expect("rows") as u64;
        (0..rows).map(|row| side << 40 | row).collect()
    });
    Batch {
        ids: ids.collect(),
        inputs: inputs.into_iter().map(Input::Dense).collect(),
        supervision,
    }
}

// Training.

/// Full layers, whose embeddings have the length that they have.
fn mlp(features: usize, tower: usize) -> Box<dyn Encoder> {
    let params = Params::new(SEED, DType::F32, &Device::Cpu).expect("f32 is possible");
    let settings = Mlp {
        width: WIDTH,
        hidden: vec![48],
        normalize: false,
        ..Mlp::default()
    };
    let input = InputShape::Features(features);
    let tower = settings.build(&input, &params.at(tower)).expect("it fits");
    Box::new(tower)
}

fn train(
    towers: Vec<Box<dyn Encoder>>,
    loss: Box<dyn Loss>,
    steps: u64,
    mut batch: impl FnMut(&mut Rng) -> Batch,
) -> Trainer {
    let adam: OptimizerConfig =
        toml::from_str("adam = { learning_rate = 3e-3 }").expect("settings");
    let schedule = ScheduleConfig::default().build(adam.learning_rate(), Some(steps));
    let options = Options {
        seed: SEED,
        ..Options::default()
    };
    let (schedule, adam) = (schedule.expect("it fits"), adam.build().expect("it fits"));
    let mut trainer = Trainer::new(towers, loss, adam, schedule, options).expect("it fits");
    for step in 0..steps {
        let batch = batch(&mut SEED.rng(Purpose::Sampling, step));
        trainer
            .step(&batch)
            .unwrap_or_else(|error| panic!("{error}"));
    }
    assert!(
        trainer.counters().learned > steps / 2,
        "most batches have something to learn"
    );
    trainer
}

/// Embeddings of one tower.
fn embedded(tower: &dyn Encoder, rows: &[Vec<f32>], labels: &[u32]) -> EmbeddingTable {
    let input = Input::Dense(tensor(rows));
    let encoded = tower.encode(&input, Mode::Eval).expect("it reads them");
    let vectors = encoded.embedding.to_vec2::<f32>().expect("a matrix");
    table(&vectors, labels)
}

// Scores.

/// What a loss compares by, after training.
enum Comparing {
    Distance(Box<dyn nearfar_core::Distance>),
    Similarity(Box<dyn nearfar_core::Similarity>),
    Cosine,
}

impl Comparing {
    fn of(config: &LossConfig) -> Self {
        match config.defaults().compares {
            Compares::Distance(name) => {
                Self::Distance(DistanceConfig::of_name(name).expect("it is known").build())
            }
            Compares::Similarity(name) => Self::Similarity(
                SimilarityConfig::of_name(name)
                    .expect("it is known")
                    .build(),
            ),
            Compares::DistantCenters => Self::Distance(Box::new(Euclidean {})),
            Compares::Centers | Compares::Own => Self::Cosine,
        }
    }

    fn measure(&self) -> Measure<'_> {
        match self {
            Self::Distance(distance) => Measure::of(&**distance),
            Self::Similarity(similarity) => Measure::of_similarity(&**similarity),
            Self::Cosine => Measure::COSINE,
        }
    }
}

fn score(subject: Subject<'_>, score: Score, measure: Measure<'_>) -> f64 {
    let settings = Settings {
        measure,
        ..Settings::default()
    };
    let evaluation = evaluate(subject, &[score], &settings).expect("it is of such data");
    let found = evaluation.scores.get(&score.to_string()).copied();
    found.unwrap_or_else(|| panic!("{:?}", evaluation.undefined))
}

const PLAIN: [Measure<'static>; 2] = [Measure::EUCLIDEAN, Measure::COSINE];

/// The best of the plain ways: the samples as they are, and an encoder that was not trained, each by distance and by cosine.
fn best_plain(
    raw: &dyn Fn(Measure<'_>) -> f64,
    untrained: &dyn Fn(Measure<'_>) -> f64,
) -> (&'static str, f64) {
    let of = |name, way: &dyn Fn(Measure<'_>) -> f64| PLAIN.map(|measure| (name, way(measure)));
    let ways = [of("raw features", raw), of("untrained encoder", untrained)];
    let best = ways
        .into_iter()
        .flatten()
        .max_by(|a, b| a.1.total_cmp(&b.1));
    best.expect("there are four")
}

/// Rows with several labels: the sum of the labels' directions. Those that share a label should be near.
fn of_sets(config: &LossConfig) -> Learned {
    const LABELS: usize = 8;
    let mut rng = stream(1);
    let of_labels = directions(LABELS, SIGNAL, &mut rng);
    let mut rows = |count: usize| -> (Rows, Vec<Vec<u32>>) {
        let one = |_| {
            let count = 1 + rng.below(2);
            let mut labels: Vec<u32> = drawn(count, LABELS, &mut rng)
                .into_iter()
                .map(|it| it as u32)
                .collect();
            labels.sort_unstable();
            let sum = |k: usize| labels.iter().map(|&it| of_labels[it as usize][k]).sum();
            let signal: Vec<f64> = (0..SIGNAL).map(sum).collect();
            (sample(&signal, &mut rng), labels)
        };
        (0..count).map(one).unzip()
    };
    let ((train_rows, train_sets), (test_rows, test_sets)) = (rows(512), rows(200));
    let tower = mlp(SIGNAL + NOISE, 0);
    let map = |table: &EmbeddingTable, measure: Measure<'_>| {
        let subject = Subject::Sets {
            table,
            sets: &test_sets,
        };
        score(subject, Score::MeanAveragePrecision, measure)
    };
    let (raw, untrained) = (table(&test_rows, &[]), embedded(&*tower, &test_rows, &[]));
    let plain = best_plain(&|by| map(&raw, by), &|by| map(&untrained, by));
    let trainer = train(vec![tower], loss_of(config), 300, |rng| {
        let picked = drawn(64, train_rows.len(), rng);
        let sets = at(&train_sets, &picked);
        batch(
            vec![tensor(&at(&train_rows, &picked))],
            Supervision::Sets(vec![sets]),
        )
    });
    let tower = trainer.towers().get(0).expect("there is one");
    let by = Comparing::of(config);
    Learned {
        loss: config.name().into(),
        data: "sets of labels",
        score: "MAP of those that share a label",
        plain,
        learned: map(&embedded(tower, &test_rows, &[]), by.measure()),
        margin: 0.15,
        seconds: 0.0,
    }
}

/// Rows with a number each, such as an age in years: a curve through space. Those of near numbers should be near.
fn of_targets(config: &LossConfig) -> Learned {
    let mut rng = stream(2);
    let mut rows = |count: usize| -> (Rows, Vec<f32>) {
        let one = |_| {
            let target = rng.below(21) as f64 / 20.0;
            let curve = |k: usize| (1.0 + k as f64) * target;
            let signal: Vec<f64> = (0..SIGNAL)
                .map(|k| {
                    if k % 2 == 0 {
                        curve(k).cos()
                    } else {
                        curve(k).sin()
                    }
                })
                .collect();
            (sample(&signal, &mut rng), target as f32)
        };
        (0..count).map(one).unzip()
    };
    let ((train_rows, train_targets), (test_rows, test_targets)) = (rows(512), rows(200));
    let tower = mlp(SIGNAL + NOISE, 0);
    let order = |table: &EmbeddingTable, measure: Measure<'_>| {
        let subject = Subject::Targets {
            table,
            targets: &test_targets,
            gallery: None,
        };
        score(subject, Score::Spearman, measure)
    };
    let (raw, untrained) = (table(&test_rows, &[]), embedded(&*tower, &test_rows, &[]));
    let plain = best_plain(&|by| order(&raw, by), &|by| order(&untrained, by));
    let trainer = train(vec![tower], loss_of(config), 300, |rng| {
        let picked = drawn(48, train_rows.len(), rng);
        let targets = at(&train_targets, &picked);
        batch(
            vec![tensor(&at(&train_rows, &picked))],
            Supervision::Targets(vec![targets]),
        )
    });
    let tower = trainer.towers().get(0).expect("there is one");
    let by = Comparing::of(config);
    Learned {
        loss: config.name().into(),
        data: "real targets",
        score: "Spearman of distances and differences",
        plain,
        learned: order(&embedded(tower, &test_rows, &[]), by.measure()),
        margin: 0.2,
        seconds: 0.0,
    }
}

/// Pairs of rows, scored from 1 to 5 by the angle of what they say. A question has two answers in a batch.
fn of_scored_pairs(config: &LossConfig) -> Learned {
    // The scores of rows with nothing in common and of equal rows, which the loss cannot know.
    let config = &match config.clone() {
        LossConfig::PairRegression(it) => LossConfig::PairRegression(PairRegression {
            low: Finite::literal(3.0),
            high: Finite::literal(5.0),
            ..it
        }),
        other => other,
    };
    let mut rng = stream(3);
    let mut rows = |count: usize| -> (Rows, Vec<Vec<f64>>) {
        let meanings = directions(count, SIGNAL / 2, &mut rng);
        // What is said of a meaning: twice its numbers, and their products.
        let said = |it: &Vec<f64>| {
            let products = (0..SIGNAL / 2).map(|k| 2.0 * it[k] * it[(k + 1) % (SIGNAL / 2)]);
            let signal: Vec<f64> = it.iter().map(|x| 2.0 * x).chain(products).collect();
            sample(&signal, &mut rng)
        };
        let rows = meanings.iter().map(said).collect();
        (rows, meanings)
    };
    let ((train_rows, train_meanings), (test_rows, test_meanings)) = (rows(512), rows(400));
    let grade = |one: &[f64], other: &[f64]| {
        let cosine: f64 = one.iter().zip(other).map(|(x, y)| x * y).sum();
        3.0 + 2.0 * cosine
    };
    // For a loss of three classes of pairs: apart, neither, alike.
    let target = |grade: f64| match config.name() {
        "softmax_nli" => match grade {
            grade if grade < 2.3 => 0.0,
            grade if grade < 3.7 => 1.0,
            _ => 2.0,
        },
        _ => grade as f32,
    };
    let tower = mlp(SIGNAL + NOISE, 0);
    let half = test_rows.len() / 2;
    let given: Vec<f64> = (0..half)
        .map(|it| grade(&test_meanings[it], &test_meanings[half + it]))
        .collect();
    let order = |of: &dyn Fn(&[Vec<f32>]) -> EmbeddingTable, measure: Measure<'_>| {
        let (left, right) = (of(&test_rows[..half]), of(&test_rows[half..]));
        let distances = paired_distances(&left, &right, measure).expect("of one width");
        let predicted: Vec<f64> = distances.iter().map(|it| -it).collect();
        let subject = Subject::Scored {
            predicted: &predicted,
            given: &given,
        };
        score(subject, Score::Spearman, measure)
    };
    let raw = |rows: &[Vec<f32>]| table(rows, &[]);
    let plain = best_plain(&|by| order(&raw, by), &|by| {
        order(&|rows| embedded(&*tower, rows, &[]), by)
    });
    let trainer = train(vec![tower], loss_of(config), 1200, |rng| {
        let picked = drawn(64, train_rows.len(), rng);
        let (first, second) = picked.split_at(32);
        let n = first.len() as u32;
        let pairs: Pairs = (0..n)
            .flat_map(|row| [(row, row), (row, (row + 1) % n)])
            .collect();
        let targets = pairs.iter().map(|(one, other)| {
            let one = &train_meanings[first[one as usize]];
            target(grade(one, &train_meanings[second[other as usize]]))
        });
        let targets = targets.collect();
        let inputs = [first, second].map(|side| tensor(&at(&train_rows, side)));
        batch(inputs.to_vec(), Supervision::Scored { pairs, targets })
    });
    let tower = trainer.towers().get(0).expect("there is one");
    let by = Comparing::of(config);
    Learned {
        loss: config.name().into(),
        data: "scored pairs",
        score: "Spearman of predicted and given scores",
        plain,
        learned: order(&|rows| embedded(tower, rows, &[]), by.measure()),
        margin: 0.15,
        seconds: 0.0,
    }
}

/// Rows of classes: the center of the class, with noise.
fn of_classes(count: usize, rng: &mut Rng) -> (Rows, Vec<u32>) {
    const CLASSES: usize = 8;
    let centers = directions(CLASSES, SIGNAL, &mut stream(4));
    let one = |_| {
        let class = rng.below(CLASSES);
        let signal: Vec<f64> = centers[class].iter().map(|x| 1.5 * x).collect();
        (sample(&signal, rng), class as u32)
    };
    (0..count).map(one).unzip()
}

/// Two views of each row, which share what it says and not the noise. Neighbors should be of one class, which nobody told.
fn of_views(name: String, loss: impl Fn() -> Box<dyn Loss>) -> Learned {
    let mut rng = stream(5);
    let ((train_rows, _), (test_rows, labels)) =
        (of_classes(512, &mut rng), of_classes(300, &mut rng));
    let view = |row: &[f32], rng: &mut Rng| {
        let signal: Vec<f64> = row[..SIGNAL].iter().map(|&x| f64::from(x)).collect();
        sample(&signal, rng)
    };
    let tower = mlp(SIGNAL + NOISE, 0);
    let accuracy = |table: &EmbeddingTable, measure: Measure<'_>| {
        score(Subject::Within(table), Score::KnnAccuracy(5), measure)
    };
    let best = |table: &EmbeddingTable| {
        let [one, other] = PLAIN.map(|by| accuracy(table, by));
        one.max(other)
    };
    let (raw, untrained) = (
        table(&test_rows, &labels),
        embedded(&*tower, &test_rows, &labels),
    );
    let plain = best_plain(&|by| accuracy(&raw, by), &|by| accuracy(&untrained, by));
    let trainer = train(vec![tower], loss(), 300, |rng| {
        let picked = at(&train_rows, &drawn(64, train_rows.len(), rng));
        let mut views = || tensor(&picked.iter().map(|row| view(row, rng)).collect::<Rows>());
        let inputs = vec![views(), views()];
        batch(inputs, Supervision::Classes(vec![vec![0; 64]; 2])) // Classes are not looked at.
    });
    let tower = trainer.towers().get(0).expect("there is one");
    Learned {
        loss: name,
        data: "two views, no labels",
        score: "5-NN accuracy",
        plain,
        learned: best(&embedded(tower, &test_rows, &labels)),
        margin: 0.15,
        seconds: 0.0,
    }
}

/// Pairs of rows that are of one class or not.
fn of_pairs(config: &LossConfig) -> Learned {
    let mut rng = stream(6);
    let ((train_rows, train_labels), (test_rows, test_labels)) =
        (of_classes(512, &mut rng), of_classes(400, &mut rng));
    let tower = mlp(SIGNAL + NOISE, 0);
    let auc = |table: &EmbeddingTable, measure: Measure<'_>| {
        score(Subject::Within(table), Score::Auc, measure)
    };
    let (raw, untrained) = (
        table(&test_rows, &test_labels),
        embedded(&*tower, &test_rows, &test_labels),
    );
    let plain = best_plain(&|by| auc(&raw, by), &|by| auc(&untrained, by));
    let trainer = train(vec![tower], loss_of(config), 300, |rng| {
        let picked = drawn(128, train_rows.len(), rng);
        let (first, second) = picked.split_at(64);
        let mut pairs = SignedPairs::default();
        for (row, (&one, &other)) in (0..).zip(first.iter().zip(second)) {
            let list = match train_labels[one] == train_labels[other] {
                true => &mut pairs.positive,
                false => &mut pairs.negative,
            };
            list.push(row, row);
        }
        let inputs = [first, second].map(|side| tensor(&at(&train_rows, side)));
        batch(inputs.to_vec(), Supervision::Pairs(pairs))
    });
    let tower = trainer.towers().get(0).expect("there is one");
    let by = Comparing::of(config);
    Learned {
        loss: config.name().into(),
        data: "labeled pairs",
        score: "AUC of pairs of one class",
        plain,
        learned: auc(&embedded(tower, &test_rows, &test_labels), by.measure()),
        margin: 0.15,
        seconds: 0.0,
    }
}

/// Rows of the same classes in two domains that see them otherwise, each with a tower of its own.
fn of_domains(config: &LossConfig) -> Learned {
    let mut rng = stream(7);
    let ((train_rows, train_labels), (test_rows, test_labels)) =
        (of_classes(512, &mut rng), of_classes(300, &mut rng));
    // The second domain has the numbers in another order and of another sign.
    let turned = |row: &Vec<f32>| -> Vec<f32> {
        let (signal, rest) = row.split_at(SIGNAL);
        let moved = signal.iter().rev().map(|x| -x);
        moved.chain(rest.iter().copied()).collect()
    };
    let half = test_rows.len() / 2;
    let second_test: Rows = test_rows[half..].iter().map(turned).collect();
    let across = |first: EmbeddingTable, second: EmbeddingTable, measure: Measure<'_>| {
        let subject = Subject::Between {
            queries: &first,
            gallery: &second,
            exclude: nearfar_eval::Exclude::Nothing,
        };
        score(subject, Score::MeanAveragePrecision, measure)
    };
    let (first_labels, second_labels) = test_labels.split_at(half);
    let towers = || vec![mlp(SIGNAL + NOISE, 0), mlp(SIGNAL + NOISE, 1)];
    let by_towers = |first: &dyn Encoder, second: &dyn Encoder, measure: Measure<'_>| {
        let first = embedded(first, &test_rows[..half], first_labels);
        across(
            first,
            embedded(second, &second_test, second_labels),
            measure,
        )
    };
    let untrained = towers();
    let raw = |by: Measure<'_>| {
        let first = table(&test_rows[..half], first_labels);
        across(first, table(&second_test, second_labels), by)
    };
    let plain = best_plain(&raw, &|by| by_towers(&*untrained[0], &*untrained[1], by));
    let trainer = train(towers(), loss_of(config), 300, |rng| {
        let picked = drawn(96, train_rows.len(), rng);
        let (first, second) = picked.split_at(48);
        let turned: Rows = second.iter().map(|&it| turned(&train_rows[it])).collect();
        let inputs = vec![tensor(&at(&train_rows, first)), tensor(&turned)];
        let labels = [first, second].map(|side| at(&train_labels, side));
        batch(inputs, Supervision::Classes(labels.to_vec()))
    });
    let tower = |index| trainer.towers().get(index).expect("there are two");
    let by = Comparing::of(config);
    Learned {
        loss: config.name().into(),
        data: "classes in two domains",
        score: "MAP of the second domain for the first",
        plain,
        learned: by_towers(tower(0), tower(1), by.measure()),
        margin: 0.3,
        seconds: 0.0,
    }
}

/// Scenes of striped shapes. Pixels of one shape should be nearer than those of two.
fn of_masks(config: &LossConfig) -> Learned {
    const SIDE: usize = 20;
    const TRAIN: u32 = 400;
    const TEST: u32 = 20;
    let scenes = Scenes::new((TRAIN + TEST) as usize, 3, SIDE, SEED).expect("a few");
    let drawn_image = |index: u32| match scenes.sample(index).expect("drawn").inputs.remove(0) {
        Value::Image(image) => image.values,
        other => panic!("{other:?} is no image"),
    };
    let all = 0..TRAIN + TEST;
    let images: Rows = all.clone().map(drawn_image).collect();
    let masks: Vec<Vec<u32>> = all
        .map(|index| {
            scenes
                .mask(index)
                .expect("drawn")
                .expect("it has one")
                .instances
        })
        .collect();
    let image = |index: u32| images[index as usize].clone();
    let mask = |index: u32| masks[index as usize].clone();
    let input = |indices: &[u32]| {
        let values = indices.iter().flat_map(|&index| image(index)).collect();
        let size = (indices.len(), 1, SIDE, SIDE);
        Tensor::from_vec(values, size, &Device::Cpu).expect("images of one size")
    };
    let settings = DenseConv {
        width: 6,
        channels: 16,
        layers: 4,
        ..DenseConv::default()
    };
    let shape = InputShape::Image {
        channels: 1,
        height: SIDE,
        width: SIDE,
    };
    let params = Params::new(SEED, DType::F32, &Device::Cpu).expect("f32 is possible");
    let tower = settings.build(&shape, &params).expect("it reads images");
    let auc = |map: &dyn Fn(u32) -> (Vec<f32>, usize)| {
        let (mut scores, mut same) = (Vec::new(), Vec::new());
        for index in TRAIN..TRAIN + TEST {
            let (map, dim) = map(index);
            let mut rng = SEED.rng(Purpose::Evaluation, u64::from(index));
            let (of_image, of_one) = pixel_pairs(&map, dim, &mask(index), 60, &mut rng);
            scores.extend(of_image);
            same.extend(of_one);
        }
        Roc::new(&scores, &same).expect("both kinds").auc()
    };
    let dense = |tower: &dyn Encoder, index: u32| {
        let input = Input::Dense(input(&[index]));
        let encoded = tower.encode(&input, Mode::Eval).expect("it reads images");
        let map = encoded.extra["dense"].flatten_all().expect("numbers");
        (map.to_vec1::<f32>().expect("numbers"), settings.width)
    };
    let place = |_: u32| {
        let rows = (0..SIDE * SIDE).map(|it| (it / SIDE) as f32);
        (
            rows.chain((0..SIDE * SIDE).map(|it| (it % SIDE) as f32))
                .collect(),
            2,
        )
    };
    let plain = [
        ("gray of pixels", auc(&|index| (image(index), 1))),
        ("place of pixels", auc(&place)),
        ("untrained encoder", auc(&|index| dense(&tower, index))),
    ];
    let plain = plain.into_iter().max_by(|a, b| a.1.total_cmp(&b.1));
    let trainer = train(vec![Box::new(tower)], loss_of(config), 1000, |rng| {
        let picked = drawn(6, TRAIN as usize, rng);
        let picked: Vec<u32> = picked.into_iter().map(|it| it as u32).collect();
        let masks = picked.iter().flat_map(|&index| mask(index)).collect();
        let masks = Tensor::from_vec(masks, (6, SIDE, SIDE), &Device::Cpu).expect("of one size");
        batch(vec![input(&picked)], Supervision::Masks(masks))
    });
    let tower = trainer.towers().get(0).expect("there is one");
    Learned {
        loss: config.name().into(),
        data: "masks of instances",
        score: "AUC of pixels of one instance",
        plain: plain.expect("there are three"),
        learned: auc(&|index| dense(tower, index)),
        margin: 0.04,
        seconds: 0.0,
    }
}

/// Invented characters, of which the loss sees parts or a hidden layer beside the whole. What is scored are the vectors beside.
fn of_beside(config: &LossConfig, name: &'static str) -> Learned {
    const SIDE: usize = 16;
    const CLASSES: usize = 40;
    const SAMPLES: usize = 8;
    let glyphs = Glyphs::new(CLASSES, SAMPLES, SIDE, SEED).expect("a few");
    let image = |index: u32| match glyphs.sample(index).expect("drawn").inputs.remove(0) {
        Value::Image(image) => image.values,
        other => panic!("{other:?} is no image"),
    };
    let trained = (CLASSES * 3 / 4 * SAMPLES) as u32;
    let images: Rows = (0..glyphs.len() as u32).map(image).collect();
    let input = |indices: &[usize]| {
        let values = at(&images, indices).concat();
        let size = (indices.len(), 1, SIDE, SIDE);
        Tensor::from_vec(values, size, &Device::Cpu).expect("images of one size")
    };
    let settings = Conv4 {
        width: WIDTH * 2,
        channels: 12,
        blocks: 2,
        parts: 2,
        hidden_heads: true,
        ..Conv4::default()
    };
    let shape = InputShape::Image {
        channels: 1,
        height: SIDE,
        width: SIDE,
    };
    let params = Params::new(SEED, DType::F32, &Device::Cpu).expect("f32 is possible");
    let tower = settings.build(&shape, &params).expect("it reads images");
    let held: Vec<usize> = (trained as usize..images.len()).collect();
    let labels = at(glyphs.labels(), &held);
    let map = |tower: &dyn Encoder| {
        let encoded = tower.encode(&Input::Dense(input(&held)), Mode::Eval);
        let vectors = encoded.expect("it reads images").extra[name].to_vec2::<f32>();
        let table = table(&vectors.expect("a matrix"), &labels);
        score(Subject::Within(&table), Score::MapAtR, Measure::EUCLIDEAN)
    };
    let plain = ("untrained encoder", map(&tower));
    let semi_hard = nearfar_miners::MinerConfig::all();
    let semi_hard = semi_hard.iter().find(|it| it.name() == "semi_hard");
    let loss = || joined(config, semi_hard, (CLASSES, WIDTH), DType::F32);
    let parts = Beside::parts(loss(), vec![loss(), loss()]);
    let both = Beside::hidden_layers(Box::new(parts), vec![loss()], None);
    let trainer = train(vec![Box::new(tower)], Box::new(both), 150, |rng| {
        let classes = drawn(10, CLASSES * 3 / 4, rng);
        let of = |class: usize, rng: &mut Rng| -> Vec<usize> {
            let drawn = drawn(4, SAMPLES, rng);
            drawn.into_iter().map(|it| class * SAMPLES + it).collect()
        };
        let picked: Vec<usize> = classes.into_iter().flat_map(|it| of(it, rng)).collect();
        let labels = at(glyphs.labels(), &picked);
        batch(vec![input(&picked)], Supervision::Classes(vec![labels]))
    });
    Learned {
        loss: format!(
            "{}, {}",
            config.name(),
            ["parts", "deep_supervision"][usize::from(name == "hidden.0")]
        ),
        data: "classes, seen by parts and layers",
        score: "MAP@R of unseen classes",
        plain,
        learned: map(trainer.towers().get(0).expect("there is one")),
        margin: 0.1,
        seconds: 0.0,
    }
}
