//! Those who watch every run: a log, the best score, a checkpoint every so often.

mod best;
mod enough;
mod every;
mod metrics_log;

pub use best::{Best, Better};
pub use enough::Enough;
pub use every::SaveEvery;
pub use metrics_log::MetricsLog;
