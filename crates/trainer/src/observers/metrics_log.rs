//! `metrics.jsonl`: one JSON object per line.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nearfar_core::{BoxError, Stateful};
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::fit::{Answer, Event, Observer};
use crate::progress::{Outcome, PartValue};
use crate::trainer::Trainer;

/// Writes `metrics.jsonl`: one JSON object per line, each with `type`, `step`, `epoch` and `clock`.
///
/// | type | and |
/// |---|---|
/// | `step` | `loss`, `parts` (`name`, `value` or null, `terms`, `active`), `learning_rate`, `gradient_norm` |
/// | `nothing_to_learn` | |
/// | `not_finite` | `what`: a step that was left out |
/// | `refresh` | `parts` (names), `rows` |
/// | `evaluation` | `split`, `scores` by name; a score that is not a number is null |
/// | `checkpoint` | `best` |
///
/// `step` counts the steps made, `epoch` is from 0. `clock` (`seconds` since the process began with it, and where rows were trained on
/// `rows_per_second` and `waited`, the seconds that the step waited for its batch) is the one key in which two equal runs differ.
#[derive(Debug)]
pub struct MetricsLog {
    path: PathBuf,
    file: BufWriter<File>,
    start: Instant,
    last: Instant,
}

impl MetricsLog {
    /// A log that begins; one that is there is emptied.
    ///
    /// # Errors
    /// [`Error::Io`] when it cannot be written.
    pub fn create(path: impl Into<PathBuf>) -> Result<Self, Error> {
        let path = path.into();
        let file = File::create(&path).map_err(Error::io("create", &path))?;
        Ok(Self::of(path, file))
    }

    /// A log that goes on after a step: lines of later steps are removed, because those steps will be made again.
    /// So is a last line that was cut off.
    ///
    /// # Errors
    /// [`Error::Io`] when it cannot be read or written.
    pub fn resume(path: impl Into<PathBuf>, step: u64) -> Result<Self, Error> {
        let path = path.into();
        if !path.exists() {
            return Self::create(path);
        }
        keep_until(&path, step)?;
        let file = OpenOptions::new()
            .append(true)
            .open(&path)
            .map_err(Error::io("open", &path))?;
        Ok(Self::of(path, file))
    }

    fn of(path: PathBuf, file: File) -> Self {
        let now = Instant::now();
        Self {
            path,
            file: BufWriter::new(file),
            start: now,
            last: now,
        }
    }

    fn write(
        &mut self,
        trainer: &Trainer,
        content: Content<'_>,
        rows: usize,
        waited: Option<Duration>,
    ) -> Result<(), Error> {
        let now = Instant::now();
        let seconds = (now - self.last).as_secs_f64();
        let position = trainer.position();
        let line = Line {
            content,
            step: position.step,
            epoch: position.epoch,
            clock: Clock {
                seconds: (now - self.start).as_secs_f64(),
                rows_per_second: (rows > 0 && seconds > 0.0).then(|| rows as f64 / seconds),
                waited: waited.map(|it| it.as_secs_f64()),
            },
        };
        self.last = now;
        let mut text = serde_json::to_vec(&line.ordered()).expect("names and numbers");
        text.push(b'\n');
        // A line is handed over whole: what a kill leaves are whole lines.
        self.file
            .write_all(&text)
            .and_then(|()| self.file.flush())
            .map_err(Error::io("write to", &self.path))
    }
}

impl Stateful for MetricsLog {}

