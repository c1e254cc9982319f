//! Learning rates as functions of the step.

mod one_cycle;
mod settings;

use std::f64::consts::PI;
use std::fmt::Debug;
use std::num::NonZeroU64;

use nearfar_core::{Error, NonNegative};
use serde::{Deserialize, Serialize};

use self::one_cycle::Cycle;
pub use settings::{
    Anneal, Constant, Cosine, CycledMomentum, Exponential, Linear, Milestones, OneCycle,
    Polynomial, Ramp, Restarts, Steps,
};

/// A learning rate for each step: a pure function, so that nothing of it needs a place in a checkpoint.
pub trait Schedule: Debug + Send + Sync {
    /// The rate of a step, counted from 0.
    fn at(&self, step: u64) -> f64;

    /// The momentum of a step, for optimizers that have one; none leaves theirs. By default none.
    fn momentum(&self, _step: u64) -> Option<f64> {
        None
    }
}

/// The schedules by name, as a run file writes them: `schedule.cosine = { warmup = 500, floor = 1e-5 }`.
///
/// Below, `b` is the optimizer's learning rate, `t` the step from 0, `w` the steps of warming up and `T` the steps of the whole
/// schedule: `steps` where it is given, and else those of the run. After `T` the rate stays as it is there.
///
/// All but `ramp`, `restarts` and `one_cycle` can warm up: the rate is `b (t + 1) / w` for the first `w` steps, and what follows starts at `b`.
/// Steps are batches, also where several of them make one update.
///
/// ```
/// use nearfar_core::{Fraction, NonNegative};
/// use nearfar_trainer::{Schedule, ScheduleConfig, schedule::Cosine};
///
/// let cosine = Cosine { warmup: 2, floor: NonNegative::literal(0.1), steps: None };
/// let schedule = ScheduleConfig::Cosine(cosine).build(1.0, Some(6))?;
/// let rates: Vec<f64> = (0..7).map(|step| schedule.at(step)).collect();
/// assert_eq!(rates[..3], [0.5, 1.0, 1.0]);
/// assert!((rates[4] - 0.55).abs() < 1e-12 && (rates[6] - 0.1).abs() < 1e-12);
/// # Ok::<(), nearfar_core::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ScheduleConfig {
    /// Stays.
    Constant(Constant),
    /// Falls in a straight line.
    Linear(Linear),
    /// Falls as half a wave of the cosine.
    Cosine(Cosine),
    /// Falls as a power of what is left.
    Polynomial(Polynomial),
    /// Falls by a factor in each step.
    Exponential(Exponential),
    /// Falls by a factor every so many steps.
    Steps(Steps),
    /// Falls by a factor at the listed steps.
    Milestones(Milestones),
    /// Goes from one factor to another in a straight line, and stays there.
    Ramp(Ramp),
    /// Cosine waves, one after the other.
    Restarts(Restarts),
    /// Rises, falls, and the momentum against it.
    OneCycle(OneCycle),
}

impl Default for ScheduleConfig {
    fn default() -> Self {
        Self::Constant(Constant::default())
    }
}

impl ScheduleConfig {
    /// Each with its defaults, for tables and docs.
    pub fn all() -> Vec<Self> {
        vec![
            Self::Constant(Constant::default()),
            Self::Linear(Linear::default()),
            Self::Cosine(Cosine::default()),
            Self::Polynomial(Polynomial::default()),
            Self::Exponential(Exponential::default()),
            Self::Steps(Steps::default()),
            Self::Milestones(Milestones::default()),
            Self::Ramp(Ramp::default()),
            Self::Restarts(Restarts::default()),
            Self::OneCycle(OneCycle::default()),
        ]
    }

