//! Divergences of normal distributions.

use nearfar_core::Error;

use super::cholesky::Cholesky;
use crate::eigen;

/// A normal distribution: a mean and a positive definite covariance
///
/// Everything goes through Cholesky factors; no matrix is inverted, and determinants are sums of logarithms. With
/// `Δ = μ₁ − μ₂` and `Σ̄ = (Σ₁ + Σ₂)/2`:
///
/// | | |
/// |---|---|
/// | [`mahalanobis`](Self::mahalanobis) | `√(Δᵀ Σ̄⁻¹ Δ)` |
/// | [`bhattacharyya`](Self::bhattacharyya) | `B = ⅛ Δᵀ Σ̄⁻¹ Δ + ½ ln(det Σ̄ / √(det Σ₁ det Σ₂))` |
/// | [`hellinger`](Self::hellinger) | `√(1 − e^{−B})` |
/// | [`jeffries_matusita`](Self::jeffries_matusita) | `√(2 (1 − e^{−B}))` |
/// | [`kullback_leibler`](Self::kullback_leibler) | `½ (tr(Σ₂⁻¹ Σ₁) + Δᵀ Σ₂⁻¹ Δ − d + ln(det Σ₂ / det Σ₁))` |
/// | [`wasserstein2_squared`](Self::wasserstein2_squared) | `‖Δ‖² + tr(Σ₁ + Σ₂ − 2 (Σ₂^½ Σ₁ Σ₂^½)^½)` |
///
/// ```
/// use nearfar_metrics::divergences::Gaussian;
///
/// let narrow = Gaussian::new(&[0.0, 0.0], &[1.0, 0.0, 0.0, 1.0])?;
/// let wide = Gaussian::new(&[3.0, 4.0], &[4.0, 0.0, 0.0, 4.0])?;
/// assert_eq!(narrow.wasserstein2_squared(&wide)?, 27.0); // 5² + 2 (2 − 1)².
/// assert!((narrow.kullback_leibler(&wide)? - (0.25 + 25.0 / 8.0 - 1.0 + 4f64.ln())).abs() < 1e-14);
/// let message = Gaussian::new(&[0.0], &[-1.0]).unwrap_err().to_string();
/// assert!(message.contains("not positive definite"), "{message}");
/// # Ok::<(), nearfar_core::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Gaussian {
    mean: Vec<f64>,
    covariance: Vec<f64>,
    factor: Cholesky,
}

impl Gaussian {
    /// By its mean, `d` numbers, and its covariance, `d · d` numbers.
    ///
    /// # Errors
    /// [`Error::Shape`] when these do not fit, [`Error::Input`] when a number is not finite, or the covariance is not
    /// symmetric or not positive definite, to rounding. What is short of a rank can be given a ridge: see
    /// [`of_rows`](Self::of_rows).
    pub fn new(mean: &[f64], covariance: &[f64]) -> Result<Self, Error> {
        let dim = mean.len();
        if dim == 0 || covariance.len() != dim * dim {
            return Err(Error::Shape(format!(
                "gaussian: the mean has {dim} numbers, the covariance {}; they must be d and d · d, d of 1 or more",
                covariance.len()
            )));
        }
        if let Some(number) = mean.iter().chain(covariance).find(|x| !x.is_finite()) {
            return Err(Error::Input(format!(
                "gaussian: {number} is among the numbers; all must be finite"
            )));
        }
        let largest = covariance.iter().map(|x| x.abs()).fold(0.0, f64::max);
        for i in 0..dim {
            for j in 0..i {
                let (lower, upper) = (covariance[i * dim + j], covariance[j * dim + i]);
                if (lower - upper).abs() > largest * dim as f64 * f64::EPSILON {
                    return Err(Error::Input(format!(
                        "gaussian: the covariance is not symmetric: {lower} in row {i}, column {j}, but {upper} in row {j}, column {i}"
                    )));
                }
            }
        }
        let Some(factor) = Cholesky::of(covariance, dim) else {
            return Err(Error::Input(
                "gaussian: the covariance is not positive definite: some direction has no variance; a ridge gives it some"
                    .into(),
            ));
        };
        Ok(Self {
            mean: mean.to_vec(),
            covariance: covariance.to_vec(),
            factor,
        })
    }

