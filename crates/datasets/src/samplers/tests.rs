//! All samplers: what each promises, what it was shown, and what is left of it in a checkpoint.

use std::collections::{BTreeMap, BTreeSet};

use candle_core::{DType, Device, Tensor};
use nearfar_core::{EmbeddingTable, Fraction, NonNegative, Purpose, Rng, Seed, Span};

use super::*;
use crate::{Dataset, Error, Sample, Value};

/// Samples whose only input is a number; samples of one number are duplicates.
pub(super) struct Numbers {
    pub(super) labels: Vec<u32>,
    names: Vec<String>,
    pub(super) inputs: Vec<u32>,
}

impl Dataset for Numbers {
    fn labels(&self) -> &[u32] {
        &self.labels
    }
    fn classes(&self) -> &[String] {
        &self.names
    }
    fn sample(&self, index: u32) -> Result<Sample, Error> {
        let input = self.inputs[index as usize];
        Ok(Sample::of(Value::Tokens(vec![input, 7])))
    }
}

/// Eight classes of four to seven samples, of three super-classes, not in order.
pub(super) fn data() -> Numbers {
    let labels: Vec<u32> = (0..44).map(|it| (it * it + it / 3) % 8).collect();
    let mut labels: Vec<u32> = labels;
    for class in 0..8 {
        labels.extend([class; 4]);
    }
    let of = ["a", "a", "b", "b", "b", "c", "c", "c"];
    let names = (0..8).map(|it| format!("{}/{it}", of[it])).collect();
    let inputs = (0..labels.len() as u32).map(|it| it % 30).collect();
    Numbers {
        labels,
        names,
        inputs,
    }
}

pub(super) fn table(data: &Numbers, dim: usize, seed: u64) -> EmbeddingTable {
    let mut rng = Seed(seed).rng(Purpose::Generation, 0);
    let n = data.labels.len();
    let mut vectors = Vec::new();
    for &label in &data.labels {
        let mut place = Seed(seed).rng(Purpose::Generation, 100 + u64::from(label));
        vectors.extend((0..dim).map(|_| (place.normal() + 0.7 * rng.normal()) as f32));
    }
    EmbeddingTable {
        vectors,
        dim,
        labels: data.labels.clone(),
        ids: (0..n as u64).collect(),
    }
}

/// Every sampler in a size that fits, and those whose settings choose another way.
fn small() -> Vec<SamplerConfig> {
    let span = Span::Epochs(1);
    // Data in two domains and scored pairs are other sets: see `two_domains.rs` and `grouped_pairs.rs`.
    let of_classes = |it: &SamplerConfig| {
        !matches!(
            it,
            SamplerConfig::TwoDomains(_) | SamplerConfig::GroupedPairs(_)
        )
    };
    let all = SamplerConfig::all().into_iter().filter(of_classes);
    let mut all: Vec<SamplerConfig> = all.map(shrunk).collect();
    all.push(SamplerConfig::HardClasses(HardClasses {
        form: HardForm::Max,
        classes: 3,
        pool: Some(5),
        every: Span::Steps(7),
        ..HardClasses::default()
    }));
    all.push(SamplerConfig::HardNegatives(HardNegatives {
        anchors: 5,
        negatives: 3,
        range_min: 2,
        range_max: 9,
        relative_margin: Some(Fraction::literal(0.05)),
        absolute_margin: Some(NonNegative::literal(0.1)),
        sampling: Sampling::Random,
        subset: Some(40),
        every: span,
        ..HardNegatives::default()
    }));
    all.push(SamplerConfig::CategoryBalance(CategoryBalance {
        categories: 2,
        classes: 2,
        samples: 3,
        draw: Drawn::Evenly,
        ..CategoryBalance::default()
    }));
    all
}