impl Observer for MetricsLog {
    fn observe(&mut self, trainer: &Trainer, event: &Event<'_>) -> Result<Answer, BoxError> {
        match event {
            Event::Start => self.last = Instant::now(),
            Event::Step {
                outcome,
                rows,
                waited,
            } => {
                let content = match outcome {
                    Outcome::NothingToLearn => Content::NothingToLearn {},
                    Outcome::Learned {
                        loss,
                        parts,
                        gradient_norm,
                        learning_rate,
                        ..
                    } => Content::Step {
                        loss: *loss,
                        parts,
                        learning_rate: *learning_rate,
                        gradient_norm: *gradient_norm,
                    },
                };
                self.write(trainer, content, *rows, Some(*waited))?;
            }
            Event::NotFinite { error, rows } => {
                let what = match error.kind() {
                    Some(nearfar_core::Error::NonFinite { what, .. }) => what.clone(),
                    _ => error.to_string(),
                };
                self.write(trainer, Content::NotFinite { what }, *rows, None)?;
            }
            Event::Refresh { parts, rows } => {
                let content = Content::Refresh { parts, rows: *rows };
                self.write(trainer, content, 0, None)?;
            }
            Event::Evaluation { split, scores } => {
                self.write(trainer, Content::Evaluation { split, scores }, 0, None)?;
            }
            Event::Saved { best } => {
                self.write(trainer, Content::Checkpoint { best: *best }, 0, None)?;
                let file = self.file.get_ref();
                file.sync_data().map_err(Error::io("sync", &self.path))?;
            }
            Event::EpochEnd | Event::SaveFailed { .. } => {}
        }
        Ok(Answer::GoOn)
    }
}

#[derive(Serialize)]
#[serde(untagged)]
enum Content<'a> {
    Step {
        loss: f64,
        parts: &'a [PartValue],
        learning_rate: f64,
        gradient_norm: f64,
    },
    NothingToLearn {},
    NotFinite {
        what: String,
    },
    Refresh {
        parts: &'a [String],
        rows: usize,
    },
    Evaluation {
        split: &'a str,
        scores: &'a BTreeMap<String, f64>,
    },
    Checkpoint {
        best: bool,
    },
}

struct Line<'a> {
    content: Content<'a>,
    step: u64,
    epoch: u64,
    clock: Clock,
}

#[derive(Serialize)]
struct Clock {
    seconds: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    rows_per_second: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    waited: Option<f64>,
}

impl Line<'_> {
    /// The keys in the order in which they are read.
    fn ordered(&self) -> impl Serialize + '_ {
        #[derive(Serialize)]
        struct Ordered<'a> {
            r#type: &'static str,
            step: u64,
            epoch: u64,
            #[serde(flatten)]
            content: &'a Content<'a>,
            clock: &'a Clock,
        }
        Ordered {
            r#type: match self.content {
                Content::Step { .. } => "step",
                Content::NothingToLearn {} => "nothing_to_learn",
                Content::NotFinite { .. } => "not_finite",
                Content::Refresh { .. } => "refresh",
                Content::Evaluation { .. } => "evaluation",
                Content::Checkpoint { .. } => "checkpoint",
            },
            step: self.step,
            epoch: self.epoch,
            content: &self.content,
            clock: &self.clock,
        }
    }
}

/// Rewrites a log without the lines of later steps; the file is replaced whole.
fn keep_until(path: &Path, step: u64) -> Result<(), Error> {
    #[derive(Deserialize)]
    struct Head {
        r#type: String,
        step: u64,
    }
    // A refresh is made before a step, so behind the checkpoint of its position; it will be made again.
    let before = |head: Head| head.step < step || head.step == step && head.r#type != "refresh";
    let mut aside = path.as_os_str().to_owned();
    aside.push(".tmp");
    let aside = PathBuf::from(aside);
    let read = Error::io("read", path);
    let mut lines = BufReader::new(File::open(path).map_err(Error::io("read", path))?);
    let mut kept = BufWriter::new(File::create(&aside).map_err(Error::io("create", &aside))?);
    let mut copy = || -> std::io::Result<()> {
        let mut line = Vec::new();
        while lines.read_until(b'\n', &mut line)? > 0 {
            let whole = line.ends_with(b"\n");
            if whole && serde_json::from_slice::<Head>(&line).is_ok_and(before) {
                kept.write_all(&line)?;
            }
            line.clear();
        }
        kept.flush()
    };
    copy().map_err(read)?;
    kept.get_ref()
        .sync_all()
        .map_err(Error::io("sync", &aside))?;
    fs::rename(&aside, path).map_err(Error::io(format!("rename {} to", aside.display()), path))
}
