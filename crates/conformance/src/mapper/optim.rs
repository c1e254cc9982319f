//! `torch.optim`: trajectories of optimizers, schedules and clipping.

use std::collections::BTreeMap;
use std::num::NonZeroU64;

use candle_core::{DType, Device, Tensor, Var};
use nearfar_core::{Fraction, NonNegative, Positive};
use nearfar_trainer::optim::{Adagrad, Adam, AdamW, Move, RmsProp, Sgd};
use nearfar_trainer::schedule::{
    Anneal, Constant, Cosine, CycledMomentum, Exponential, Linear, Milestones, OneCycle,
    Polynomial, Ramp, Restarts, Steps,
};
use nearfar_trainer::{Gradients, Optimizer, OptimizerConfig, Schedule, ScheduleConfig};

use super::{Claim, Mapper, Pass};
use crate::golden::{Array, Case, Given, Mapped, Outputs, Settings, Trouble};

const PREFIX: &str = "torch.optim.";
const NAMES: [&str; 5] = ["SGD", "Adam", "AdamW", "RMSprop", "Adagrad"];
const CLIP: &str = "torch.nn.utils.clip_grad_norm_";

/// Parameters step by step.
pub(super) struct Optimizers;

impl Mapper for Optimizers {
    fn claims(&self, case: &Case) -> Claim {
        let function = &case.function;
        if function.path() == CLIP {
            return Claim::Ours;
        }
        Claim::by_name(function, PREFIX, &NAMES)
    }

    fn run(&self, given: &Given<'_>, _: Pass) -> Mapped<Outputs> {
        let function = &given.case.function;
        let mut outputs = Outputs::default();
        let mut params = function.params();
        let mut call = function.call();
        if function.path() == CLIP {
            clip(given, &mut params, &mut outputs)?;
            params.finish()?;
            call.finish()?;
            given.finish()?;
            return Ok(outputs);
        }
        let groups = Groups::read(&mut call)?;
        let mut run = Run {
            config: config(function.short(), params, &groups)?,
            schedule: None,
            clip_norm: call.number("clip_grad_norm")?,
            clip_value: call.number("clip_grad_value")?,
            groups,
        };
        if let Some(schedule) = call.value("schedule") {
            run.schedule = Some(schedule_of(schedule, run.config.learning_rate())?);
        }
        let problem = call.text("problem")?;
        call.finish()?;
        match problem.as_deref() {
            Some("quadratic") => quadratic(given, &run, &mut outputs)?,
            Some("network") => network(given, &run, &mut outputs)?,
            None => listed(given, &run, &mut outputs)?,
            Some(other) => return Err(Trouble::unmapped(format!("the problem `{other}`"))),
        }
        given.finish()?;
        Ok(outputs)
    }
}

struct Run {
    config: OptimizerConfig,
    schedule: Option<Box<dyn Schedule>>,
    clip_norm: Option<f64>,
    clip_value: Option<f64>,
    groups: Groups,
}

/// Weight decays and rates by the names of parameters.
#[derive(Default)]
struct Groups(BTreeMap<String, (Option<f64>, Option<f64>)>);

impl Groups {
    fn read(call: &mut Settings) -> Mapped<Self> {
        let mut groups = Self::default();
        let Some(value) = call.value("groups") else {
            return Ok(groups);
        };
        let list = value.as_array().cloned().unwrap_or_default();
        for group in list {
            let number = |key: &str| group.get(key).and_then(|it| it.as_f64());
            let names = group.get("params").and_then(|it| it.as_array().cloned());
            for name in names.unwrap_or_default() {
                let name = name.as_str().unwrap_or_default().to_owned();
                groups
                    .0
                    .insert(name, (number("weight_decay"), number("lr")));
            }
        }
        Ok(groups)
    }

    /// The largest weight decay, which the others are parts of.
    fn decay(&self) -> Option<f64> {
        self.0
            .values()
            .filter_map(|(decay, _)| *decay)
            .reduce(f64::max)
    }
}

