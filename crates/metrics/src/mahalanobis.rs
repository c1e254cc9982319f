//! Mahalanobis distance.

use candle_core::{Device, Result, Tensor};
use nearfar_core::{Axioms, Distance, Error, shape};

use crate::square_matrix::{finite, square};
use crate::{Euclidean, eigen};

/// `√((x − y)ᵀ M (x − y)) = ‖W x − W y‖` with `M = Wᵀ W`
///
/// It keeps the map `W`, `(k, d)`; from a matrix `M` it takes the rows `√λ_i v_iᵀ` of its eigenvalues and vectors, largest
/// first, without those that are zero but for rounding. It separates points only where the map forgets nothing, which is
/// when `M` is positive definite; the other axioms of a metric always hold.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use nearfar_core::Distance;
/// use nearfar_metrics::Mahalanobis;
///
/// let distance = Mahalanobis::from_matrix(2, &[4.0, 0.0, 0.0, 1.0])?;
/// let (x, y) = (Tensor::new(&[[0f64, 0.0]], &Device::Cpu)?, Tensor::new(&[[1f64, 0.0], [0.0, 1.0]], &Device::Cpu)?);
/// assert_eq!(distance.matrix(&x, &y)?.to_vec2::<f64>()?, [[2.0, 1.0]]);
/// let error = Mahalanobis::from_matrix(2, &[1.0, 0.0, 0.0, -1.0]).unwrap_err().to_string();
/// assert!(error.contains("not positive semidefinite: its eigenvalues reach from -1 to 1"), "{error}");
/// # Ok::<(), candle_core::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Mahalanobis {
    /// `W`, row-major; never empty.
    map: Vec<f64>,
    dim: usize,
    /// Whether `Wᵀ W` is positive definite.
    separates: bool,
}

impl Mahalanobis {
    /// By its map `W` of `dim` columns, row-major.
    ///
    /// # Errors
    /// [`Error::Settings`] when that is no matrix of finite numbers.
    pub fn from_map(dim: usize, map: &[f64]) -> std::result::Result<Self, Error> {
        if dim == 0 || map.is_empty() || !map.len().is_multiple_of(dim) {
            return Err(Error::Settings(format!(
                "mahalanobis: `map` has {} numbers, which is no matrix of {dim} columns",
                map.len()
            )));
        }
        finite("mahalanobis", "map", map, dim)?;
        let mut distance = Self {
            map: map.to_vec(),
            dim,
            separates: false,
        };
        let values = eigen::symmetric(&distance.to_matrix(), dim).values;
        distance.separates = values[dim - 1] > negligible(values[0], dim);
        Ok(distance)
    }

    /// By the matrix `M`, `dim · dim` numbers.
    ///
    /// # Errors
    /// [`Error::Settings`] when it is not square, finite, symmetric and positive semidefinite, to rounding.
    pub fn from_matrix(dim: usize, matrix: &[f64]) -> std::result::Result<Self, Error> {
        square("mahalanobis", "matrix", matrix, dim)?;
        finite("mahalanobis", "matrix", matrix, dim)?;
        let largest = matrix.iter().map(|x| x.abs()).fold(0.0, f64::max);
        for i in 0..dim {
            for j in 0..i {
                let (lower, upper) = (matrix[i * dim + j], matrix[j * dim + i]);
                if (lower - upper).abs() > negligible(largest, dim) {
                    return Err(Error::Settings(format!(
                        "mahalanobis: `matrix` is not symmetric: {lower} in row {i}, column {j}, but {upper} in row {j}, column {i}"
                    )));
                }
            }
        }
        let eigen = eigen::symmetric(matrix, dim);
        let (first, last) = (eigen.values[0], eigen.values[dim - 1]);
        let negligible = negligible(first.abs().max(last.abs()), dim);
        if last < -negligible {
            return Err(Error::Settings(format!(
                "mahalanobis: `matrix` is not positive semidefinite: its eigenvalues reach from {last} to {first}, and none may be below 0"
            )));
        }
        let mut map: Vec<f64> = eigen
            .values
            .iter()
            .zip(&eigen.vectors)
            .filter(|(value, _)| **value > negligible)
            .flat_map(|(value, vector)| vector.iter().map(|x| value.sqrt() * x))
            .collect();
        if map.is_empty() {
            map = vec![0.0; dim]; // Everything is one point to it.
        }
        Ok(Self {
            separates: last > negligible,
            map,
            dim,
        })
    }

    /// The map `W`, row-major, of [`dim`](Self::dim) columns.
    pub fn map(&self) -> &[f64] {
        &self.map
    }