    /// The mean and covariance (over `n − 1`) of rows of `dim` numbers, with `ridge` added to every variance.
    ///
    /// Of one row the covariance is the ridge alone.
    ///
    /// # Errors
    /// [`Error::Shape`] when there is no whole row, [`Error::Input`] as of [`new`](Self::new): without a ridge there must
    /// be more rows than dimensions.
    pub fn of_rows(rows: &[f64], dim: usize, ridge: f64) -> Result<Self, Error> {
        if dim == 0 || rows.is_empty() || !rows.len().is_multiple_of(dim) {
            return Err(Error::Shape(format!(
                "gaussian: {} numbers are no rows of {dim} dimensions",
                rows.len()
            )));
        }
        let n = rows.len() / dim;
        let mut mean = vec![0.0; dim];
        for row in rows.chunks_exact(dim) {
            for (mean, x) in mean.iter_mut().zip(row) {
                *mean += x / n as f64;
            }
        }
        let mut covariance = vec![0.0; dim * dim];
        let others = (n - 1).max(1) as f64;
        for row in rows.chunks_exact(dim) {
            for i in 0..dim {
                let outer = (row[i] - mean[i]) / others;
                for j in 0..dim {
                    covariance[i * dim + j] += outer * (row[j] - mean[j]);
                }
            }
        }
        for i in 0..dim {
            for j in 0..i {
                // Rounding differs between the two triangles.
                covariance[i * dim + j] = covariance[j * dim + i];
            }
            covariance[i * dim + i] += ridge;
        }
        Self::new(&mean, &covariance)
    }

    /// Its mean.
    pub fn mean(&self) -> &[f64] {
        &self.mean
    }

    /// Its covariance, row-major.
    pub fn covariance(&self) -> &[f64] {
        &self.covariance
    }

    fn difference(&self, other: &Self) -> Result<Vec<f64>, Error> {
        if self.mean.len() != other.mean.len() {
            return Err(Error::Shape(format!(
                "gaussian: one has {} dimensions, the other {}; they must agree",
                self.mean.len(),
                other.mean.len()
            )));
        }
        let pairs = self.mean.iter().zip(&other.mean);
        Ok(pairs.map(|(x, y)| x - y).collect())
    }

    /// The factor of the mean of both covariances, and `Δᵀ Σ̄⁻¹ Δ`.
    fn between(&self, other: &Self) -> Result<(Cholesky, f64), Error> {
        let difference = self.difference(other)?;
        let pairs = self.covariance.iter().zip(&other.covariance);
        let mean: Vec<f64> = pairs.map(|(x, y)| 0.5 * x + 0.5 * y).collect();
        let factor = Cholesky::of(&mean, self.mean.len()).ok_or_else(|| {
            Error::Input("gaussian: the mean of the covariances is not positive definite".into())
        })?;
        let squared = length_squared(&factor.solve(&difference));
        Ok((factor, squared))
    }

    /// Mahalanobis distance of the means under the mean of both covariances
    ///
    /// # Errors
    /// [`Error::Shape`] for different dimensions, as of all of these.
    pub fn mahalanobis(&self, other: &Self) -> Result<f64, Error> {
        Ok(self.between(other)?.1.sqrt())
    }

    /// Bhattacharyya distance
    ///
    /// # Errors
    /// [`Error::Shape`] for different dimensions.
    pub fn bhattacharyya(&self, other: &Self) -> Result<f64, Error> {
        let (mean, squared) = self.between(other)?;
        let volumes = self.factor.log_determinant() + other.factor.log_determinant();
        let shape = 0.5 * (mean.log_determinant() - 0.5 * volumes);
        // Rounding can leave a small negative value for equal covariances.
        Ok(0.125 * squared + shape.max(0.0))
    }

