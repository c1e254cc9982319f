//! Formulas of an anchor and all it is compared with: [`ListLoss`](crate::ListLoss).

mod multi_similarity;
mod nt_xent;

pub use multi_similarity::MultiSimilarity;
pub use nt_xent::NTXent;
