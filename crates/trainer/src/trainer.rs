//! One batch: embed, compare, evaluate, differentiate, update.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use candle_core::{Device, Tensor, Var};
use nearfar_core::{
    Batch, BoxError, Comparison, EmbeddingTable, Embeddings, Encoder, Error as Kind, Evaluated,
    Loss, Mode, Purpose, Seed, name_matches,
};

use crate::error::Error;
use crate::freezing::{Freezing, Frozen};
use crate::gradients::{Gradients, all_finite, numbers};
use crate::named::{copies, put, to_device};
use crate::optim::{Move, Optimizer};
use crate::options::Options;
use crate::progress::{Counters, Outcome, PartValue, Position};
use crate::schedule::Schedule;
use crate::towers::Towers;

/// Everything that learns: towers, loss, optimizer, and where they stand. One call of [`step`](Self::step) is one batch.
///
/// Messages and logs count steps from 1; streams of random numbers and schedules take positions from 0.
pub struct Trainer {
    towers: Towers,
    loss: Box<dyn Loss>,
    optimizer: Box<dyn Optimizer>,
    schedule: Box<dyn Schedule>,
    options: Options,
    /// Those that are trained, each tensor once, in the order of names.
    trained: BTreeMap<String, Trained>,
    /// Those of the towers that are not trained; which of them a step changes is known after the first.
    resting: Vec<Var>,
    running: Option<Vec<Var>>,
    freezing: Freezing,
    gathered: Gathered,
    position: Position,
    counters: Counters,
}

struct Trained {
    var: Var,
    of_loss: bool,
    may_be_frozen: bool,
    frozen: Frozen,
    rate: f64,
    decay: f64,
}

/// Gradients of batches that are yet to make an update.
#[derive(Default)]
struct Gathered {
    sum: Gradients,
    batches: u64,
}

/// The first side of a batch, and the others as one: views beyond the second stand behind it.
fn two_sides(mut sides: Vec<Embeddings>) -> candle_core::Result<Vec<Embeddings>> {
    if sides.len() > 2 {
        let others = sides.split_off(1);
        sides.push(Embeddings::stacked(&others)?);
    }
    Ok(sides)
}

/// What parameters of the loss begin with, in the order of all names.
const OF_LOSS: &str = "loss.";

