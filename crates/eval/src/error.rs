//! What can go wrong when embeddings are evaluated, read or written.

/// Why an evaluation, or a file of embeddings, has no result.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Two tables of different widths.
    #[error("the queries have {queries} dimensions, the gallery {gallery}; they must agree")]
    Width {
        /// Dimensions of the queries.
        queries: usize,
        /// Dimensions of the gallery.
        gallery: usize,
    },
    /// Two lists that belong together and have different lengths.
    #[error("{left} ({left_length}) and {right} ({right_length}) must have the same length")]
    Lengths {
        /// What the first list is.
        left: &'static str,
        /// Its length.
        left_length: usize,
        /// What the second list is.
        right: &'static str,
        /// Its length.
        right_length: usize,
    },
    /// A score of classes was wanted of rows without classes.
    #[error("{what} needs a label for each row of the {table}, and it has none")]
    NoLabels {
        /// What needs them.
        what: String,
        /// Which table has none.
        table: &'static str,
    },
    /// A score looks farther than the search did.
    #[error(
        "a score at {wanted} needs {wanted} neighbors, but the search kept {kept}; search with a larger `k`"
    )]
    TooFewNeighbors {
        /// Neighbors the score looks at.
        wanted: usize,
        /// Neighbors there are.
        kept: usize,
    },
    /// A score over all ranks was wanted of a search that only kept the nearest.
    #[error(
        "this score looks at all ranks, and the search kept only the nearest; search with `rank_all`"
    )]
    NotRanked,
    /// A setting that makes no sense.
    #[error("{0}")]
    Settings(String),
    /// A name that is no score.
    #[error("there is no score `{name}`; {hint}")]
    UnknownScore {
        /// The name as given.
        name: String,
        /// The nearest valid name, or where to find them.
        hint: String,
    },
    /// A score that cannot be computed of this kind of data.
    #[error("the score `{score}` is computed from {wanted}, and this data is {given}")]
    WrongData {
        /// The score's name.
        score: String,
        /// What it is computed from.
        wanted: &'static str,
        /// What was given.
        given: &'static str,
    },
    /// A value that does not exist for this data, and why.
    #[error("{0}")]
    Undefined(String),
    /// A file that is not what it should be.
    #[error("{path}: {problem}")]
    Format {
        /// The file.
        path: String,
        /// What is wrong, and what would be right.
        problem: String,
    },
    /// A file that cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// A file that cannot be written.
    #[error("cannot write {path}")]
    Write {
        /// The file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// A distance or a tensor operation that failed.
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
}

/// The result of an evaluation.
pub type Result<T> = std::result::Result<T, Error>;
