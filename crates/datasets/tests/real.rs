//! The data sets of the catalogue, where `NEARFAR_DATASETS` names a folder that has them.

#![allow(clippy::unwrap_used, clippy::print_stdout)] // A test that fails may panic, and what is skipped is printed.

use std::{collections::BTreeSet, path::PathBuf, time::Instant};

use nearfar_core::Seed;
use nearfar_datasets::{
    Annotation, Data, DataConfig, Dataset, Preparation, Shape, Value, Vocabulary,
};

fn load(text: &str) -> Option<Data> {
    #[derive(serde::Deserialize)]
    struct Run {
        data: DataConfig,
    }
    let run: Run = toml::from_str(text).unwrap_or_else(|error| panic!("{text}: {error}"));
    let Some(root) = std::env::var_os("NEARFAR_DATASETS") else {
        println!("skipped: {text} (NEARFAR_DATASETS is not set)");
        return None;
    };
    // A relative path starts at the workspace root.
    let root = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../..")).join(root);
    let start = Instant::now();
    let data = run
        .data
        .load(&root, Seed(7))
        .unwrap_or_else(|error| panic!("{text}: {error}"));
    println!("{text}: {:?}", start.elapsed());
    let parts: Vec<_> = data
        .evaluation
        .iter()
        .map(|part| (part.name, part.dataset.len()))
        .collect();
    println!(
        "  {} to train on in {} classes, {parts:?}",
        data.train.len(),
        data.train_classes
    );
    Some(data)
}

fn part<'a>(data: &'a Data, name: &str) -> &'a dyn Dataset {
    &**data.part(name).unwrap()
}

fn values(dataset: &dyn Dataset, index: u32) -> Vec<f32> {
    match dataset.sample(index).unwrap().inputs.swap_remove(0) {
        Value::Image(image) => image.values,
        Value::Features(features) => features,
        other => panic!("{other:?}"),
    }
}

#[test]
fn mnist_has_its_parts_and_its_classes_can_be_held_out() {
    let Some(data) = load("data.mnist = {}") else {
        return;
    };
    assert_eq!(
        (data.train.len(), part(&data, "test").len()),
        (60_000, 10_000)
    );
    assert_eq!(data.classes.len(), 10);
    // The first digits of both files, as everybody knows them.
    assert_eq!(data.train.labels()[..10], [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]);
    assert_eq!(part(&data, "test").labels()[..5], [7, 2, 1, 0, 4]);
    let mean = |dataset: &dyn Dataset| {
        let sum: f64 = (0..1000)
            .flat_map(|index| values(dataset, index * 10))
            .map(f64::from)
            .sum();
        sum / (1000.0 * 784.0)
    };
    let mean = mean(&*data.train);
    assert!((mean - 0.1307).abs() < 0.01, "{mean}"); // The well-known mean of the training part.
    assert_eq!(data.train.describe(3), "mnist, train image 3");
    assert_eq!(part(&data, "test").describe(3), "mnist, test image 3");

    let halves = load(
        "data.mnist = { classes = [0, 1, 2, 3, 4], test_classes = [5, 6, 7, 8, 9], validation = 0.1, per_class = 100 }",
    )
    .unwrap();
    assert_eq!((halves.train.len(), halves.train_classes), (500, 5));
    assert_eq!(part(&halves, "test").len(), 4861);
    assert!(
        part(&halves, "test")
            .labels()
            .iter()
            .all(|&label| label >= 5)
    );
    assert_eq!(
        load("data.mnist = { split = \"unseen_digits\" }")
            .unwrap()
            .train
            .len(),
        30_596
    );
}

