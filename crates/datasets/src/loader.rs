//! Samples to batches, ahead of time.

use std::{
    any::Any,
    collections::BTreeMap,
    num::NonZeroUsize,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use candle_core::{Device, Tensor};
use nearfar_core::{Batch, Batches, BoxError, EmbeddingTable, Purpose, Rng, Seed, Span, Stateful};

use crate::{
    Annotation, Dataset, Error, Sample, Sampler, Transform, Value,
    collate::{HostBatch, INPUT_BIT, Known, Row},
};

/// A data set, transforms and a sampler: batches, decoded ahead on other threads and delivered in order.
///
/// An epoch is a function of the seed, its number and what the sampler was last shown; the number of threads changes
/// nothing. A sample's augmentation draws from `seed.rng(Augmentation, id)`, where the id of a row is the epoch in bits 44
/// to 63, the input in bits 40 to 43 and its place in the epoch in bits 0 to 39. The rows of a [sweep](Batches::sweep)
/// have the sample's index in bits 0 to 39.
///
/// At most [`ahead`](Self::ahead) batches are decoded or being decoded at a time, whatever the consumer does; dropping the
/// iterator ends the threads.
pub struct Loader {
    plan: Arc<Plan>,
    sampler: Box<dyn Sampler>,
    seed: Seed,
    device: Device,
    threads: usize,
    ahead: usize,
    sweep_size: usize,
    bad: BadSamples,
    account: Mutex<Account>,
}

/// What to do with a sample that cannot be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BadSamples {
    /// It ends the run.
    #[default]
    Fail,
    /// It is left out of its batch (of a pair both sides are), this many times at most; [`Loader::left_out`] counts.
    Skip {
        /// How many may be left out.
        most: u64,
    },
}

/// What was seen on the way.
#[derive(Default)]
struct Account {
    waited: Duration,
    left_out: u64,
    reasons: Vec<String>,
}

/// Reasons for leaving out that are kept in full.
const REASONS: usize = 100;

/// What the threads share.
struct Plan {
    dataset: Arc<dyn Dataset>,
    /// Done to every sample.
    transforms: Vec<Box<dyn Transform>>,
    /// Done to samples that are trained on.
    augmentation: Vec<Box<dyn Transform>>,
    /// How often a sample that is trained on is looked at.
    views: usize,
}

impl Loader {
    /// Batches of this data set in the order of this sampler.
    pub fn new(
        dataset: Arc<dyn Dataset>,
        sampler: Box<dyn Sampler>,
        seed: Seed,
        device: Device,
    ) -> Self {
        let cores = thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let threads = (cores / 2).clamp(1, 8); // The rest is for those who compute.
        Self {
            plan: Arc::new(Plan {
                dataset,
                transforms: Vec::new(),
                augmentation: Vec::new(),
                views: 1,
            }),
            sampler,
            seed,
            device,
            threads,
            ahead: 2 * threads + 1,
            sweep_size: 256,
            bad: BadSamples::Fail,
            account: Mutex::default(),
        }
    }

    /// All samples of a data set once and in order, `size` a batch: for evaluation. Its only epoch is its sweep.
    pub fn in_order(dataset: Arc<dyn Dataset>, size: usize, device: Device) -> Self {
        Self::new(dataset, Box::new(InOrder(size.max(1))), Seed(0), device).sweep_size(size)
    }

    /// What is done to every sample, in this order.
    pub fn transforms(mut self, transforms: Vec<Box<dyn Transform>>) -> Self {
        self.plan_mut().transforms = transforms;
        self
    }

    /// What is done to samples that are trained on, in this order, after the transforms. What changes sounds stands before what changes
    /// their frames: in between, frames are made.
    pub fn augmentation(mut self, augmentation: Vec<Box<dyn Transform>>) -> Self {
        self.plan_mut().augmentation = augmentation;
        self
    }

    /// How many views there are of each sample that is trained on, 1 where nothing is said: so many inputs of a batch, each
    /// augmented on its own. Only samples of one input have views. What is known of a sample is known of all its views.
    pub fn views(mut self, views: usize) -> Self {
        self.plan_mut().views = views.max(1);
        self
    }

    /// Threads that decode; 0 decodes when a batch is asked for, on the thread that asks. Half of the cores where
    /// nothing is said.
    pub fn threads(mut self, threads: usize) -> Self {
        self.threads = threads;
        self
    }

    /// Batches that are decoded or being decoded at a time, at least one for each thread.
    pub fn ahead(mut self, batches: usize) -> Self {
        self.ahead = batches;
        self
    }

