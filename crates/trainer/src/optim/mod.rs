//! What moves parameters against their gradients, with its state in the open.

mod adadelta;
mod adagrad;
mod adam;
mod rmsprop;
mod sgd;

use std::collections::BTreeMap;
use std::fmt::Debug;

use candle_core::{Device, Result, Tensor, Var};
use nearfar_core::{Error, Stateful};
use serde::{Deserialize, Serialize};

pub use adadelta::Adadelta;
pub use adagrad::Adagrad;
pub use adam::{Adam, AdamW};
pub use rmsprop::RmsProp;
pub use sgd::Sgd;

/// Moves parameters against their gradients. Its whole state is named tensors, so a checkpoint of it is complete.
pub trait Optimizer: Stateful + Debug + Send {
    /// Moves each parameter by its gradient. The moves are in the order of the parameters' names; a parameter without a gradient is
    /// not among them and stays as it is, with its state, as in torch.
    ///
    /// # Errors
    /// When a shape is another than at an earlier step.
    fn update(&mut self, moves: &[Move<'_>]) -> Result<()>;
}

/// One parameter that is to be moved.
#[derive(Clone, Copy, Debug)]
pub struct Move<'a> {
    /// Its full name.
    pub name: &'a str,
    /// Its value, which is set.
    pub var: &'a Var,
    /// The gradient, of the value's shape.
    pub gradient: &'a Tensor,
    /// The learning rate of this step for this parameter.
    pub learning_rate: f64,
    /// What the optimizer's weight decay is multiplied with for this parameter; 1 but for groups that say otherwise.
    pub decay: f64,
    /// The momentum of this step in place of the optimizer's own, where the schedule has one: of `sgd` and `rmsprop`, unless
    /// they have none at all, and the first beta of `adam` and `adamw`.
    pub momentum: Option<f64>,
}

impl<'a> Move<'a> {
    /// A move with the optimizer's own weight decay and momentum.
    pub fn new(name: &'a str, var: &'a Var, gradient: &'a Tensor, learning_rate: f64) -> Self {
        Self {
            name,
            var,
            gradient,
            learning_rate,
            decay: 1.0,
            momentum: None,
        }
    }
}

/// What an optimizer does to one tensor; [`PerTensor`] makes an [`Optimizer`] of it.
///
/// ```
/// use candle_core::{Device, Tensor, Var};
/// use nearfar_trainer::optim::{Memory, Move, Optimizer, PerTensor, Rule};
///
/// /// Steps by the sign of the gradient.
/// #[derive(Debug)]
/// struct SignDescent;
///
/// impl Rule for SignDescent {
///     fn step(&self, it: &Move<'_>, _: &mut Memory) -> candle_core::Result<()> {
///         it.var.set(&(it.var.as_tensor() - (it.gradient.sign()? * it.learning_rate)?)?)
///     }
/// }
///
/// let weight = Var::new(&[1f32, 1.0], &Device::Cpu)?;
/// let gradient = Tensor::new(&[0.3f32, -5.0], &Device::Cpu)?;
/// PerTensor::new(SignDescent).update(&[Move::new("weight", &weight, &gradient, 0.5)])?;
/// assert_eq!(weight.to_vec1::<f32>()?, [0.5, 1.5]);
/// # Ok::<(), candle_core::Error>(())
/// ```
pub trait Rule: Debug + Send {
    /// Sets a parameter to its new value. What is to be remembered goes to `memory`, under the names of
    /// [`remembers`](Self::remembers).
    ///
    /// # Errors
    /// Those of candle.
    fn step(&self, it: &Move<'_>, memory: &mut Memory) -> Result<()>;

    /// What it remembers of each tensor, by name, beside the number of steps. By default nothing.
    fn remembers(&self) -> &'static [&'static str] {
        &[]
    }
}

/// What is remembered of one parameter.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    /// How many times it was moved; the first step finds 1 here.
    pub steps: u64,
    tensors: BTreeMap<&'static str, Var>,
}

