//! Squared Euclidean distances.

use candle_core::{D, Result, Tensor};

use crate::differences::{Kind, all, check, matrix};
use crate::host::serves;

/// Squared Euclidean distances of every row of `x` to every row of `y`, `‖x_i − y_j‖²`: `(n, d), (m, d) → (n, m)`.
///
/// Computed from the differences, not from inner products: equal rows give 0 exactly, nothing is negative, near rows keep
/// all their digits, and `(x, y)` and `(y, x)` are the same numbers. The same holds for the gradient. No `(n, m, d)` is
/// made on the CPU; other devices make one.
///
/// ```
/// # use candle_core::{Device, Tensor};
/// let x = Tensor::new(&[[0f32, 0.0], [3.0, 4.0]], &Device::Cpu)?;
/// let squared = nearfar_kernels::squared_euclidean(&x, &x)?;
/// assert_eq!(squared.to_vec2::<f32>()?, [[0.0, 25.0], [25.0, 0.0]]);
/// # Ok::<(), candle_core::Error>(())
/// ```
///
/// # Errors
///
/// If the shapes are not `(n, d)` and `(m, d)`, or the number types differ.
pub fn squared_euclidean(x: &Tensor, y: &Tensor) -> Result<Tensor> {
    check("squared_euclidean", x, y)?;
    if serves(x) {
        matrix(Kind::Squared, x, y)
    } else {
        reference(x, y)
    }
}

/// [`squared_euclidean`](crate::squared_euclidean) in candle operations.
pub fn reference(x: &Tensor, y: &Tensor) -> Result<Tensor> {
    check("squared_euclidean", x, y)?;
    all(x, y)?.sqr()?.sum(D::Minus1)
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Var};

    use super::*;

    #[test]
    fn near_rows_keep_their_digits() -> Result<()> {
        // In f32 the form ‖x‖² + ‖y‖² − 2 x·y gives 0 here, or 1.2e-7.
        let x = Tensor::new(&[[0.6f32, 0.8]], &Device::Cpu)?;
        let y = Tensor::new(&[[0.6f32, 0.8001]], &Device::Cpu)?;
        let exact = (0.8001f32 - 0.8) as f64;
        let squared = squared_euclidean(&x, &y)?.to_vec2::<f32>()?[0][0] as f64;
        assert!(
            (squared - exact * exact).abs() < 1e-7 * exact * exact,
            "{squared}"
        );
        Ok(())
    }

    #[test]
    fn the_gradient_is_twice_the_difference() -> Result<()> {
        for version in [squared_euclidean, reference] {
            let x = Var::new(&[[1f64, 2.0]], &Device::Cpu)?;
            let y = Var::new(&[[0f64, 5.0], [1.0, 2.0]], &Device::Cpu)?;
            let squared = version(&x, &y)?;
            assert_eq!(squared.to_vec2::<f64>()?, [[10.0, 0.0]]);
            let gradients = squared.backward()?;
            let gradient = |var: &Var| {
                gradients
                    .get(var)
                    .expect("it depends on both")
                    .to_vec2::<f64>()
            };
            assert_eq!(gradient(&x)?, [[2.0, -6.0]]);
            assert_eq!(gradient(&y)?, [[-2.0, 6.0], [0.0, 0.0]]);
        }
        Ok(())
    }
}