    /// Samples a batch of a sweep.
    pub fn sweep_size(mut self, size: usize) -> Self {
        self.sweep_size = size.max(1);
        self
    }

    /// What to do with samples that cannot be read.
    pub fn on_bad_sample(mut self, bad: BadSamples) -> Self {
        self.bad = bad;
        self
    }

    /// The data set.
    pub fn dataset(&self) -> &Arc<dyn Dataset> {
        &self.plan.dataset
    }

    /// How long consumers have waited for batches so far. Much of it means that decoding is the bottleneck.
    pub fn waited(&self) -> Duration {
        self.account().waited
    }

    /// How many samples were left out so far, and why; of many only the first reasons are kept.
    pub fn left_out(&self) -> (u64, Vec<String>) {
        let account = self.account();
        (account.left_out, account.reasons.clone())
    }

    fn account(&self) -> MutexGuard<'_, Account> {
        self.account.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn plan_mut(&mut self) -> &mut Plan {
        Arc::get_mut(&mut self.plan).expect("no iterator borrows a loader that is being built")
    }

    fn run(
        &self,
        batches: Vec<Vec<u32>>,
        first_id: u64,
        skip: u64,
        pass: Pass,
    ) -> Box<dyn Iterator<Item = Result<Batch, BoxError>> + '_> {
        let mut jobs = Vec::new();
        let mut place = 0;
        for (number, indices) in batches.into_iter().enumerate() {
            let first_id = first_id + place;
            place += indices.len() as u64;
            if number as u64 >= skip {
                jobs.push(Job { indices, first_id });
            }
        }
        let known = if pass == Pass::Train && self.sampler.pairs() {
            Known::Consecutive
        } else {
            Known::Annotation(self.plan.dataset.annotation())
        };
        let work = Arc::new(Work {
            plan: Arc::clone(&self.plan),
            jobs,
            known,
            pass,
            seed: self.seed,
            keep_bad: matches!(self.bad, BadSamples::Skip { .. }),
        });
        // Without a thread to be had, the consumer decodes.
        let source = Threads::start(&work, self.threads, self.ahead)
            .map_or(Source::Here { next: 0 }, Source::Threads);
        Box::new(Delivery {
            loader: self,
            work,
            source,
            ended: false,
        })
    }
}

impl Stateful for Loader {
    fn state(&self) -> BTreeMap<String, Tensor> {
        self.sampler.state()
    }

    fn restore(&mut self, state: &BTreeMap<String, Tensor>) -> candle_core::Result<()> {
        self.sampler.restore(state)
    }

    fn interval(&self) -> Option<Span> {
        self.sampler.interval()
    }

    fn refresh(&mut self, table: &EmbeddingTable, rng: &mut Rng) -> candle_core::Result<()> {
        self.sampler.refresh(table, rng)
    }
}

impl Batches for Loader {
    fn epoch(
        &self,
        epoch: u64,
        skip: u64,
    ) -> Box<dyn Iterator<Item = Result<Batch, BoxError>> + '_> {
        let mut rng = self.seed.rng(Purpose::Sampling, epoch);
        let batches = self.sampler.epoch(self.plan.dataset.labels(), &mut rng);
        // Epochs from 2^20 on begin again with the ids of the first; no two rows of a batch can share one.
        self.run(batches, epoch << EPOCH_BIT, skip, Pass::Train)
    }

    fn sweep(&self) -> Box<dyn Iterator<Item = Result<Batch, BoxError>> + '_> {
        let all: Vec<u32> = (0..self.plan.dataset.len() as u32).collect();
        let batches = all.chunks(self.sweep_size).map(<[u32]>::to_vec).collect();
        self.run(batches, 0, 0, Pass::Sweep)
    }
}

/// Bits of a row's id before those of the epoch.
const EPOCH_BIT: u32 = INPUT_BIT + 4;

/// All samples in order.
struct InOrder(usize);

impl Stateful for InOrder {}