pub(super) fn shrunk(config: SamplerConfig) -> SamplerConfig {
    use SamplerConfig as S;
    match config {
        S::Shuffled(it) => S::Shuffled(Shuffled { size: 9, ..it }),
        S::NoDuplicates(it) => S::NoDuplicates(NoDuplicates { size: 9, ..it }),
        S::ClassesBySamples(it) => S::ClassesBySamples(ClassesBySamples {
            classes: 4,
            samples: 3,
            ..it
        }),
        S::Pairs(it) => S::Pairs(PairSampler { size: 6, ..it }),
        S::TwoDomains(it) => S::TwoDomains(it),
        S::GroupedPairs(it) => S::GroupedPairs(it),
        S::Episode(it) => S::Episode(Episode {
            ways: 3,
            support: 1,
            queries: 3,
            ..it
        }),
        S::FixedTriplets(it) => S::FixedTriplets(FixedTriplets {
            triplets: 25,
            size: 4,
            ..it
        }),
        S::Hierarchical(it) => S::Hierarchical(Hierarchical {
            classes: 3,
            samples: 2,
            ..it
        }),
        S::CategoryBalance(it) => S::CategoryBalance(CategoryBalance {
            categories: 2,
            classes: 2,
            samples: 2,
            ..it
        }),
        S::AnchorNeighborhood(it) => S::AnchorNeighborhood(AnchorNeighborhood {
            anchors: 2,
            classes: 3,
            samples: 2,
            ..it
        }),
        S::GraphSampler(it) => S::GraphSampler(GraphSampler {
            classes: 3,
            samples: 4,
            ..it
        }),
        S::HardClasses(it) => S::HardClasses(HardClasses { classes: 4, ..it }),
        S::MagnetClusters(it) => S::MagnetClusters(MagnetClusters {
            clusters: 4,
            samples: 3,
            ..it
        }),
        S::GreedyCoreset(it) => S::GreedyCoreset(GreedyCoreset { classes: 4, ..it }),
        S::HardNegatives(it) => S::HardNegatives(HardNegatives {
            anchors: 4,
            range_max: 6,
            ..it
        }),
        S::LossProportional(it) => S::LossProportional(LossProportional {
            classes: 4,
            samples: 3,
            ..it
        }),
        S::TuplesToWeights(it) => S::TuplesToWeights(TuplesToWeights {
            size: 9,
            subset: 50,
            ..it
        }),
    }
}

pub(super) fn stream(position: u64) -> Rng {
    Seed(4).rng(Purpose::Sampling, position)
}

pub(super) fn refreshed(
    config: &SamplerConfig,
    data: &Numbers,
    table: &EmbeddingTable,
) -> Box<dyn Sampler> {
    let mut sampler = config.build(data).expect("it fits");
    let mut rng = Seed(4).rng(Purpose::Refresh, 1);
    sampler.refresh(table, &mut rng).expect("it is of the data");
    sampler
}

/// Rows that are hard on code.
pub(super) fn awkward_tables(data: &Numbers) -> Vec<(&'static str, EmbeddingTable)> {
    let plain = table(data, 5, 1);
    let with = |change: &dyn Fn(usize, f32) -> f32| {
        let mut table = plain.clone();
        for (place, x) in table.vectors.iter_mut().enumerate() {
            *x = change(place, *x);
        }
        table
    };
    vec![
        ("one dimension", table(data, 1, 2)),
        ("many dimensions", table(data, 19, 3)),
        ("coinciding rows", with(&|place, _| (place % 5) as f32)),
        ("rows of zeros", with(&|_, _| 0.0)),
        ("huge rows", with(&|_, x| x * 1e30)),
        ("tiny rows", with(&|_, x| x * 1e-30)),
        ("not a number", with(&|_, _| f32::NAN)),
        (
            "one is not a number",
            with(&|place, x| if place == 12 { f32::NAN } else { x }),
        ),
        ("some are missing", plain.filter(|row| row % 3 != 1)),
        ("nobody", plain.filter(|_| false)),
        ("plain", plain),
    ]
}

