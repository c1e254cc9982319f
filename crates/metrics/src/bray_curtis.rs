//! Bray–Curtis dissimilarity.

use candle_core::Tensor;
use nearfar_core::{Axioms, Distance};
use nearfar_kernels::{RowOf, RowPair};
use serde::{Deserialize, Serialize};

use crate::coordinates::{self, add_to, sign, sum};

/// `Σ_k |x_k − y_k| / Σ_k |x_k + y_k|`
///
/// Made for counts, as of species at two sites: of rows without negative numbers it is from 0 to 1. It has no triangle
/// inequality. Two rows of zeros have distance 0 (0/0, which scipy calls NaN). Where rows cancel one another the
/// denominator is held at 10⁻¹² of `Σ (|x_k| + |y_k|)`, so that the distance is finite; nothing pulls on them then.
///
/// Source: Bray, Curtis, "An ordination of the upland forest communities of southern Wisconsin", Ecological Monographs
/// 1957. Agrees with scipy's `braycurtis`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BrayCurtis {}

const FLOOR: f64 = 1e-12;

/// `Σ |x − y|`, and `Σ |x + y|` where that is not held.
#[inline(always)]
fn parts(x: RowOf<'_, ()>, y: RowOf<'_, ()>) -> (f64, Result<f64, f64>) {
    let minus = sum(x.numbers, y.numbers, |x, y| (x - y).abs());
    let plus = sum(x.numbers, y.numbers, |x, y| (x + y).abs());
    let floor = FLOOR * sum(x.numbers, y.numbers, |x, y| x.abs() + y.abs());
    (minus, if plus > floor { Ok(plus) } else { Err(floor) })
}

impl Distance for BrayCurtis {
    fn matrix(&self, x: &Tensor, y: &Tensor) -> candle_core::Result<Tensor> {
        coordinates::matrix(&Ratio, x, y)
    }

    fn paired(&self, x: &Tensor, y: &Tensor) -> candle_core::Result<Tensor> {
        coordinates::paired(&Ratio, x, y)
    }

    fn axioms(&self) -> Axioms {
        Axioms {
            triangle: false,
            ..Axioms::METRIC
        }
    }
}

/// The function itself.
#[derive(Clone, Debug)]
struct Ratio;

impl RowPair for Ratio {
    type Known = ();

    fn name(&self) -> &'static str {
        "bray_curtis"
    }

    fn know(&self, _: &[f64]) {}

    #[inline(always)]
    fn value(&self, x: RowOf<'_, ()>, y: RowOf<'_, ()>) -> f64 {
        match parts(x, y) {
            (0.0, _) => 0.0,
            (minus, Ok(plus) | Err(plus)) => minus / plus,
        }
    }

    #[inline(always)]
    fn pull(&self, x: RowOf<'_, ()>, y: RowOf<'_, ()>, _: f64, gradient: f64, pulled: &mut [f64]) {
        let (minus, Ok(plus)) = parts(x, y) else {
            return;
        };
        let (scale, ratio) = (gradient / plus, minus / plus);
        add_to(pulled, x, y, |x, y| {
            scale * (sign(x - y) - ratio * sign(x + y))
        });
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Var};

    use super::*;

    #[test]
    fn zeros_are_zero_apart_and_what_cancels_is_far() -> candle_core::Result<()> {
        let x = Var::new(&[[1f64, 3.0], [0.0, 0.0], [1.0, -2.0]], &Device::Cpu)?;
        let y = Tensor::new(&[[2f64, 2.0], [0.0, 0.0], [-1.0, 2.0]], &Device::Cpu)?;
        let distance = BrayCurtis {}.paired(&x, &y)?;
        assert_eq!(distance.to_vec1::<f64>()?, [0.25, 0.0, 1e12]);
        let gradients = distance.backward()?;
        let gradient = gradients
            .get(&x)
            .expect("it depends on it")
            .to_vec2::<f64>()?;
        // (−1 − 1/4)/8 and (1 − 1/4)/8.
        assert_eq!(gradient, [[-0.15625, 0.09375], [0.0, 0.0], [0.0, 0.0]]);
        Ok(())
    }
}
