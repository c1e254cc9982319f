#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

// What a loss of the field is, as a formula, and by name.
mod compat;
mod family;
mod preset;
mod registry;

// What joins a formula to distances, miners, class centers and a reducer.
mod over;

// The formulas, by family.
mod batches;
mod classes;
mod lists;
mod pairs;
mod scores;
mod triplets;

// Losses made of losses.
mod combine;

mod prefix;
mod weak;

pub use batches::*;
pub use classes::*;
pub use combine::beside::{Beside, HiddenSupervision, Other, PartSupervision};
pub use combine::matryoshka::{Matryoshka, Nesting};
pub use combine::memory::{CrossBatchMemory, Memory};
pub use combine::regularized::{Penalty, Regularized};
pub use combine::regularizers::Regularizer;
pub use combine::self_supervised::{SelfSupervised, SelfSupervision};
pub use combine::sum::{Sum, Weighed};
pub use compat::Compat;
pub use family::{
    BatchLoss, ByRow, ClassificationLoss, Head, ListLoss, Lists, Mined, PairLoss, ScoreLoss, Sides,
    TripletLoss, Weighted,
};
pub use lists::*;
pub use over::centers::{CenterStart, Outliers, ToCenters, outliers};
pub use over::classes::OverClasses;
pub use over::lists::OverLists;
pub use over::mining::Mining;
pub use over::pairs::OverPairs;
pub use over::rows::AllRows;
pub use over::scores::{OverScores, Scoring};
pub use over::triplets::OverTriplets;
pub use pairs::*;
pub use preset::{Compared, Convention, NamedLoss, Preset};
pub use registry::{Compares, Defaults, Family, Join, LossConfig, Reads};
pub use scores::*;
pub use triplets::*;
pub use weak::weak_triplets;
