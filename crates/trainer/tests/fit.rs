//! What is told, in which order, and how a run ends.

mod fakes;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use fakes::{ROWS, Rows, batch, bits, run};
use nearfar_core::{Batch, Batches, BoxError, Span, Stateful};
use nearfar_trainer::checkpoint::Checkpoint;
use nearfar_trainer::{
    Answer, Best, Better, Ended, Enough, Error, Event, MetricsLog, Outcome, Run, SaveEvery,
    Trainer, Watch, fit,
};

type Diary = Arc<Mutex<Vec<String>>>;

/// Writes down everything that is told.
fn diary(run: Run) -> (Run, Diary) {
    let diary = Diary::default();
    let pages = diary.clone();
    let writes = Watch::new(move |trainer: &Trainer, event: &Event<'_>| {
        let at = trainer.position();
        let what = match event {
            Event::Start => "start".into(),
            Event::Step {
                outcome: Outcome::NothingToLearn,
                ..
            } => "nothing".into(),
            Event::Step { rows, .. } => format!("step of {rows}"),
            Event::NotFinite { .. } => "not finite".into(),
            Event::Refresh { parts, rows } => format!("refresh {} by {rows}", parts.join(" ")),
            Event::EpochEnd => "epoch end".into(),
            Event::Evaluation { split, .. } => format!("evaluation of {split}"),
            Event::Saved { best } => if *best { "saved as best" } else { "saved" }.into(),
            Event::SaveFailed { error } => format!("save failed: {error}"),
            other => format!("{other:?}"),
        };
        pages
            .lock()
            .expect("nobody panics")
            .push(format!("{}/{}/{} {what}", at.epoch, at.batch, at.step));
        Ok(Answer::GoOn)
    });
    (run.watched_by("diary", writes), diary)
}

fn told(diary: &Diary) -> Vec<String> {
    std::mem::take(&mut *diary.lock().expect("nobody panics"))
}

fn saves(steps: &mut Vec<(u64, bool)>) -> impl FnMut(&Checkpoint) -> Result<(), BoxError> {
    |checkpoint| {
        steps.push((checkpoint.position.step, checkpoint.best));
        Ok(())
    }
}

/// An evaluation that gives the next of these scores.
fn scripted(
    scores: &[f64],
) -> impl FnMut(&Trainer) -> Result<BTreeMap<String, f64>, BoxError> + use<> {
    let scores = scores.to_vec();
    move |trainer| {
        let place = trainer.position().step as usize - 1;
        Ok(BTreeMap::from([("score".to_string(), scores[place])]))
    }
}

#[test]
fn everything_is_told_in_order() {
    let every = Some(Span::Steps(2));
    let score = |_: &Trainer| Ok(BTreeMap::from([("score".to_string(), 0.5)]));
    let counting = run(every)
        .evaluated("some", Span::Steps(2), score)
        .evaluated("all", Span::Epochs(1), score)
        .watched_by("save", SaveEvery(Span::Epochs(1)));
    let (mut counting, diary) = diary(counting);
    let mut saved = Vec::new();
    assert_eq!(
        fit(&mut counting, Span::Steps(4), &mut saves(&mut saved)).expect("fine"),
        Ended::Reached
    );
    let steps: Vec<String> = told(&diary)
        .into_iter()
        .map(|line| {
            line.replace("nothing", "step of 2")
                .replace("step of 3", "step of 2")
        })
        .collect();
    assert_eq!(
        steps,
        [
            "0/0/0 start",
            "0/0/0 refresh loss batches by 7",
            "0/1/1 step of 2",
            "0/2/2 step of 2",
            "0/2/2 evaluation of some",
            "0/2/2 refresh loss batches by 7",
            "0/3/3 step of 2",
            "0/3/3 epoch end",
            "0/3/3 evaluation of all",
            "1/0/3 saved",
            "1/1/4 step of 2",
            "1/1/4 evaluation of some",
            "1/1/4 saved",
        ]
    );
    assert_eq!(saved, [(3, false), (4, false)]);
    // It is where it was to go.
    assert_eq!(
        fit(&mut counting, Span::Steps(4), &mut saves(&mut saved)).expect("fine"),
        Ended::Reached
    );
    assert_eq!(told(&diary), ["1/1/4 start"]);
}