    /// Its name in a run file.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Constant(_) => "constant",
            Self::Linear(_) => "linear",
            Self::Cosine(_) => "cosine",
            Self::Polynomial(_) => "polynomial",
            Self::Exponential(_) => "exponential",
            Self::Steps(_) => "steps",
            Self::Milestones(_) => "milestones",
            Self::Ramp(_) => "ramp",
            Self::Restarts(_) => "restarts",
            Self::OneCycle(_) => "one_cycle",
        }
    }

    /// Whether it says the momentum of each step, so that the optimizer must have one.
    pub fn moves_momentum(&self) -> bool {
        matches!(self, Self::OneCycle(it) if it.momentum != CycledMomentum::Own)
    }

    /// What its source says of it.
    pub fn doc(&self) -> String {
        let item = match self {
            Self::Constant(_) => "Constant",
            Self::Linear(_) => "Linear",
            Self::Cosine(_) => "Cosine",
            Self::Polynomial(_) => "Polynomial",
            Self::Exponential(_) => "Exponential",
            Self::Steps(_) => "Steps",
            Self::Milestones(_) => "Milestones",
            Self::Ramp(_) => "Ramp",
            Self::Restarts(_) => "Restarts",
            Self::OneCycle(_) => "OneCycle",
        };
        nearfar_core::doc_of(include_str!("settings.rs"), item)
    }

    /// The schedule from a learning rate, for a run of so many steps if that is known.
    ///
    /// # Errors
    /// [`Error::Settings`] when it needs the length of the run and there is none, when warming up takes all of it, or when the floor
    /// is above the learning rate.
    pub fn build(
        &self,
        learning_rate: f64,
        run_steps: Option<u64>,
    ) -> Result<Box<dyn Schedule>, Error> {
        let name = self.name();
        if !(learning_rate.is_finite() && learning_rate >= 0.0) {
            return Err(Error::Settings(format!(
                "schedule: the learning rate is {learning_rate}; it must be 0 or greater"
            )));
        }
        let length = |steps: Option<NonZeroU64>, warmup: u64| -> Result<u64, Error> {
            let total = steps.map(NonZeroU64::get).or(run_steps).ok_or_else(|| {
                Error::Settings(format!(
                    "{name}: the length of the run is not known; give `steps`"
                ))
            })?;
            if warmup >= total.max(1) {
                return Err(Error::Settings(format!(
                    "{name}: `warmup` is {warmup}, the whole schedule {total} steps; warming up must be shorter"
                )));
            }
            Ok(total.max(1))
        };
        let above = |floor: NonNegative| -> Result<f64, Error> {
            if floor.get() > learning_rate {
                return Err(Error::Settings(format!(
                    "{name}: `floor` is {floor}, above the learning rate {learning_rate}"
                )));
            }
            Ok(floor.get())
        };
        let shape = match self {
            Self::Constant(_) => Shape::Constant,
            Self::Linear(it) => Shape::Power {
                power: 1.0,
                floor: above(it.floor)?,
                total: length(it.steps, it.warmup)?,
            },
            Self::Cosine(it) => Shape::Cosine {
                floor: above(it.floor)?,
                total: length(it.steps, it.warmup)?,
            },
            Self::Polynomial(it) => Shape::Power {
                power: it.power.get(),
                floor: above(it.floor)?,
                total: length(it.steps, it.warmup)?,
            },
            Self::Exponential(it) => Shape::Exponential {
                factor: it.factor.get(),
            },
            Self::Steps(it) => Shape::Steps {
                every: it.every.get(),
                factor: it.factor.get(),
            },
            Self::Milestones(it) => Shape::Milestones {
                at: it.at.clone(),
                factor: it.factor.get(),
            },
            Self::Ramp(it) => Shape::Ramp {
                from: it.from.get(),
                to: it.to.get(),
                steps: length(it.steps, 0)?,
            },
            Self::Restarts(it) => Shape::Restarts {
                first: it.first.get(),
                growth: it.growth.get(),
                floor: above(it.floor)?,
            },
            Self::OneCycle(it) => {
                if let CycledMomentum::Cycle { low, high } = it.momentum
                    && (low > high || high.get() >= 1.0)
                {
                    return Err(Error::Settings(format!(
                        "{name}: `momentum` goes from {low} to {high}; `low` must not be above `high`, nor `high` 1"
                    )));
                }
                Shape::OneCycle(Cycle::new(it, learning_rate, length(it.steps, 0)?))
            }
        };
        let warmup = match self {
            Self::Constant(it) => it.warmup,
            Self::Linear(it) => it.warmup,
            Self::Cosine(it) => it.warmup,
            Self::Polynomial(it) => it.warmup,
            Self::Exponential(it) => it.warmup,
            Self::Steps(it) => it.warmup,
            Self::Milestones(it) => it.warmup,
            Self::Ramp(_) | Self::Restarts(_) | Self::OneCycle(_) => 0,
        };
        Ok(Box::new(Built {
            learning_rate,
            warmup,
            shape,
        }))
    }
}

