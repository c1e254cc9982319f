//! Divergences of distributions: of histograms, of samples on a line, of normal distributions, and what they say of classes.
//!
//! Plain numbers in f64, exact where it is infinite. Those of histograms that can be learned from, as distances of rows,
//! are beside the other distances: [`Hellinger`](crate::Hellinger), [`KullbackLeibler`](crate::KullbackLeibler) and others.
//!
//! ```
//! use nearfar_metrics::divergences::{Gaussian, Histogram, Sample, hellinger, kullback_leibler, wasserstein};
//!
//! let (p, q) = (Histogram::new(&[3.0, 1.0])?, Histogram::new(&[1.0, 0.0])?); // Counts: 3/4 and 1/4.
//! assert_eq!(kullback_leibler(&p, &q)?, f64::INFINITY); // The second bin cannot be in `q`.
//! assert!((hellinger(&p, &q)? - (1.0 - 0.75f64.sqrt()).sqrt()).abs() < 1e-15);
//! assert_eq!(wasserstein(&Sample::new(&[0.0, 1.0])?, &Sample::new(&[5.0, 6.0])?), 5.0);
//! let (a, b) = (Gaussian::new(&[0.0], &[1.0])?, Gaussian::new(&[2.0], &[1.0])?);
//! assert_eq!(a.bhattacharyya(&b)?, 0.5); // 2² / 8.
//! # Ok::<(), nearfar_core::Error>(())
//! ```

mod cholesky;
mod gaussian;
mod histogram;
mod sample;
mod separability;

pub use gaussian::Gaussian;
pub use histogram::{
    Histogram, bhattacharyya, bhattacharyya_coefficient, chi_square, earth_mover, hellinger,
    jeffreys, jeffries_matusita, jeffries_matusita_squared, jensen_shannon,
    jensen_shannon_distance, kullback_leibler, matusita, pearson_chi_square, total_variation,
};
pub use sample::{Sample, energy_distance, kolmogorov_smirnov, wasserstein};
pub use separability::{Pair, RankedFeature, Separability, rank_features, separability};