#[test]
fn every_sampler_is_a_function_of_its_seed_and_of_what_it_was_shown() {
    let data = data();
    for config in small() {
        let unseen = config.build(&data).expect("it fits");
        let length = unseen.epoch(&data.labels, &mut stream(0)).len();
        for (name, table) in awkward_tables(&data) {
            let sampler = refreshed(&config, &data, &table);
            let again = refreshed(&config, &data, &table);
            for epoch in 0..3 {
                let batches = sampler.epoch(&data.labels, &mut stream(epoch));
                assert_eq!(
                    batches,
                    again.epoch(&data.labels, &mut stream(epoch)),
                    "{config:?} of {name}"
                );
                if !matches!(config, SamplerConfig::NoDuplicates(_)) {
                    assert_eq!(batches.len(), length, "{config:?} of {name}");
                }
                let rows = batches.concat();
                assert!(!rows.is_empty() && batches.iter().all(|it| !it.is_empty()));
                let within = |it: &u32| (*it as usize) < data.labels.len();
                assert!(rows.iter().all(within), "{config:?} of {name}");
            }
        }
    }
}

#[test]
fn what_is_restored_goes_on_with_the_same_bits() {
    let data = data();
    for config in small() {
        for (name, table) in awkward_tables(&data) {
            let shown = refreshed(&config, &data, &table);
            let mut restored = config.build(&data).expect("it fits");
            restored.restore(&shown.state()).expect("its own state");
            assert_eq!(shown.state().len(), restored.state().len());
            for epoch in 0..3 {
                assert_eq!(
                    shown.epoch(&data.labels, &mut stream(epoch)),
                    restored.epoch(&data.labels, &mut stream(epoch)),
                    "{config:?} of {name}"
                );
            }
            // What is derived from the table is kept, and nothing else is.
            let wants = shown.interval().is_some();
            assert_eq!(wants, !shown.state().is_empty(), "{config:?}");
            restored.restore(&BTreeMap::new()).expect("nothing yet");
            assert!(restored.state().is_empty());
        }
    }
}

#[test]
fn state_that_does_not_fit_is_refused_by_name() {
    let data = data();
    for config in small() {
        let shown = refreshed(&config, &data, &table(&data, 5, 1));
        let state = shown.state();
        let refused = |change: &dyn Fn(&mut BTreeMap<String, Tensor>), what: &str| {
            let mut state = state.clone();
            change(&mut state);
            let mut sampler = config.build(&data).expect("it fits");
            let error = sampler
                .restore(&state)
                .expect_err("it does not fit")
                .to_string();
            assert!(error.contains(what), "{config:?}: {error}");
        };
        let other = || Tensor::zeros((1, 1), DType::F32, &Device::Cpu).expect("small");
        refused(
            &|state| {
                state.insert("unknown".into(), other());
            },
            "unknown",
        );
        for name in state.keys() {
            refused(
                &|state| {
                    state.insert(
                        name.clone(),
                        Tensor::zeros((3, 2), DType::F64, &Device::Cpu).expect("small"),
                    );
                },
                name,
            );
            if state.len() > 1 {
                refused(
                    &|state| {
                        state.remove(name);
                    },
                    name,
                );
            }
            if state[name].dtype() == DType::U32 {
                let size = state[name].dims2().expect("a matrix");
                let outside = vec![u32::MAX - 1; size.0 * size.1];
                let outside = Tensor::from_vec(outside, size, &Device::Cpu).expect("full");
                refused(
                    &|state| {
                        state.insert(name.clone(), outside.clone());
                    },
                    "names 4294967294",
                );
            }
        }
        let mut sampler = config.build(&data).expect("it fits");
        if sampler.interval().is_some() {
            let mut table = table(&data, 5, 1);
            table.ids[3] = 1_000;
            let error = sampler
                .refresh(&table, &mut stream(0))
                .expect_err("outside");
            assert!(error.to_string().contains("sample 1000"), "{error}");
        }
    }
}