fn config(name: &str, mut params: Settings, groups: &Groups) -> Mapped<OptimizerConfig> {
    // torch's defaults, which are written here so that ours may differ.
    let default_rate = match name {
        "SGD" => 1e-3,
        "RMSprop" | "Adagrad" => 1e-2,
        _ => 1e-3,
    };
    let learning_rate = NonNegative::new(params.number_or("lr", default_rate)?)?;
    let decay = params.number_or("weight_decay", if name == "AdamW" { 0.01 } else { 0.0 })?;
    let weight_decay = NonNegative::new(groups.decay().unwrap_or(decay))?;
    let default_eps = if name == "Adagrad" { 1e-10 } else { 1e-8 };
    let eps = NonNegative::new(params.number_or("eps", default_eps)?)?;
    let betas = params.numbers("betas")?.unwrap_or_else(|| vec![0.9, 0.999]);
    let beta = |index: usize| Fraction::new(betas.get(index).copied().unwrap_or(f64::NAN));
    let (beta1, beta2) = (beta(0)?, beta(1)?);
    let config = match name {
        "SGD" => Sgd {
            learning_rate,
            momentum: Fraction::new(params.number_or("momentum", 0.0)?)?,
            dampening: Fraction::new(params.number_or("dampening", 0.0)?)?,
            nesterov: params.flag_or("nesterov", false)?,
            weight_decay,
        }
        .into(),
        "Adam" => Adam {
            learning_rate,
            beta1,
            beta2,
            eps,
            weight_decay,
            amsgrad: params.flag_or("amsgrad", false)?,
        }
        .into(),
        "AdamW" => AdamW {
            learning_rate,
            beta1,
            beta2,
            eps,
            weight_decay,
            amsgrad: params.flag_or("amsgrad", false)?,
        }
        .into(),
        "RMSprop" => RmsProp {
            learning_rate,
            alpha: Fraction::new(params.number_or("alpha", 0.99)?)?,
            eps,
            momentum: Fraction::new(params.number_or("momentum", 0.0)?)?,
            centered: params.flag_or("centered", false)?,
            weight_decay,
        }
        .into(),
        "Adagrad" => Adagrad {
            learning_rate,
            decay: NonNegative::new(params.number_or("lr_decay", 0.0)?)?,
            start: NonNegative::new(params.number_or("initial_accumulator_value", 0.0)?)?,
            eps,
            weight_decay,
        }
        .into(),
        other => return Err(Trouble::unmapped(format!("the optimizer {other}"))),
    };
    params.finish()?;
    Ok(config)
}

fn schedule_of(written: serde_json::Value, mut rate: f64) -> Mapped<Box<dyn Schedule>> {
    let name = written
        .get("peer")
        .and_then(|it| it.as_str())
        .unwrap_or_default();
    let name = name.rsplit('.').next().unwrap_or_default().to_owned();
    let function = serde_json::json!({ "name": name, "params": written.get("params") });
    let function: crate::golden::Function =
        serde_json::from_value(function).map_err(|error| Trouble::unmapped(error.to_string()))?;
    let mut params = function.params();
    let length = |params: &mut Settings, key: &str| -> Mapped<Option<NonZeroU64>> {
        Ok(params
            .count(key)?
            .and_then(|steps| NonZeroU64::new(steps as u64)))
    };
    let wanted = |steps: Option<NonZeroU64>| {
        steps.ok_or_else(|| Trouble::unmapped(format!("{name} without a length")))
    };
    let zero = NonNegative::literal(0.0);
    let gamma = |params: &mut Settings, default: f64| -> Mapped<Fraction> {
        Ok(Fraction::new(params.number_or("gamma", default)?)?)
    };
    let config = match name.as_str() {
        "CosineAnnealingLR" => ScheduleConfig::Cosine(Cosine {
            warmup: 0,
            floor: NonNegative::new(params.number_or("eta_min", 0.0)?)?,
            steps: length(&mut params, "T_max")?,
        }),
        "StepLR" => ScheduleConfig::Steps(Steps {
            every: wanted(length(&mut params, "step_size")?)?,
            factor: gamma(&mut params, 0.1)?,
            warmup: 0,
        }),
        "ExponentialLR" => ScheduleConfig::Exponential(Exponential {
            factor: gamma(&mut params, f64::NAN)?,
            warmup: 0,
        }),
        "MultiStepLR" => ScheduleConfig::Milestones(Milestones {
            at: {
                let at = params.numbers("milestones")?.unwrap_or_default();
                at.into_iter().map(|step| step as u64).collect()
            },
            factor: gamma(&mut params, 0.1)?,
            warmup: 0,
        }),
        "LinearLR" => ScheduleConfig::Ramp(Ramp {
            from: NonNegative::new(params.number_or("start_factor", 1.0 / 3.0)?)?,
            to: NonNegative::new(params.number_or("end_factor", 1.0)?)?,
            steps: length(&mut params, "total_iters")?.or(NonZeroU64::new(5)),
        }),
        "PolynomialLR" => ScheduleConfig::Polynomial(Polynomial {
            power: NonNegative::new(params.number_or("power", 1.0)?)?,
            warmup: 0,
            floor: zero,
            steps: length(&mut params, "total_iters")?.or(NonZeroU64::new(5)),
        }),
        "CosineAnnealingWarmRestarts" => ScheduleConfig::Restarts(Restarts {
            first: wanted(length(&mut params, "T_0")?)?,
            growth: length(&mut params, "T_mult")?.unwrap_or(NonZeroU64::MIN),
            floor: NonNegative::new(params.number_or("eta_min", 0.0)?)?,
        }),
        "OneCycleLR" => {
            // The optimizer's own rate is not looked at.
            rate = params.number_or("max_lr", f64::NAN)?;
            let cycles = params.flag_or("cycle_momentum", true)?;
            let momentum = CycledMomentum::Cycle {
                low: Fraction::new(params.number_or("base_momentum", 0.85)?)?,
                high: Fraction::new(params.number_or("max_momentum", 0.95)?)?,
            };
            ScheduleConfig::OneCycle(OneCycle {
                rise: Fraction::new(params.number_or("pct_start", 0.3)?)?,
                start: Positive::new(params.number_or("div_factor", 25.0)?)?,
                end: Positive::new(params.number_or("final_div_factor", 1e4)?)?,
                anneal: match params.text("anneal_strategy")?.as_deref() {
                    Some("cos") | None => Anneal::Cosine,
                    Some("linear") => Anneal::Linear,
                    Some(other) => return Err(Trouble::unmapped(format!("annealing by {other}"))),
                },
                three_phases: params.flag_or("three_phase", false)?,
                momentum: if cycles {
                    momentum
                } else {
                    CycledMomentum::Own
                },
                steps: Some(wanted(length(&mut params, "total_steps")?)?),
            })
        }
        // Not torch's own, but functions that the authors gave to `LambdaLR`.
        "LambdaWarmup" => ScheduleConfig::Linear(Linear {
            warmup: params.count("warmup")?.unwrap_or(0) as u64,
            floor: zero,
            steps: length(&mut params, "total")?,
        }),
        "LambdaWarmupCosine" => ScheduleConfig::Cosine(Cosine {
            warmup: params.count("warmup")?.unwrap_or(0) as u64,
            floor: zero,
            steps: length(&mut params, "total")?,
        }),
        other => return Err(Trouble::unmapped(format!("the schedule {other}"))),
    };
    params.finish()?;
    Ok(config.build(rate, None)?)
}