impl Trainer {
    /// A trainer that has not made a step.
    ///
    /// # Errors
    /// [`Error::Settings`] when there is nothing to train, two parameters have one name, a pattern names no parameter, or options
    /// exclude one another.
    pub fn new(
        towers: Vec<Box<dyn Encoder>>,
        loss: Box<dyn Loss>,
        optimizer: Box<dyn Optimizer>,
        schedule: Box<dyn Schedule>,
        options: Options,
    ) -> Result<Self, Error> {
        let towers = Towers::new(towers)?;
        if options.clip_norm.is_some() && options.clip_value.is_some() {
            return Err(Error::Settings(
                "`clip_norm` and `clip_value` are both given; one of them is possible".into(),
            ));
        }

        let mut names = BTreeSet::new();
        let mut trained: BTreeMap<String, (Var, bool)> = BTreeMap::new();
        let mut resting = BTreeMap::new();
        let of_loss = loss.parameters().into_iter().map(|it| (it, true));
        let of_towers = towers.parameters().into_iter().map(|it| (it, false));
        for (parameter, of_loss) in of_towers.chain(of_loss) {
            let name = if of_loss {
                format!("{OF_LOSS}{}", parameter.name)
            } else {
                parameter.name.clone()
            };
            if !names.insert(name.clone()) {
                return Err(Error::Settings(format!(
                    "two parameters have the name `{name}`; a checkpoint needs one name for each"
                )));
            }
            if !parameter.trained {
                resting.insert(name, parameter.var);
            } else {
                trained.insert(name, (parameter.var, of_loss));
            }
        }
        // Published weights may list one tensor under two names. It is kept under both, and moved once.
        let mut seen = HashSet::new();
        trained.retain(|_, (var, _)| seen.insert(var.id()));
        if trained.is_empty() {
            return Err(Error::Settings(
                "there is no parameter to train; all are marked as not trained".into(),
            ));
        }

        let listed = |pattern: &str, place: &str, others: bool| -> Result<(), Error> {
            let others = resting.keys().filter(|_| others);
            if trained
                .keys()
                .chain(others)
                .any(|name| name_matches(pattern, name))
            {
                return Ok(());
            }
            let mut names: Vec<&str> = trained.keys().map(String::as_str).take(8).collect();
            if trained.len() > names.len() {
                names.push("…");
            }
            Err(Error::Settings(format!(
                "{place}: `{pattern}` names no trained parameter; there are {}",
                names.join(", ")
            )))
        };
        for group in &options.groups {
            listed(&group.parameters, "groups", group.frozen)?;
        }
        for pattern in &options.allow_frozen {
            listed(pattern, "allow_frozen", false)?;
        }
        let freezing = Freezing::new(
            &options.groups,
            trained.keys().map(String::as_str),
            resting.keys().map(String::as_str),
        )?;

        let trained = trained
            .into_iter()
            .map(|(name, (var, of_loss))| {
                let group = options
                    .groups
                    .iter()
                    .find(|group| name_matches(&group.parameters, &name));
                let trained = Trained {
                    var,
                    of_loss,
                    may_be_frozen: options
                        .allow_frozen
                        .iter()
                        .any(|pattern| name_matches(pattern, &name)),
                    frozen: freezing.of(&name),
                    rate: group.map_or(1.0, |group| group.learning_rate.get()),
                    decay: group.map_or(1.0, |group| group.weight_decay.get()),
                };
                (name, trained)
            })
            .collect();
        Ok(Self {
            towers,
            loss,
            optimizer,
            schedule,
            options,
            trained,
            resting: resting.into_values().collect(),
            running: None,
            freezing,
            gathered: Gathered::default(),
            position: Position::default(),
            counters: Counters::default(),
        })
    }

    /// One batch: embed, compare, evaluate, differentiate, update.
    ///
    /// # Errors
    /// [`Error::Frozen`] at the first step that learns; the errors of the towers and the loss; and when the embeddings, the loss or a
    /// gradient are not finite ([`Error::is_non_finite`]). Then the step is not applied: parameters, statistics, what the optimizer
    /// remembers and gradients gathered before are as they were, and the next step can be made.
    pub fn step(&mut self, batch: &Batch) -> Result<Outcome, Error> {
        let step = self.position.step;
        self.position.step += 1;

        self.freeze(step)?;
        let before = self.statistics()?;
        let outcome = self.learn(batch, step);
        match &outcome {
            Ok(_) => self.notice_running(&before)?,
            Err(error) => {
                for (var, value) in before {
                    var.set(&value)?;
                }
                self.counters.not_finite += u64::from(error.is_non_finite());
            }
        }
        outcome
    }

    /// What is frozen is a function of the step, so that a run that goes on needs to remember nothing of it.
    fn freeze(&mut self, step: u64) -> Result<(), Error> {
        self.freezing.apply(&self.towers, step)?;
        if self.freezing.thaws_at(step) {
            // What moves from here on has to show that it does.
            self.counters.towers_passed = false;
            self.counters.loss_passed = false;
            self.running = None;
        }
        Ok(())
    }

