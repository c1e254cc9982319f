//! Epochs of batches, refreshes, and events to whoever watches.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use nearfar_core::{Batch, Batches, BoxError, Input, Purpose, Span, Stateful};

use crate::checkpoint::Checkpoint;
use crate::error::Error;
use crate::progress::{Outcome, Position};
use crate::run::{Evaluation, Limits, Run, Signals, check_names, checkpoint};
use crate::trainer::Trainer;

/// Watches a run: a progress bar, a log, early stopping, checkpoints.
pub trait Observer: Stateful {
    /// Is told what happened, and says what should.
    ///
    /// # Errors
    /// Whatever it cannot go on with; the run ends.
    fn observe(&mut self, trainer: &Trainer, event: &Event<'_>) -> Result<Answer, BoxError>;
}

/// What happened. Where the run stands is in [`Trainer::position`].
#[derive(Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// The run begins, or goes on.
    Start,
    /// A step was made.
    Step {
        /// What came of it.
        outcome: &'a Outcome,
        /// How many rows its batch had, over all inputs.
        rows: usize,
        /// How long the step had to wait for its batch.
        waited: Duration,
    },
    /// A step was left out because something was not finite, as [`Limits::bad_steps`](crate::Limits) allows.
    NotFinite {
        /// What, and where.
        error: &'a Error,
        /// How many rows its batch had.
        rows: usize,
    },
    /// Parts of the run were shown the whole training set.
    Refresh {
        /// `loss`, `batches`, the observers' names.
        parts: &'a [String],
        /// How many rows there were.
        rows: usize,
    },
    /// All batches of the epoch are done.
    EpochEnd,
    /// An evaluation was made.
    Evaluation {
        /// Of what.
        split: &'a str,
        /// By name.
        scores: &'a BTreeMap<String, f64>,
    },
    /// A checkpoint was saved.
    Saved {
        /// Whether it is the best so far.
        best: bool,
    },
    /// A checkpoint could not be saved; the run goes on, as [`Limits::save_failures`](crate::Limits) allows.
    SaveFailed {
        /// Why.
        error: &'a BoxError,
    },
}

/// What an observer wants. Everything that happens at one position is told before anything is saved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Nothing.
    GoOn,
    /// A checkpoint.
    Save,
    /// A checkpoint, marked as the best so far.
    SaveAsBest,
    /// A checkpoint, and the end of the run.
    Stop,
}

/// A closure as an observer without a state.
///
/// ```
/// use nearfar_trainer::{Answer, Event, Watch};
///
/// let observer = Watch::new(|trainer, event| {
///     if let Event::EpochEnd = event {
///         eprintln!("epoch {} is done", trainer.position().epoch);
///     }
///     Ok(Answer::GoOn)
/// });
/// ```
pub struct Watch<F>(F);