#[test]
fn the_best_is_saved_and_patience_ends_the_run() {
    let scores = [0.1, 0.3, f64::NAN, 0.2, 0.4, 0.4, 0.1, 0.3, 0.9];
    let watching = |better| {
        run(None)
            .evaluated("test", Span::Steps(1), scripted(&scores))
            .watched_by("best", Best::new("score", better).with_patience(3))
    };
    let mut higher = watching(Better::Higher);
    let mut saved = Vec::new();
    let ended = fit(&mut higher, Span::Steps(9), &mut saves(&mut saved)).expect("fine");
    assert_eq!(ended, Ended::Enough("best".into()));
    // 0.4 again is no better; after the third miss it ends, and is saved where it stands.
    assert_eq!(saved, [(1, true), (2, true), (5, true), (8, false)]);
    // Its patience is part of the checkpoint.
    let mut again = watching(Better::Higher);
    again
        .restore(&higher.checkpoint().expect("plain"))
        .expect("its own");
    assert_eq!(
        fit(&mut again, Span::Steps(9), &mut saves(&mut saved)).expect("fine"),
        Ended::Enough("best".into())
    );
    assert_eq!((saved.len(), again.trainer.position().step), (4, 8));

    let mut lower = watching(Better::Lower);
    let mut saved = Vec::new();
    let ended = fit(&mut lower, Span::Steps(9), &mut saves(&mut saved)).expect("fine");
    assert_eq!(
        (ended, saved),
        (Ended::Enough("best".into()), vec![(1, true), (4, false)])
    );
}

#[test]
fn a_score_that_is_good_enough_ends_the_run() {
    let watching = |better, wanted| {
        run(None)
            .evaluated(
                "test",
                Span::Steps(1),
                scripted(&[0.5, f64::NAN, 0.7, 0.2, 0.9]),
            )
            .watched_by("best", Best::new("score", better))
            .watched_by(
                "enough",
                Enough::new("score", better, wanted).of_split("test"),
            )
    };
    for (better, wanted, step) in [
        (Better::Higher, 0.7, 3),
        (Better::Higher, 0.5, 1),
        (Better::Lower, 0.3, 4),
    ] {
        let mut until = watching(better, wanted);
        let mut saved = Vec::new();
        let ended = fit(&mut until, Span::Steps(5), &mut saves(&mut saved)).expect("fine");
        assert_eq!(ended, Ended::Enough("enough".into()));
        assert_eq!(saved.last(), Some(&(step, true)));
        // It remains enough.
        let mut again = watching(better, wanted);
        let checkpoint = until.checkpoint().expect("plain");
        again.restore(&checkpoint).expect("its own");
        let ended = fit(&mut again, Span::Steps(5), &mut |_| Ok(())).expect("fine");
        assert_eq!(ended, Ended::Enough("enough".into()));
        assert_eq!(again.trainer.position().step, step);
    }
    let mut never = watching(Better::Higher, 0.95);
    let ended = fit(&mut never, Span::Steps(5), &mut |_| Ok(())).expect("fine");
    assert_eq!(ended, Ended::Reached);
}

#[test]
fn a_score_that_is_not_there_is_named() {
    let mut mistyped = run(None)
        .evaluated("test", Span::Steps(1), scripted(&[0.5]))
        .watched_by("best", Best::new("recall", Better::Higher));
    let error = fit(&mut mistyped, Span::Steps(1), &mut |_| Ok(())).expect_err("no such score");
    let Error::Observer { name, step, source } = error else {
        panic!("{error}")
    };
    assert_eq!((&*name, step), ("best", 1));
    assert_eq!(
        source.to_string(),
        "the evaluation of `test` gives no `recall`; it gives score"
    );
}

