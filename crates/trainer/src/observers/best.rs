//! The best score, and when to stop waiting for a better one.

use std::collections::BTreeMap;

use candle_core::{Device, Result, Tensor};
use nearfar_core::{BoxError, Error, Stateful};
use serde::{Deserialize, Serialize};

use crate::fit::{Answer, Event, Observer};
use crate::trainer::Trainer;

/// Which way a score gets better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Better {
    /// As for a recall.
    Higher,
    /// As for an error.
    Lower,
}

/// Watches one score of the evaluations: a checkpoint is saved as the best whenever it is better than ever before, and the run ends
/// when it was not for `patience` evaluations in a row.
///
/// A score that is not a number is no better than any. A score that is as good as the best is not better.
#[derive(Clone, Debug)]
pub struct Best {
    score: String,
    split: Option<String>,
    better: Better,
    patience: Option<u64>,
    best: Option<(f64, u64)>,
    misses: u64,
}

impl Best {
    /// Watches a score of any split, without end.
    pub fn new(score: impl Into<String>, better: Better) -> Self {
        Self {
            score: score.into(),
            split: None,
            better,
            patience: None,
            best: None,
            misses: 0,
        }
    }

    /// The same for one split only.
    pub fn of_split(mut self, split: impl Into<String>) -> Self {
        self.split = Some(split.into());
        self
    }

    /// The same, ending after so many evaluations in a row that are not better.
    pub fn with_patience(mut self, evaluations: u64) -> Self {
        self.patience = Some(evaluations.max(1));
        self
    }

    /// The best score so far, and after which step it was seen.
    pub fn best(&self) -> Option<(f64, u64)> {
        self.best
    }

    fn is_better(&self, score: f64) -> bool {
        match (self.best, self.better) {
            _ if score.is_nan() => false,
            (None, _) => true,
            (Some((best, _)), Better::Higher) => score > best,
            (Some((best, _)), Better::Lower) => score < best,
        }
    }

    fn exhausted(&self) -> bool {
        self.patience
            .is_some_and(|patience| self.misses >= patience)
    }
}

impl Stateful for Best {
    fn state(&self) -> BTreeMap<String, Tensor> {
        let numbers = |numbers: &[i64]| Tensor::new(numbers, &Device::Cpu);
        let mut state = BTreeMap::from([("misses".to_string(), numbers(&[whole(self.misses)]))]);
        if let Some((score, step)) = self.best {
            state.insert("score".into(), Tensor::new(&[score], &Device::Cpu));
            state.insert("step".into(), numbers(&[whole(step)]));
        }
        state
            .into_iter()
            .map(|(name, tensor)| (name, tensor.expect("one number on the host")))
            .collect()
    }

    fn restore(&mut self, state: &BTreeMap<String, Tensor>) -> Result<()> {
        let missing = |name: &str| Error::Input(format!("best: `{name}` is missing"));
        if let Some(name) = state
            .keys()
            .find(|name| !["misses", "score", "step"].contains(&name.as_str()))
        {
            Err(Error::Input(format!("best: `{name}` is unknown")))?;
        }
        let count = |name: &str| -> Result<u64> {
            let tensor = state.get(name).ok_or_else(|| missing(name))?;
            match tensor.flatten_all()?.to_vec1::<i64>()?[..] {
                [count] if count >= 0 => Ok(count.unsigned_abs()),
                _ => Err(Error::Input(format!(
                    "best: `{name}` should be one number of 0 or more"
                )))?,
            }
        };
        self.misses = count("misses")?;
        self.best = match state.get("score") {
            None => None,
            Some(score) => match score.flatten_all()?.to_vec1::<f64>()?[..] {
                [score] => Some((score, count("step")?)),
                _ => Err(Error::Input("best: `score` should be one number".into()))?,
            },
        };
        Ok(())
    }
}

fn whole(count: u64) -> i64 {
    i64::try_from(count).expect("nobody makes 2^63 steps")
}

impl Observer for Best {
    fn observe(
        &mut self,
        trainer: &Trainer,
        event: &Event<'_>,
    ) -> std::result::Result<Answer, BoxError> {
        let (split, scores) = match event {
            // A run that ended for lack of patience and is called again has none still.
            Event::Start if self.exhausted() => return Ok(Answer::Stop),
            Event::Evaluation { split, scores } => (*split, *scores),
            _ => return Ok(Answer::GoOn),
        };
        if self.split.as_ref().is_some_and(|wanted| wanted != split) {
            return Ok(Answer::GoOn);
        }
        let score = score_in(&self.score, split, scores)?;
        if self.is_better(score) {
            self.best = Some((score, trainer.position().step));
            self.misses = 0;
            return Ok(Answer::SaveAsBest);
        }
        self.misses += 1;
        Ok(if self.exhausted() {
            Answer::Stop
        } else {
            Answer::GoOn
        })
    }
}

/// The score of that name, which must be there.
pub(super) fn score_in(
    wanted: &str,
    split: &str,
    scores: &BTreeMap<String, f64>,
) -> std::result::Result<f64, BoxError> {
    scores.get(wanted).copied().ok_or_else(|| {
        let names: Vec<&str> = scores.keys().map(String::as_str).collect();
        let names = names.join(", ");
        format!("the evaluation of `{split}` gives no `{wanted}`; it gives {names}").into()
    })
}