#[test]
fn omniglot_is_what_the_twin_reads() {
    let Some(data) = load("data.omniglot = {}") else {
        return;
    };
    let test = part(&data, "test");
    assert_eq!((data.train.len(), test.len()), (19_280, 13_180));
    assert_eq!((data.train_classes, data.classes.len()), (964, 964 + 659));
    assert_eq!(
        data.shape(),
        Shape::Image {
            channels: 1,
            height: 28,
            width: 28
        }
    );
    let train: BTreeSet<u32> = data.train.labels().iter().copied().collect();
    assert!(train.into_iter().eq(0..964));
    assert_eq!(data.classes[0], "Alphabet_of_the_Magi/character01");
    assert_eq!(
        data.train.describe(0),
        "images_background/Alphabet_of_the_Magi/character01/0709_01.png"
    );
    // Sums of ink over all images, from Pillow: `1 - resize((28, 28), BOX) / 255` in the order of names.
    let ink = |dataset: &dyn Dataset| -> (f64, f64) {
        (0..dataset.len() as u32).fold((0.0, 0.0), |(sum, weighted), index| {
            let values = values(dataset, index);
            let ink: f64 = values.iter().map(|&x| f64::from(x)).sum();
            let places = (1..)
                .zip(&values)
                .map(|(place, &x)| f64::from(place) * f64::from(x));
            (sum + ink, weighted + places.sum::<f64>())
        })
    };
    let near = |(a, b): (f64, f64), (c, d): (f64, f64)| {
        assert!(
            (a / c - 1.0).abs() < 1e-9 && (b / d - 1.0).abs() < 1e-9,
            "{a} {b}"
        );
    };
    near(ink(&*data.train), (1177199.0476971269, 437369622.21581686));
    near(ink(test), (870693.9056874514, 319129517.4124285));
}

#[test]
fn omniglot_is_right_but_for_a_dot_that_two_people_drew_alike() {
    let Some(root) = std::env::var_os("NEARFAR_DATASETS") else {
        println!("skipped: check of omniglot (NEARFAR_DATASETS is not set)");
        return;
    };
    let root = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../..")).join(root);
    let omniglot = DataConfig::all()
        .into_iter()
        .find(|it| it.name() == "omniglot")
        .unwrap();
    let checked = nearfar_datasets::check(&omniglot, &root, Seed(0), 100);
    let lines: Vec<String> = checked.problems.errors().map(ToString::to_string).collect();
    let known = "images_background/Braille/character01/0192_19.png: the pixels are those of \
                 images_background/Braille/character01/0192_03.png; drop one of them";
    assert!(lines.iter().any(|line| line == known), "{lines:#?}");
    assert!(checked.problems.can_be_trained_on(), "{lines:#?}");
    assert_eq!(checked.parts[1].samples, 13_180);
}

#[test]
fn sick_has_its_scores_and_its_words_are_from_the_training_part() {
    let Some(data) = load("data.sick = {}") else {
        return;
    };
    let counts: Vec<usize> = ["train", "validation", "test"]
        .iter()
        .map(|name| part(&data, name).len())
        .collect();
    assert_eq!(counts, [4439, 495, 4906]);
    assert_eq!(data.annotation(), Annotation::ScoredPairs);
    assert_eq!(data.range, Some([1.0, 5.0]));
    assert_eq!(data.train.targets()[0], 4.5);
    assert!(
        data.train
            .describe(0)
            .starts_with("A group of kids is playing in a yard")
    );
    let Preparation::Texts { vocabulary, .. } = &data.preparation else {
        panic!("{:?}", data.preparation)
    };
    assert!(
        (2000..3000).contains(&vocabulary.len()),
        "{}",
        vocabulary.len()
    );
    assert_eq!(
        &Vocabulary::from_json(&vocabulary.to_json()).unwrap(),
        vocabulary
    );
    let unknown = |dataset: &dyn Dataset| {
        let mut counts = (0, 0);
        for index in 0..dataset.len() as u32 {
            for value in dataset.sample(index).unwrap().inputs {
                let Value::Tokens(tokens) = value else {
                    panic!("no text")
                };
                counts.0 += tokens.iter().filter(|&&token| token == 0).count();
                counts.1 += tokens.len();
            }
        }
        counts
    };
    assert_eq!(unknown(&*data.train).0, 0);
    let (unknown, all) = unknown(part(&data, "test"));
    assert!(unknown > 0 && unknown * 50 < all, "{unknown} of {all}");
}

