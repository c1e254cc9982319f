//! Divergences of histograms.

use nearfar_core::Error;

use crate::coordinates::{share, sum};

/// A distribution over bins: shares of 0 or more that add up to 1
#[derive(Clone, Debug, PartialEq)]
pub struct Histogram {
    shares: Vec<f64>,
}

impl Histogram {
    /// Of counts or weights, which are divided by their sum.
    ///
    /// # Errors
    /// [`Error::Input`] when one is negative or not finite, or all are zero, or there is none.
    pub fn new(weights: &[f64]) -> Result<Self, Error> {
        if let Some(bin) = weights.iter().position(|x| !(x.is_finite() && *x >= 0.0)) {
            return Err(Error::Input(format!(
                "histogram: bin {bin} has {}; all must be finite numbers of 0 or more",
                weights[bin]
            )));
        }
        // In units of the largest, so that no sum overflows or vanishes.
        let largest = weights.iter().copied().fold(0.0, f64::max);
        if largest == 0.0 {
            return Err(Error::Input(format!(
                "histogram: all of its {} bins are empty; one at least must be greater than 0",
                weights.len()
            )));
        }
        let scaled: Vec<f64> = weights.iter().map(|x| x / largest).collect();
        let total = sum(&scaled, &scaled, |x, _| x);
        Ok(Self {
            shares: scaled.iter().map(|x| x / total).collect(),
        })
    }

    /// The same with `smoothing` added to every share, divided by their sum again: no bin is empty then.
    ///
    /// # Errors
    /// [`Error::Settings`] when it is negative or not finite.
    pub fn smoothed(&self, smoothing: f64) -> Result<Self, Error> {
        if !(smoothing.is_finite() && smoothing >= 0.0) {
            return Err(Error::Settings(format!(
                "`smoothing` is {smoothing}; it must be 0 or greater"
            )));
        }
        let total = 1.0 + smoothing * self.shares.len() as f64;
        Ok(Self {
            shares: self
                .shares
                .iter()
                .map(|p| (p + smoothing) / total)
                .collect(),
        })
    }

    /// The share of each bin.
    pub fn shares(&self) -> &[f64] {
        &self.shares
    }
}

/// `Σ f(p, q)` over the bins.
fn over(p: &Histogram, q: &Histogram, f: impl Fn(f64, f64) -> f64) -> Result<f64, Error> {
    if p.shares.len() != q.shares.len() {
        return Err(Error::Shape(format!(
            "histograms: `p` has {} bins, `q` {}; they must agree",
            p.shares.len(),
            q.shares.len()
        )));
    }
    Ok(sum(&p.shares, &q.shares, f))
}

/// `p ln(p/q)`; 0 of an empty bin, infinite where only `q` is empty.
fn relative_entropy(p: f64, q: f64) -> f64 {
    if p == 0.0 {
        0.0
    } else if q == 0.0 {
        f64::INFINITY
    } else {
        p * (p / q).ln()
    }
}

/// Bhattacharyya coefficient `Σ √(p q)`: 1 of equal histograms, 0 where no bin is shared
///
/// # Errors
/// [`Error::Shape`] for different numbers of bins, as of all of these.
pub fn bhattacharyya_coefficient(p: &Histogram, q: &Histogram) -> Result<f64, Error> {
    over(p, q, |p, q| (p * q).sqrt())
}

/// Bhattacharyya distance `−ln Σ √(p q)`; infinite where no bin is shared
///
/// # Errors
/// [`Error::Shape`] for different numbers of bins.
pub fn bhattacharyya(p: &Histogram, q: &Histogram) -> Result<f64, Error> {
    let shared = bhattacharyya_coefficient(p, q)?;
    // Near histograms keep their digits by what is missing to 1.
    Ok(if shared > 0.5 {
        -(-0.5 * squared_matusita(p, q)?).ln_1p()
    } else {
        -shared.ln()
    })
}

fn squared_matusita(p: &Histogram, q: &Histogram) -> Result<f64, Error> {
    over(p, q, |p, q| {
        let difference = p.sqrt() - q.sqrt();
        difference * difference
    })
}

/// Matusita distance `√Σ (√p − √q)²`, from 0 to √2; a metric
///
/// # Errors
/// [`Error::Shape`] for different numbers of bins.
pub fn matusita(p: &Histogram, q: &Histogram) -> Result<f64, Error> {
    Ok(squared_matusita(p, q)?.sqrt())
}

/// Hellinger distance `√(½ Σ (√p − √q)²)`, from 0 to 1; a metric
///
/// # Errors
/// [`Error::Shape`] for different numbers of bins.
pub fn hellinger(p: &Histogram, q: &Histogram) -> Result<f64, Error> {
    Ok((0.5 * squared_matusita(p, q)?).sqrt())
}

