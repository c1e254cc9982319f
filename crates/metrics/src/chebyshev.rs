//! Chebyshev distance.

use candle_core::{Result, Tensor};
use nearfar_core::{Axioms, Distance};
use nearfar_kernels::{RowOf, RowPair};

use crate::coordinates::{self, largest_difference, sign};

/// `max_k |x_k − y_k|`
///
/// The limit of the Minkowski distances. Only the coordinate that differs most has a gradient, the first of them where
/// several do; rows that coincide have none. A metric. Agrees with scipy's `chebyshev`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Chebyshev {}

impl Distance for Chebyshev {
    fn matrix(&self, x: &Tensor, y: &Tensor) -> Result<Tensor> {
        coordinates::matrix(&Largest, x, y)
    }

    fn paired(&self, x: &Tensor, y: &Tensor) -> Result<Tensor> {
        coordinates::paired(&Largest, x, y)
    }

    fn axioms(&self) -> Axioms {
        Axioms::METRIC
    }
}

/// The function itself.
#[derive(Clone, Debug)]
struct Largest;

impl RowPair for Largest {
    type Known = ();

    fn name(&self) -> &'static str {
        "chebyshev"
    }

    fn know(&self, _: &[f64]) {}

    #[inline(always)]
    fn value(&self, x: RowOf<'_, ()>, y: RowOf<'_, ()>) -> f64 {
        largest_difference(x.numbers, y.numbers)
    }

    #[inline(always)]
    fn pull(&self, x: RowOf<'_, ()>, y: RowOf<'_, ()>, _: f64, gradient: f64, pulled: &mut [f64]) {
        let largest = largest_difference(x.numbers, y.numbers);
        let mut pairs = x.numbers.iter().zip(y.numbers);
        if let Some(first) = pairs.position(|(x, y)| (x - y).abs() == largest) {
            pulled[first] += gradient * sign(x.numbers[first] - y.numbers[first]);
        }
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Var};

    use super::*;

    #[test]
    fn the_first_of_the_largest_differences_has_the_gradient() -> Result<()> {
        let x = Var::new(&[[1f64, -3.0, 3.0], [2.0, 2.0, 2.0]], &Device::Cpu)?;
        let y = Tensor::new(&[[0f64, 0.0, 0.0], [2.0, 2.0, 2.0]], &Device::Cpu)?;
        let distance = Chebyshev {}.paired(&x, &y)?;
        assert_eq!(distance.to_vec1::<f64>()?, [3.0, 0.0]);
        let gradients = distance.backward()?;
        let gradient = gradients.get(&x).expect("it depends on it");
        assert_eq!(gradient.to_vec2::<f64>()?, [[0.0, -1.0, 0.0], [0.0; 3]]);
        Ok(())
    }
}