    fn learn(&mut self, batch: &Batch, step: u64) -> Result<Outcome, Error> {
        let mut dropout = self.options.seed.rng(Purpose::Dropout, step);
        let encoded = self
            .towers
            .encode(&batch.inputs, Mode::Train(&mut dropout))?;
        let sides = two_sides(batch.rows(encoded)?)?;
        // Before the loss takes the rows into its memory, where they would stay.
        for side in &sides {
            finite(all_finite(&side.vectors)?, || "an embedding".into(), step)?;
        }
        let comparison = Comparison::of(&sides, &batch.supervision)?;

        let mut mining = self.options.seed.rng(Purpose::Mining, step);
        self.loss.absorb(&comparison)?;
        let evaluated = self.loss.evaluate(&comparison, &mut mining)?;
        let Some(total) = evaluated.total()? else {
            self.counters.nothing_to_learn += 1;
            return Ok(Outcome::NothingToLearn);
        };
        let (loss, parts) = values(&total, &evaluated)?;
        finite(loss.is_finite(), || "the loss".into(), step)?;

        let mut store = total.backward()?;
        let moving = self.trained.iter();
        let moving = moving.filter(|(_, it)| !it.frozen.at(step));
        let tensors = moving.map(|(name, it)| (name.as_str(), it.var.as_tensor()));
        let gradients = Gradients::take(&mut store, tensors);
        drop(store); // What is left are gradients of everything else; they are as large as the activations.
        self.freeze_gate(&gradients, &evaluated, step)?;
        let norm = gradients.norm()?;
        if !norm.is_finite() {
            let names = gradients.not_finite()?;
            finite(
                false,
                || format!("the gradient of {}", listed(&names)),
                step,
            )?;
        }

        let learning_rate = self.schedule.at(step);
        let gathered = self.gather(gradients, norm)?;
        self.counters.learned += 1;
        let updated = gathered.is_some();
        let gradient_norm = match gathered {
            Some((gradients, norm)) => {
                self.update(gradients, norm, learning_rate, step)?;
                norm
            }
            None => norm,
        };
        Ok(Outcome::Learned {
            loss,
            parts,
            gradient_norm,
            learning_rate,
            updated,
        })
    }

    /// Trained parameters without a gradient would never move, and nobody would notice. Zeros are no error: unseen rows, dead units
    /// and absent classes are normal.
    fn freeze_gate(
        &mut self,
        gradients: &Gradients,
        evaluated: &Evaluated,
        step: u64,
    ) -> Result<(), Error> {
        // A loss's own parameters may belong to a part that found nothing in this batch.
        let complete = evaluated.parts.iter().all(|part| part.value.is_some());
        let towers = !self.counters.towers_passed;
        let loss = !self.counters.loss_passed && complete;
        let frozen = self.trained.iter().filter(|(name, it)| {
            let asked = if it.of_loss { loss } else { towers };
            let may_rest = it.may_be_frozen || it.frozen.at(step);
            asked && !may_rest && gradients.get(name).is_none()
        });
        let names: Vec<String> = frozen.map(|(name, _)| name.clone()).collect();
        if !names.is_empty() {
            return Err(Error::Frozen { names });
        }
        self.counters.towers_passed = true;
        self.counters.loss_passed |= complete;
        Ok(())
    }

    /// The gradients to move by and their norm, once enough batches have given theirs.
    fn gather(
        &mut self,
        gradients: Gradients,
        norm: f64,
    ) -> Result<Option<(Gradients, f64)>, Error> {
        let wanted = self.options.accumulate.get();
        if wanted == 1 {
            return Ok(Some((gradients, norm)));
        }
        self.gathered.sum.add(gradients)?;
        self.gathered.batches += 1;
        if self.gathered.batches < wanted {
            return Ok(None);
        }
        let mut mean = std::mem::take(&mut self.gathered).sum;
        mean.scale(1.0 / wanted as f64)?;
        let norm = mean.norm()?;
        Ok(Some((mean, norm)))
    }

