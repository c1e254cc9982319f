//! Divergences of histograms, samples and normal distributions: of scipy, and by the definitions of the values' authors.

use nearfar_core::Error;
use nearfar_metrics::divergences::{self, Gaussian, Histogram, Sample};

use super::{Claim, Mapper, Pass};
use crate::golden::{Array, Case, Given, Mapped, Outputs, Trouble};

const NAMES: [&str; 16] = [
    "bhattacharyya",
    "hellinger",
    "matusita",
    "chi_square",
    "pearson_chi_square",
    "total_variation",
    "scipy.stats.entropy",
    "scipy.spatial.distance.jensenshannon",
    "scipy.stats.wasserstein_distance",
    "scipy.stats.energy_distance",
    "scipy.stats.ks_2samp",
    "gaussian_bhattacharyya",
    "gaussian_hellinger",
    "gaussian_kl",
    "gaussian_wasserstein2",
    "gaussian_mahalanobis",
];

type OfHistograms = fn(&Histogram, &Histogram) -> Result<f64, Error>;
type OfGaussians = fn(&Gaussian, &Gaussian) -> Result<f64, Error>;
type OfSamples = fn(&Sample, &Sample) -> f64;

/// Divergences of distributions.
pub(super) struct Divergences;

impl Mapper for Divergences {
    fn claims(&self, case: &Case) -> Claim {
        Claim::by_name(&case.function, "", &NAMES)
    }

    fn run(&self, given: &Given<'_>, _: Pass) -> Mapped<Outputs> {
        let function = &given.case.function;
        let (mut call, mut params) = (function.call(), function.params());
        call.text("name")?;
        call.finish()?;
        let positions = params.text("positions")?; // Of a histogram, for the earth mover.
        params.finish()?;
        let mut outputs = Outputs::default();
        match function.path() {
            name if name.starts_with("gaussian_") => {
                let distance = of_gaussians(name)?(&gaussian(given, "1")?, &gaussian(given, "2")?)?;
                outputs.put("distance", Array::scalar(distance));
            }
            name if given.case.has_input("p") => {
                let (p, q) = (histogram(given, "p")?, histogram(given, "q")?);
                match positions.as_deref() {
                    None | Some("bin index") => {}
                    Some(other) => return Err(Trouble::unmapped(format!("positions = {other}"))),
                }
                for (role, value) in of_histograms(name)? {
                    outputs.put(*role, Array::scalar(value(&p, &q)?));
                }
            }
            name => {
                let (x, y) = (sample(given, "x")?, sample(given, "y")?);
                outputs.put("distance", Array::scalar(of_samples(name)?(&x, &y)));
            }
        }
        given.finish()?;
        Ok(outputs)
    }
}

fn of_histograms(name: &str) -> Mapped<&'static [(&'static str, OfHistograms)]> {
    Ok(match name {
        "bhattacharyya" => &[
            ("distance", divergences::bhattacharyya),
            ("coefficient", divergences::bhattacharyya_coefficient),
        ],
        "hellinger" => &[("distance", divergences::hellinger)],
        "matusita" => &[("distance", divergences::matusita)],
        "chi_square" => &[
            ("half", divergences::chi_square),
            ("symmetric", |p, q| Ok(2.0 * divergences::chi_square(p, q)?)),
        ],
        "pearson_chi_square" => &[("distance", divergences::pearson_chi_square)],
        "total_variation" => &[("distance", divergences::total_variation)],
        "scipy.stats.entropy" => &[("distance", divergences::kullback_leibler)],
        "scipy.spatial.distance.jensenshannon" => &[
            ("divergence", divergences::jensen_shannon),
            ("distance", divergences::jensen_shannon_distance),
            ("distance_base2", |p, q| {
                Ok(divergences::jensen_shannon_distance(p, q)? / std::f64::consts::LN_2.sqrt())
            }),
        ],
        "scipy.stats.wasserstein_distance" => &[("distance", divergences::earth_mover)],
        other => return Err(Trouble::unmapped(format!("{other} of histograms"))),
    })
}

fn of_gaussians(name: &str) -> Mapped<OfGaussians> {
    Ok(match name {
        "gaussian_bhattacharyya" => Gaussian::bhattacharyya,
        "gaussian_hellinger" => Gaussian::hellinger,
        "gaussian_kl" => Gaussian::kullback_leibler,
        "gaussian_wasserstein2" => Gaussian::wasserstein2,
        "gaussian_mahalanobis" => Gaussian::mahalanobis,
        other => {
            return Err(Trouble::unmapped(format!(
                "{other} of normal distributions"
            )));
        }
    })
}

fn of_samples(name: &str) -> Mapped<OfSamples> {
    Ok(match name {
        "scipy.stats.wasserstein_distance" => divergences::wasserstein,
        "scipy.stats.energy_distance" => divergences::energy_distance,
        "scipy.stats.ks_2samp" => divergences::kolmogorov_smirnov,
        other => return Err(Trouble::unmapped(format!("{other} of samples"))),
    })
}

fn histogram(given: &Given<'_>, role: &str) -> Mapped<Histogram> {
    Ok(Histogram::new(&given.input(role)?.to_real())?)
}

fn sample(given: &Given<'_>, role: &str) -> Mapped<Sample> {
    let values = given.input(role)?.to_real();
    Ok(match given.find(&format!("weights_{role}")) {
        None => Sample::new(&values)?,
        Some(weights) => Sample::weighted(&values, &weights.to_real())?,
    })
}

fn gaussian(given: &Given<'_>, which: &str) -> Mapped<Gaussian> {
    let mean = given.input(&format!("mean{which}"))?.to_real();
    let covariance = given.input(&format!("cov{which}"))?.to_real();
    Ok(Gaussian::new(&mean, &covariance)?)
}