#[test]
fn every_sampler_is_read_by_its_name_alone_and_written_as_it_was() {
    #[derive(Deserialize)]
    struct Run {
        sampler: SamplerConfig,
    }
    for sampler in SamplerConfig::all().into_iter().chain(small()) {
        let written = toml::to_string(&sampler).expect("settings are tables");
        let read: SamplerConfig = toml::from_str(&written).expect("what was written");
        assert_eq!(read, sampler);
        assert!(!sampler.doc().is_empty());
    }
    for sampler in SamplerConfig::all() {
        let text = format!("sampler.{} = {{}}", sampler.name());
        let read: Run = toml::from_str(&text).expect("every setting has a default");
        assert_eq!(read.sampler, sampler);
    }
    let text = "sampler.hard_negatives = { skip_top = 3, every = { steps = 500 } }";
    let read: Run = toml::from_str(text).expect("another name of `range_min`");
    let SamplerConfig::HardNegatives(it) = read.sampler else {
        panic!("it is named");
    };
    assert_eq!((it.range_min, it.every), (3, Span::Steps(500)));
}

#[test]
fn what_cannot_be_done_is_refused_with_both_numbers() {
    let data = data();
    let refused = |text: &str, what: &str| {
        let config: SamplerConfig = toml::from_str(text).expect("it can be read");
        let error = config
            .build(&data)
            .err()
            .expect("it cannot be done")
            .to_string();
        assert!(error.contains(what), "{error}");
    };
    refused(
        "hard_classes = { classes = 9 }",
        "wants 9 classes a batch, but there are 8",
    );
    refused(
        "hard_classes = { classes = 4, pool = 3 }",
        "4 classes of a `pool` of 3",
    );
    refused(
        "anchor_neighborhood = { anchors = 3, classes = 3 }",
        "wants 9 classes",
    );
    refused(
        "graph_sampler = { classes = 4, samples = 100 }",
        "wants 100 samples of a class",
    );
    refused(
        "graph_sampler = { classes = 4, every = { epochs = 0 } }",
        "every` is 0",
    );
    refused("episode = { ways = 3 }", "wants 5 + 15 samples of a class");
    refused(
        "hierarchical = { super_classes = 4 }",
        "wants 4 super-classes a batch, but there are 3",
    );
    refused(
        "category_balance = { separator = \":\" }",
        "before the last `:`",
    );
    refused(
        "hard_negatives = { negatives = 7, range_max = 5 }",
        "takes 7 negatives",
    );
    refused("magnet_clusters = { per_class = 0 }", "per_class` is 0");
    refused("no_duplicates = { size = 0 }", "size` is 0");
    let one_class = Numbers {
        labels: vec![0; 9],
        names: Vec::new(),
        inputs: vec![0; 9],
    };
    for text in [
        "hard_negatives = {}",
        "fixed_triplets = {}",
        "magnet_clusters = {}",
    ] {
        let config: SamplerConfig = toml::from_str(text).expect("it can be read");
        assert!(config.build(&one_class).is_err(), "{text}");
    }
}

pub(super) fn distinct<T: Ord>(items: impl IntoIterator<Item = T>) -> usize {
    items.into_iter().collect::<BTreeSet<T>>().len()
}

#[test]
fn batches_have_the_classes_and_samples_that_they_promise() {
    let data = data();
    let label = |&it: &u32| data.labels[it as usize];
    let shown = table(&data, 5, 1);
    for (config, classes, samples) in [
        (
            "anchor_neighborhood = { anchors = 2, classes = 3, samples = 2 }",
            6,
            2,
        ),
        ("graph_sampler = { classes = 3, samples = 4 }", 3, 4),
        ("hard_classes = { classes = 5, samples = 2 }", 5, 2),
        ("greedy_coreset = { classes = 5, samples = 3 }", 5, 3),
        ("loss_proportional = { classes = 5, samples = 3 }", 5, 3),
        ("episode = { ways = 3, support = 1, queries = 3 }", 3, 4),
    ] {
        let config: SamplerConfig = toml::from_str(config).expect("settings");
        for sampler in [
            config.build(&data).expect("it fits"),
            refreshed(&config, &data, &shown),
        ] {
            for batch in sampler.epoch(&data.labels, &mut stream(3)) {
                assert_eq!(batch.len(), classes * samples, "{config:?}");
                assert_eq!(distinct(batch.iter()), batch.len(), "{config:?}");
                assert_eq!(distinct(batch.iter().map(label)), classes, "{config:?}");
                for class in batch.chunks(samples) {
                    assert_eq!(distinct(class.iter().map(label)), 1, "{config:?}");
                }
            }
        }
    }
}

