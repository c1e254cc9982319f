//! The end of a run whose score is good enough.

use std::collections::BTreeMap;

use candle_core::{Device, Result, Tensor};
use nearfar_core::{BoxError, Error, Stateful};

use super::best::{Better, score_in};
use crate::fit::{Answer, Event, Observer};
use crate::trainer::Trainer;

/// Ends a run when a score of its evaluations has come as far as wanted.
///
/// A score that is not a number has come nowhere. A run that has ended so and is called again ends at once.
#[derive(Clone, Debug)]
pub struct Enough {
    score: String,
    split: Option<String>,
    better: Better,
    wanted: f64,
    reached: bool,
}

impl Enough {
    /// Ends when the score of any split is `wanted` or better.
    pub fn new(score: impl Into<String>, better: Better, wanted: f64) -> Self {
        Self {
            score: score.into(),
            split: None,
            better,
            wanted,
            reached: false,
        }
    }

    /// The same for one split only.
    pub fn of_split(mut self, split: impl Into<String>) -> Self {
        self.split = Some(split.into());
        self
    }
}

impl Stateful for Enough {
    fn state(&self) -> BTreeMap<String, Tensor> {
        let reached = Tensor::new(&[u8::from(self.reached)], &Device::Cpu);
        BTreeMap::from([("reached".into(), reached.expect("one number on the host"))])
    }

    fn restore(&mut self, state: &BTreeMap<String, Tensor>) -> Result<()> {
        let wrong = || Error::Input("enough: one number `reached` is wanted, 0 or 1".into());
        let reached = match state.get("reached") {
            Some(reached) if state.len() == 1 => reached.flatten_all()?.to_vec1::<u8>()?,
            _ => Err(wrong())?,
        };
        self.reached = match reached[..] {
            [0] => false,
            [1] => true,
            _ => Err(wrong())?,
        };
        Ok(())
    }
}

impl Observer for Enough {
    fn observe(&mut self, _: &Trainer, event: &Event<'_>) -> std::result::Result<Answer, BoxError> {
        match event {
            Event::Start => {}
            Event::Evaluation { split, scores } => {
                let of_it = self.split.as_ref().is_none_or(|wanted| wanted == split);
                if of_it {
                    let score = score_in(&self.score, split, scores)?;
                    self.reached |= match self.better {
                        Better::Higher => score >= self.wanted,
                        Better::Lower => score <= self.wanted,
                    };
                }
            }
            _ => return Ok(Answer::GoOn),
        }
        Ok(match self.reached {
            true => Answer::Stop,
            false => Answer::GoOn,
        })
    }
}
