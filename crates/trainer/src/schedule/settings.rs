//! The settings of each schedule; the letters are those of [`ScheduleConfig`](crate::ScheduleConfig).

use std::num::NonZeroU64;

use nearfar_core::{Fraction, NonNegative, Positive};
use serde::{Deserialize, Serialize};

/// `b`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Constant {
    /// Steps of warming up.
    pub warmup: u64,
}

/// `floor + (b − floor) (T − t) / (T − w)`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Linear {
    /// Steps of warming up.
    pub warmup: u64,
    /// The rate at the end.
    pub floor: NonNegative,
    /// Steps of the whole; those of the run by default.
    pub steps: Option<NonZeroU64>,
}

impl Default for Linear {
    fn default() -> Self {
        Self {
            warmup: 0,
            floor: NonNegative::literal(0.0),
            steps: None,
        }
    }
}

/// `floor + (b − floor) (1 + cos(π (t − w) / (T − w))) / 2`.
///
/// Source: Loshchilov, Hutter, "SGDR", ICLR 2017, <https://arxiv.org/abs/1608.03983>, equation 5 with one wave. Agrees with
/// `CosineAnnealingLR` of torch, which comes back up after `T` where this one stays at the floor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Cosine {
    /// Steps of warming up.
    pub warmup: u64,
    /// The rate at the end.
    pub floor: NonNegative,
    /// Steps of the whole; those of the run by default.
    pub steps: Option<NonZeroU64>,
}

impl Default for Cosine {
    fn default() -> Self {
        Self {
            warmup: 0,
            floor: NonNegative::literal(0.0),
            steps: None,
        }
    }
}

/// `floor + (b − floor) ((T − t) / (T − w))^power`. Agrees with `PolynomialLR` of torch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Polynomial {
    /// The power.
    pub power: NonNegative,
    /// Steps of warming up.
    pub warmup: u64,
    /// The rate at the end.
    pub floor: NonNegative,
    /// Steps of the whole; those of the run by default.
    pub steps: Option<NonZeroU64>,
}

impl Default for Polynomial {
    fn default() -> Self {
        Self {
            power: NonNegative::literal(1.0),
            warmup: 0,
            floor: NonNegative::literal(0.0),
            steps: None,
        }
    }
}

/// `b factor^(t − w)`. Agrees with `ExponentialLR` of torch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Exponential {
    /// Of one step.
    pub factor: Fraction,
    /// Steps of warming up.
    pub warmup: u64,
}

impl Default for Exponential {
    /// Halves the rate in some 700 steps.
    fn default() -> Self {
        Self {
            factor: Fraction::literal(0.999),
            warmup: 0,
        }
    }
}

/// `b factor^⌊(t − w) / every⌋`. Agrees with `StepLR` of torch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Steps {
    /// Between two falls.
    pub every: NonZeroU64,
    /// Of one fall.
    pub factor: Fraction,
    /// Steps of warming up.
    pub warmup: u64,
}

impl Default for Steps {
    /// A tenth every 1,000 steps.
    fn default() -> Self {
        Self {
            every: NonZeroU64::new(1000).expect("not zero"),
            factor: Fraction::literal(0.1),
            warmup: 0,
        }
    }
}

/// `b factor^(how many of the listed steps are at most t)`. Agrees with `MultiStepLR` of torch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Milestones {
    /// The steps, in any order.
    pub at: Vec<u64>,
    /// Of one fall.
    pub factor: Fraction,
    /// Steps of warming up. They do not move the milestones.
    pub warmup: u64,
}

impl Default for Milestones {
    fn default() -> Self {
        Self {
            at: Vec::new(),
            factor: Fraction::literal(0.1),
            warmup: 0,
        }
    }
}

/// `b (from + (to − from) min(t, steps) / steps)`. Agrees with `LinearLR` of torch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Ramp {
    /// The factor of the first step.
    pub from: NonNegative,
    /// The factor at the end.
    pub to: NonNegative,
    /// How long it takes; the whole run by default.
    pub steps: Option<NonZeroU64>,
}