#[test]
fn super_classes_are_few_in_a_batch_and_all_choices_are_made() {
    let data = data();
    let group = |&it: &u32| &data.names[data.labels[it as usize] as usize][..1];
    let config: SamplerConfig =
        toml::from_str("hierarchical = { classes = 3, samples = 2 }").expect("settings");
    let sampler = config.build(&data).expect("it fits");
    let batches = sampler.epoch(&data.labels, &mut stream(0));
    assert_eq!(batches.len(), 3 * 4);
    let mut choices = BTreeMap::<BTreeSet<&str>, usize>::new();
    for batch in &batches {
        let groups: BTreeSet<&str> = batch.iter().map(group).collect();
        // `a` has two classes, the others three.
        let classes = if groups.contains("a") { 5 } else { 6 };
        assert_eq!(batch.len(), 2 * classes);
        assert_eq!(
            distinct(batch.iter().map(|&it| data.labels[it as usize])),
            classes
        );
        *choices.entry(groups).or_default() += 1;
    }
    assert_eq!(choices.values().collect::<Vec<_>>(), [&4, &4, &4]);

    let text = "category_balance = { categories = 2, classes = 2, samples = 2, draw = \"evenly\", batches = 9 }";
    let config: SamplerConfig = toml::from_str(text).expect("settings");
    let sampler = config.build(&data).expect("it fits");
    let mut counts = BTreeMap::<&str, usize>::new();
    for batch in sampler.epoch(&data.labels, &mut stream(0)) {
        assert_eq!(batch.len(), 8);
        let groups: BTreeSet<&str> = batch.iter().map(group).collect();
        assert_eq!(groups.len(), 2);
        groups
            .into_iter()
            .for_each(|it| *counts.entry(it).or_default() += 1);
    }
    assert_eq!(counts.values().collect::<Vec<_>>(), [&6, &6, &6]);
    let text = "category_balance = { categories = 1, classes = 2, samples = 2, batches = 4000 }";
    let config: SamplerConfig = toml::from_str(text).expect("settings");
    let sampler = config.build(&data).expect("it fits");
    let batches = sampler.epoch(&data.labels, &mut stream(0));
    let of_a = batches.iter().filter(|it| group(&it[0]) == "a").count();
    assert!(of_a.abs_diff(1000) < 137, "{of_a}"); // 2 of 8 classes; five standard deviations.
}

/// The tensor of a sampler's state, as it is.
pub(super) fn places(sampler: &dyn Sampler, name: &str) -> Vec<Vec<u32>> {
    sampler.state()[name].to_vec2().expect("places")
}

pub(super) fn numbers(sampler: &dyn Sampler, name: &str) -> Vec<f32> {
    let flat = sampler.state()[name].flatten_all();
    flat.and_then(|it| it.to_vec1()).expect("numbers")
}

/// `d²` of two rows of length 1, in the plainest way.
pub(super) fn far(table: &EmbeddingTable, one: usize, other: usize) -> f64 {
    let unit = |row: usize| -> Vec<f64> {
        let row = table.row(row);
        let length = row
            .iter()
            .map(|&x| f64::from(x).powi(2))
            .sum::<f64>()
            .sqrt();
        row.iter().map(|&x| f64::from(x) / length).collect()
    };
    let (x, y) = (unit(one), unit(other));
    x.iter().zip(&y).map(|(x, y)| (x - y).powi(2)).sum()
}
