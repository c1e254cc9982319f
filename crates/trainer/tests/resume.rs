//! Stopped and continued equals never stopped, bit for bit.

mod fakes;

use std::collections::BTreeMap;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use fakes::{Line, Pull, Rows, files, store};
use nearfar_core::{BoxError, Fraction, NonNegative, Positive, Span};
use nearfar_trainer::checkpoint::{Checkpoint, MemoryFs};
use nearfar_trainer::{
    Answer, Best, Better, Ended, Event, Group, OptimizerConfig, Options, Run, SaveEvery,
    ScheduleConfig, Trainer, Watch, fit, optim, schedule,
};

const STEPS: u64 = 11; // Three epochs of three batches, and two more.

#[derive(Clone)]
struct Case {
    optimizer: OptimizerConfig,
    accumulate: u64,
    every: Option<Span>,
    clip: Option<Positive>,
    groups: Vec<Group>,
}

fn cases() -> Vec<Case> {
    let mut optimizers = OptimizerConfig::all();
    let momentum = Fraction::literal(0.9);
    optimizers.push(
        optim::Sgd {
            momentum,
            nesterov: true,
            ..Default::default()
        }
        .into(),
    );
    optimizers.push(
        optim::AdamW {
            amsgrad: true,
            ..Default::default()
        }
        .into(),
    );
    let intervals = [
        None,
        Some(Span::Steps(4)),
        Some(Span::Epochs(1)),
        Some(Span::Steps(1)),
    ];
    let mut cases = Vec::new();
    for (index, optimizer) in optimizers.into_iter().enumerate() {
        for (other, accumulate) in [1, 2, 3].into_iter().enumerate() {
            cases.push(Case {
                optimizer: optimizer.clone(),
                accumulate,
                every: intervals[(index + other) % intervals.len()],
                clip: (index % 2 == 0).then_some(Positive::literal(0.5)),
                groups: if index % 3 == 0 { thaws() } else { Vec::new() },
            });
        }
    }
    cases
}

/// Parameters that are frozen at first: the end is within an epoch, and within batches whose gradients are gathered.
fn thaws() -> Vec<Group> {
    vec![Group {
        frozen: true,
        unfreeze_after: Some(5),
        ..Group::new("weight")
    }]
}

fn run(case: &Case) -> Run {
    let options = Options {
        accumulate: NonZeroU64::new(case.accumulate).expect("not zero"),
        clip_norm: case.clip,
        groups: case.groups.clone(),
        ..Options::default()
    };
    // Both end before the run does, and one moves the momentum where there is one.
    let steps = NonZeroU64::new(9);
    let schedule = match case.optimizer.has_momentum() {
        true => ScheduleConfig::OneCycle(schedule::OneCycle {
            steps,
            ..Default::default()
        }),
        false => ScheduleConfig::Cosine(schedule::Cosine {
            warmup: 3,
            floor: NonNegative::literal(1e-4),
            steps,
        }),
    };
    let rate = case.optimizer.learning_rate();
    let schedule = schedule.build(rate, None).expect("fits");
    let towers: Vec<Box<dyn nearfar_core::Encoder>> = vec![Box::new(Line::new())];
    let optimizer = case.optimizer.build().expect("fits");
    let trainer = Trainer::new(
        towers,
        Box::new(Pull::new(case.every)),
        optimizer,
        schedule,
        options,
    )
    .expect("fits");
    let score = |trainer: &Trainer| -> Result<BTreeMap<String, f64>, BoxError> {
        let table = trainer.table(nearfar_core::Batches::sweep(&Rows::new(None)))?;
        let sum = table.vectors.iter().map(|x| f64::from(*x).abs()).sum();
        Ok(BTreeMap::from([("size".to_string(), sum)]))
    };
    Run::new(trainer, Box::new(Rows::new(case.every)))
        .evaluated("test", Span::Steps(2), score)
        .evaluated("all", Span::Epochs(1), score)
        .watched_by("best", Best::new("size", Better::Higher).of_split("test"))
        .watched_by(
            "progress",
            Watch::new(|_: &Trainer, _: &Event<'_>| Ok(Answer::GoOn)),
        )
}

/// The bytes of the checkpoint after all steps.
fn finish(run: &mut Run, fs: &MemoryFs) -> BTreeMap<String, Vec<u8>> {
    let store = store(fs, 2);
    let save = &mut |checkpoint: &Checkpoint| -> Result<(), BoxError> {
        Ok(store.save(checkpoint).map(drop)?)
    };
    assert_eq!(
        fit(run, Span::Steps(STEPS), save).expect("nothing fails"),
        Ended::Reached
    );
    files(fs, &format!("ckpt-{STEPS:08}"))
}

fn from_disk(case: &Case, fs: &MemoryFs) -> Run {
    let loaded = store(fs, 2).latest().expect("whole").expect("there is one");
    assert!(loaded.skipped.is_empty());
    let mut run = run(case);
    run.restore(&loaded.checkpoint).expect("its own");
    run
}

#[test]
fn stopped_after_any_step_and_continued_equals_never_stopped() {
    for case in cases() {
        let straight = finish(&mut run(&case), &MemoryFs::new());
        for stop in 0..STEPS {
            let fs = MemoryFs::new();
            let mut first = run(&case);
            let flag = first.signals.stop.clone();
            let asks = Watch::new(move |trainer: &Trainer, event: &Event<'_>| {
                if matches!(event, Event::Start | Event::Step { .. })
                    && trainer.position().step == stop
                {
                    flag.store(true, Ordering::Relaxed);
                }
                Ok(Answer::GoOn)
            });
            first.observers.retain(|(name, _)| name != "progress");
            first = first.watched_by("progress", asks);
            let kept = store(&fs, 2);
            let ended = fit(&mut first, Span::Steps(STEPS), &mut |checkpoint| {
                Ok(kept.save(checkpoint).map(drop)?)
            });
            assert_eq!(ended.expect("nothing fails"), Ended::Stopped);
            assert_eq!(
                first.trainer.position().step,
                stop,
                "the step was finished, and no other begun"
            );
            drop(first);

            let resumed = finish(&mut from_disk(&case, &fs), &fs);
            for (file, bytes) in &straight {
                assert!(
                    bytes == &resumed[file],
                    "{file} differs when stopped after {stop}: {:?}, {} to gather, refresh {:?}",
                    case.optimizer,
                    case.accumulate,
                    case.every
                );
            }
        }
    }
}

