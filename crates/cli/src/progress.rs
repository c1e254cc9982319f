//! A run as people watch it: a bar on a terminal, else a line now and then.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use nearfar_core::{BoxError, Span, Stateful};
use nearfar_trainer::{Answer, Event, Observer, Outcome, Trainer};
use serde_json::json;

use crate::out::{Out, stderr};

/// Watches a run and tells of it.
pub(crate) struct Progress {
    out: Out,
    until: Span,
    bar: Option<ProgressBar>,
    last_line: Instant,
    loss: Option<f64>,
    learned: u64,
}

/// Lines where there is no bar come this far apart.
const LINES: Duration = Duration::from_secs(10);
/// How much a new loss counts in the one that is shown.
const SMOOTHING: f64 = 0.05;

impl Progress {
    pub(crate) fn new(out: &Out, until: Span) -> Self {
        let bar = out.bars.then(|| {
            let bar = match until {
                Span::Steps(steps) => ProgressBar::new(steps),
                Span::Epochs(_) => ProgressBar::no_length(),
            };
            let style = match until {
                Span::Steps(_) => {
                    "{bar:32.cyan/dim} {pos}/{len} steps  {per_sec}  {eta} left  {msg}"
                }
                Span::Epochs(_) => "{spinner:.cyan} {pos} steps  {per_sec}  {msg}",
            };
            let style = ProgressStyle::with_template(style).expect("a constant template");
            bar.set_style(style.progress_chars("━━╌"));
            bar.enable_steady_tick(Duration::from_millis(200));
            bar
        });
        Self {
            out: out.clone(),
            until,
            bar,
            last_line: Instant::now(),
            loss: None,
            learned: 0,
        }
    }

    /// A line above the bar, or on its own.
    fn say(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| stderr(text)),
            None => self.out.note(text),
        }
    }

    fn status(&self, trainer: &Trainer) -> String {
        let position = trainer.position();
        let epoch = match self.until {
            Span::Epochs(epochs) => format!("epoch {}/{epochs}", (position.epoch + 1).min(epochs)),
            Span::Steps(_) => format!("epoch {}", position.epoch + 1),
        };
        let loss = self
            .loss
            .map_or("no loss yet".to_string(), |loss| format!("loss {loss:.4}"));
        let idle = trainer.counters().nothing_to_learn;
        let idle = if idle > 0 {
            format!("  {idle} without a tuple")
        } else {
            String::new()
        };
        format!("{epoch}  {loss}{idle}")
    }
}

impl Stateful for Progress {}

impl Observer for Progress {
    fn observe(&mut self, trainer: &Trainer, event: &Event<'_>) -> Result<Answer, BoxError> {
        let step = trainer.position().step;
        match event {
            Event::Start => {
                if let Some(bar) = &self.bar {
                    bar.set_position(step);
                    bar.reset_eta();
                }
            }
            Event::Step { outcome, .. } => {
                if let Outcome::Learned { loss, .. } = outcome {
                    self.learned += 1;
                    // The first losses count fully, so that what is shown begins where the run begins.
                    let weight = SMOOTHING.max(1.0 / self.learned as f64);
                    self.loss = Some(
                        self.loss
                            .map_or(*loss, |shown| shown + weight * (loss - shown)),
                    );
                }
                if let Some(bar) = &self.bar {
                    bar.set_position(step);
                    bar.set_message(self.status(trainer));
                } else if self.last_line.elapsed() >= LINES {
                    self.last_line = Instant::now();
                    let of = match self.until {
                        Span::Steps(steps) => format!("/{steps}"),
                        Span::Epochs(_) => String::new(),
                    };
                    self.out
                        .note(&format!("step {step}{of}  {}", self.status(trainer)));
                    self.out.object(json!({"type": "progress", "step": step, "epoch": trainer.position().epoch, "loss": self.loss}));
                }
            }
            Event::Evaluation { split, scores } => {
                let listed: Vec<String> = scores
                    .iter()
                    .map(|(name, value)| format!("{name} {value:.4}"))
                    .collect();
                self.say(&format!("step {step}  {split}: {}", listed.join("  ")));
                self.out.object(
                    json!({"type": "progress", "step": step, "split": split, "scores": scores}),
                );
            }
            Event::NotFinite { error, .. } => self.say(&format!("step {step}  left out: {error}")),
            Event::SaveFailed { error, .. } => self.say(&format!("step {step}  warning: {error}")),
            Event::Refresh { parts, rows } => self.out.detail(&format!(
                "step {step}  {} looked at {rows} rows",
                parts.join(", ")
            )),
            Event::Saved { best } => self.out.detail(&format!(
                "step {step}  saved{}",
                if *best { ", the best so far" } else { "" }
            )),
            _ => {}
        }
        Ok(Answer::GoOn)
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
