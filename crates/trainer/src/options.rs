//! How a trainer turns gradients into moves.

use std::num::NonZeroU64;

use nearfar_core::{NonNegative, Positive, Seed};
use serde::{Deserialize, Serialize};

/// How a trainer turns gradients into moves.
#[derive(Clone, Debug)]
pub struct Options {
    /// The one number that all random streams come from.
    pub seed: Seed,
    /// How many batches with something to learn make one update; their gradients are averaged.
    pub accumulate: NonZeroU64,
    /// Largest norm of all gradients together.
    pub clip_norm: Option<Positive>,
    /// Largest absolute value of a number in a gradient; not together with `clip_norm`.
    pub clip_value: Option<Positive>,
    /// Parameters with rates of their own; the first group that names a parameter counts.
    pub groups: Vec<Group>,
    /// Patterns of trained parameters that may be without a gradient.
    pub allow_frozen: Vec<String>,
}

impl Default for Options {
    /// One update a batch, gradients as they are.
    fn default() -> Self {
        Self {
            seed: Seed(0),
            accumulate: NonZeroU64::MIN,
            clip_norm: None,
            clip_value: None,
            groups: Vec::new(),
            allow_frozen: Vec::new(),
        }
    }
}

/// Parameters with a learning rate or weight decay of their own, or that stay as they are.
///
/// In a pattern, `*` stands for any text: `*.bias`, `loss.*`, `towers.1.*`. A frozen group holds the running statistics that it
/// names too: batch norm then goes by them, as it does in evaluation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Group {
    /// Pattern of the parameters' names.
    pub parameters: String,
    /// What the schedule's rate is multiplied with.
    #[serde(default = "one")]
    pub learning_rate: NonNegative,
    /// What the optimizer's weight decay is multiplied with.
    #[serde(default = "one")]
    pub weight_decay: NonNegative,
    /// Whether they stay as they are.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub frozen: bool,
    /// How many steps they are frozen for; all where it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unfreeze_after: Option<u64>,
}

impl Group {
    /// The parameters of a pattern, with the rates of all others.
    pub fn new(parameters: impl Into<String>) -> Self {
        Self {
            parameters: parameters.into(),
            learning_rate: one(),
            weight_decay: one(),
            frozen: false,
            unfreeze_after: None,
        }
    }
}

fn one() -> NonNegative {
    NonNegative::literal(1.0)
}
