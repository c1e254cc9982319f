//! What is known of a batch.

use candle_core::Tensor;

use crate::{Pairs, SignedPairs};

/// What is known of a batch beyond its inputs; one list per input where there are lists.
#[derive(Clone, Debug)]
pub enum Supervision {
    /// Class of each row. Rows of two sides may share classes: a query and its document.
    Classes(Vec<Vec<u32>>),
    /// Which rows belong together and which do not.
    Pairs(SignedPairs),
    /// Pairs with the score each should have.
    Scored {
        /// Who is paired: a row of the first side with a row of the last.
        pairs: Pairs,
        /// The score of each pair.
        targets: Vec<f32>,
    },
    /// The labels of each row.
    Sets(Vec<Vec<Vec<u32>>>),
    /// A real number for each row.
    Targets(Vec<Vec<f32>>),
    /// Instance of each pixel, `(b, height, width)`.
    Masks(Tensor),
}