impl Memory {
    /// A tensor of the parameter's shape, which is changed in its place. At the first step it is zero.
    ///
    /// # Errors
    /// Those of candle.
    pub fn tensor(&mut self, name: &'static str, parameter: &Var) -> Result<Var> {
        if let Some(tensor) = self.tensors.get(name) {
            return Ok(tensor.clone());
        }
        let zeros = Var::zeros(parameter.dims(), parameter.dtype(), parameter.device())?;
        self.tensors.insert(name, zeros.clone());
        Ok(zeros)
    }
}

/// An optimizer that treats each tensor on its own.
///
/// Its state is `<parameter>/<name>` for each name of [`Rule::remembers`], and `<parameter>/steps`.
#[derive(Debug)]
pub struct PerTensor<R> {
    rule: R,
    memory: BTreeMap<String, Memory>,
}

impl<R: Rule> PerTensor<R> {
    /// An optimizer that has not made a step.
    pub fn new(rule: R) -> Self {
        Self {
            rule,
            memory: BTreeMap::new(),
        }
    }
}

const STEPS: &str = "steps";

impl<R: Rule> Optimizer for PerTensor<R> {
    fn update(&mut self, moves: &[Move<'_>]) -> Result<()> {
        for it in moves {
            if it.gradient.dims() != it.var.dims() {
                Err(Error::Shape(format!(
                    "optimizer: `{}` has shape {:?}, its gradient {:?}; they must agree",
                    it.name,
                    it.var.dims(),
                    it.gradient.dims()
                )))?;
            }
            let memory = self.memory.entry(it.name.to_string()).or_default();
            if let Some((name, tensor)) = memory
                .tensors
                .iter()
                .find(|(_, tensor)| tensor.dims() != it.var.dims())
            {
                Err(Error::Shape(format!(
                    "optimizer: `{}` has shape {:?}, its `{name}` of earlier steps {:?}; they must agree",
                    it.name,
                    it.var.dims(),
                    tensor.dims()
                )))?;
            }
            memory.steps += 1;
            self.rule.step(it, memory)?;
        }
        Ok(())
    }
}

impl<R: Rule> Stateful for PerTensor<R> {
    fn state(&self) -> BTreeMap<String, Tensor> {
        let mut state = BTreeMap::new();
        for (parameter, memory) in &self.memory {
            let steps = i64::try_from(memory.steps).expect("nobody makes 2^63 steps");
            let steps = Tensor::new(&[steps], &Device::Cpu).expect("one number on the host");
            state.insert(format!("{parameter}/{STEPS}"), steps);
            for (name, tensor) in &memory.tensors {
                // The next step changes it in its place, so that a clone would change with it.
                let copy = tensor.as_detached_tensor().copy();
                state.insert(
                    format!("{parameter}/{name}"),
                    copy.expect("memory for a copy"),
                );
            }
        }
        state
    }