#[test]
fn uci_tables_have_their_rows_features_and_classes() {
    for (name, samples, features, classes) in [
        ("wine", 178, 13, 3),
        ("iris", 150, 4, 3),
        ("balance_scale", 625, 4, 3),
        ("breast_cancer_wisconsin", 699, 9, 2),
        ("glass", 214, 9, 6),
        ("ionosphere", 351, 34, 2),
        ("letter_recognition", 20_000, 16, 26),
        ("sonar", 208, 60, 2),
        ("vehicle", 846, 18, 4),
    ] {
        let Some(data) = load(&format!("data.uci = {{ name = \"{name}\" }}")) else {
            return;
        };
        let test = part(&data, "test");
        assert_eq!(data.train.len() + test.len(), samples, "{name}");
        assert_eq!(data.shape(), Shape::Features { count: features }, "{name}");
        assert_eq!((data.classes.len(), data.train_classes), (classes, classes));
        // The training part is standardized, and nothing is NaN.
        let mut sums = vec![0.0; features];
        for index in 0..data.train.len() as u32 {
            let row = values(&*data.train, index);
            assert!(row.iter().all(|x| x.is_finite()));
            sums.iter_mut()
                .zip(row)
                .for_each(|(sum, x)| *sum += f64::from(x));
        }
        for sum in sums {
            assert!(
                (sum / data.train.len() as f64).abs() < 1e-4,
                "{name}: {sum}"
            );
        }
    }
}

#[test]
fn spoken_digits_have_classes_of_digits_and_of_speakers() {
    let Some(data) = load("data.fsdd = {}") else {
        return;
    };
    assert_eq!((data.train.len(), part(&data, "test").len()), (2_700, 300));
    assert_eq!(
        (data.train_classes, data.shape()),
        (10, Shape::Frames { features: 40 })
    );
    assert!(
        data.train
            .describe(0)
            .ends_with("recordings/0_george_10.wav"),
        "{}",
        data.train.describe(0)
    );
    // From Python: `1 + (len(wav) - 256) // 80`, over the training part.
    let mut frames = 0;
    for index in 0..data.train.len() as u32 {
        match data.train.sample(index).unwrap().inputs.swap_remove(0) {
            Value::Frames(found) if found.values.iter().all(|it| it.is_finite()) => {
                frames += found.count
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(frames, FSDD_FRAMES);

    let speakers = load("data.fsdd = { class = ['speaker'], split = 'unseen_digits' }").unwrap();
    assert_eq!(
        &*speakers.classes,
        ["george", "jackson", "lucas", "nicolas", "theo", "yweweler"]
    );
    assert_eq!(
        (speakers.train.len(), part(&speakers, "test").len()),
        (1_500, 1_500)
    );
    let both =
        load("data.fsdd = { class = ['speaker', 'digit'], split = 'unseen_speakers' }").unwrap();
    assert_eq!((both.train_classes, both.classes.len()), (40, 60));
    assert_eq!(both.classes[0], "george/0");
    let set = DataConfig::Fsdd(nearfar_datasets::SoundSet {
        class: Some(vec!["word".into()]),
        ..nearfar_datasets::SoundSet::default()
    });
    let root = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
        .join(std::env::var_os("NEARFAR_DATASETS").unwrap());
    let error = set.load(&root, Seed(7)).err().unwrap().to_string();
    assert!(
        error.contains("names say `root`, `digit`, `speaker`, `index`"),
        "{error}"
    );
}

/// Frames of all training recordings of the spoken digits.
const FSDD_FRAMES: usize = 111_042;

#[test]
fn the_other_sets_have_their_parts() {
    for (text, train, test) in [
        ("data.fashion_mnist = {}", 60_000, 10_000),
        ("data.orl = { size = [56, 46] }", 350, 50),
        ("data.isolet = {}", 6238, 1559),
        ("data.stsbenchmark = {}", 5749, 1379),
        ("data.clinc150 = {}", 15_000, 4500),
        (
            "data.clinc150 = { split = \"unseen_domains\" }",
            12_000,
            900,
        ),
    ] {
        let Some(data) = load(text) else { return };
        assert_eq!(
            (data.train.len(), part(&data, "test").len()),
            (train, test),
            "{text}"
        );
    }
    let data = load("data.onet_titles = {}").unwrap();
    let test = part(&data, "test");
    assert!(
        test.labels()
            .iter()
            .all(|&label| label as usize >= data.train_classes)
    );
    assert!(data.classes[0].starts_with("11-1011.00 Chief Executives"));
}
