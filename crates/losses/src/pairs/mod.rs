//! Formulas of pairs: [`PairLoss`](crate::PairLoss).

mod binomial_deviance;
mod contrastive;
mod intra_pair_variance;
mod neculoiu;
mod online_contrastive;
mod snr_contrastive;
mod tcm;

pub use binomial_deviance::BinomialDeviance;
pub use contrastive::{Contrastive, PairForm};
pub use intra_pair_variance::IntraPairVariance;
pub use neculoiu::{Active, Neculoiu};
pub use online_contrastive::OnlineContrastive;
pub use snr_contrastive::SNRContrastive;
pub use tcm::ThresholdConsistentMargin;