    fn restore(&mut self, state: &BTreeMap<String, Tensor>) -> Result<()> {
        let names = self.rule.remembers();
        let mut restored: BTreeMap<String, Memory> = BTreeMap::new();
        for (key, tensor) in state {
            let (parameter, name) = key.rsplit_once('/').unwrap_or(("", key));
            let memory = restored.entry(parameter.to_string()).or_default();
            if name == STEPS {
                let steps = tensor.flatten_all()?.to_vec1::<i64>()?;
                memory.steps = match steps[..] {
                    [steps] if steps > 0 => steps.unsigned_abs(),
                    _ => Err(Error::Input(format!(
                        "optimizer: `{key}` should be one number above 0"
                    )))?,
                };
            } else if let Some(name) = names.iter().find(|known| **known == name) {
                memory
                    .tensors
                    .insert(name, Var::from_tensor(&tensor.copy()?)?);
            } else {
                Err(Error::Input(format!(
                    "optimizer: `{key}` is nothing that {:?} remembers",
                    self.rule
                )))?;
            }
        }
        for (parameter, memory) in &restored {
            if memory.steps == 0 {
                Err(Error::Input(format!(
                    "optimizer: `{parameter}/{STEPS}` is missing"
                )))?;
            }
            if let Some(name) = names
                .iter()
                .find(|name| !memory.tensors.contains_key(*name))
            {
                Err(Error::Input(format!(
                    "optimizer: `{parameter}/{name}` is missing"
                )))?;
            }
        }
        self.memory = restored;
        Ok(())
    }
}

/// `gradient + decay · value`: weight decay as a part of the gradient.
fn with_decay(it: &Move<'_>, weight_decay: f64) -> Result<Tensor> {
    let decay = weight_decay * it.decay;
    if decay == 0.0 {
        return Ok(it.gradient.clone());
    }
    it.gradient + (it.var.as_tensor() * decay)?
}

/// `average ← keep · average + (1 − keep) · new`.
fn average(average: &Var, keep: f64, new: &Tensor) -> Result<()> {
    average.set(&((average.as_tensor() * keep)? + (new * (1.0 - keep))?)?)
}

/// The optimizers by name, as a run file writes them: `optimizer.adamw = { learning_rate = 1e-3 }`.
///
/// ```
/// use nearfar_trainer::OptimizerConfig;
///
/// let config: OptimizerConfig = serde_json::from_str(r#"{ "adamw": { "learning_rate": 1e-3 } }"#)?;
/// assert_eq!(config.learning_rate(), 1e-3);
/// let optimizer = config.build()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OptimizerConfig {
    /// Stochastic gradient descent.
    Sgd(Sgd),
    /// Adam.
    Adam(Adam),
    /// Adam with decoupled weight decay.
    #[serde(rename = "adamw")]
    AdamW(AdamW),
    /// Adadelta.
    Adadelta(Adadelta),
    /// RMSprop.
    #[serde(rename = "rmsprop")]
    RmsProp(RmsProp),
    /// Adagrad.
    Adagrad(Adagrad),
}

impl OptimizerConfig {
    /// Each with its defaults, for tables and docs.
    pub fn all() -> Vec<Self> {
        vec![
            Self::Sgd(Sgd::default()),
            Self::Adam(Adam::default()),
            Self::AdamW(AdamW::default()),
            Self::Adadelta(Adadelta::default()),
            Self::RmsProp(RmsProp::default()),
            Self::Adagrad(Adagrad::default()),
        ]
    }

    /// Its name in a run file.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Sgd(_) => "sgd",
            Self::Adam(_) => "adam",
            Self::AdamW(_) => "adamw",
            Self::Adadelta(_) => "adadelta",
            Self::RmsProp(_) => "rmsprop",
            Self::Adagrad(_) => "adagrad",
        }
    }

    /// What its source says of it.
    pub fn doc(&self) -> String {
        use nearfar_core::doc_of;
        match self {
            Self::Sgd(_) => doc_of(include_str!("sgd.rs"), "Sgd"),
            Self::Adam(_) => doc_of(include_str!("adam.rs"), "Adam"),
            Self::AdamW(_) => doc_of(include_str!("adam.rs"), "AdamW"),
            Self::Adadelta(_) => doc_of(include_str!("adadelta.rs"), "Adadelta"),
            Self::RmsProp(_) => doc_of(include_str!("rmsprop.rs"), "RmsProp"),
            Self::Adagrad(_) => doc_of(include_str!("adagrad.rs"), "Adagrad"),
        }
    }

    /// The learning rate that a schedule starts from.
    pub fn learning_rate(&self) -> f64 {
        match self {
            Self::Sgd(it) => it.learning_rate.get(),
            Self::Adam(it) => it.learning_rate.get(),
            Self::AdamW(it) => it.learning_rate.get(),
            Self::Adadelta(it) => it.learning_rate.get(),
            Self::RmsProp(it) => it.learning_rate.get(),
            Self::Adagrad(it) => it.learning_rate.get(),
        }
    }

    /// Whether it has a momentum that a schedule can move.
    pub fn has_momentum(&self) -> bool {
        match self {
            Self::Sgd(it) => it.momentum.get() > 0.0,
            Self::RmsProp(it) => it.momentum.get() > 0.0,
            Self::Adam(_) | Self::AdamW(_) => true,
            Self::Adadelta(_) | Self::Adagrad(_) => false,
        }
    }

    /// The optimizer, before its first step.
    ///
    /// # Errors
    /// [`Error::Settings`] when settings do not fit one another.
    pub fn build(&self) -> std::result::Result<Box<dyn Optimizer>, Error> {
        Ok(match self {
            Self::Sgd(it) => Box::new(PerTensor::new(it.checked()?)),
            Self::Adam(it) => Box::new(PerTensor::new(it.checked()?)),
            Self::AdamW(it) => Box::new(PerTensor::new(it.checked()?)),
            Self::Adadelta(it) => Box::new(PerTensor::new(it.clone())),
            Self::RmsProp(it) => Box::new(PerTensor::new(it.clone())),
            Self::Adagrad(it) => Box::new(PerTensor::new(it.clone())),
        })
    }
}