/// A schedule with all that it needs to know.
#[derive(Clone, Debug)]
struct Built {
    learning_rate: f64,
    warmup: u64,
    shape: Shape,
}

#[derive(Clone, Debug)]
enum Shape {
    Constant,
    Power { power: f64, floor: f64, total: u64 },
    Cosine { floor: f64, total: u64 },
    Exponential { factor: f64 },
    Steps { every: u64, factor: f64 },
    Milestones { at: Vec<u64>, factor: f64 },
    Ramp { from: f64, to: f64, steps: u64 },
    Restarts { first: u64, growth: u64, floor: f64 },
    OneCycle(Cycle),
}

impl Schedule for Built {
    fn at(&self, step: u64) -> f64 {
        let (rate, warmup) = (self.learning_rate, self.warmup);
        if step < warmup {
            return rate * (step + 1) as f64 / warmup as f64;
        }
        let after = (step - warmup) as f64;
        let wave = |floor: f64, part: f64| floor + (rate - floor) * (1.0 + (PI * part).cos()) / 2.0;
        match &self.shape {
            Shape::Constant => rate,
            Shape::Power {
                power,
                floor,
                total,
            } => {
                let left = (total.saturating_sub(step)) as f64 / (total - warmup) as f64;
                floor + (rate - floor) * left.powf(*power)
            }
            Shape::Cosine { floor, total } => {
                wave(*floor, (after / (total - warmup) as f64).min(1.0))
            }
            Shape::Exponential { factor } => rate * factor.powf(after),
            Shape::Steps { every, factor } => rate * factor.powf(((step - warmup) / every) as f64),
            Shape::Milestones { at, factor } => {
                let passed = at.iter().filter(|&&milestone| milestone <= step).count();
                rate * factor.powf(passed as f64)
            }
            Shape::Ramp { from, to, steps } => {
                rate * (from + (to - from) * (step.min(*steps) as f64 / *steps as f64))
            }
            Shape::Restarts {
                first,
                growth,
                floor,
            } => {
                let (mut start, mut length) = (0u64, *first);
                while step - start >= length {
                    start += length;
                    length = length.saturating_mul(*growth);
                    if *growth == 1 {
                        start = step - step % first; // Waves of one length: no need to walk them all.
                    }
                }
                wave(*floor, (step - start) as f64 / length as f64)
            }
            Shape::OneCycle(cycle) => cycle.rate(step),
        }
    }