impl<F> Watch<F>
where
    F: FnMut(&Trainer, &Event<'_>) -> Result<Answer, BoxError>,
{
    /// An observer that calls this for each event.
    pub fn new(observe: F) -> Self {
        Self(observe)
    }
}

impl<F> Stateful for Watch<F> {}

impl<F> Observer for Watch<F>
where
    F: FnMut(&Trainer, &Event<'_>) -> Result<Answer, BoxError>,
{
    fn observe(&mut self, trainer: &Trainer, event: &Event<'_>) -> Result<Answer, BoxError> {
        (self.0)(trainer, event)
    }
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It came to where it was to go.
    Reached,
    /// An observer said so; its name.
    Enough(String),
    /// Somebody set [`Signals::stop`](crate::Signals); it can go on from what was saved.
    Stopped,
}

/// Trains from where the run stands, so that continuing is restoring a checkpoint and calling it again.
///
/// At the end it saves, unless nothing happened since the last time. Make the run and call this on a thread with a large stack
/// ([`on_large_stack`](crate::on_large_stack)).
///
/// A position is (epoch, batches done, steps done). After each step its observers are told, evaluations that are due are made, and at
/// the last batch of an epoch the same again for the epoch; then it is saved, if anybody wants. Refreshes are made before a step. So
/// everything between two steps belongs to one side of the checkpoint between them, and a run that was stopped there goes on with
/// the same bits as one that was not.
///
/// # Errors
/// Those of the step, the batches, evaluations and observers; [`Error::Save`] when checkpoints cannot be saved too often, or at the
/// end.
pub fn fit(
    run: &mut Run,
    until: Span,
    save: &mut dyn FnMut(&Checkpoint) -> Result<(), BoxError>,
) -> Result<Ended, Error> {
    let Run {
        trainer,
        batches,
        evaluations,
        observers,
        signals,
        limits,
    } = run;
    let mut watch = Watchers {
        observers,
        wishes: Wishes::default(),
        save,
        save_failures: 0,
        allowed: limits.save_failures,
        unsaved: false,
    };
    check(trainer, &**batches, watch.observers, evaluations)?;
    watch.tell(trainer, &Event::Start)?;

    loop {
        // Between two streams of batches: at the ends of epochs, and where a refresh may change what is to come.
        if let Some(ended) = over(trainer, until, signals, &mut watch) {
            return watch.end(trainer, &**batches, ended);
        }
        if anybody_due(trainer, &**batches, watch.observers) {
            refresh(trainer, &mut **batches, &mut watch)?;
        }
        let Position { epoch, batch, .. } = trainer.position();
        let mut stream = batches.epoch(epoch, batch);
        let (mut next, mut waited) = timed(|| stream.next());
        if next.is_none() && batch == 0 {
            return Err(Error::EmptyEpoch { epoch });
        }

        // One pass is one step; or none, where a refresh left an epoch without further batches.
        loop {
            if let Some(batch) = next.take() {
                step(trainer, batch, waited, limits, &mut watch)?;
                let made = trainer.position().step;
                watch.evaluate(trainer, evaluations, Span::Steps(made))?;
                // One ahead, to know whether the epoch is over while its last step is being told.
                (next, waited) = timed(|| stream.next());
            }
            if next.is_none() {
                watch.tell(trainer, &Event::EpochEnd)?;
                watch.evaluate(trainer, evaluations, Span::Epochs(epoch + 1))?;
                trainer.set_epoch(epoch + 1, 0);
                watch.unsaved = true;
            }
            watch.wishes.save |= signals.save.swap(false, Ordering::Relaxed);
            watch.save_if_wanted(trainer, &**batches)?;

            if let Some(ended) = over(trainer, until, signals, &mut watch) {
                return watch.end(trainer, &**batches, ended);
            }
            if next.is_none() || anybody_due(trainer, &**batches, watch.observers) {
                break;
            }
        }
    }
}

/// What comes, and how long it was waited for.
fn timed<T>(get: impl FnOnce() -> T) -> (T, Duration) {
    let start = Instant::now();
    let got = get();
    (got, start.elapsed())
}

/// Whether there is a reason to end here.
fn over(
    trainer: &Trainer,
    until: Span,
    signals: &Signals,
    watch: &mut Watchers<'_>,
) -> Option<Ended> {
    if signals.stop.load(Ordering::Relaxed) {
        return Some(Ended::Stopped);
    }
    if let Some(name) = watch.wishes.stop.take() {
        return Some(Ended::Enough(name));
    }
    let position = trainer.position();
    let reached = match until {
        Span::Steps(steps) => position.step >= steps,
        Span::Epochs(epochs) => position.epoch >= epochs,
    };
    reached.then_some(Ended::Reached)
}

/// Makes a step and tells what came of it; one that is not finite is left out while that is allowed.
fn step(
    trainer: &mut Trainer,
    batch: Result<Batch, BoxError>,
    waited: Duration,
    limits: &Limits,
    watch: &mut Watchers<'_>,
) -> Result<(), Error> {
    let Position {
        epoch,
        batch: number,
        ..
    } = trainer.position();
    let batch = batch.map_err(|source| Error::Batches {
        epoch,
        batch: number,
        source,
    })?;
    let rows = batch.inputs.iter().map(Input::rows);
    let rows = rows.sum::<candle_core::Result<usize>>()?;
    let outcome = trainer.step(&batch);
    trainer.set_epoch(epoch, number + 1);
    watch.unsaved = true;
    match outcome {
        Ok(outcome) => {
            let outcome = &outcome;
            let event = Event::Step {
                outcome,
                rows,
                waited,
            };
            watch.tell(trainer, &event)
        }
        Err(error)
            if error.is_non_finite() && trainer.counters().not_finite <= limits.bad_steps =>
        {
            let error = &error;
            watch.tell(trainer, &Event::NotFinite { error, rows })
        }
        Err(error) => Err(error),
    }
}

/// The observers, and what they and the disk said.
struct Watchers<'a> {
    observers: &'a mut Vec<(String, Box<dyn Observer>)>,
    wishes: Wishes,
    save: &'a mut dyn FnMut(&Checkpoint) -> Result<(), BoxError>,
    save_failures: u64,
    allowed: u64,
    /// Whether the run stands elsewhere than the last checkpoint.
    unsaved: bool,
}

#[derive(Default)]
struct Wishes {
    save: bool,
    best: bool,
    stop: Option<String>,
}

impl Watchers<'_> {
    fn tell(&mut self, trainer: &Trainer, event: &Event<'_>) -> Result<(), Error> {
        for (name, observer) in self.observers.iter_mut() {
            let answer = observer.observe(trainer, event);
            let answer = answer.map_err(|source| Error::Observer {
                name: name.clone(),
                step: trainer.position().step,
                source,
            })?;
            match answer {
                Answer::GoOn => {}
                Answer::Save => self.wishes.save = true,
                Answer::SaveAsBest => self.wishes.best = true,
                Answer::Stop => {
                    self.wishes.stop.get_or_insert_with(|| name.clone());
                }
            }
        }
        Ok(())
    }

    /// Makes the evaluations that are due after so many steps or epochs.
    fn evaluate(
        &mut self,
        trainer: &Trainer,
        evaluations: &mut [Evaluation],
        done: Span,
    ) -> Result<(), Error> {
        for evaluation in evaluations {
            let due = match (evaluation.every, done) {
                (Span::Steps(every), Span::Steps(done)) => done.is_multiple_of(every),
                (Span::Epochs(every), Span::Epochs(done)) => done.is_multiple_of(every),
                _ => false,
            };
            if !due {
                continue;
            }
            let split = &evaluation.split;
            let scores = (evaluation.scores)(trainer).map_err(|source| Error::Evaluation {
                split: split.clone(),
                step: trainer.position().step,
                source,
            })?;
            let scores = &scores;
            self.tell(trainer, &Event::Evaluation { split, scores })?;
        }
        Ok(())
    }

    fn save_if_wanted(&mut self, trainer: &Trainer, batches: &dyn Batches) -> Result<(), Error> {
        if !self.wishes.save && !self.wishes.best {
            return Ok(());
        }
        match self.try_to_save(trainer, batches)? {
            Ok(()) => Ok(()),
            Err(source) if self.save_failures < self.allowed => {
                self.tell(trainer, &Event::SaveFailed { error: &source })
            }
            Err(source) => Err(self.given_up(trainer, source)),
        }
    }

    fn end(
        &mut self,
        trainer: &Trainer,
        batches: &dyn Batches,
        ended: Ended,
    ) -> Result<Ended, Error> {
        if self.unsaved || ended == Ended::Stopped {
            self.try_to_save(trainer, batches)?
                .map_err(|source| self.given_up(trainer, source))?;
        }
        Ok(ended)
    }

    fn try_to_save(
        &mut self,
        trainer: &Trainer,
        batches: &dyn Batches,
    ) -> Result<Result<(), BoxError>, Error> {
        let mut checkpoint = checkpoint(trainer, batches, self.observers)?;
        checkpoint.best = self.wishes.best;
        if let Err(source) = (self.save)(&checkpoint) {
            self.save_failures += 1;
            self.wishes.save = false; // A wish for the best stays until it is saved.
            return Ok(Err(source));
        }
        let best = checkpoint.best;
        drop(checkpoint);
        self.save_failures = 0;
        self.unsaved = false;
        (self.wishes.save, self.wishes.best) = (false, false);
        self.tell(trainer, &Event::Saved { best })?;
        Ok(Ok(()))
    }

    fn given_up(&self, trainer: &Trainer, source: BoxError) -> Error {
        Error::Save {
            step: trainer.position().step,
            failures: self.save_failures,
            source,
        }
    }
}