/// Jeffries–Matusita distance `√(2 (1 − e^{−B}))` of the Bhattacharyya distance `B`: the same number as [`matusita`]
///
/// # Errors
/// [`Error::Shape`] for different numbers of bins.
pub fn jeffries_matusita(p: &Histogram, q: &Histogram) -> Result<f64, Error> {
    matusita(p, q)
}

/// The square of it, `2 (1 − e^{−B})`, from 0 to 2, which in remote sensing has the same name
///
/// # Errors
/// [`Error::Shape`] for different numbers of bins.
pub fn jeffries_matusita_squared(p: &Histogram, q: &Histogram) -> Result<f64, Error> {
    squared_matusita(p, q)
}

/// Kullback–Leibler divergence `Σ p ln(p/q)`, with `0 ln 0 = 0`; infinite where only `q` is empty
///
/// `scipy.stats.entropy` of two histograms.
///
/// # Errors
/// [`Error::Shape`] for different numbers of bins.
pub fn kullback_leibler(p: &Histogram, q: &Histogram) -> Result<f64, Error> {
    // Rounding can leave a small negative value where the two are equal but for it.
    Ok(over(p, q, relative_entropy)?.max(0.0))
}

/// Jeffreys divergence `KL(p‖q) + KL(q‖p)`; infinite where one bin is empty in one alone
///
/// # Errors
/// [`Error::Shape`] for different numbers of bins.
pub fn jeffreys(p: &Histogram, q: &Histogram) -> Result<f64, Error> {
    over(p, q, |p, q| match (p == 0.0, q == 0.0) {
        (true, true) => 0.0,
        (false, false) => (p - q) * (p / q).ln(),
        _ => f64::INFINITY,
    })
}

/// Jensen–Shannon divergence `½ KL(p‖m) + ½ KL(q‖m)` with `m = (p + q)/2`, from 0 to ln 2
///
/// # Errors
/// [`Error::Shape`] for different numbers of bins.
pub fn jensen_shannon(p: &Histogram, q: &Histogram) -> Result<f64, Error> {
    over(p, q, |_, _| 0.0)?; // The numbers of bins.
    Ok(crate::histograms::jensen_shannon_of(&p.shares, &q.shares))
}

/// Jensen–Shannon distance, the root of the divergence; a metric
///
/// `scipy.spatial.distance.jensenshannon`; for another base divide by the root of its logarithm.
///
/// # Errors
/// [`Error::Shape`] for different numbers of bins.
pub fn jensen_shannon_distance(p: &Histogram, q: &Histogram) -> Result<f64, Error> {
    Ok(jensen_shannon(p, q)?.sqrt())
}

/// Symmetric χ² distance `½ Σ (p − q)²/(p + q)`, a term 0/0 is 0, from 0 to 1
///
/// # Errors
/// [`Error::Shape`] for different numbers of bins.
pub fn chi_square(p: &Histogram, q: &Histogram) -> Result<f64, Error> {
    Ok(0.5 * over(p, q, |p, q| (p - q) * share(p, q))?)
}

/// Pearson's χ² divergence `Σ (p − q)²/q`, a term 0/0 is 0; infinite where only `q` is empty
///
/// # Errors
/// [`Error::Shape`] for different numbers of bins.
pub fn pearson_chi_square(p: &Histogram, q: &Histogram) -> Result<f64, Error> {
    over(
        p,
        q,
        |p, q| {
            if p == q { 0.0 } else { (p - q) * ((p - q) / q) }
        },
    )
}

/// Total variation distance `½ Σ |p − q|`, from 0 to 1; a metric
///
/// # Errors
/// [`Error::Shape`] for different numbers of bins.
pub fn total_variation(p: &Histogram, q: &Histogram) -> Result<f64, Error> {
    Ok(0.5 * over(p, q, |p, q| (p - q).abs())?)
}

/// Earth mover's distance `Σ_k |P_k − Q_k|` of the cumulated shares, with bins at a distance of 1; a metric
///
/// # Errors
/// [`Error::Shape`] for different numbers of bins.
pub fn earth_mover(p: &Histogram, q: &Histogram) -> Result<f64, Error> {
    over(p, q, |_, _| 0.0)?; // The numbers of bins.
    let (mut ahead, mut total) = (0.0, 0.0f64);
    for (p, q) in p.shares.iter().zip(&q.shares) {
        ahead += p - q;
        total += ahead.abs();
    }
    Ok(total)
}

#[cfg(test)]
mod tests {
    use std::f64::consts::{LN_2, SQRT_2};

    use super::*;

    type Divergence = fn(&Histogram, &Histogram) -> Result<f64, Error>;

