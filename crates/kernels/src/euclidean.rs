//! Euclidean distances.

use candle_core::{Result, Tensor};

use crate::differences::{Kind, check, matrix};
use crate::host::serves;
use crate::{safe_sqrt, squared_euclidean};

/// Euclidean distances of every row of `x` to every row of `y`, `‖x_i − y_j‖`: `(n, d), (m, d) → (n, m)`.
///
/// The root of [`squared_euclidean`](crate::squared_euclidean) in the same pass, with all that is promised there. Rows that
/// coincide have distance 0 and gradient 0, as in torch's `cdist`.
///
/// # Errors
///
/// If the shapes are not `(n, d)` and `(m, d)`, or the number types differ.
pub fn euclidean(x: &Tensor, y: &Tensor) -> Result<Tensor> {
    check("euclidean", x, y)?;
    if serves(x) {
        matrix(Kind::Euclidean, x, y)
    } else {
        reference(x, y)
    }
}

/// [`euclidean`](crate::euclidean) in candle operations.
pub fn reference(x: &Tensor, y: &Tensor) -> Result<Tensor> {
    check("euclidean", x, y)?;
    safe_sqrt::reference(&squared_euclidean::reference(x, y)?)
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Var};

    use super::*;

    #[test]
    fn rows_that_coincide_pull_on_nothing() -> Result<()> {
        for version in [euclidean, reference] {
            let x = Var::new(&[[0f64, 4.0], [0.0, 0.0]], &Device::Cpu)?;
            let distance = version(&x, &x)?;
            assert_eq!(distance.to_vec2::<f64>()?, [[0.0, 4.0], [4.0, 0.0]]);
            let gradients = distance.backward()?;
            let gradient = gradients
                .get(&x)
                .expect("it depends on its rows")
                .to_vec2::<f64>()?;
            // Each pair counts twice: (a, b) and (b, a).
            assert_eq!(gradient, [[0.0, 2.0], [0.0, -2.0]]);
        }
        Ok(())
    }
}
