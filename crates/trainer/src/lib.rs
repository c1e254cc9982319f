#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

// In reading order: one batch, what moves the parameters, the loop, what is kept of it.
mod freezing;
mod gradients;
mod named;
mod options;
mod progress;
mod towers;
mod trainer;

pub mod optim;
pub mod schedule;

mod fit;
mod observers;
mod run;

pub mod checkpoint;
mod lock;

mod environment;
mod error;
mod large_stack;

pub use checkpoint::{Checkpoint, Checkpoints, Loaded};
pub use environment::ENVIRONMENT;
pub use error::Error;
pub use fit::{Answer, Ended, Event, Observer, Watch, fit};
pub use gradients::Gradients;
pub use large_stack::{STACK_BYTES, on_large_stack};
pub use lock::RunLock;
pub use observers::{Best, Better, Enough, MetricsLog, SaveEvery};
pub use optim::{Optimizer, OptimizerConfig};
pub use options::{Group, Options};
pub use progress::{Counters, Outcome, PartValue, Position};
pub use run::{Evaluation, Limits, Run, Scores, Signals};
pub use schedule::{Schedule, ScheduleConfig};
pub use towers::Towers;
pub use trainer::Trainer;
