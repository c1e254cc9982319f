#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

// In reading order: what is compared, what is chosen, what is minimized, what encodes, what is remembered.
mod comparison;
mod distance;
mod embeddings;
mod supervision;
mod tuples;

mod miner;

mod loss;
mod reducer;

mod batch;
mod encoder;
mod parse;

mod state;
mod table;

mod docs;
mod error;
mod num;
mod pattern;
mod rng;
pub mod shape;

pub use batch::{Batch, Batches, BoxError};
pub use comparison::{Comparison, Kind, Relation};
pub use distance::{
    Axioms, Distance, Form, Gram, NegativeDistance, NegativeSimilarity, Similarity,
};
pub use docs::doc_of;
pub use embeddings::Embeddings;
pub use encoder::{Encoded, Encoder, Input, Mode, PairScorer, Parameter};
pub use error::Error;
pub use loss::{Evaluated, Loss, Part, Terms, Unit};
pub use miner::{Candidate, Candidates, Miner};
pub use num::{Finite, Fraction, NonNegative, Positive};
pub use parse::Parse;
pub use pattern::name_matches;
pub use reducer::{Reducer, Then};
pub use rng::{Purpose, Rng, Seed, position_of_name};
pub use state::{Span, Stateful};
pub use supervision::Supervision;
pub use table::EmbeddingTable;
pub use tuples::{Pairs, SignedPairs, Triplets, Tuples};
