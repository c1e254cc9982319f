//! Formulas of an anchor and all it is compared with: [`ListLoss`](crate::ListLoss).

mod circle;
mod fast_ap;
mod histogram;
mod lifted;
mod lifted_generalized;
mod multi_similarity;
mod n_pair;
mod nca;
mod nt_xent;
mod pnp;
mod ranked_list;
mod recall_at_k;
mod smooth_ap;
mod supcon;
mod surrogate_precision;
mod tuplet_margin;

// What some of them are made of.
mod bins;
mod ranks;

use candle_core::{Result, Tensor};

pub use circle::Circle;
pub use fast_ap::FastAP;
pub use histogram::Histogram;
pub use lifted::Lifted;
pub use lifted_generalized::LiftedGeneralized;
pub use multi_similarity::MultiSimilarity;
pub use n_pair::NPair;
pub use nca::NCA;
pub use nt_xent::{NTXent, NTXentForm};
pub use pnp::{PNP, PNPForm};
pub use ranked_list::RankedList;
pub use recall_at_k::RecallAtK;
pub use smooth_ap::SmoothAP;
pub use supcon::SupCon;
pub use surrogate_precision::SurrogatePrecision;
pub use tuplet_margin::TupletMargin;

/// 1 for each row of a mask that keeps something, 0 for others: `(n, m) → (n)`.
fn has(mask: &Tensor) -> Result<Tensor> {
    mask.sum(1)?.ne(0f64)?.to_dtype(mask.dtype())
}

/// 1 where a mask keeps anything, else 0: a scalar.
fn any(mask: &Tensor) -> Result<Tensor> {
    mask.sum_all()?.ne(0f64)?.to_dtype(mask.dtype())
}

/// Exponents whose exponentials count as often as the mask says.
fn repeated(exponents: &Tensor, mask: &Tensor) -> Result<Tensor> {
    exponents + mask.maximum(1f64)?.log()?
}
