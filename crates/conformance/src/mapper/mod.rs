//! Functions of other libraries as our objects.
//!
//! A mapper says which functions it claims. A case of a claimed function that it cannot map is a failure, not a gap; what
//! nobody claims is "not yet".

mod distances;
mod divergences;
mod layers;
mod losses;
mod metric;
mod miners;
mod optim;
mod reducers;
mod regularizers;
mod scores;
mod search;
mod vectors;

use candle_core::DType;

use crate::golden::{Case, Function, Given, Mapped, Outputs, Tolerance};

/// Our side of some functions of another library.
pub trait Mapper: Sync {
    /// Whether the function of a case, with its settings, is ours.
    fn claims(&self, case: &Case) -> Claim;
    /// In which ways a case is run.
    fn passes(&self) -> &'static [Pass] {
        &[Pass::Plain]
    }
    /// What may differ in a way; the manifest's tolerance by default.
    fn tolerance(&self, case: &Case, _pass: Pass) -> Tolerance {
        Tolerance {
            relative: case.rtol,
            absolute: case.atol,
            rounded: false,
        }
    }
    /// Runs a case.
    ///
    /// # Errors
    /// [`Trouble::Unmapped`](crate::golden::Trouble::Unmapped) for a setting or an input that it does not know.
    fn run(&self, given: &Given<'_>, pass: Pass) -> Mapped<Outputs>;
}

/// Whether a function is ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claim {
    /// It is.
    Ours,
    /// It is not.
    No,
    /// It is, but not with this setting, which is told beside its name.
    NotWith(String),
}

impl Claim {
    /// Ours if its name is one of these.
    fn by_name(function: &Function, prefix: &str, names: &[&str]) -> Self {
        match function.path().strip_prefix(prefix) {
            Some(name) if names.contains(&name) => Self::Ours,
            _ => Self::No,
        }
    }
}

/// A way to run a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pass {
    /// In f64, the readable way: of a loss its `terms`, then the reducer.
    Plain,
    /// In f32, the fast way: of a loss `evaluate`.
    Fast,
}

impl Pass {
    /// The number type.
    pub fn dtype(self) -> DType {
        match self {
            Self::Plain => DType::F64,
            Self::Fast => DType::F32,
        }
    }
}

/// All mappers. The first that claims a function has it.
pub const MAPPERS: &[&dyn Mapper] = &[
    &losses::Losses,
    &distances::Distances,
    &regularizers::Regularizers,
    &reducers::Reducers,
    &vectors::Vectors,
    &divergences::Divergences,
    &miners::Miners,
    &search::Neighbors,
    &scores::Scores,
    &layers::Layers,
    &optim::Optimizers,
];