macro_rules! named {
    ($($name:ident),*) => {$(
        impl From<$name> for OptimizerConfig {
            fn from(settings: $name) -> Self {
                Self::$name(settings)
            }
        }
    )*};
}
named!(Sgd, Adam, AdamW, Adadelta, RmsProp, Adagrad);

#[cfg(test)]
mod tests {
    use super::*;

    fn steps(config: &OptimizerConfig, count: usize) -> Result<Vec<f64>> {
        let var = Var::new(&[1f64, -2.0], &Device::Cpu)?;
        let mut optimizer = config.build()?;
        for _ in 0..count {
            let gradient = (var.as_tensor() * 2.0)?; // Of the squared norm.
            optimizer.update(&[Move::new("w", &var, &gradient, config.learning_rate())])?;
        }
        var.to_vec1()
    }

    #[test]
    fn every_optimizer_goes_down() -> Result<()> {
        for config in OptimizerConfig::all() {
            let end = steps(&config, 50)?;
            assert!(
                end[0].abs() < 1.0 && end[1].abs() < 2.0,
                "{config:?}: {end:?}"
            );
        }
        Ok(())
    }

    #[test]
    fn state_is_taken_back_bit_for_bit() -> Result<()> {
        for config in OptimizerConfig::all() {
            let gradient = |var: &Var| var.as_tensor() * 2.0;
            let straight = Var::new(&[1f32, -2.0], &Device::Cpu)?;
            let broken = Var::new(&[1f32, -2.0], &Device::Cpu)?;
            let (mut one, mut other) = (config.build()?, config.build()?);
            for step in 0..7 {
                if step == 3 {
                    let state = other.state();
                    other = config.build()?;
                    other.restore(&state)?;
                    assert_eq!(other.state().len(), state.len());
                }
                let rate = 0.01;
                one.update(&[Move::new("w", &straight, &gradient(&straight)?, rate)])?;
                other.update(&[Move::new("w", &broken, &gradient(&broken)?, rate)])?;
            }
            assert_eq!(
                straight.to_vec1::<f32>()?,
                broken.to_vec1::<f32>()?,
                "{config:?}"
            );
        }
        Ok(())
    }

    #[test]
    fn state_that_is_not_its_own_is_refused_by_name() -> Result<()> {
        let one = Tensor::new(&[1i64], &Device::Cpu)?;
        let mut adam = OptimizerConfig::from(Adam::default()).build()?;
        let alien = BTreeMap::from([("w/velocity".to_string(), one.clone())]);
        let message = adam
            .restore(&alien)
            .expect_err("Adam has no velocity")
            .to_string();
        assert!(message.contains("`w/velocity`"), "{message}");
        let half = BTreeMap::from([("w/steps".to_string(), one)]);
        let message = adam.restore(&half).expect_err("no moments").to_string();
        assert!(message.contains("`w/first_moment` is missing"), "{message}");
        Ok(())
    }

    #[test]
    fn names_are_those_of_a_run_file() {
        for config in OptimizerConfig::all() {
            let json = serde_json::to_string(&config).expect("plain settings");
            assert!(
                json.starts_with(&format!("{{\"{}\":", config.name())),
                "{json}"
            );
            assert_eq!(
                serde_json::from_str::<OptimizerConfig>(&json).expect("its own text"),
                config
            );
        }
        let error = serde_json::from_str::<OptimizerConfig>(r#"{"adam":{"learning_rat":1}}"#);
        assert!(
            error
                .expect_err("mistyped")
                .to_string()
                .contains("unknown field `learning_rat`")
        );
    }
}
