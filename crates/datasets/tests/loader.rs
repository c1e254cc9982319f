//! A loader gives the same batches whatever its threads do, and tells of what it cannot give.

#![allow(clippy::unwrap_used, clippy::print_stdout)] // A test that fails may panic, and what is skipped is printed.

use std::{
    collections::BTreeSet,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use candle_core::Device;
use nearfar_core::{Batch, Batches, BoxError, Purpose, Seed, Supervision};
use nearfar_datasets::{
    BadSamples, ClassesBySamples, DataConfig, Dataset, Error, GlyphSet, Image, Loader, PairSampler,
    Sample, SamplerConfig, Shuffled, Transform, TransformConfig, Value,
};

fn glyphs() -> Arc<dyn Dataset> {
    let config = DataConfig::Glyphs(GlyphSet {
        classes: 12,
        samples: 9,
        ..GlyphSet::default()
    });
    config.load(Path::new("unused"), Seed(3)).unwrap().train
}

fn loader(dataset: &Arc<dyn Dataset>, sampler: &SamplerConfig, threads: usize) -> Loader {
    // All that change images.
    let image = || Value::Image(Image::filled(1, 28, 28, 0.5));
    let mut rng = Seed(5).rng(Purpose::Augmentation, 0);
    let augmentation = TransformConfig::all()
        .into_iter()
        .filter(|it| it.apply(image(), &mut rng).is_ok())
        .map(|it| Box::new(it) as Box<dyn Transform>);
    Loader::new(
        Arc::clone(dataset),
        sampler.build(&**dataset).unwrap(),
        Seed(5),
        Device::Cpu,
    )
    .augmentation(augmentation.collect())
    .threads(threads)
}

/// All bits of a batch that matter.
fn bits(batch: &Batch) -> (Vec<u32>, Vec<Vec<u64>>, String) {
    let values = batch.inputs[0].dense("test").unwrap();
    let values: Vec<f32> = values.flatten_all().unwrap().to_vec1().unwrap();
    (
        values.into_iter().map(f32::to_bits).collect(),
        batch.ids.clone(),
        format!("{:?}", batch.supervision),
    )
}

fn epoch(loader: &Loader, epoch: u64, skip: u64) -> Vec<(Vec<u32>, Vec<Vec<u64>>, String)> {
    loader
        .epoch(epoch, skip)
        .map(|batch| bits(&batch.unwrap()))
        .collect()
}

fn samplers() -> Vec<SamplerConfig> {
    vec![
        SamplerConfig::Shuffled(Shuffled {
            size: 10,
            ..Shuffled::default()
        }),
        SamplerConfig::ClassesBySamples(ClassesBySamples {
            classes: 4,
            samples: 3,
            ..ClassesBySamples::default()
        }),
        SamplerConfig::Pairs(PairSampler {
            size: 5,
            ..PairSampler::default()
        }),
    ]
}

#[test]
fn threads_change_nothing_and_continuing_is_skipping() {
    let data = glyphs();
    for sampler in samplers() {
        let here = epoch(&loader(&data, &sampler, 0), 2, 0);
        assert!(here.len() > 4, "{sampler:?}");
        for threads in [1, 2, 4] {
            let loader = loader(&data, &sampler, threads).ahead(2);
            assert_eq!(epoch(&loader, 2, 0), here, "{sampler:?}, {threads} threads");
            for skip in [1, 3, here.len()] {
                assert_eq!(epoch(&loader, 2, skip as u64), here[skip..], "{sampler:?}");
            }
        }
        let other = epoch(&loader(&data, &sampler, 1), 3, 0);
        assert_ne!(other[0].0, here[0].0, "epochs differ");
    }
}

#[test]
fn ids_are_the_epoch_the_input_and_the_place() {
    let data = glyphs();
    let loader = loader(&data, &samplers()[0], 1);
    let mut places = BTreeSet::new();
    for batch in loader.epoch(3, 0) {
        for id in &batch.unwrap().ids[0] {
            assert_eq!((id >> 44, (id >> 40) & 15), (3, 0));
            places.insert(id & ((1 << 40) - 1));
        }
    }
    assert_eq!(places, (0..108).collect());
}

#[test]
fn a_sweep_is_every_sample_once_in_order_without_augmentation() {
    let data = glyphs();
    let loader = loader(&data, &samplers()[1], 2).sweep_size(25);
    let swept: Vec<Batch> = loader.sweep().map(Result::unwrap).collect();
    let ids: Vec<u64> = swept.iter().flat_map(|it| it.ids[0].clone()).collect();
    assert_eq!(ids, (0..108).collect::<Vec<u64>>());
    let Value::Image(image) = &data.sample(30).unwrap().inputs[0] else {
        panic!("glyphs are images")
    };
    let row = swept[1].inputs[0].dense("test").unwrap().get(5).unwrap();
    assert_eq!(
        row.flatten_all().unwrap().to_vec1::<f32>().unwrap(),
        image.values
    );
    let same = Loader::in_order(Arc::clone(&data), 25, Device::Cpu);
    let again: Vec<_> = same.sweep().map(|batch| bits(&batch.unwrap())).collect();
    assert_eq!(again, swept.iter().map(bits).collect::<Vec<_>>());
}

#[test]
fn pairs_are_known_by_their_classes() {
    let data = glyphs();
    let loader = loader(&data, &samplers()[2], 1);
    for batch in loader.epoch(0, 0) {
        let batch = batch.unwrap();
        assert_eq!(batch.inputs.len(), 1);
        assert_eq!(batch.inputs[0].rows().unwrap(), 10);
        let Supervision::Pairs(pairs) = &batch.supervision else {
            panic!("{:?}", batch.supervision)
        };
        let mut all: Vec<(u32, u32)> = pairs.positive.iter().chain(pairs.negative.iter()).collect();
        all.sort_unstable();
        assert_eq!(all, [(0, 1), (2, 3), (4, 5), (6, 7), (8, 9)]);
        assert!((2..=3).contains(&pairs.positive.len()));
    }
}

#[test]
fn a_sampler_that_cannot_serve_the_data_is_refused_before_the_first_batch() {
    let data = glyphs();
    let wide = SamplerConfig::ClassesBySamples(ClassesBySamples {
        classes: 13,
        ..ClassesBySamples::default()
    });
    let error = wide.build(&*data).err().unwrap().to_string();
    assert!(
        error.contains("wants 13 classes a batch, but there are 12"),
        "{error}"
    );
}

/// Numbers, of which some cannot be read.
struct Faulty {
    labels: Vec<u32>,
    decoded: AtomicUsize,
}

impl Faulty {
    fn new(count: u32) -> Arc<Self> {
        Arc::new(Self {
            labels: (0..count).map(|index| index % 4).collect(),
            decoded: AtomicUsize::new(0),
        })
    }
}

impl Dataset for Faulty {
    fn labels(&self) -> &[u32] {
        &self.labels
    }

    fn sample(&self, index: u32) -> Result<Sample, Error> {
        self.decoded.fetch_add(1, Ordering::SeqCst);
        match index {
            13 | 27 => Err(Error::Read {
                path: format!("{index}.png"),
                source: std::io::Error::other("gone"),
            }),
            99 => panic!("a bug of somebody's data set"),
            _ => Ok(Sample::of(Value::Features(vec![index as f32]))),
        }
    }
}

fn in_order(data: Arc<Faulty>, bad: BadSamples) -> Vec<Result<Vec<f32>, BoxError>> {
    let loader = Loader::in_order(data, 10, Device::Cpu)
        .on_bad_sample(bad)
        .threads(2);
    let batches = loader.sweep();
    batches
        .map(|batch| {
            let values = batch?.inputs[0].dense("test")?.flatten_all()?;
            Ok(values.to_vec1::<f32>()?)
        })
        .collect()
}

#[test]
fn what_cannot_be_read_ends_the_run_by_name() {
    let batches = in_order(Faulty::new(40), BadSamples::Fail);
    assert_eq!(batches.len(), 2);
    let error = batches[1].as_ref().unwrap_err().to_string();
    assert_eq!(error, "cannot read 13.png");
}

#[test]
fn what_cannot_be_read_is_left_out_and_counted_as_far_as_allowed() {
    let batches = in_order(Faulty::new(40), BadSamples::Skip { most: 2 });
    let rows: Vec<usize> = batches
        .iter()
        .map(|it| it.as_ref().unwrap().len())
        .collect();
    assert_eq!(rows, [10, 9, 9, 10]);

    let batches = in_order(Faulty::new(40), BadSamples::Skip { most: 1 });
    let error = batches.last().unwrap().as_ref().unwrap_err().to_string();
    assert!(
        error.starts_with("2 samples cannot be used, and 1 may be left out"),
        "{error}"
    );

    let loader = Loader::in_order(Faulty::new(40), 10, Device::Cpu)
        .on_bad_sample(BadSamples::Skip { most: 2 });
    assert_eq!(loader.sweep().filter(Result::is_ok).count(), 4);
    let (count, reasons) = loader.left_out();
    assert_eq!(
        (count, reasons[0].as_str()),
        (2, "cannot read 13.png: gone")
    );
}

#[test]
fn of_a_bad_pair_both_rows_are_left_out() {
    let data = Faulty::new(40);
    let sampler = SamplerConfig::Pairs(PairSampler {
        size: 20,
        ..PairSampler::default()
    });
    let loader = Loader::new(
        Arc::clone(&data) as Arc<dyn Dataset>,
        sampler.build(&*data).unwrap(),
        Seed(1),
        Device::Cpu,
    )
    .on_bad_sample(BadSamples::Skip { most: 9 });
    let batch = loader.epoch(0, 0).next().unwrap().unwrap();
    let rows = batch.inputs[0].rows().unwrap();
    assert!(rows < 40 && rows.is_multiple_of(2), "{rows}");
    let Supervision::Pairs(pairs) = &batch.supervision else {
        panic!("{:?}", batch.supervision)
    };
    assert_eq!(pairs.positive.len() + pairs.negative.len(), rows / 2);
}

#[test]
fn at_most_so_many_batches_are_decoded_ahead() {
    let data = Faulty::new(13); // None of them is faulty.
    let loader = Loader::in_order(Arc::clone(&data) as Arc<dyn Dataset>, 1, Device::Cpu)
        .threads(2)
        .ahead(3);
    let mut batches = loader.sweep();
    batches.next().unwrap().unwrap();
    std::thread::sleep(Duration::from_millis(100));
    let decoded = data.decoded.load(Ordering::SeqCst);
    assert!((1..=4).contains(&decoded), "{decoded}");
    drop(batches); // Ends the threads.
    let count = Arc::strong_count(&data);
    assert_eq!(count, 2, "the loader's and ours");
    assert!(loader.waited() > Duration::ZERO);
}

#[test]
fn a_panic_in_a_data_set_reaches_the_consumer() {
    let loader = Loader::in_order(Faulty::new(100), 1, Device::Cpu)
        .on_bad_sample(BadSamples::Skip { most: 9 })
        .threads(2);
    let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| loader.sweep().count()));
    let message = panic.unwrap_err();
    assert_eq!(
        message.downcast_ref::<&str>(),
        Some(&"a bug of somebody's data set")
    );
}