    fn momentum(&self, step: u64) -> Option<f64> {
        match &self.shape {
            Shape::OneCycle(cycle) => cycle.momentum(step),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nearfar_core::Fraction;

    fn rates(config: ScheduleConfig, rate: f64, steps: u64) -> Vec<f64> {
        let schedule = config.build(rate, Some(steps)).expect("settings that fit");
        (0..=steps).map(|step| schedule.at(step)).collect()
    }

    fn close(got: &[f64], want: &[f64]) {
        assert!(
            got.len() >= want.len()
                && got
                    .iter()
                    .zip(want)
                    .all(|(got, want)| (got - want).abs() < 1e-12),
            "{got:?} {want:?}"
        );
    }

    #[test]
    fn schedules_on_paper() {
        let warm = ScheduleConfig::Constant(Constant { warmup: 4 });
        close(&rates(warm, 2.0, 6), &[0.5, 1.0, 1.5, 2.0, 2.0, 2.0, 2.0]);
        let linear = ScheduleConfig::Linear(Linear {
            warmup: 2,
            ..Linear::default()
        });
        close(
            &rates(linear, 1.0, 6),
            &[0.5, 1.0, 1.0, 0.75, 0.5, 0.25, 0.0],
        );
        let cosine = ScheduleConfig::Cosine(Cosine {
            floor: NonNegative::literal(0.2),
            ..Cosine::default()
        });
        close(&rates(cosine, 1.0, 2), &[1.0, 0.6, 0.2]);
        let steps = ScheduleConfig::Steps(Steps {
            every: NonZeroU64::new(2).expect("not zero"),
            factor: Fraction::literal(0.5),
            warmup: 0,
        });
        close(&rates(steps, 1.0, 4), &[1.0, 1.0, 0.5, 0.5, 0.25]);
        let milestones = ScheduleConfig::Milestones(Milestones {
            at: vec![3, 1],
            factor: Fraction::literal(0.5),
            warmup: 0,
        });
        close(&rates(milestones, 1.0, 4), &[1.0, 0.5, 0.5, 0.25, 0.25]);
        let ramp = ScheduleConfig::Ramp(Ramp {
            from: NonNegative::literal(0.5),
            to: NonNegative::literal(1.0),
            steps: NonZeroU64::new(2),
        });
        close(&rates(ramp, 1.0, 4), &[0.5, 0.75, 1.0, 1.0, 1.0]);
    }

    #[test]
    fn waves_restart_with_their_growth() {
        let waves = |growth| {
            ScheduleConfig::Restarts(Restarts {
                first: NonZeroU64::new(2).expect("not zero"),
                growth: NonZeroU64::new(growth).expect("not zero"),
                floor: NonNegative::literal(0.0),
            })
        };
        close(
            &rates(waves(2), 1.0, 6),
            &[
                1.0,
                0.5,
                1.0,
                0.853_553_390_593_273_8,
                0.5,
                0.146_446_609_406_726_2,
                1.0,
            ],
        );
        close(&rates(waves(1), 1.0, 5), &[1.0, 0.5, 1.0, 0.5, 1.0, 0.5]);
        assert!(
            waves(1)
                .build(1.0, None)
                .expect("no length needed")
                .at(u64::MAX - 1)
                > 0.0
        );
    }

    #[test]
    fn every_schedule_is_finite_and_stays_after_its_end() {
        for config in ScheduleConfig::all() {
            let schedule = config.build(0.1, Some(100)).expect("defaults fit");
            for step in (0..300).chain([u64::MAX / 2]) {
                let rate = schedule.at(step);
                assert!(
                    (0.0..=0.1 + 1e-12).contains(&rate),
                    "{config:?} at {step}: {rate}"
                );
            }
        }
    }

    #[test]
    fn each_says_what_it_is() {
        for config in ScheduleConfig::all() {
            assert!(config.doc().contains('`'), "{config:?}: {}", config.doc());
        }
    }

    #[test]
    fn settings_that_do_not_fit_are_refused() {
        let refused = |config: ScheduleConfig, steps: Option<u64>| {
            config.build(0.1, steps).expect_err("refused").to_string()
        };
        let cosine = Cosine::default();
        assert!(refused(ScheduleConfig::Cosine(cosine.clone()), None).contains("give `steps`"));
        let long = Cosine {
            warmup: 10,
            ..cosine.clone()
        };
        assert!(refused(ScheduleConfig::Cosine(long), Some(10)).contains("`warmup` is 10"));
        let high = Cosine {
            floor: NonNegative::literal(0.5),
            ..cosine
        };
        assert!(refused(ScheduleConfig::Cosine(high), Some(10)).contains("`floor` is 0.5"));
        let own = ScheduleConfig::OneCycle(OneCycle {
            momentum: CycledMomentum::Own,
            ..OneCycle::default()
        });
        assert!(!own.moves_momentum());
        for schedule in ScheduleConfig::all().into_iter().chain([own]) {
            let text = serde_json::to_string(&schedule).expect("plain settings");
            let again: ScheduleConfig = serde_json::from_str(&text).expect("what was written");
            assert_eq!(again, schedule, "{text}");
        }
        let backwards = OneCycle {
            momentum: CycledMomentum::Cycle {
                low: Fraction::literal(0.9),
                high: Fraction::literal(0.5),
            },
            ..OneCycle::default()
        };
        let message = refused(ScheduleConfig::OneCycle(backwards), Some(10));
        assert!(message.contains("from 0.9 to 0.5"), "{message}");
    }
}