impl Sampler for InOrder {
    fn epoch(&self, labels: &[u32], _: &mut Rng) -> Vec<Vec<u32>> {
        let all: Vec<u32> = (0..labels.len() as u32).collect();
        all.chunks(self.0).map(<[u32]>::to_vec).collect()
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Pass {
    Train,
    Sweep,
}

/// One batch to be made.
struct Job {
    indices: Vec<u32>,
    /// The id of its first row; the others count on.
    first_id: u64,
}

/// The batches of one pass.
struct Work {
    plan: Arc<Plan>,
    jobs: Vec<Job>,
    known: Known,
    pass: Pass,
    seed: Seed,
    /// Whether what cannot be read is left out, to be counted by the consumer.
    keep_bad: bool,
}

/// A batch that was made, and the samples that are not in it.
struct Made {
    batch: HostBatch,
    bad: Vec<Error>,
    rows: usize,
}

impl Work {
    fn make(&self, number: usize) -> Result<Made, Error> {
        let job = &self.jobs[number];
        let mut rows = Vec::with_capacity(job.indices.len());
        let mut bad = Vec::new();
        for (&index, id) in job.indices.iter().zip(job.first_id..) {
            let row = match self.row(index, id) {
                Ok(row) => Some(row),
                Err(error) if self.keep_bad && !matches!(error, Error::Settings(_)) => {
                    bad.push(error);
                    None
                }
                Err(error) => return Err(error),
            };
            rows.push(row);
        }
        if self.known == Known::Consecutive {
            for pair in rows.chunks_mut(2) {
                if pair.iter().any(Option::is_none) {
                    pair.fill_with(|| None);
                }
            }
        }
        let rows: Vec<Row> = rows.into_iter().flatten().collect();
        let count = rows.len();
        let batch = HostBatch::pack(rows, self.known)?;
        Ok(Made {
            batch,
            bad,
            rows: count,
        })
    }

    fn row(&self, index: u32, id: u64) -> Result<Row, Error> {
        let dataset = &self.plan.dataset;
        let changes: [&[Box<dyn Transform>]; 2] = match self.pass {
            Pass::Train => [&self.plan.transforms, &self.plan.augmentation],
            Pass::Sweep => [&self.plan.transforms, &[]],
        };
        let of_sound = match changes.into_iter().flatten().any(|it| it.changes_sounds()) {
            true => dataset.sound(index)?,
            false => None,
        };
        let (mut sample, front_end) = match of_sound {
            Some((sound, front_end)) => (Sample::of(Value::Sound(sound)), Some(front_end)),
            None => (dataset.sample(index)?, None),
        };
        let frames = |value| -> Result<Value, Error> {
            Ok(match (value, front_end) {
                (Value::Sound(sound), Some(front_end)) => Value::Frames(front_end.frames(&sound)?),
                (value, _) => value,
            })
        };
        let is_changed = changes.iter().any(|it| !it.is_empty());
        let unchanged = match (self.known, is_changed) {
            (Known::Annotation(Annotation::ScoredPairs), true) => sample.inputs.first().cloned(),
            _ => None,
        };
        if self.pass == Pass::Train
            && self.plan.views > 1
            && let [input] = &sample.inputs[..]
        {
            sample.inputs = vec![input.clone(); self.plan.views];
        }
        for (input, value) in (0..).zip(&mut sample.inputs) {
            let mut rng = self
                .seed
                .rng(Purpose::Augmentation, id | (input << INPUT_BIT));
            let mut changed = std::mem::replace(value, Value::Features(Vec::new()));
            for transform in changes.into_iter().flatten() {
                if !transform.changes_sounds() {
                    changed = frames(changed)?;
                }
                changed = transform.apply(changed, &mut rng)?;
            }
            *value = frames(changed)?;
        }
        let id = match self.pass {
            Pass::Train => id,
            Pass::Sweep => u64::from(index),
        };
        Ok(Row {
            sample,
            unchanged,
            label: dataset.labels()[index as usize],
            target: dataset
                .targets()
                .get(index as usize)
                .copied()
                .unwrap_or(0.0),
            set: dataset
                .sets()
                .get(index as usize)
                .cloned()
                .unwrap_or_default(),
            domain: dataset.domains().get(index as usize).copied().unwrap_or(0),
            mask: match dataset.annotation() {
                Annotation::Masks => dataset.mask(index)?,
                _ => None,
            },
            id,
            name: dataset.describe(index),
        })
    }
}

/// What comes out of one job: a batch, what was wrong, or the panic of somebody's data set.
type Outcome = Result<Result<Made, Error>, Box<dyn Any + Send>>;

/// Batches in order, to whoever asks.
struct Delivery<'a> {
    loader: &'a Loader,
    work: Arc<Work>,
    source: Source,
    ended: bool,
}

enum Source {
    Here { next: usize },
    Threads(Threads),
}

impl Delivery<'_> {
    fn next_outcome(&mut self) -> Option<Outcome> {
        match &mut self.source {
            Source::Here { next } => {
                let number = *next;
                *next += 1;
                (number < self.work.jobs.len()).then(|| Ok(self.work.make(number)))
            }
            Source::Threads(threads) => threads.next(),
        }
    }

