#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

// By name.
mod registry;

// Distances of the rows as they are.
mod euclidean;
mod manhattan;
mod squared_euclidean;

// Of their directions.
mod cosine;
mod cosine_distance;
mod dot;

// Of what a linear map makes of them.
mod eigen;
mod mahalanobis;

// Of the rows divided by their length.
mod normalized;

pub use cosine::Cosine;
pub use cosine_distance::CosineDistance;
pub use dot::Dot;
pub use euclidean::Euclidean;
pub use mahalanobis::Mahalanobis;
pub use manhattan::Manhattan;
pub use normalized::{Length, Normalized};
pub use registry::{DistanceConfig, MahalanobisConfig, Rows, SimilarityConfig};
pub use squared_euclidean::SquaredEuclidean;
