//! Factors of positive definite matrices.

/// `L` with `A = L Lᵀ`, lower triangular, row-major.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Cholesky {
    factor: Vec<f64>,
    dim: usize,
}

impl Cholesky {
    /// None for a matrix that is not positive definite, to rounding.
    pub(super) fn of(matrix: &[f64], dim: usize) -> Option<Self> {
        let mut factor = vec![0.0; dim * dim];
        for i in 0..dim {
            for j in 0..=i {
                let known: f64 = (0..j)
                    .map(|k| factor[i * dim + k] * factor[j * dim + k])
                    .sum();
                let rest = matrix[i * dim + j] - known;
                if i != j {
                    factor[i * dim + j] = rest / factor[j * dim + j];
                    continue;
                }
                let negligible = matrix[i * dim + i].abs() * dim as f64 * f64::EPSILON;
                if !(rest.is_finite() && rest > negligible) {
                    return None;
                }
                factor[i * dim + i] = rest.sqrt();
            }
        }
        Some(Self { factor, dim })
    }

    /// `ln det A`
    pub(super) fn log_determinant(&self) -> f64 {
        let diagonal = (0..self.dim).map(|i| self.factor[i * self.dim + i].ln());
        2.0 * diagonal.sum::<f64>()
    }

    /// `L⁻¹ x`
    pub(super) fn solve(&self, x: &[f64]) -> Vec<f64> {
        let mut solved: Vec<f64> = Vec::with_capacity(self.dim);
        for (i, row) in self.factor.chunks_exact(self.dim).enumerate() {
            let known: f64 = row.iter().zip(&solved).map(|(l, y)| l * y).sum();
            solved.push((x[i] - known) / row[i]);
        }
        solved
    }

    /// `Lᵀ B` of another factor, row-major.
    pub(super) fn transposed_times(&self, other: &Self) -> Vec<f64> {
        let dim = self.dim;
        let mut product = vec![0.0; dim * dim];
        for k in 0..dim {
            for i in 0..dim {
                let left = self.factor[k * dim + i];
                for j in 0..dim {
                    product[i * dim + j] += left * other.factor[k * dim + j];
                }
            }
        }
        product
    }

    /// The columns of `L`.
    pub(super) fn columns(&self) -> impl Iterator<Item = Vec<f64>> {
        let dim = self.dim;
        (0..dim).map(move |j| (0..dim).map(|i| self.factor[i * dim + j]).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_matrix_is_factored_as_on_paper() {
        let cholesky = Cholesky::of(&[4.0, 2.0, 2.0, 10.0], 2).expect("definite");
        assert_eq!(cholesky.factor, [2.0, 0.0, 1.0, 3.0]);
        assert!((cholesky.log_determinant() - 36f64.ln()).abs() < 1e-15);
        assert_eq!(cholesky.solve(&[4.0, 8.0]), [2.0, 2.0]);
        assert_eq!(cholesky.transposed_times(&cholesky), [5.0, 3.0, 3.0, 9.0]);
        assert!(Cholesky::of(&[1.0, 1.0, 1.0, 1.0], 2).is_none());
        assert!(Cholesky::of(&[f64::NAN], 1).is_none() && Cholesky::of(&[-1.0], 1).is_none());
    }
}