    /// Bhattacharyya coefficient `e^{−B}`, from 0 to 1: how much of the two is shared
    ///
    /// # Errors
    /// [`Error::Shape`] for different dimensions.
    pub fn bhattacharyya_coefficient(&self, other: &Self) -> Result<f64, Error> {
        Ok((-self.bhattacharyya(other)?).exp())
    }

    /// Hellinger distance, from 0 to 1; a metric
    ///
    /// # Errors
    /// [`Error::Shape`] for different dimensions.
    pub fn hellinger(&self, other: &Self) -> Result<f64, Error> {
        Ok((-(-self.bhattacharyya(other)?).exp_m1()).sqrt())
    }

    /// Jeffries–Matusita distance, from 0 to √2; a metric
    ///
    /// # Errors
    /// [`Error::Shape`] for different dimensions.
    pub fn jeffries_matusita(&self, other: &Self) -> Result<f64, Error> {
        Ok(self.jeffries_matusita_squared(other)?.sqrt())
    }

    /// The square of it, from 0 to 2, which in remote sensing has the same name: below 1 two classes are hard to tell apart,
    /// above 1.9 they are easy
    ///
    /// # Errors
    /// [`Error::Shape`] for different dimensions.
    pub fn jeffries_matusita_squared(&self, other: &Self) -> Result<f64, Error> {
        Ok(-2.0 * (-self.bhattacharyya(other)?).exp_m1())
    }

    /// Kullback–Leibler divergence of this one from the other; not symmetric
    ///
    /// # Errors
    /// [`Error::Shape`] for different dimensions.
    pub fn kullback_leibler(&self, other: &Self) -> Result<f64, Error> {
        let difference = self.difference(other)?;
        let squared = length_squared(&other.factor.solve(&difference));
        // tr(Σ₂⁻¹ Σ₁) = ‖L₂⁻¹ L₁‖².
        let columns = self.factor.columns();
        let trace: f64 = columns
            .map(|column| length_squared(&other.factor.solve(&column)))
            .sum();
        let volumes = other.factor.log_determinant() - self.factor.log_determinant();
        let shape = trace - self.mean.len() as f64 + volumes;
        Ok(0.5 * (shape.max(0.0) + squared))
    }

    /// Jeffreys divergence, the sum of both Kullback–Leibler divergences
    ///
    /// # Errors
    /// [`Error::Shape`] for different dimensions.
    pub fn jeffreys(&self, other: &Self) -> Result<f64, Error> {
        Ok(self.kullback_leibler(other)? + other.kullback_leibler(self)?)
    }

    /// Squared 2-Wasserstein distance
    ///
    /// Source: Dowson, Landau, "The Fréchet distance between multivariate normal distributions", Journal of Multivariate
    /// Analysis 1982.
    ///
    /// # Errors
    /// [`Error::Shape`] for different dimensions.
    pub fn wasserstein2_squared(&self, other: &Self) -> Result<f64, Error> {
        let difference = self.difference(other)?;
        let dim = self.mean.len();
        // The eigenvalues of Σ₂^½ Σ₁ Σ₂^½ are those of Mᵀ M with M = L₁ᵀ L₂.
        let product = self.factor.transposed_times(&other.factor);
        let mut gram = vec![0.0; dim * dim];
        for row in product.chunks_exact(dim) {
            for i in 0..dim {
                for j in 0..dim {
                    gram[i * dim + j] += row[i] * row[j];
                }
            }
        }
        let values = eigen::symmetric(&gram, dim).values;
        let shared: f64 = values.iter().map(|value| value.max(0.0).sqrt()).sum();
        let trace: f64 = (0..dim)
            .map(|i| self.covariance[i * dim + i] + other.covariance[i * dim + i])
            .sum();
        Ok(length_squared(&difference) + (trace - 2.0 * shared).max(0.0))
    }

    /// 2-Wasserstein distance, also Fréchet's; a metric
    ///
    /// # Errors
    /// [`Error::Shape`] for different dimensions.
    pub fn wasserstein2(&self, other: &Self) -> Result<f64, Error> {
        Ok(self.wasserstein2_squared(other)?.sqrt())
    }
}

