//! A run as TensorBoard shows it.

use std::path::Path;

use nearfar_core::{BoxError, Stateful};
use nearfar_report::EventWriter;
use nearfar_trainer::{Answer, Event, Observer, Outcome, Trainer};

use crate::exit::Error;

/// Writes event files as a run goes.
pub(crate) struct TensorBoard(EventWriter);

impl TensorBoard {
    /// Anew, or going on after a step.
    pub(crate) fn new(folder: &Path, after: Option<u64>) -> Result<Self, Error> {
        std::fs::create_dir_all(folder).map_err(|source| Error::File {
            action: "make the folder",
            path: folder.to_path_buf(),
            source,
        })?;
        Ok(Self(match after {
            None => EventWriter::create(folder)?,
            Some(step) => EventWriter::resume(folder, step)?,
        }))
    }
}

impl Stateful for TensorBoard {}

impl Observer for TensorBoard {
    fn observe(&mut self, trainer: &Trainer, event: &Event<'_>) -> Result<Answer, BoxError> {
        let step = trainer.position().step;
        match event {
            Event::Step {
                outcome:
                    Outcome::Learned {
                        loss,
                        parts,
                        gradient_norm,
                        learning_rate,
                        ..
                    },
                ..
            } => {
                self.0.scalar("train/loss", step, *loss as f32)?;
                self.0
                    .scalar("train/learning_rate", step, *learning_rate as f32)?;
                self.0
                    .scalar("train/gradient_norm", step, *gradient_norm as f32)?;
                for part in parts.iter().filter(|_| parts.len() > 1) {
                    if let Some(value) = part.value {
                        self.0
                            .scalar(&format!("train/loss/{}", part.name), step, value as f32)?;
                    }
                }
            }
            Event::Evaluation { split, scores } => {
                for (name, value) in *scores {
                    self.0
                        .scalar(&format!("{split}/{name}"), step, *value as f32)?;
                }
            }
            Event::Saved { .. } => self.0.flush()?,
            _ => {}
        }
        Ok(Answer::GoOn)
    }
}