/// Some parameters under an optimizer.
struct Walk<'a> {
    run: &'a Run,
    optimizer: Box<dyn Optimizer>,
    schedule: Box<dyn Schedule>,
    parameters: BTreeMap<&'static str, Var>,
    trajectory: BTreeMap<&'static str, Vec<f64>>,
    losses: Vec<f64>,
    rates: Vec<f64>,
    norms: Vec<f64>,
}

impl<'a> Walk<'a> {
    fn new(run: &'a Run, parameters: BTreeMap<&'static str, Var>) -> Mapped<Self> {
        let rate = run.config.learning_rate();
        let constant = ScheduleConfig::Constant(Constant::default());
        Ok(Self {
            run,
            optimizer: run.config.build()?,
            schedule: constant.build(rate, None)?,
            parameters,
            trajectory: BTreeMap::new(),
            losses: Vec::new(),
            rates: Vec::new(),
            norms: Vec::new(),
        })
    }

    fn note(&mut self) -> Mapped<()> {
        for (&name, var) in &self.parameters {
            let values = Array::of(var)?.to_real();
            self.trajectory.entry(name).or_default().extend(values);
        }
        Ok(())
    }

    fn step(&mut self, loss: &Tensor) -> Mapped<()> {
        self.losses.push(Array::of(loss)?.to_real()[0]);
        let mut store = loss.backward()?;
        let named = self.parameters.iter();
        let gradients = Gradients::take(&mut store, named.map(|(&name, var)| (name, &**var)));
        self.update(gradients)
    }

    fn update(&mut self, mut gradients: Gradients) -> Mapped<()> {
        self.note()?;
        if let Some(limit) = self.run.clip_norm {
            self.norms.push(gradients.clip_norm(limit)?);
        }
        if let Some(limit) = self.run.clip_value {
            gradients.clip_value(limit)?;
        }
        let step = self.rates.len() as u64;
        let schedule = self.run.schedule.as_ref().unwrap_or(&self.schedule);
        let rate = schedule.at(step);
        self.rates.push(rate);
        let momentum = schedule.momentum(step);
        let mut moves = Vec::new();
        for (name, gradient) in gradients.iter() {
            let (decay, own) = self.run.groups.0.get(name).copied().unwrap_or_default();
            let decay = match (decay, self.run.groups.decay()) {
                (Some(decay), Some(largest)) if largest > 0.0 => decay / largest,
                _ => 1.0,
            };
            moves.push(Move {
                decay,
                momentum,
                ..Move::new(name, &self.parameters[name], gradient, own.unwrap_or(rate))
            });
        }
        Ok(self.optimizer.update(&moves)?)
    }

