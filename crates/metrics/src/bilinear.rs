//! Bilinear similarity.

use candle_core::{D, Device, Result, Tensor};
use nearfar_core::{Error, Similarity, shape};

use crate::square_matrix::{finite, square};

/// `xᵀ M y`, given any square matrix `M`
///
/// An inner product in which every coordinate of one row meets every coordinate of the other, as OASIS learns it. With the
/// identity it is [`Dot`](crate::Dot). `M` need be neither symmetric nor positive: the similarity of `x` and `y` is that of
/// `y` and `x` only if it is symmetric.
///
/// Source: Chechik, Sharma, Shalit, Bengio, "Large scale online learning of image similarity through ranking", JMLR 2010,
/// equation 1.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use nearfar_core::Similarity;
/// use nearfar_metrics::Bilinear;
///
/// let similarity = Bilinear::from_matrix(2, &[0.0, 1.0, 0.0, 0.0])?;
/// let (x, y) = (Tensor::new(&[[2f64, 3.0]], &Device::Cpu)?, Tensor::new(&[[5f64, 7.0]], &Device::Cpu)?);
/// assert_eq!(similarity.matrix(&x, &y)?.to_vec2::<f64>()?, [[14.0]]); // 2 · 7.
/// assert_eq!(similarity.paired(&y, &x)?.to_vec1::<f64>()?, [15.0]); // 5 · 3.
/// # Ok::<(), candle_core::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Bilinear {
    /// `M`, row-major.
    matrix: Vec<f64>,
    dim: usize,
}

impl Bilinear {
    /// By its matrix of `dim · dim` numbers, row-major.
    ///
    /// # Errors
    /// [`Error::Settings`] when it is not square or not finite.
    pub fn from_matrix(dim: usize, matrix: &[f64]) -> std::result::Result<Self, Error> {
        square("bilinear", "matrix", matrix, dim)?;
        finite("bilinear", "matrix", matrix, dim)?;
        Ok(Self {
            matrix: matrix.to_vec(),
            dim,
        })
    }

    /// The matrix, row-major.
    pub fn as_matrix(&self) -> &[f64] {
        &self.matrix
    }

    /// The dimension of the rows it compares.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// `(n, d) → (n, d)`: rows of `x` times `M`.
    fn mapped(&self, x: &Tensor) -> Result<Tensor> {
        let (_, d) = shape::matrix("bilinear", ("x", x))?;
        if d != self.dim {
            Err(Error::Shape(format!(
                "bilinear: rows of `x` have {d} dimensions, the matrix {}; they must agree",
                self.dim
            )))?;
        }
        let matrix = Tensor::from_slice(&self.matrix, (d, d), &Device::Cpu)?;
        x.matmul(&matrix.to_dtype(x.dtype())?.to_device(x.device())?)
    }
}

impl Similarity for Bilinear {
    fn matrix(&self, x: &Tensor, y: &Tensor) -> Result<Tensor> {
        shape::rows_of_one_width("bilinear", ("x", x), ("y", y))?;
        self.mapped(x)?.matmul(&y.t()?)
    }

    fn paired(&self, x: &Tensor, y: &Tensor) -> Result<Tensor> {
        shape::same("bilinear", ("x", x), ("y", y))?;
        (self.mapped(x)? * y)?.sum(D::Minus1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_square_of_finite_numbers_is_refused() {
        let refused = |dim, matrix: &[f64]| {
            let error = Bilinear::from_matrix(dim, matrix).expect_err("refused");
            error.to_string()
        };
        assert!(refused(2, &[1.0, 2.0]).contains("has 2 numbers; a square one of 2 columns has 4"));
        assert!(refused(0, &[]).contains("0 numbers"));
        assert!(refused(1, &[f64::INFINITY]).contains("inf in row 0, column 0"));
        let x = Tensor::new(&[[1f64]], &Device::Cpu).expect("small");
        let two = Bilinear::from_matrix(2, &[0.0; 4]).expect("square");
        let message = two.matrix(&x, &x).expect_err("1 and 2").to_string();
        assert!(
            message.contains("rows of `x` have 1 dimensions, the matrix 2"),
            "{message}"
        );
    }
}
