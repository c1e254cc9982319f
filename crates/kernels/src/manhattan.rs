//! Manhattan distances.

use candle_core::{D, Result, Tensor};

use crate::absolute;
use crate::differences::{Kind, all, check, matrix};
use crate::host::serves;

/// Manhattan distances of every row of `x` to every row of `y`, `Σ_k |x_ik − y_jk|`: `(n, d), (m, d) → (n, m)`.
///
/// The gradient of a coordinate is its sign, and 0 where both rows agree in it. No `(n, m, d)` is made on the CPU; other
/// devices make one.
///
/// # Errors
///
/// If the shapes are not `(n, d)` and `(m, d)`, or the number types differ.
pub fn manhattan(x: &Tensor, y: &Tensor) -> Result<Tensor> {
    check("manhattan", x, y)?;
    if serves(x) {
        matrix(Kind::Manhattan, x, y)
    } else {
        reference(x, y)
    }
}

/// [`manhattan`](crate::manhattan) in candle operations.
pub fn reference(x: &Tensor, y: &Tensor) -> Result<Tensor> {
    check("manhattan", x, y)?;
    absolute::reference(&all(x, y)?)?.sum(D::Minus1)
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Var};

    use super::*;

    #[test]
    fn coordinates_that_agree_pull_on_nothing() -> Result<()> {
        for version in [manhattan, reference] {
            let x = Var::new(&[[1f64, 2.0, 7.0]], &Device::Cpu)?;
            let y = Var::new(&[[4f64, 2.0, 5.0]], &Device::Cpu)?;
            let distance = version(&x, &y)?;
            assert_eq!(distance.to_vec2::<f64>()?, [[5.0]]);
            let gradients = distance.backward()?;
            let gradient = |var: &Var| {
                gradients
                    .get(var)
                    .expect("it depends on both")
                    .to_vec2::<f64>()
            };
            assert_eq!(gradient(&x)?, [[-1.0, 0.0, 1.0]]);
            assert_eq!(gradient(&y)?, [[1.0, 0.0, -1.0]]);
        }
        Ok(())
    }
}