    fn put(mut self, given: &Given<'_>, outputs: &mut Outputs) -> Mapped<()> {
        self.note()?;
        for (name, values) in self.trajectory {
            let size = [values.len()];
            outputs.put(format!("trajectory.{name}"), Array::real(&size, values));
        }
        let mut put = |role: &str, values: Vec<f64>| {
            if given.wants(role) {
                outputs.put(role, Array::real(&[values.len()], values));
            }
        };
        put("loss", self.losses);
        put("lr", self.rates);
        put("grad_norm", self.norms);
        Ok(())
    }
}

/// How many steps were made.
fn steps(given: &Given<'_>) -> Mapped<usize> {
    match given.shape_of_output("loss") {
        Some([steps, ..]) => Ok(*steps),
        _ => Err(Trouble::unmapped("how many steps?")),
    }
}

/// `½ xᵀ A x − bᵀ x`
fn quadratic(given: &Given<'_>, run: &Run, outputs: &mut Outputs) -> Mapped<()> {
    let (a, b) = (
        given.tensor("A", DType::F64)?,
        given.tensor("b", DType::F64)?,
    );
    let x = Var::from_tensor(&given.tensor("x0", DType::F64)?)?;
    let mut walk = Walk::new(run, BTreeMap::from([("x", x.clone())]))?;
    for _ in 0..steps(given)? {
        let column = x.as_tensor().unsqueeze(1)?;
        let bent = (column.t()?.matmul(&a.matmul(&column)?)?.sum_all()? * 0.5)?;
        walk.step(&(bent - (x.as_tensor() * &b)?.sum_all()?)?)?;
    }
    walk.put(given, outputs)
}

/// The mean square of `w₂ tanh(w₁ x + b₁) + b₂ − y`.
fn network(given: &Given<'_>, run: &Run, outputs: &mut Outputs) -> Mapped<()> {
    let (x, y) = (
        given.tensor("X", DType::F64)?,
        given.tensor("Y", DType::F64)?,
    );
    let mut parameters = BTreeMap::new();
    for name in ["w1", "b1", "w2", "b2"] {
        parameters.insert(name, Var::from_tensor(&given.tensor(name, DType::F64)?)?);
    }
    let layer = |x: &Tensor, weight: &Var, bias: &Var| -> candle_core::Result<Tensor> {
        x.matmul(&weight.t()?)?.broadcast_add(bias)
    };
    let mut walk = Walk::new(run, parameters.clone())?;
    for _ in 0..steps(given)? {
        let hidden = layer(&x, &parameters["w1"], &parameters["b1"])?.tanh()?;
        let error = (layer(&hidden, &parameters["w2"], &parameters["b2"])? - &y)?;
        walk.step(&error.sqr()?.mean_all()?)?;
    }
    walk.put(given, outputs)
}

/// Gradients that were given.
fn listed(given: &Given<'_>, run: &Run, outputs: &mut Outputs) -> Mapped<()> {
    let gradients = given.tensor("gradients", DType::F64)?;
    let start = given.start_of_output("trajectory.p", gradients.dim(1)?)?;
    let p = Var::from_tensor(&Tensor::new(start, &Device::Cpu)?)?;
    let mut walk = Walk::new(run, BTreeMap::from([("p", p.clone())]))?;
    for step in 0..gradients.dim(0)? {
        walk.update(as_gradient(&p, &gradients.get(step)?)?)?;
    }
    walk.put(given, outputs)
}

/// A gradient that was given, by way of a product with it.
fn as_gradient(p: &Var, gradient: &Tensor) -> Mapped<Gradients> {
    let mut store = (p.as_tensor() * gradient)?.sum_all()?.backward()?;
    Ok(Gradients::take(&mut store, [("p", p.as_tensor())]))
}

fn clip(given: &Given<'_>, params: &mut Settings, outputs: &mut Outputs) -> Mapped<()> {
    let limit = params.number_or("max_norm", 1.0)?;
    let gradient = match params.value("gradient") {
        None => given.tensor("grad_in", DType::F64)?,
        Some(list) => {
            // Infinity is no number of JSON.
            let list = list.as_array().cloned().unwrap_or_default();
            let numbers = list.iter().map(|it| it.as_f64().unwrap_or(f64::INFINITY));
            Tensor::new(numbers.collect::<Vec<f64>>(), &Device::Cpu)?
        }
    };
    let p = Var::from_tensor(&gradient.ones_like()?)?;
    let mut gradients = as_gradient(&p, &gradient)?;
    let bad = gradients.not_finite()?;
    if !bad.is_empty() {
        // So does the trainer, before anything is clipped.
        return Err(Trouble::Refused(format!("{bad:?} is not finite")));
    }
    outputs.put("norm", Array::scalar(gradients.clip_norm(limit)?));
    if let Some(clipped) = gradients.get("p") {
        outputs.put_tensor("grad", clipped)?;
    }
    Ok(())
}