#[test]
fn a_stop_finishes_the_step_and_saves() {
    let stopping = run(None);
    let flag = stopping.signals.stop.clone();
    let (stopping, diary) = diary(stopping);
    let mut stopping = stopping.watched_by(
        "signal",
        Watch::new(move |trainer: &Trainer, _: &Event<'_>| {
            flag.store(trainer.position().step == 2, Ordering::Relaxed);
            Ok(Answer::GoOn)
        }),
    );
    let mut saved = Vec::new();
    let ended = fit(&mut stopping, Span::Epochs(9), &mut saves(&mut saved)).expect("fine");
    assert_eq!((ended, saved), (Ended::Stopped, vec![(2, false)]));
    assert_eq!(told(&diary).last().expect("told"), "0/2/2 saved");
}

#[test]
fn a_step_that_is_not_finite_ends_the_run_or_is_left_out() {
    let poisoned = || {
        let mut it = run(None);
        it.batches = Box::new(Rows {
            poison: Some((1, 1)),
            ..Rows::new(None)
        });
        it
    };
    let mut strict = poisoned();
    let error = fit(&mut strict, Span::Epochs(2), &mut |_| Ok(())).expect_err("poison");
    assert!(
        error.is_non_finite() && error.to_string().contains("at step 5"),
        "{error}"
    );
    let finite = |run: &Run| {
        let model = run.trainer.model().expect("small");
        bits(&model)
            .values()
            .flatten()
            .all(|&bits| f32::from_bits(bits as u32).is_finite())
    };
    assert!(finite(&strict));

    let (mut lenient, diary) = diary(poisoned());
    lenient.limits.bad_steps = 1;
    assert_eq!(
        fit(&mut lenient, Span::Epochs(2), &mut |_| Ok(())).expect("one is allowed"),
        Ended::Reached
    );
    assert!(told(&diary).contains(&"1/2/5 not finite".to_string()));
    assert!(finite(&lenient) && lenient.trainer.counters().not_finite == 1);
    assert_eq!(lenient.trainer.position().step, 6);
}

#[test]
fn saving_may_fail_now_and_then_but_not_always() {
    let saving = || diary(run(None).watched_by("save", SaveEvery(Span::Steps(1))));
    let full = |failing: std::ops::Range<u64>| {
        let mut call = 0;
        move |_: &Checkpoint| -> Result<(), BoxError> {
            call += 1;
            if failing.contains(&call) {
                Err("the disk is full".into())
            } else {
                Ok(())
            }
        }
    };
    let (mut it, diary) = saving();
    assert_eq!(
        fit(&mut it, Span::Steps(6), &mut full(2..4)).expect("twice in a row is borne"),
        Ended::Reached
    );
    let told = told(&diary);
    assert_eq!(
        told.iter()
            .filter(|line| line.ends_with("save failed: the disk is full"))
            .count(),
        2
    );
    assert_eq!(
        told.iter().filter(|line| line.ends_with("saved")).count(),
        4
    );

    let (mut it, _) = saving();
    let error = fit(&mut it, Span::Steps(6), &mut full(2..9)).expect_err("three in a row");
    assert!(
        matches!(
            error,
            Error::Save {
                step: 4,
                failures: 3,
                ..
            }
        ),
        "{error}"
    );
    // What would be lost at the end must be saved.
    let error = fit(&mut run(None), Span::Steps(2), &mut full(1..2)).expect_err("the last");
    assert!(
        matches!(
            error,
            Error::Save {
                step: 2,
                failures: 1,
                ..
            }
        ),
        "{error}"
    );
}

/// One batch, and then something that cannot be read; or nothing at all.
struct Broken(bool);

impl Stateful for Broken {}