impl Default for Ramp {
    /// As in torch, but for the length.
    fn default() -> Self {
        Self {
            from: NonNegative::literal(1.0 / 3.0),
            to: NonNegative::literal(1.0),
            steps: None,
        }
    }
}

/// Cosine waves from `b` to the floor, each `growth` times as long as the one before.
///
/// Source: Loshchilov, Hutter, "SGDR", ICLR 2017, <https://arxiv.org/abs/1608.03983>. Agrees with `CosineAnnealingWarmRestarts`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Restarts {
    /// Steps of the first wave.
    pub first: NonZeroU64,
    /// How many times longer each is than the one before.
    pub growth: NonZeroU64,
    /// The rate at the end of a wave.
    pub floor: NonNegative,
}

impl Default for Restarts {
    fn default() -> Self {
        Self {
            first: NonZeroU64::new(1000).expect("not zero"),
            growth: NonZeroU64::new(2).expect("not zero"),
            floor: NonNegative::literal(0.0),
        }
    }
}

/// Up from `b / start` to `b`, down again and far below, in one cycle over the whole schedule, while the momentum goes the other
/// way: down from `high` to `low`, and up.
///
/// With `p = rise` the first phase ends at `p T − 1`. Then, in two phases, the rate falls to `b / (start · end)` at `T − 1`; in
/// three, it falls to `b / start` at `2 p T − 2` and from there to `b / (start · end)`. The ends of phases need not be whole
/// steps.
///
/// It wants an optimizer with a momentum: `adam`, `adamw`, or `sgd` and `rmsprop` with one above 0. With others say
/// `momentum = "own"`. (torch gives `SGD` with a momentum of 0 the cycle's.)
///
/// Source: Smith, Topin, "Super-convergence", 2018, <https://arxiv.org/abs/1708.07120>. Agrees with `OneCycleLR` of torch, whose
/// `max_lr` is `b`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OneCycle {
    /// Part of the schedule in which the rate rises.
    pub rise: Fraction,
    /// How many times smaller than `b` the rate starts.
    pub start: Positive,
    /// How many times smaller than at the start it ends.
    pub end: Positive,
    /// How it goes from one rate to the next.
    pub anneal: Anneal,
    /// Whether it comes down to where it started before it goes below.
    pub three_phases: bool,
    /// What becomes of the optimizer's momentum; of Adam that is the first beta.
    pub momentum: CycledMomentum,
    /// Steps of the whole; those of the run by default.
    pub steps: Option<NonZeroU64>,
}

impl Default for OneCycle {
    /// As in torch.
    fn default() -> Self {
        Self {
            rise: Fraction::literal(0.3),
            start: Positive::literal(25.0),
            end: Positive::literal(1e4),
            anneal: Anneal::Cosine,
            three_phases: false,
            momentum: CycledMomentum::default(),
            steps: None,
        }
    }
}

/// How a number goes from one value to another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Anneal {
    /// By half a wave of the cosine.
    #[default]
    Cosine,
    /// In a straight line.
    Linear,
}

/// What a cycle does to the momentum: `momentum = "own"`, or `momentum.cycle = { low = 0.85, high = 0.95 }`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum CycledMomentum {
    /// Nothing: it is the optimizer's own.
    Own,
    /// It goes against the rate. The optimizer must have a momentum.
    Cycle {
        /// Where the rate is highest; below 1.
        low: Fraction,
        /// At both ends; below 1.
        high: Fraction,
    },
}

impl CycledMomentum {
    /// From where it falls to, and back.
    pub(super) fn range(self) -> Option<(f64, f64)> {
        match self {
            Self::Own => None,
            Self::Cycle { low, high } => Some((low.get(), high.get())),
        }
    }
}

impl Default for CycledMomentum {
    /// As in torch.
    fn default() -> Self {
        Self::Cycle {
            low: Fraction::literal(0.85),
            high: Fraction::literal(0.95),
        }
    }
}