#[test]
fn going_to_a_nearer_end_and_on_equals_going_straight() {
    let case = &cases()[7];
    let straight = finish(&mut run(case), &MemoryFs::new());
    let fs = MemoryFs::new();
    for until in [
        Span::Steps(2),
        Span::Epochs(1),
        Span::Steps(3),
        Span::Epochs(2),
        Span::Steps(8),
        Span::Epochs(3),
    ] {
        let mut part = if until == Span::Steps(2) {
            run(case)
        } else {
            from_disk(case, &fs)
        };
        let kept = store(&fs, 2);
        fit(&mut part, until, &mut |checkpoint| {
            Ok(kept.save(checkpoint).map(drop)?)
        })
        .expect("nothing fails");
    }
    assert_eq!(finish(&mut from_disk(case, &fs), &fs), straight);
}

#[test]
fn what_is_saved_along_the_way_changes_nothing() {
    let case = &cases()[4];
    let straight = finish(&mut run(case), &MemoryFs::new());
    let mut saved = finish(
        &mut run(case).watched_by("each", SaveEvery(Span::Steps(1))),
        &MemoryFs::new(),
    );
    assert_ne!(
        saved["state.json"], straight["state.json"],
        "it lists the observer"
    );
    for file in [
        "model.safetensors",
        "optim.safetensors",
        "state.safetensors",
    ] {
        assert_eq!(saved.remove(file).as_ref(), straight.get(file), "{file}");
    }
}

#[test]
fn a_checkpoint_of_another_shape_is_refused_by_name() {
    let case = &cases()[0];
    let mut first = run(case);
    fit(&mut first, Span::Steps(2), &mut |_| Ok(())).expect("nothing fails");
    let whole = first.checkpoint().expect("plain");

    let refused = |change: &dyn Fn(&mut Checkpoint)| {
        let mut checkpoint = whole.clone();
        change(&mut checkpoint);
        run(case)
            .restore(&checkpoint)
            .expect_err("it does not fit")
            .to_string()
    };
    let message = refused(&|it| drop(it.model.remove("weight")));
    assert!(message.contains("model: `weight` is missing"), "{message}");
    let message = refused(&|it| drop(it.model.insert("alien".into(), it.model["bias"].clone())));
    assert!(message.contains("model: `alien` is unknown"), "{message}");
    let message = refused(&|it| drop(it.model.insert("bias".into(), it.model["weight"].clone())));
    assert!(
        message.contains("[2, 3]") && message.contains("[3]"),
        "{message}"
    );
    let message = refused(&|it| drop(it.components.remove("observer.best")));
    assert!(
        message.contains("observer.best: it is not in the checkpoint"),
        "{message}"
    );
    let message = refused(&|it| {
        let state = it.components["observer.best"].clone();
        it.components.insert("observer.other".into(), state);
    });
    assert!(
        message.contains("observer.other: the run has no such part"),
        "{message}"
    );
    let message = refused(&|it| it.seed = nearfar_core::Seed(9));
    assert!(message.contains("it is 9, the run's 0"), "{message}");
}

#[test]
fn a_flag_saves_and_goes_on() {
    let save_flag = Arc::new(AtomicBool::new(false));
    let mut run = fakes::run(None);
    run.signals.save = save_flag.clone();
    let asks = Watch::new(move |trainer: &Trainer, event: &Event<'_>| {
        if matches!(event, Event::Step { .. }) && trainer.position().step == 4 {
            save_flag.store(true, Ordering::Relaxed);
        }
        Ok(Answer::GoOn)
    });
    run = run.watched_by("signal", asks);
    let mut saved = Vec::new();
    let ended = fit(&mut run, Span::Steps(6), &mut |checkpoint| {
        saved.push(checkpoint.position.step);
        Ok(())
    });
    assert_eq!(
        (ended.expect("nothing fails"), saved),
        (Ended::Reached, vec![4, 6])
    );
}