    fn of(weights: &[f64]) -> Histogram {
        Histogram::new(weights).expect("a histogram")
    }

    fn near(got: f64, want: f64) {
        assert!((got - want).abs() < 1e-14, "{got}, want {want}");
    }

    #[test]
    fn two_coins_are_as_far_as_on_paper() -> Result<(), Error> {
        let (p, q) = (of(&[1.0, 1.0]), of(&[1.0, 3.0])); // 1/2, 1/2 and 1/4, 3/4.
        let coefficient = 0.125f64.sqrt() + 0.375f64.sqrt();
        near(bhattacharyya_coefficient(&p, &q)?, coefficient);
        near(bhattacharyya(&p, &q)?, -coefficient.ln());
        near(matusita(&p, &q)?, (2.0 - 2.0 * coefficient).sqrt());
        near(hellinger(&p, &q)?, (1.0 - coefficient).sqrt());
        near(jeffries_matusita(&p, &q)?, (2.0 - 2.0 * coefficient).sqrt());
        near(jeffries_matusita_squared(&p, &q)?, 2.0 - 2.0 * coefficient);
        near(kullback_leibler(&p, &q)?, 0.5 * (4.0f64 / 3.0).ln());
        near(jeffreys(&p, &q)?, 0.25 * 3f64.ln());
        near(chi_square(&p, &q)?, 0.5 * (0.0625 / 0.75 + 0.0625 / 1.25));
        near(pearson_chi_square(&p, &q)?, 0.0625 / 0.25 + 0.0625 / 0.75);
        near(total_variation(&p, &q)?, 0.25);
        near(earth_mover(&p, &q)?, 0.25);
        Ok(())
    }

    #[test]
    fn where_nothing_is_shared_all_are_at_their_largest() -> Result<(), Error> {
        let (p, q) = (of(&[1.0, 0.0, 0.0]), of(&[0.0, 0.0, 2.0]));
        let largest: [(Divergence, f64); 12] = [
            (bhattacharyya_coefficient, 0.0),
            (bhattacharyya, f64::INFINITY),
            (matusita, SQRT_2),
            (hellinger, 1.0),
            (jeffries_matusita_squared, 2.0),
            (kullback_leibler, f64::INFINITY),
            (jeffreys, f64::INFINITY),
            (jensen_shannon, LN_2),
            (chi_square, 1.0),
            (pearson_chi_square, f64::INFINITY),
            (total_variation, 1.0),
            (earth_mover, 2.0),
        ];
        for (divergence, want) in largest {
            assert_eq!(divergence(&p, &q)?, want);
            let shared = divergence(&p, &p)?;
            assert_eq!(shared, if want == 0.0 { 1.0 } else { 0.0 });
            let smoothed = divergence(&p.smoothed(1e-12)?, &q.smoothed(1e-12)?)?;
            assert!(smoothed.is_finite());
            let message = divergence(&p, &of(&[1.0]))
                .expect_err("3 and 1")
                .to_string();
            assert!(message.contains("`p` has 3 bins, `q` 1"), "{message}");
        }
        Ok(())
    }

    #[test]
    fn near_histograms_keep_their_digits() -> Result<(), Error> {
        // By its series each is δ² times a constant: here Σ (p − q)²/p = 2 · 10⁻²⁰ / 0.5.
        let (p, q) = (of(&[0.5, 0.5]), of(&[0.5 + 1e-10, 0.5 - 1e-10]));
        let pearson = 4e-20;
        for (divergence, factor) in [
            (bhattacharyya as Divergence, 1.0 / 8.0),
            (jensen_shannon, 1.0 / 8.0),
            (chi_square, 1.0 / 4.0),
            (jeffries_matusita_squared, 1.0 / 4.0),
            (jeffreys, 1.0),
        ] {
            let got = divergence(&p, &q)? / (factor * pearson);
            assert!((got - 1.0).abs() < 1e-5, "{got}"); // 10⁻¹⁰ itself has six digits beside 0.5.
        }
        Ok(())
    }

    #[test]
    fn what_is_no_histogram_is_refused() {
        let message = |weights: &[f64]| {
            let error = Histogram::new(weights).expect_err("refused");
            error.to_string()
        };
        assert!(message(&[1.0, -1.0]).contains("bin 1 has -1"));
        assert!(message(&[f64::NAN]).contains("bin 0 has NaN"));
        assert!(message(&[0.0, 0.0]).contains("all of its 2 bins are empty"));
        assert!(message(&[]).contains("0 bins"));
        assert_eq!(of(&[3e307, 1e308, 3e307]).shares()[1], 0.625);
        assert!(of(&[1.0]).smoothed(-1.0).is_err());
    }
}