impl Batches for Broken {
    fn epoch(&self, _: u64, skip: u64) -> Box<dyn Iterator<Item = Result<Batch, BoxError>> + '_> {
        let batches = [
            Ok(batch(&ROWS, 0)),
            Err("row 7 of words.csv: no label".into()),
        ];
        Box::new(
            batches
                .into_iter()
                .skip(if self.0 { skip as usize } else { 2 }),
        )
    }

    fn sweep(&self) -> Box<dyn Iterator<Item = Result<Batch, BoxError>> + '_> {
        self.epoch(0, 1)
    }
}

#[test]
fn a_batch_that_cannot_be_read_is_an_error_in_its_own_step() {
    let mut it = run(None).watched_by("save", SaveEvery(Span::Steps(1)));
    it.batches = Box::new(Broken(true));
    let mut saved = Vec::new();
    let error = fit(&mut it, Span::Steps(3), &mut saves(&mut saved)).expect_err("unreadable");
    assert!(
        matches!(
            error,
            Error::Batches {
                epoch: 0,
                batch: 1,
                ..
            }
        ),
        "{error}"
    );
    assert_eq!(saved, [(1, false)], "the step before it was saved first");

    it = run(None);
    it.batches = Box::new(Broken(false));
    let error = fit(&mut it, Span::Steps(3), &mut |_| Ok(())).expect_err("empty");
    assert!(matches!(error, Error::EmptyEpoch { epoch: 0 }), "{error}");

    it = run(Some(Span::Epochs(1)));
    it.batches = Box::new(Broken(true));
    let error = fit(&mut it, Span::Steps(3), &mut |_| Ok(())).expect_err("unreadable");
    assert!(matches!(error, Error::Sweep { step: 0, .. }), "{error}");
}

#[test]
fn every_zero_steps_is_refused() {
    let mut it = run(None).evaluated("test", Span::Steps(0), scripted(&[]));
    let error = fit(&mut it, Span::Steps(1), &mut |_| Ok(())).expect_err("never or always?");
    assert!(
        matches!(&error, Error::Settings(text) if text.contains("`test`")),
        "{error}"
    );
    let mut it = run(None).watched_by("save", SaveEvery(Span::Epochs(0)));
    let error = fit(&mut it, Span::Steps(4), &mut |_| Ok(())).expect_err("never or always?");
    assert!(error.to_string().contains("save"), "{error}");
}

#[test]
fn names_that_a_checkpoint_cannot_hold_are_refused_at_the_start() {
    for second in ["one", "a/b"] {
        let mut it = run(None)
            .watched_by("one", SaveEvery(Span::Steps(5)))
            .watched_by(second, SaveEvery(Span::Steps(5)));
        let error = fit(&mut it, Span::Steps(1), &mut |_| Ok(())).expect_err("ambiguous");
        assert!(
            error.to_string().contains(&format!("`{second}`")),
            "{error}"
        );
        assert_eq!(it.trainer.position().step, 0);
    }
}

fn logged(run: Run, log: MetricsLog) -> Run {
    run.evaluated("test", Span::Steps(2), |_| {
        Ok(BTreeMap::from([
            ("a".to_string(), 0.25),
            ("b".to_string(), f64::NAN),
        ]))
    })
    .watched_by("save", SaveEvery(Span::Steps(3)))
    .watched_by("log", log)
}

/// The lines without their clocks.
fn lines(path: &Path) -> Vec<serde_json::Value> {
    let text = std::fs::read_to_string(path).expect("a log");
    let parsed = text.lines().map(|line| {
        let mut line: serde_json::Value = serde_json::from_str(line).expect("JSON");
        let clock = line
            .as_object_mut()
            .expect("an object")
            .remove("clock")
            .expect("a clock");
        assert!(clock["seconds"].as_f64().expect("a number") >= 0.0);
        line
    });
    parsed.collect()
}

