//! Dissimilarities and similarities of embeddings.

use std::fmt::Debug;

use candle_core::{Result, Tensor};

/// A dissimilarity of two embeddings: smaller is closer.
pub trait Distance: Debug + Send + Sync {
    /// Every row of `x` to every row of `y`: `(n, d) × (m, d) → (n, m)`. Differentiable.
    ///
    /// # Errors
    /// When the widths differ.
    fn matrix(&self, x: &Tensor, y: &Tensor) -> Result<Tensor>;
    /// Row `i` of `x` to row `i` of `y`: `(n, d) × (n, d) → (n)`. Differentiable.
    ///
    /// # Errors
    /// When the shapes differ.
    fn paired(&self, x: &Tensor, y: &Tensor) -> Result<Tensor>;
    /// The axioms that hold for every finite input; the property tests check each claim.
    fn axioms(&self) -> Axioms;
    /// What it is made of, for those who can fuse it; `General` unless it says more.
    fn form(&self) -> Form {
        Form::General
    }
}

/// A similarity of two embeddings: larger is closer.
pub trait Similarity: Debug + Send + Sync {
    /// Every row of `x` to every row of `y`: `(n, d) × (m, d) → (n, m)`. Differentiable.
    ///
    /// # Errors
    /// When the widths differ.
    fn matrix(&self, x: &Tensor, y: &Tensor) -> Result<Tensor>;
    /// Row `i` of `x` to row `i` of `y`: `(n, d) × (n, d) → (n)`. Differentiable.
    ///
    /// # Errors
    /// When the shapes differ.
    fn paired(&self, x: &Tensor, y: &Tensor) -> Result<Tensor>;
    /// What it is made of, for those who can fuse it; `General` unless it says more.
    fn form(&self) -> Form {
        Form::General
    }
}

/// The axioms of a metric, and which of them hold for every finite input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Axioms {
    /// `d(x, y) ≥ 0`
    pub non_negative: bool,
    /// `d(x, x) = 0`
    pub zero_on_self: bool,
    /// `d(x, y) = 0` only for `x = y`
    pub separates: bool,
    /// `d(x, y) = d(y, x)`
    pub symmetric: bool,
    /// `d(x, z) ≤ d(x, y) + d(y, z)`
    pub triangle: bool,
}

impl Axioms {
    /// All of them: a metric.
    pub const METRIC: Self = Self {
        non_negative: true,
        zero_on_self: true,
        separates: true,
        symmetric: true,
        triangle: true,
    };
}

/// What a distance or similarity is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// A function of inner products alone, so that one matrix product gives all of it.
    Gram {
        /// Which function.
        kind: Gram,
        /// Whether rows are normalized first.
        unit_rows: bool,
    },
    /// The negative of what it would be as the other kind: of a distance as a similarity, or of a similarity as a distance.
    Negative {
        /// Which function.
        kind: Gram,
        /// Whether rows are normalized first.
        unit_rows: bool,
    },
    /// Anything else.
    General,
}

impl Form {
    /// That of the negative as the other kind.
    fn negative(self) -> Self {
        match self {
            Self::Gram { kind, unit_rows } => Self::Negative { kind, unit_rows },
            Self::Negative { kind, unit_rows } => Self::Gram { kind, unit_rows },
            Self::General => Self::General,
        }
    }
}

/// The functions of inner products.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gram {
    /// `√(‖x‖² + ‖y‖² − 2 x·y)`
    Euclidean,
    /// `‖x‖² + ‖y‖² − 2 x·y`
    Squared,
    /// `x·y / (‖x‖ ‖y‖)`, or 1 minus it for a distance
    Cosine,
    /// `x·y`
    Dot,
}

/// A distance as the similarity `−d`, for formulas that want similarities.
#[derive(Debug)]
pub struct NegativeDistance(pub Box<dyn Distance>);

impl Similarity for NegativeDistance {
    fn matrix(&self, x: &Tensor, y: &Tensor) -> Result<Tensor> {
        self.0.matrix(x, y)?.neg()
    }

    fn paired(&self, x: &Tensor, y: &Tensor) -> Result<Tensor> {
        self.0.paired(x, y)?.neg()
    }

    fn form(&self) -> Form {
        self.0.form().negative()
    }
}

/// A similarity as the distance `−s`, for formulas and miners that want distances. It may be below zero and claims no axiom.
#[derive(Debug)]
pub struct NegativeSimilarity(pub Box<dyn Similarity>);

impl Distance for NegativeSimilarity {
    fn matrix(&self, x: &Tensor, y: &Tensor) -> Result<Tensor> {
        self.0.matrix(x, y)?.neg()
    }

    fn paired(&self, x: &Tensor, y: &Tensor) -> Result<Tensor> {
        self.0.paired(x, y)?.neg()
    }

    fn axioms(&self) -> Axioms {
        Axioms {
            non_negative: false,
            zero_on_self: false,
            separates: false,
            symmetric: false,
            triangle: false,
        }
    }

    fn form(&self) -> Form {
        self.0.form().negative()
    }
}
