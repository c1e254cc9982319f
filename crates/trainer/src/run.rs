//! Everything of a run that has a state.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use candle_core::{Device, Tensor};
use nearfar_core::{Batches, BoxError, Span, Stateful};

use crate::checkpoint::Checkpoint;
use crate::error::Error;
use crate::fit::Observer;
use crate::named::to_device;
use crate::trainer::{Trainer, TrainerState};

/// Everything of a run that has a state; the observers by name, in the order in which they are told.
pub struct Run {
    /// What learns.
    pub trainer: Trainer,
    /// What it learns from.
    pub batches: Box<dyn Batches>,
    /// How good it is, every so often.
    pub evaluations: Vec<Evaluation>,
    /// Who watches.
    pub observers: Vec<(String, Box<dyn Observer>)>,
    /// What others may ask for while it runs.
    pub signals: Signals,
    /// What is borne.
    pub limits: Limits,
}

/// Scores by name, from the trainer as it stands.
pub type Scores = Box<dyn FnMut(&Trainer) -> Result<BTreeMap<String, f64>, BoxError>>;

/// How good the embedding is, every so often.
pub struct Evaluation {
    /// The name of what is evaluated.
    pub split: String,
    /// After every so many steps or epochs.
    pub every: Span,
    /// The scores. They must be a function of the parameters and the position, or a run that was stopped goes on otherwise.
    pub scores: Scores,
}

/// Flags that others set, such as handlers of signals; the run looks at them after each step.
#[derive(Clone, Debug, Default)]
pub struct Signals {
    /// Finish the step, save, and return.
    pub stop: Arc<AtomicBool>,
    /// Finish the step, save, and go on. Taken back when it was seen.
    pub save: Arc<AtomicBool>,
}

/// What a run bears before it gives up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How many steps may be left out because something was not finite. With 0 the first ends the run.
    pub bad_steps: u64,
    /// How many times in a row a checkpoint cannot be saved before the run ends. Saving at the end must succeed.
    pub save_failures: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            bad_steps: 0,
            save_failures: 3,
        }
    }
}

const LOSS: &str = "loss";
const LOSS_PARAMETERS: &str = "loss.parameters";
const GRADIENTS: &str = "gradients";
const BATCHES: &str = "batches";

impl Run {
    /// A run that nobody watches yet.
    pub fn new(trainer: Trainer, batches: Box<dyn Batches>) -> Self {
        Self {
            trainer,
            batches,
            evaluations: Vec::new(),
            observers: Vec::new(),
            signals: Signals::default(),
            limits: Limits::default(),
        }
    }

    /// The same with another observer, told after those before it.
    pub fn watched_by(mut self, name: &str, observer: impl Observer + 'static) -> Self {
        self.observers.push((name.into(), Box::new(observer)));
        self
    }

    /// The same with an evaluation.
    pub fn evaluated(
        mut self,
        split: &str,
        every: Span,
        scores: impl FnMut(&Trainer) -> Result<BTreeMap<String, f64>, BoxError> + 'static,
    ) -> Self {
        self.evaluations.push(Evaluation {
            split: split.into(),
            every,
            scores: Box::new(scores),
        });
        self
    }

    /// All that it remembers, as it stands.
    ///
    /// # Errors
    /// When two observers have one name, or one has a `/` in it; and those of candle.
    pub fn checkpoint(&self) -> Result<Checkpoint, Error> {
        checkpoint(&self.trainer, &*self.batches, &self.observers)
    }

    /// Goes on from a checkpoint: everything is as it was when it was taken.
    ///
    /// # Errors
    /// [`Error::Misfit`] with the component that the checkpoint has and the run has not, or the other way around, or that refuses
    /// its state.
    pub fn restore(&mut self, checkpoint: &Checkpoint) -> Result<(), Error> {
        if checkpoint.seed != self.trainer.seed() {
            return Err(Error::misfit(
                "seed",
                format!(
                    "it is {}, the run's {}",
                    checkpoint.seed.0,
                    self.trainer.seed().0
                ),
            ));
        }
        let mut components = checkpoint.components.clone();
        self.trainer.restore(TrainerState {
            position: checkpoint.position,
            counters: checkpoint.counters,
            model: checkpoint.model.clone(),
            loss_parameters: components.remove(LOSS_PARAMETERS).unwrap_or_default(),
            optimizer: checkpoint.optimizer.clone(),
            gathered: components.remove(GRADIENTS).unwrap_or_default(),
            gathered_batches: checkpoint.gathered,
        })?;
        // Memories meet embeddings, which are where the parameters are.
        let device = self.trainer.device();
        let loss = components.remove(LOSS);
        put_back(LOSS, self.trainer.loss_mut(), loss, &device)?;
        let batches = components.remove(BATCHES);
        put_back(BATCHES, &mut *self.batches, batches, &Device::Cpu)?;
        for (name, observer) in &mut self.observers {
            let component = component_of(name);
            let state = components.remove(&component);
            put_back(&component, &mut **observer, state, &Device::Cpu)?;
        }
        if let Some((component, _)) = components.iter().find(|(_, state)| !state.is_empty()) {
            let reason = "the run has no such part; it would lose what it remembers";
            return Err(Error::misfit(component, reason));
        }
        Ok(())
    }
}

pub(crate) fn checkpoint(
    trainer: &Trainer,
    batches: &dyn Batches,
    observers: &[(String, Box<dyn Observer>)],
) -> Result<Checkpoint, Error> {
    let state = trainer.state()?;
    let mut components = BTreeMap::from([
        (LOSS.to_string(), trainer.loss().state()),
        (LOSS_PARAMETERS.to_string(), state.loss_parameters),
        (GRADIENTS.to_string(), state.gathered),
        (BATCHES.to_string(), batches.state()),
    ]);
    check_names(observers)?;
    for (name, observer) in observers {
        components.insert(component_of(name), observer.state());
    }
    Ok(Checkpoint {
        seed: trainer.seed(),
        position: state.position,
        counters: state.counters,
        model: state.model,
        optimizer: state.optimizer,
        components,
        gathered: state.gathered_batches,
        best: false,
    })
}

/// Each observer must be found again in a checkpoint.
pub(crate) fn check_names(observers: &[(String, Box<dyn Observer>)]) -> Result<(), Error> {
    let mut names = BTreeSet::new();
    match observers
        .iter()
        .find(|(name, _)| name.contains('/') || !names.insert(name))
    {
        None => Ok(()),
        Some((name, _)) => Err(Error::Settings(format!(
            "the observer `{name}` cannot be told from others in a checkpoint; give each a name of its own, without `/`"
        ))),
    }
}

fn component_of(observer: &str) -> String {
    format!("observer.{observer}")
}

fn put_back<T: Stateful + ?Sized>(
    component: &str,
    part: &mut T,
    state: Option<BTreeMap<String, Tensor>>,
    device: &Device,
) -> Result<(), Error> {
    let Some(state) = state else {
        // A part without a state may come and go, such as a progress bar.
        if part.state().is_empty() {
            return Ok(());
        }
        return Err(Error::misfit(component, "it is not in the checkpoint"));
    };
    part.restore(&to_device(state, device)?)
        .map_err(|error| Error::misfit(component, error))
}