    fn delivered(&self, outcome: Outcome) -> Result<Option<Batch>, Error> {
        let made = outcome.unwrap_or_else(|panic| resume_unwind(panic))?;
        if let BadSamples::Skip { most } = self.loader.bad {
            let mut account = self.loader.account();
            for error in made.bad {
                account.left_out += 1;
                if account.left_out > most {
                    return Err(Error::TooManyBad {
                        left_out: account.left_out,
                        most,
                        source: Box::new(error),
                    });
                }
                if account.reasons.len() < REASONS {
                    account.reasons.push(with_sources(&error));
                }
            }
        }
        if made.rows == 0 {
            return Ok(None); // All of it was left out.
        }
        made.batch.onto(&self.loader.device).map(Some)
    }
}

impl Iterator for Delivery<'_> {
    type Item = Result<Batch, BoxError>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.ended {
            let start = Instant::now();
            let outcome = self.next_outcome();
            self.loader.account().waited += start.elapsed();
            match self.delivered(outcome?) {
                Ok(Some(batch)) => return Some(Ok(batch)),
                Ok(None) => {}
                Err(error) => {
                    self.ended = true;
                    return Some(Err(error.into()));
                }
            }
        }
        None
    }
}

/// An error and what is behind it, in one line.
fn with_sources(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        text += &format!(": {source}");
        next = source.source();
    }
    text
}

/// Threads that make batches within a window before the consumer.
struct Threads {
    shared: Arc<Shared>,
    handles: Vec<JoinHandle<()>>,
    jobs: usize,
}

struct Shared {
    window: Mutex<Window>,
    changed: Condvar,
}

struct Window {
    /// The next batch that nobody makes yet.
    start: usize,
    /// The next batch that the consumer gets.
    deliver: usize,
    /// Batches that may be beyond it.
    ahead: usize,
    ready: BTreeMap<usize, Outcome>,
    stopped: bool,
}

impl Shared {
    fn window(&self) -> MutexGuard<'_, Window> {
        // Nothing that can panic runs while it is held.
        self.window.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, window: MutexGuard<'a, Window>) -> MutexGuard<'a, Window> {
        self.changed
            .wait(window)
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Threads {
    fn start(work: &Arc<Work>, threads: usize, ahead: usize) -> Option<Self> {
        let jobs = work.jobs.len();
        let threads = threads.min(jobs);
        let shared = Arc::new(Shared {
            window: Mutex::new(Window {
                start: 0,
                deliver: 0,
                ahead: ahead.max(threads),
                ready: BTreeMap::new(),
                stopped: false,
            }),
            changed: Condvar::new(),
        });
        let handles: Vec<_> = (0..threads)
            .map_while(|number| {
                let (work, shared) = (Arc::clone(work), Arc::clone(&shared));
                thread::Builder::new()
                    .name(format!("loader {number}"))
                    .spawn(move || make_batches(&work, &shared))
                    .ok()
            })
            .collect();
        (!handles.is_empty()).then_some(Self {
            shared,
            handles,
            jobs,
        })
    }

    fn next(&mut self) -> Option<Outcome> {
        let mut window = self.shared.window();
        let number = window.deliver;
        if number >= self.jobs {
            return None;
        }
        loop {
            if let Some(outcome) = window.ready.remove(&number) {
                window.deliver += 1;
                self.shared.changed.notify_all();
                return Some(outcome);
            }
            window = self.shared.wait(window);
        }
    }
}

fn make_batches(work: &Work, shared: &Shared) {
    loop {
        let number = {
            let mut window = shared.window();
            while !window.stopped
                && window.start < work.jobs.len()
                && window.start >= window.deliver + window.ahead
            {
                window = shared.wait(window);
            }
            if window.stopped || window.start >= work.jobs.len() {
                return;
            }
            window.start += 1;
            window.start - 1
        };
        // A panic in somebody's data set is theirs to see, on the thread that asked.
        let outcome = catch_unwind(AssertUnwindSafe(|| work.make(number)));
        shared.window().ready.insert(number, outcome);
        shared.changed.notify_all();
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.shared.window().stopped = true;
        self.shared.changed.notify_all();
        for handle in self.handles.drain(..) {
            // Panics were caught and delivered; there is nothing left to say.
            let _ = handle.join();
        }
    }
}
