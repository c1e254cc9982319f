//! Other libraries' conventions.

use serde::{Deserialize, Serialize};

/// A library whose convention a loss follows where it is another than the definition: the field `compat` of exactly the losses
/// that have one. Each says what changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Compat {
    /// pytorch-metric-learning 2.9
    Pml,
}