fn length_squared(x: &[f64]) -> f64 {
    x.iter().map(|x| x * x).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_on_a_line_are_as_far_as_on_paper() -> Result<(), Error> {
        let (a, b) = (
            Gaussian::new(&[1.0], &[1.0])?,
            Gaussian::new(&[4.0], &[9.0])?,
        );
        let near = |got: f64, want: f64| assert!((got - want).abs() < 1e-14, "{got} {want}");
        near(a.mahalanobis(&b)?, 3.0 / 5f64.sqrt());
        let bhattacharyya = 9.0 / 40.0 + 0.5 * (5.0f64 / 3.0).ln();
        near(a.bhattacharyya(&b)?, bhattacharyya);
        near(a.bhattacharyya_coefficient(&b)?, (-bhattacharyya).exp());
        near(a.hellinger(&b)?, (1.0 - (-bhattacharyya).exp()).sqrt());
        near(
            a.jeffries_matusita_squared(&b)?,
            2.0 * (1.0 - (-bhattacharyya).exp()),
        );
        near(
            a.jeffries_matusita(&b)?.powi(2),
            a.jeffries_matusita_squared(&b)?,
        );
        near(a.kullback_leibler(&b)?, 3f64.ln() + 10.0 / 18.0 - 0.5);
        near(b.kullback_leibler(&a)?, -(3f64.ln()) + 18.0 / 2.0 - 0.5);
        near(a.jeffreys(&b)?, 10.0 / 18.0 + 9.0 - 1.0);
        near(a.wasserstein2_squared(&b)?, 9.0 + 4.0);
        near(a.wasserstein2(&b)?, 13f64.sqrt());
        for divergence in [
            Gaussian::bhattacharyya,
            Gaussian::kullback_leibler,
            Gaussian::wasserstein2,
            Gaussian::hellinger,
        ] {
            assert_eq!(divergence(&b, &b)?, 0.0);
        }
        Ok(())
    }

    #[test]
    fn of_rows_it_has_their_mean_and_covariance() -> Result<(), Error> {
        let rows = [0.0, 0.0, 2.0, 0.0, 1.0, 3.0];
        let gaussian = Gaussian::of_rows(&rows, 2, 0.5)?;
        for (got, want) in gaussian.mean().iter().zip([1.0, 1.0]) {
            assert!((got - want).abs() < 1e-15);
        }
        for (got, want) in gaussian.covariance().iter().zip([1.5, 0.0, 0.0, 3.5]) {
            assert!((got - want).abs() < 1e-15);
        }
        let lone = Gaussian::of_rows(&[7.0], 1, 0.25)?;
        assert_eq!((lone.mean(), lone.covariance()), (&[7.0][..], &[0.25][..]));
        assert!(Gaussian::of_rows(&[7.0], 1, 0.0).is_err());
        assert!(
            Gaussian::of_rows(&[7.0], 2, 0.0).is_err() && Gaussian::of_rows(&[], 1, 1.0).is_err()
        );
        Ok(())
    }

    #[test]
    fn what_is_no_covariance_is_refused_with_its_place() {
        let message = |mean: &[f64], covariance: &[f64]| {
            let error = Gaussian::new(mean, covariance).expect_err("refused");
            error.to_string()
        };
        assert!(message(&[0.0], &[]).contains("the mean has 1 numbers, the covariance 0"));
        assert!(
            message(&[0.0, 0.0], &[1.0, 0.5, 0.4, 1.0]).contains("0.4 in row 1, column 0, but 0.5")
        );
        assert!(message(&[0.0, 0.0], &[1.0, 1.0, 1.0, 1.0]).contains("not positive definite"));
        assert!(message(&[f64::NAN], &[1.0]).contains("NaN"));
        let (one, two) = (
            Gaussian::new(&[0.0], &[1.0]),
            Gaussian::new(&[0.0; 2], &[1.0, 0.0, 0.0, 1.0]),
        );
        let (one, two) = (one.expect("fine"), two.expect("fine"));
        let error = one.wasserstein2(&two).expect_err("1 and 2").to_string();
        assert!(error.contains("one has 1 dimensions, the other 2"));
    }
}