    fn update(
        &mut self,
        mut gradients: Gradients,
        norm: f64,
        rate: f64,
        step: u64,
    ) -> Result<(), Error> {
        if let Some(limit) = self.options.clip_norm {
            gradients.clip_from(norm, limit.get())?;
        }
        if let Some(limit) = self.options.clip_value {
            gradients.clip_value(limit.get())?;
        }
        let momentum = self.schedule.momentum(step);
        let moves: Vec<Move<'_>> = gradients
            .iter()
            .map(|(name, gradient)| {
                let it = &self.trained[name];
                Move {
                    name,
                    var: &it.var,
                    gradient,
                    learning_rate: rate * it.rate,
                    decay: it.decay,
                    momentum,
                }
            })
            .collect();
        self.optimizer.update(&moves)?;
        self.counters.updates += 1;
        Ok(())
    }

    /// Values of the tensors that a forward pass may change: running statistics. At the first step all that are not trained are
    /// looked at, later those that changed; a frozen backbone is not copied again and again.
    fn statistics(&self) -> Result<Vec<(Var, Tensor)>, Error> {
        let vars = self.running.as_ref().unwrap_or(&self.resting);
        let copies = vars
            .iter()
            .map(|var| Ok((var.clone(), var.as_tensor().copy()?.detach())));
        copies.collect()
    }

    fn notice_running(&mut self, before: &[(Var, Tensor)]) -> Result<(), Error> {
        if self.running.is_none() {
            let mut running = Vec::new();
            for (var, value) in before {
                if var.elem_count() > 0 && !same(var.as_tensor(), value)? {
                    running.push(var.clone());
                }
            }
            self.running = Some(running);
        }
        Ok(())
    }

    /// The rows of a batch in [`Mode::Eval`], without a graph.
    ///
    /// # Errors
    /// When a tower cannot read its input, or the classes and ids do not fit.
    pub fn embed(&self, batch: &Batch) -> candle_core::Result<Vec<Embeddings>> {
        self.towers.embed(batch)
    }

    /// Batches as one table in [`Mode::Eval`], side after side.
    ///
    /// # Errors
    /// Those of the batches, and of [`embed`](Self::embed).
    pub fn table(
        &self,
        batches: impl Iterator<Item = Result<Batch, BoxError>>,
    ) -> Result<EmbeddingTable, BoxError> {
        self.towers.table(batches)
    }

    /// What encodes.
    pub fn towers(&self) -> &Towers {
        &self.towers
    }

    /// What is minimized.
    pub fn loss(&self) -> &dyn Loss {
        &*self.loss
    }

    pub(crate) fn loss_mut(&mut self) -> &mut dyn Loss {
        &mut *self.loss
    }

    /// What moves the parameters.
    pub fn optimizer(&self) -> &dyn Optimizer {
        &*self.optimizer
    }

    /// How gradients become moves.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// The one number that all random streams come from.
    pub fn seed(&self) -> Seed {
        self.options.seed
    }

    /// Where the run stands.
    pub fn position(&self) -> Position {
        self.position
    }

    /// For loops of one's own that count epochs; the step counts itself.
    pub fn set_epoch(&mut self, epoch: u64, batch: u64) {
        self.position.epoch = epoch;
        self.position.batch = batch;
    }

    /// What happened so far.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Names of all that is trained, in order. Those of the loss begin with `loss.`.
    pub fn trained(&self) -> impl Iterator<Item = &str> {
        self.trained.keys().map(String::as_str)
    }

    /// Copies of the towers' tensors on the host, by name: the model, as it is saved.
    ///
    /// # Errors
    /// Those of candle.
    pub fn model(&self) -> candle_core::Result<BTreeMap<String, Tensor>> {
        self.towers.model()
    }

    /// Takes back what [`model`](Self::model) gave.
    ///
    /// # Errors
    /// [`Error::Misfit`] with the name of a tensor that is missing, unknown, or of another shape.
    pub fn set_model(&mut self, model: &BTreeMap<String, Tensor>) -> Result<(), Error> {
        self.towers.set_model(model)
    }

