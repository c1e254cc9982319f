#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

// What a loss of the field is, as a formula, and by name.
mod family;
mod registry;

// What joins a formula to distances, miners, class centers and a reducer.
mod over;

// Formulas of pairs.
mod contrastive;

// Of triplets.
mod triplet_margin;

// Of an anchor and all it is compared with.
mod multi_similarity;
mod nt_xent;

// Of a row and the centers of classes.
mod arcface;

// Of scores that pairs should have.
mod malstm;
mod pair_regression;
mod rescale;

// Losses made of losses.
mod combine;

mod prefix;

pub use arcface::ArcFace;
pub use combine::sum::{Sum, Weighed};
pub use contrastive::{Contrastive, PairForm};
pub use family::{ClassificationLoss, ListLoss, PairLoss, ScoreLoss, TripletLoss, Weighted};
pub use malstm::MaLSTM;
pub use multi_similarity::MultiSimilarity;
pub use nt_xent::NTXent;
pub use over::classes::OverClasses;
pub use over::lists::OverLists;
pub use over::mining::Mining;
pub use over::pairs::OverPairs;
pub use over::scores::{OverScores, Scoring};
pub use over::triplets::OverTriplets;
pub use pair_regression::{PairRegression, Residual};
pub use registry::{Compares, Defaults, Family, Join, LossConfig};
pub use triplet_margin::{Power, TripletMargin};
