#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

// By name.
mod registry;

// Distances of the rows as they are.
mod chebyshev;
mod euclidean;
mod manhattan;
mod minkowski;
mod squared_euclidean;

// Of their directions.
mod angular;
mod cosine;
mod cosine_distance;
mod dot;
mod raised;

// Of their shape: signals, counts, sets, trees.
mod bray_curtis;
mod canberra;
mod correlation;
mod hamming;
mod jaccard;
mod poincare;
mod snr;

// Of distributions: rows that are histograms, and plain numbers.
pub mod divergences;
mod histograms;

// Given a matrix.
mod bilinear;
mod eigen;
mod mahalanobis;
mod square_matrix;

// Of the rows divided by their length.
mod normalized;

// What those that are sums over coordinates share.
mod coordinates;

pub use angular::Angular;
pub use bilinear::Bilinear;
pub use bray_curtis::BrayCurtis;
pub use canberra::Canberra;
pub use chebyshev::Chebyshev;
pub use correlation::Correlation;
pub use cosine::Cosine;
pub use cosine_distance::CosineDistance;
pub use dot::Dot;
pub use euclidean::Euclidean;
pub use hamming::Hamming;
pub use histograms::{
    Bhattacharyya, ChiSquare, EarthMover, Hellinger, Jeffreys, JeffriesMatusita, JensenShannon,
    JensenShannonDistance, KullbackLeibler, Matusita, TotalVariation,
};
pub use jaccard::Jaccard;
pub use mahalanobis::Mahalanobis;
pub use manhattan::Manhattan;
pub use minkowski::{Exponent, Minkowski};
pub use normalized::{Length, Normalized};
pub use poincare::Poincare;
pub use raised::Raised;
pub use registry::{
    BilinearConfig, DistanceConfig, MahalanobisConfig, MinkowskiConfig, Power, Rows,
    SimilarityConfig,
};
pub use snr::Snr;
pub use squared_euclidean::SquaredEuclidean;
