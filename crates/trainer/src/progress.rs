//! What comes of batches: of one, and of all so far.

use serde::{Deserialize, Serialize};

/// What came of one batch.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// The loss found no tuple that it could learn from. Nothing was changed.
    NothingToLearn,
    /// There was a loss.
    Learned {
        /// Its value.
        loss: f64,
        /// Its parts, in the order of the losses.
        parts: Vec<PartValue>,
        /// Norm before clipping: of the update's gradient, or of this batch's where gradients are still being gathered.
        gradient_norm: f64,
        /// The schedule's rate at this step.
        learning_rate: f64,
        /// Whether the parameters moved; not while gradients of several batches are gathered.
        updated: bool,
    },
}

/// A part of a loss as numbers.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PartValue {
    /// `positive`, `triplet`, …
    pub name: &'static str,
    /// None when there was nothing to average.
    pub value: Option<f64>,
    /// How many terms there were.
    pub terms: usize,
    /// How many of them were above zero.
    pub active: usize,
}

/// Where a run stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// The epoch, from 0.
    pub epoch: u64,
    /// How many of its batches are done.
    pub batch: u64,
    /// How many steps were made, over all epochs.
    pub step: u64,
}

/// What happened so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Counters {
    /// Steps with a loss.
    pub learned: u64,
    /// Times the parameters moved.
    pub updates: u64,
    /// Steps with nothing to learn.
    pub nothing_to_learn: u64,
    /// Steps that were not applied because something was not finite.
    pub not_finite: u64,
    /// Whether the towers have passed the freeze gate.
    pub towers_passed: bool,
    /// Whether the loss's own parameters have passed it.
    pub loss_passed: bool,
}
