//! A run that was stopped and continued equals one that never stopped, bit for bit, on any number of threads.

mod cases;
mod generated;

use std::collections::BTreeMap;
use std::num::NonZeroU64;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use candle_core::{DType, Device};
use nearfar_core::{BoxError, Positive, Seed, Span};
use nearfar_datasets::Loader;
use nearfar_models::Params;
use nearfar_trainer::schedule::Cosine;
use nearfar_trainer::{
    Answer, Checkpoint, Checkpoints, Ended, Event, Options, Run, ScheduleConfig, Trainer, Watch,
    fit,
};

use crate::joined::reads_pairs;
use cases::{Around, Case, cases, cases_around, loss_of};
use generated::Generated;

const CLASSES: usize = 6;
const SAMPLES: usize = 6;
/// Two epochs of three batches, and one more.
const STEPS: u64 = 7;
const SEED: Seed = Seed(17);

fn run(case: &Case) -> Run {
    let scored = reads_pairs(&case.loss) || case.around == Around::Views;
    let data = Arc::new(Generated::new(&case.model, scored));
    let params = Params::new(SEED, DType::F32, &Device::Cpu).expect("f32 is possible");
    let tower = case
        .model
        .build(&data.shape(), &params)
        .expect("it reads this");
    let size = (CLASSES, tower.width());
    let loss = loss_of(case, size);
    let options = Options {
        seed: SEED,
        accumulate: NonZeroU64::new(case.accumulate).expect("at least one"),
        clip_norm: Some(Positive::literal(1.0)),
        ..Options::default()
    };
    let cosine = ScheduleConfig::Cosine(Cosine {
        warmup: 2,
        ..Cosine::default()
    });
    let schedule = cosine
        .build(case.optimizer.learning_rate(), Some(STEPS))
        .expect("it fits");
    let optimizer = case.optimizer.build().expect("it fits");
    let trainer = Trainer::new(vec![tower], loss, optimizer, schedule, options).expect("it fits");
    let sampler = case.sampler.build(&*data).expect("it fits");
    let loader = Loader::new(data, sampler, SEED, Device::Cpu).threads(2);
    Run::new(trainer, Box::new(loader))
}

fn store(folder: &Path) -> Checkpoints {
    Checkpoints::open(folder, "run", 2).expect("a folder of the test")
}

/// Goes on until the end, or until a step is done, and saves there.
fn go(case: &Case, run: Run, folder: &Path, stop: Option<u64>) -> Run {
    let flag = run.signals.stop.clone();
    let asks = Watch::new(move |trainer: &Trainer, event: &Event<'_>| {
        let position = trainer.position();
        if matches!(event, Event::Start | Event::Step { .. }) && Some(position.step) == stop {
            flag.store(true, Ordering::Relaxed);
        }
        Ok(Answer::GoOn)
    });
    let mut run = run.watched_by("asks", asks);
    let store = store(folder);
    let save = &mut |checkpoint: &Checkpoint| -> Result<(), BoxError> {
        Ok(store.save(checkpoint).map(drop)?)
    };
    let ended = fit(&mut run, Span::Steps(STEPS), save);
    let ended = ended.unwrap_or_else(|error| panic!("{case:?}: {error}"));
    let wanted = if stop.is_some() {
        Ended::Stopped
    } else {
        Ended::Reached
    };
    assert_eq!(ended, wanted);
    run
}

/// The bytes of the newest checkpoint: parameters, what the optimizer remembers, all other state, and the position.
fn newest(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let names = store(folder).names().expect("a folder of the test");
    let path = folder.join(names.last().expect("it was saved"));
    let entries = std::fs::read_dir(path).expect("a checkpoint");
    entries
        .map(|entry| {
            let entry = entry.expect("a file");
            let name = entry.file_name().to_string_lossy().into_owned();
            (name, std::fs::read(entry.path()).expect("a file"))
        })
        .collect()
}

/// On a pool of so many threads, so that what candle and the kernels divide is divided among them.
fn on_threads<T: Send>(threads: usize, work: impl FnOnce() -> T + Send) -> T {
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .stack_size(16 << 20) // Graphs are dropped by recursion.
        .build()
        .expect("a few threads");
    pool.install(work)
}

fn straight(case: &Case, threads: usize) -> (BTreeMap<String, Vec<u8>>, u64) {
    on_threads(threads, || {
        let folder = tempfile::tempdir().expect("a folder");
        let run = go(case, run(case), folder.path(), None);
        (newest(folder.path()), run.trainer.counters().learned)
    })
}

/// Stopped after a step on two threads, and continued from disk on four.
fn in_two_parts(case: &Case, stop: u64) -> BTreeMap<String, Vec<u8>> {
    let folder = tempfile::tempdir().expect("a folder");
    on_threads(2, || drop(go(case, run(case), folder.path(), Some(stop))));
    on_threads(4, || {
        let loaded = store(folder.path())
            .latest()
            .expect("whole")
            .expect("it was saved");
        assert_eq!(loaded.checkpoint.position.step, stop);
        assert!(loaded.skipped.is_empty(), "nothing is damaged");
        let mut second = run(case);
        second.restore(&loaded.checkpoint).expect("its own");
        go(case, second, folder.path(), None);
    });
    newest(folder.path())
}

fn assert_same(
    one: &BTreeMap<String, Vec<u8>>,
    other: &BTreeMap<String, Vec<u8>>,
    place: &str,
    case: &Case,
) {
    let names = |files: &BTreeMap<String, Vec<u8>>| files.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(one), names(other), "{place}: {case:?}");
    for (name, bytes) in one {
        assert!(bytes == &other[name], "{name} differs {place}: {case:?}");
    }
}

/// The same on any number of threads, and in two parts.
fn holds(number: usize, case: &Case) -> BTreeMap<String, Vec<u8>> {
    let (once, learned) = straight(case, 1);
    assert!(learned > 0, "there is something to learn: {case:?}");
    for threads in [2, 4] {
        let (again, _) = straight(case, threads);
        assert_same(&once, &again, &format!("on {threads} threads"), case);
    }
    // Before the first step, in the middle of an epoch, and at its end, which differ from case to case.
    let stops: Vec<u64> = match cfg!(feature = "long") {
        true => (0..STEPS).collect(),
        false => vec![number as u64 % 4, 4 + number as u64 % 3],
    };
    for stop in stops {
        let parts = in_two_parts(case, stop);
        assert_same(&once, &parts, &format!("when stopped after {stop}"), case);
    }
    once
}

#[test]
fn stopped_and_continued_equals_never_stopped_for_every_loss_on_any_number_of_threads() {
    for (number, case) in cases().iter().enumerate() {
        holds(number, case);
    }
}

#[test]
fn it_does_so_for_losses_around_losses_and_what_they_remember() {
    for (number, case) in cases_around().iter().enumerate() {
        let files = holds(number, case);
        // What they remember is in the checkpoint, by name.
        let has = |name: &str| {
            let found = |bytes: &Vec<u8>| bytes.windows(name.len()).any(|it| it == name.as_bytes());
            assert!(files.values().any(found), "{name} of {case:?}");
        };
        match case.around {
            Around::Memory => has("memory.rows"),
            Around::Lengths if case.loss.name() == "triplet_margin" => {
                has("matryoshka.8/memory.rows");
                has("matryoshka.4/memory.rows");
            }
            Around::Lengths => has("matryoshka.4/centers"),
            Around::Remembering => {
                has("losses.1/index.clusters");
                has("losses.2/");
                has("losses.3/histogram");
            }
            Around::Nothing | Around::Regularizers | Around::Views => {}
        }
    }
}
