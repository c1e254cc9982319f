//! A checkpoint every so often.

use nearfar_core::{BoxError, Span, Stateful};

use crate::fit::{Answer, Event, Observer};
use crate::trainer::Trainer;

/// Wants a checkpoint after every so many steps or epochs.
#[derive(Clone, Copy, Debug)]
pub struct SaveEvery(pub Span);

impl Stateful for SaveEvery {}

impl Observer for SaveEvery {
    fn observe(&mut self, trainer: &Trainer, event: &Event<'_>) -> Result<Answer, BoxError> {
        let position = trainer.position();
        let due = match (self.0, event) {
            (Span::Steps(steps), Event::Step { .. } | Event::NotFinite { .. }) => {
                position.step.is_multiple_of(steps)
            }
            (Span::Epochs(epochs), Event::EpochEnd) => (position.epoch + 1).is_multiple_of(epochs),
            (Span::Steps(0) | Span::Epochs(0), Event::Start) => {
                return Err("every 0 steps or epochs is not possible; 1 is the least".into());
            }
            _ => false,
        };
        Ok(if due { Answer::Save } else { Answer::GoOn })
    }
}