/// Before the first step of every so many, so at the very beginning too.
fn due(interval: Option<Span>, position: Position) -> bool {
    match interval {
        None => false,
        Some(Span::Steps(steps)) => position.step.is_multiple_of(steps),
        Some(Span::Epochs(epochs)) => position.batch == 0 && position.epoch.is_multiple_of(epochs),
    }
}

fn anybody_due(
    trainer: &Trainer,
    batches: &dyn Batches,
    observers: &[(String, Box<dyn Observer>)],
) -> bool {
    let position = trainer.position();
    due(trainer.loss().interval(), position)
        || due(batches.interval(), position)
        || observers
            .iter()
            .any(|(_, observer)| due(observer.interval(), position))
}

/// Embeds the training set once, and shows it to all that are due.
fn refresh(
    trainer: &mut Trainer,
    batches: &mut dyn Batches,
    watch: &mut Watchers<'_>,
) -> Result<(), Error> {
    let position = trainer.position();
    let table = trainer
        .table(batches.sweep())
        .map_err(|source| Error::Sweep {
            step: position.step,
            source,
        })?;
    let seed = trainer.seed();
    // One stream for each, so that nobody's draws depend on who else is due.
    let rng = |part: u64| seed.rng(Purpose::Refresh, position.step << 8 | part);
    let mut parts = Vec::new();
    if due(trainer.loss().interval(), position) {
        trainer.loss_mut().refresh(&table, &mut rng(0))?;
        parts.push("loss".to_string());
    }
    if due(batches.interval(), position) {
        batches.refresh(&table, &mut rng(1))?;
        parts.push("batches".to_string());
    }
    for (part, (name, observer)) in (2..).zip(watch.observers.iter_mut()) {
        if due(observer.interval(), position) {
            observer.refresh(&table, &mut rng(part))?;
            parts.push(name.clone());
        }
    }
    watch.tell(
        trainer,
        &Event::Refresh {
            parts: &parts,
            rows: table.len(),
        },
    )
}

/// Every so many must be at least one, and names must be fit for a checkpoint, before hours of training are lost.
fn check(
    trainer: &Trainer,
    batches: &dyn Batches,
    observers: &[(String, Box<dyn Observer>)],
    evaluations: &[Evaluation],
) -> Result<(), Error> {
    check_names(observers)?;
    let loss = [("loss", trainer.loss().interval())];
    let batches = [("batches", batches.interval())];
    let observers = observers
        .iter()
        .map(|(name, observer)| (name.as_str(), observer.interval()));
    let evaluations = evaluations
        .iter()
        .map(|evaluation| (evaluation.split.as_str(), Some(evaluation.every)));
    for (name, span) in loss
        .into_iter()
        .chain(batches)
        .chain(observers)
        .chain(evaluations)
    {
        if let Some(Span::Steps(0) | Span::Epochs(0)) = span {
            return Err(Error::Settings(format!(
                "`{name}` wants to be asked every 0 steps or epochs; 1 is the least"
            )));
        }
    }
    Ok(())
}
