//! Losses that fit no other family: [`BatchLoss`](crate::BatchLoss).

mod angular;
mod batch_hard;
mod dynamic_soft_margin;
mod margin;
mod margin_sample_mining;
mod quadruplet;
mod quadruplet_hard;
mod semi_hard;

pub use angular::{Angular, AngularForm};
pub use batch_hard::BatchHard;
pub use dynamic_soft_margin::{DynamicSoftMargin, GapNegatives};
pub use margin::Margin;
pub use margin_sample_mining::MarginSampleMining;
pub use quadruplet::{Quadruplet, QuadrupletMargins};
pub use quadruplet_hard::QuadrupletHard;
pub use semi_hard::SemiHard;
