//! Runs on rows of numbers.

use nearfar_core::{EmbeddingTable, Encoder, Finite, Loss, Pairs, Rng, SignedPairs, Supervision};
use nearfar_eval::{Measure, Score, Subject, paired_distances};
use nearfar_losses::{LossConfig, PairRegression};

use super::plain::{Comparing, PLAIN, best_plain, score};
use super::training::{
    Rows, at, batch, directions, drawn, embedded, mlp, sample, stream, table, tensor, train,
};
use super::{Learned, NOISE, SIGNAL, loss_of};

/// Rows with several labels: the sum of the labels' directions. Those that share a label should be near.
pub(super) fn of_sets(config: &LossConfig) -> Learned {
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
pub(super) fn of_targets(config: &LossConfig) -> Learned {
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
pub(super) fn of_scored_pairs(config: &LossConfig) -> Learned {
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
pub(super) fn of_views(name: String, loss: impl Fn() -> Box<dyn Loss>) -> Learned {
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
pub(super) fn of_pairs(config: &LossConfig) -> Learned {
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
pub(super) fn of_domains(config: &LossConfig) -> Learned {
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
