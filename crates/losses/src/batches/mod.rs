//! Losses that fit no other family: [`BatchLoss`](crate::BatchLoss).

// Triplets, quadruplets and other tuples.
mod angular;
mod batch_hard;
mod centroid_triplet;
mod dynamic_soft_margin;
mod hierarchical_triplet;
mod margin;
mod margin_sample_mining;
mod multi_tuple;
mod quadruplet;
mod quadruplet_hard;
mod selectively_contrastive;
mod semi_hard;

// Instances, and pairs of them.
mod instance;
mod pair_cross_entropy;

// Sets of labels, and real targets.
mod deep_mlkr;
mod label_sensitive_triplet;
mod log_ratio;
mod ml2;
mod multi_supcon;
mod n_pair_sets;
mod ordinal_triplet;
mod rnc;
mod soft_targets;

// Two domains, and pixels.
mod correlated;
mod discriminative_dense;
mod pixel_pair;

pub use angular::{Angular, AngularForm};
pub use batch_hard::BatchHard;
pub use centroid_triplet::CentroidTriplet;
pub use classifier::Classifier;
pub use correlated::{Correlated, Correlation};
pub use deep_mlkr::DeepMLKR;
pub use discriminative_dense::DiscriminativeDense;
pub use dynamic_soft_margin::{DynamicSoftMargin, GapNegatives};
pub use hierarchical_triplet::HierarchicalTriplet;
pub use instance::Instance;
pub use label_sensitive_triplet::LabelSensitiveTriplet;
pub use log_ratio::LogRatio;
pub use margin::Margin;
pub use margin_sample_mining::MarginSampleMining;
pub use ml2::{ML2, Sharpness};
pub use multi_supcon::MultiSupCon;
pub use multi_tuple::{MultiTuple, TupleForm, TupleNegatives, TuplePositives};
pub use n_pair_sets::NPairSets;
pub use ordinal_triplet::OrdinalTriplet;
pub use pair_cross_entropy::PairCrossEntropy;
pub use pixel_pair::PixelPair;
pub use quadruplet::{Quadruplet, QuadrupletMargins};
pub use quadruplet_hard::QuadrupletHard;
pub use rnc::RNC;
pub use selectively_contrastive::SelectivelyContrastive;
pub use semi_hard::SemiHard;
mod angle;
mod angular_prototypical;
mod answers;
mod barlow_twins;
mod center;
mod classifier;
mod contrastive_tension;
mod facility_location;
mod ge2e;
mod gist;
mod global_orthogonal;
mod magnet;
mod magnet_vote;
mod manifold;
mod margin_mse;
mod mean_variance;
mod mega_batch_margin;
mod multiple_negatives_ranking;
mod prototypes;
mod prototypical;
mod simsiam;
mod softmax_nli;
mod tai;
mod triplet_center;
mod vicreg;

pub use angle::AnglE;
pub use angular_prototypical::AngularPrototypical;
pub use barlow_twins::BarlowTwins;
pub use center::Center;
pub use contrastive_tension::ContrastiveTension;
pub use facility_location::FacilityLocation;
pub use ge2e::{GE2E, GE2EForm};
pub use gist::Gist;
pub use global_orthogonal::GlobalOrthogonal;
pub use magnet::Magnet;
pub use magnet_vote::{ClusterVote, Votes};
pub use manifold::Manifold;
pub use margin_mse::MarginMSE;
pub use mean_variance::MeanVariance;
pub use mega_batch_margin::MegaBatchMargin;
pub use multiple_negatives_ranking::MultipleNegativesRanking;
pub use prototypical::Prototypical;
pub use simsiam::SimSiam;
pub use softmax_nli::SoftmaxNLI;
pub use tai::Tai;
pub use triplet_center::TripletCenter;
pub use vicreg::VICReg;