    pub(crate) fn state(&self) -> candle_core::Result<TrainerState> {
        Ok(TrainerState {
            position: self.position,
            counters: self.counters,
            model: self.model()?,
            loss_parameters: copies(self.loss.parameters())?,
            optimizer: self.optimizer.state(),
            gathered: self
                .gathered
                .sum
                .iter()
                .map(|(name, gradient)| (name.to_string(), gradient.clone()))
                .collect(),
            gathered_batches: self.gathered.batches,
        })
    }

    pub(crate) fn restore(&mut self, state: TrainerState) -> Result<(), Error> {
        self.set_model(&state.model)?;
        put("loss", self.loss.parameters(), &state.loss_parameters)?;
        let device = self.device();
        let moved = |it: BTreeMap<String, Tensor>| to_device(it, &device);
        for key in state.optimizer.keys() {
            let name = key.rsplit_once('/').map_or(key.as_str(), |(name, _)| name);
            if !self.trained.contains_key(name) {
                let reason = format!("`{key}` is of no trained parameter");
                return Err(Error::misfit("optimizer", reason));
            }
        }
        let optimizer = moved(state.optimizer)?;
        let restored = self.optimizer.restore(&optimizer);
        restored.map_err(|error| Error::misfit("optimizer", error))?;
        for (name, gradient) in &state.gathered {
            let fits = |it: &Trained| it.var.dims() == gradient.dims();
            if !self.trained.get(name).is_some_and(fits) {
                let reason = format!("`{name}` is of no trained parameter, or of another shape");
                return Err(Error::misfit("gradients", reason));
            }
        }
        self.gathered = Gathered {
            sum: moved(state.gathered)?.into_iter().collect(),
            batches: state.gathered_batches,
        };
        self.position = state.position;
        self.counters = state.counters;
        Ok(())
    }

    pub(crate) fn device(&self) -> Device {
        self.trained
            .values()
            .next()
            .map_or(Device::Cpu, |it| it.var.device().clone())
    }
}

/// All that a trainer remembers.
pub(crate) struct TrainerState {
    pub(crate) position: Position,
    pub(crate) counters: Counters,
    pub(crate) model: BTreeMap<String, Tensor>,
    pub(crate) loss_parameters: BTreeMap<String, Tensor>,
    pub(crate) optimizer: BTreeMap<String, Tensor>,
    pub(crate) gathered: BTreeMap<String, Tensor>,
    pub(crate) gathered_batches: u64,
}

/// The loss and its parts on the host, in one transfer.
fn values(total: &Tensor, evaluated: &Evaluated) -> Result<(f64, Vec<PartValue>), Error> {
    let present = evaluated.parts.iter().filter_map(|it| it.value.clone());
    let mut scalars = vec![total.clone()];
    scalars.extend(present);
    let mut numbers = numbers(&scalars)?.into_iter();
    let loss = numbers.next().expect("the total is the first");
    let parts = evaluated.parts.iter().map(|part| PartValue {
        name: part.name,
        value: part
            .value
            .as_ref()
            .map(|_| numbers.next().expect("one for each part that is there")),
        terms: part.terms,
        active: part.active,
    });
    Ok((loss, parts.collect()))
}

fn finite(holds: bool, what: impl FnOnce() -> String, step: u64) -> Result<(), Error> {
    if holds {
        return Ok(());
    }
    Err(Kind::NonFinite {
        what: what(),
        step: step + 1,
    })?
}

/// The first few names, and how many more there are.
fn listed(names: &[&str]) -> String {
    let shown = names.len().min(3);
    let mut list = names[..shown].join(", ");
    if names.len() > shown {
        list.push_str(&format!(" and {} more", names.len() - shown));
    }
    list
}

/// Whether two tensors have the same values.
fn same(one: &Tensor, other: &Tensor) -> candle_core::Result<bool> {
    let differs = one.detach().ne(other)?.to_dtype(candle_core::DType::F32)?;
    Ok(differs.sum_all()?.to_scalar::<f32>()? == 0.0)
}