    /// The matrix `M = Wᵀ W`, row-major.
    pub fn to_matrix(&self) -> Vec<f64> {
        let dim = self.dim;
        let mut matrix = vec![0.0; dim * dim];
        for row in self.map.chunks_exact(dim) {
            for (i, x) in row.iter().enumerate() {
                for (j, y) in row.iter().enumerate() {
                    matrix[i * dim + j] += x * y;
                }
            }
        }
        matrix
    }

    /// The dimension of the rows it compares.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// `(n, d) → (n, k)`
    fn mapped(&self, name: &str, x: &Tensor) -> Result<Tensor> {
        let (_, d) = shape::matrix("mahalanobis", (name, x))?;
        if d != self.dim {
            Err(Error::Shape(format!(
                "mahalanobis: rows of `{name}` have {d} dimensions, the map {}; they must agree",
                self.dim
            )))?;
        }
        let shape = (self.map.len() / self.dim, self.dim);
        let map = Tensor::from_slice(&self.map, shape, &Device::Cpu)?.to_dtype(x.dtype())?;
        x.matmul(&map.to_device(x.device())?.t()?)
    }
}

/// What counts as zero beside eigenvalues or entries of this size.
fn negligible(largest: f64, dim: usize) -> f64 {
    largest * dim as f64 * f64::EPSILON
}

impl Distance for Mahalanobis {
    fn matrix(&self, x: &Tensor, y: &Tensor) -> Result<Tensor> {
        Euclidean {}.matrix(&self.mapped("x", x)?, &self.mapped("y", y)?)
    }

    fn paired(&self, x: &Tensor, y: &Tensor) -> Result<Tensor> {
        Euclidean {}.paired(&self.mapped("x", x)?, &self.mapped("y", y)?)
    }

    fn axioms(&self) -> Axioms {
        Axioms {
            separates: self.separates,
            ..Axioms::METRIC
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(dim: usize, matrix: &[f64]) -> String {
        Mahalanobis::from_matrix(dim, matrix)
            .expect_err("it is refused")
            .to_string()
    }

    #[test]
    fn a_matrix_becomes_a_map_and_the_map_the_matrix() {
        // (1, 2, 2)/3 · 3 and (2, 1, −2)/3 · 1: rank two.
        let map = [1.0, 2.0, 2.0, 2.0 / 3.0, 1.0 / 3.0, -2.0 / 3.0];
        let by_map = Mahalanobis::from_map(3, &map).expect("a matrix");
        let by_matrix = Mahalanobis::from_matrix(3, &by_map.to_matrix()).expect("WᵀW");
        assert_eq!(by_matrix.map().len(), 6, "the third eigenvalue is zero");
        for (x, y) in by_matrix.to_matrix().iter().zip(by_map.to_matrix()) {
            assert!((x - y).abs() < 1e-14, "{x} {y}");
        }
        assert!(!by_map.axioms().separates && !by_matrix.axioms().separates);
        let whole = Mahalanobis::from_matrix(2, &[2.0, 1.0, 1.0, 2.0]).expect("definite");
        assert!(whole.axioms().separates);
        let zero = Mahalanobis::from_matrix(2, &[0.0; 4]).expect("semidefinite");
        assert_eq!(zero.map(), [0.0, 0.0]);
    }

    #[test]
    fn what_is_no_distance_is_refused_with_both_numbers() {
        assert_eq!(
            refused(2, &[1.0, 2.0, 3.0, 1.0]),
            "mahalanobis: `matrix` is not symmetric: 3 in row 1, column 0, but 2 in row 0, column 1"
        );
        assert!(refused(2, &[1.0, 0.0, 0.0, -0.5]).contains("reach from -0.5 to 1"));
        assert!(
            refused(2, &[1.0, 0.0, 0.0]).contains("3 numbers; a square one of 2 columns has 4")
        );
        assert!(refused(1, &[f64::NAN]).contains("NaN in row 0, column 0"));
        // What rounding leaves is accepted.
        assert!(Mahalanobis::from_matrix(2, &[1.0, 1.0, 1.0, 1.0 - 1e-16]).is_ok());
        assert!(Mahalanobis::from_map(2, &[1.0, 2.0, 3.0]).is_err());
    }

    #[test]
    fn rows_of_another_width_are_refused() -> Result<()> {
        let distance = Mahalanobis::from_map(2, &[1.0, 0.0])?;
        let x = Tensor::zeros((1, 3), candle_core::DType::F32, &Device::Cpu)?;
        let message = distance.matrix(&x, &x).expect_err("3").to_string();
        assert_eq!(
            message,
            "mahalanobis: rows of `x` have 3 dimensions, the map 2; they must agree"
        );
        Ok(())
    }
}