#[test]
fn the_log_of_a_resumed_run_equals_that_of_one_that_never_stopped() {
    let folder = tempfile::tempdir().expect("a folder");
    let (straight, broken) = (
        folder.path().join("straight.jsonl"),
        folder.path().join("broken.jsonl"),
    );
    let mut it = logged(
        run(Some(Span::Epochs(1))),
        MetricsLog::create(&straight).expect("made"),
    );
    fit(&mut it, Span::Steps(9), &mut |_| Ok(())).expect("fine");

    // Killed after step 8, with a line half written; the last checkpoint is that of step 6.
    let mut it = logged(
        run(Some(Span::Epochs(1))),
        MetricsLog::create(&broken).expect("made"),
    );
    let mut kept = None;
    fit(&mut it, Span::Steps(8), &mut |checkpoint| {
        if checkpoint.position.step == 6 {
            kept = Some(checkpoint.clone());
        }
        Ok(())
    })
    .expect("fine");
    drop(it);
    let mut text = std::fs::read_to_string(&broken).expect("a log");
    text.push_str("{\"type\":\"step\",\"step\":6,\"epo");
    std::fs::write(&broken, text).expect("written");
    let kept = kept.expect("saved after step 6");
    let mut it = logged(
        run(Some(Span::Epochs(1))),
        MetricsLog::resume(&broken, 6).expect("cut"),
    );
    it.restore(&kept).expect("its own");
    fit(&mut it, Span::Steps(9), &mut |_| Ok(())).expect("fine");
    assert_eq!(lines(&broken), lines(&straight));
}

#[test]
fn the_log_says_what_it_promises() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("metrics.jsonl");
    let mut it = logged(
        run(Some(Span::Epochs(1))),
        MetricsLog::create(&path).expect("made"),
    );
    it.batches = Box::new(Rows {
        poison: Some((1, 1)),
        ..Rows::new(Some(Span::Epochs(1)))
    });
    it.limits.bad_steps = 1;
    fit(&mut it, Span::Steps(6), &mut |_| Ok(())).expect("fine");
    let text = std::fs::read_to_string(&path).expect("a log");
    let first = text
        .lines()
        .find(|line| line.contains("\"type\":\"step\""))
        .expect("a step");
    assert!(
        first.starts_with(r#"{"type":"step","step":"#)
            && first.contains(r#""parts":[{"name":"pull","value":"#),
        "{first}"
    );
    assert!(
        first.contains(r#"{"name":"absent","value":null,"terms":"#),
        "{first}"
    );
    assert!(
        first.contains(r#","clock":{"seconds":"#) && first.contains("rows_per_second"),
        "{first}"
    );

    let lines = lines(&path);
    let of = |kind: &str| {
        lines
            .iter()
            .filter(|line| line["type"] == kind)
            .cloned()
            .collect::<Vec<_>>()
    };
    assert_eq!(of("step").len() + of("nothing_to_learn").len(), 5);
    assert_eq!(of("not_finite")[0]["what"], "an embedding");
    assert_eq!(
        of("refresh")[0]["parts"],
        serde_json::json!(["loss", "batches"])
    );
    assert_eq!(
        of("evaluation")[0]["scores"],
        serde_json::json!({ "a": 0.25, "b": null })
    );
    assert_eq!(of("evaluation")[0]["split"], "test");
    assert_eq!(of("checkpoint").len(), 2);
    let step = &of("step")[0];
    assert!(
        step["loss"].is_f64() && step["learning_rate"].is_f64() && step["gradient_norm"].is_f64()
    );
    assert!(
        lines
            .iter()
            .all(|line| line["step"].is_u64() && line["epoch"].is_u64())
    );
}

#[test]
fn a_log_that_cannot_be_written_is_named() {
    let error = MetricsLog::create("/nowhere/at/all/metrics.jsonl").expect_err("no such folder");
    assert!(
        error
            .to_string()
            .contains("cannot create /nowhere/at/all/metrics.jsonl"),
        "{error}"
    );
}
