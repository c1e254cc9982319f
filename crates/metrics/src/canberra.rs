//! Canberra distance.

use candle_core::{Result, Tensor};
use nearfar_core::{Axioms, Distance};
use nearfar_kernels::{RowOf, RowPair};
use serde::{Deserialize, Serialize};

use crate::coordinates::{self, add_to, sign, sum};

/// `Σ_k |x_k − y_k| / (|x_k| + |y_k|)`, a term 0/0 is 0
///
/// A Manhattan distance in which every coordinate counts at most 1, and differences near zero count most. A metric.
/// Coordinates that agree have gradient 0. Agrees with scipy's `canberra`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Canberra {}

/// Below it a derivative is held, so that it is finite.
const LEAST: f64 = 1e-150;

impl Distance for Canberra {
    fn matrix(&self, x: &Tensor, y: &Tensor) -> Result<Tensor> {
        coordinates::matrix(&Ratios, x, y)
    }

    fn paired(&self, x: &Tensor, y: &Tensor) -> Result<Tensor> {
        coordinates::paired(&Ratios, x, y)
    }

    fn axioms(&self) -> Axioms {
        Axioms::METRIC
    }
}

/// The function itself.
#[derive(Clone, Debug)]
struct Ratios;

impl RowPair for Ratios {
    type Known = ();

    fn name(&self) -> &'static str {
        "canberra"
    }

    fn know(&self, _: &[f64]) {}

    #[inline(always)]
    fn value(&self, x: RowOf<'_, ()>, y: RowOf<'_, ()>) -> f64 {
        sum(x.numbers, y.numbers, |x, y| {
            // Without a jump for 0/0, so that several coordinates go at once.
            (x - y).abs() / (x.abs() + y.abs()).max(f64::MIN_POSITIVE)
        })
    }

    #[inline(always)]
    fn pull(&self, x: RowOf<'_, ()>, y: RowOf<'_, ()>, _: f64, gradient: f64, pulled: &mut [f64]) {
        add_to(pulled, x, y, |x, y| {
            let total = (x.abs() + y.abs()).max(LEAST);
            gradient * (sign(x - y) - (x - y).abs() / total * sign(x)) / total
        });
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Var};

    use super::*;

    #[test]
    fn every_coordinate_counts_at_most_one() -> Result<()> {
        let x = Var::new(&[[1f64, 0.0, 5.0, 0.0]], &Device::Cpu)?;
        let y = Tensor::new(&[[3f64, 0.0, -2.0, 7.0]], &Device::Cpu)?;
        let distance = Canberra {}.matrix(&x, &y)?;
        assert_eq!(distance.to_vec2::<f64>()?, [[2.5]]); // 2/4 + 0 + 1 + 1.
        let gradients = distance.backward()?;
        let gradient = gradients
            .get(&x)
            .expect("it depends on it")
            .to_vec2::<f64>()?;
        // (3 − x)/(3 + x) has the derivative −6/(3 + x)²; (x + 2)/(x + 2) is constant.
        assert_eq!(gradient, [[-0.375, 0.0, 0.0, -1.0 / 7.0]]);
        Ok(())
    }
}
