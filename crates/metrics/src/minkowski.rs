//! Minkowski distance.

use candle_core::{Result, Tensor};
use nearfar_core::{Axioms, Distance, Error, Form, Positive};
use nearfar_kernels::{RowOf, RowPair};
use serde::{Deserialize, Serialize};

use crate::coordinates::{self, add_to, largest_difference, sign, sum};
use crate::{Euclidean, Manhattan, SquaredEuclidean};

/// `(Σ_k |x_k − y_k|^p)^{power / p}`
///
/// With `power = 1` it is the distance of the Lp norm: Manhattan for `p = 1`, Euclidean for `p = 2`, and towards
/// [`Chebyshev`](crate::Chebyshev) for large `p`. A power of it is for formulas that want one: squared distances have
/// `power = 2`. Rows that coincide have distance 0 and gradient 0, whatever the power. A metric where the power is 1 or
/// less; above 1 it has no triangle inequality.
///
/// Agrees with `LpDistance` of pytorch-metric-learning 2.9 with `normalize_embeddings = False`; that one divides rows by
/// their p-norm unless told otherwise, which is `normalize = true` in a run file. Agrees with scipy's `minkowski`.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use nearfar_core::Distance;
/// use nearfar_metrics::{Exponent, Minkowski};
///
/// let distance = Minkowski { p: Exponent::new(3.0)?, ..Minkowski::default() };
/// let (x, y) = (Tensor::new(&[[0f64, 0.0, 0.0]], &Device::Cpu)?, Tensor::new(&[[3f64, 4.0, 5.0]], &Device::Cpu)?);
/// assert!((distance.paired(&x, &y)?.to_vec1::<f64>()?[0] - 6.0).abs() < 1e-14); // 27 + 64 + 125 = 216.
/// # Ok::<(), candle_core::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Minkowski {
    /// The exponent of the differences, 1 or more.
    pub p: Exponent,
    /// The distance is raised to it.
    pub power: Positive,
}

impl Default for Minkowski {
    /// The Euclidean distance, as of the peers.
    fn default() -> Self {
        Self {
            p: Exponent::literal(2.0),
            power: Positive::literal(1.0),
        }
    }
}

/// A finite number of 1 or more: below 1 there is no triangle inequality, and gradients are infinite where coordinates
/// agree. The limit of large ones is [`Chebyshev`](crate::Chebyshev).
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(try_from = "f64", into = "f64")]
pub struct Exponent(f64);

impl Eq for Exponent {} // It is never NaN.

impl Exponent {
    /// The number, if it is within the bounds.
    ///
    /// # Errors
    /// [`Error::Settings`] with the number.
    pub fn new(value: f64) -> std::result::Result<Self, Error> {
        if value.is_finite() && value >= 1.0 {
            Ok(Self(value))
        } else {
            Err(Error::Settings(format!("{value} must be 1 or greater")))
        }
    }

    /// A number of the source code.
    ///
    /// # Panics
    /// If it is out of bounds; in a `const` that is an error of the compiler.
    pub const fn literal(value: f64) -> Self {
        assert!(
            value.is_finite() && value >= 1.0,
            "the literal is out of bounds"
        );
        Self(value)
    }

    /// The number.
    pub const fn get(self) -> f64 {
        self.0
    }
}

impl TryFrom<f64> for Exponent {
    type Error = Error;

    fn try_from(value: f64) -> std::result::Result<Self, Error> {
        Self::new(value)
    }
}

impl From<Exponent> for f64 {
    fn from(value: Exponent) -> f64 {
        value.0
    }
}

/// Those that have a faster way.
enum Named {
    Manhattan,
    Euclidean,
    SquaredEuclidean,
}

impl Minkowski {
    fn named(&self) -> Option<Named> {
        match (self.p.0, self.power.get()) {
            (1.0, 1.0) => Some(Named::Manhattan),
            (2.0, 1.0) => Some(Named::Euclidean),
            (2.0, 2.0) => Some(Named::SquaredEuclidean),
            _ => None,
        }
    }

    fn general(&self) -> Lp {
        Lp {
            p: self.p.0,
            power: self.power.get(),
        }
    }
}

impl Distance for Minkowski {
    fn matrix(&self, x: &Tensor, y: &Tensor) -> Result<Tensor> {
        match self.named() {
            Some(Named::Manhattan) => Manhattan {}.matrix(x, y),
            Some(Named::Euclidean) => Euclidean {}.matrix(x, y),
            Some(Named::SquaredEuclidean) => SquaredEuclidean {}.matrix(x, y),
            None => coordinates::matrix(&self.general(), x, y),
        }
    }

    fn paired(&self, x: &Tensor, y: &Tensor) -> Result<Tensor> {
        match self.named() {
            Some(Named::Manhattan) => Manhattan {}.paired(x, y),
            Some(Named::Euclidean) => Euclidean {}.paired(x, y),
            Some(Named::SquaredEuclidean) => SquaredEuclidean {}.paired(x, y),
            None => coordinates::paired(&self.general(), x, y),
        }
    }

    fn axioms(&self) -> Axioms {
        Axioms {
            triangle: self.power.get() <= 1.0,
            ..Axioms::METRIC
        }
    }

    fn form(&self) -> Form {
        match self.named() {
            Some(Named::Euclidean) => Euclidean {}.form(),
            Some(Named::SquaredEuclidean) => SquaredEuclidean {}.form(),
            _ => Form::General,
        }
    }
}

#[derive(Clone, Debug)]
struct Lp {
    p: f64,
    power: f64,
}

/// Calls `$use` with the function `x^$p` of a number from 0 to 1, in multiplications and roots where these do: they are
/// many times faster than a power, and several coordinates go at once.
macro_rules! with_power {
    (@ $function:expr, $raised:ident => $use:expr) => {{
        let $raised = $function;
        $use
    }};
    ($p:expr, $raised:ident => $use:expr) => {
        match $p {
            0.0 => with_power!(@ |_: f64| 1.0, $raised => $use),
            0.5 => with_power!(@ |x: f64| x.sqrt(), $raised => $use),
            1.0 => with_power!(@ |x: f64| x, $raised => $use),
            1.5 => with_power!(@ |x: f64| x * x.sqrt(), $raised => $use),
            2.0 => with_power!(@ |x: f64| x * x, $raised => $use),
            3.0 => with_power!(@ |x: f64| x * x * x, $raised => $use),
            4.0 => with_power!(@ |x: f64| (x * x) * (x * x), $raised => $use),
            p => with_power!(@ move |x: f64| x.powf(p), $raised => $use),
        }
    };
}

impl RowPair for Lp {
    type Known = ();

    fn name(&self) -> &'static str {
        "minkowski"
    }

    fn know(&self, _: &[f64]) {}

    #[inline(always)]
    fn value(&self, x: RowOf<'_, ()>, y: RowOf<'_, ()>) -> f64 {
        // Beside the largest difference no power overflows or vanishes.
        let largest = largest_difference(x.numbers, y.numbers);
        if largest == 0.0 || !largest.is_finite() {
            return largest;
        }
        let total = with_power!(self.p, raised => sum(x.numbers, y.numbers, |x, y| {
            raised((x - y).abs() / largest)
        }));
        let norm = largest * total.powf(1.0 / self.p);
        if self.power == 1.0 {
            norm
        } else {
            norm.powf(self.power)
        }
    }

    #[inline(always)]
    fn pull(
        &self,
        x: RowOf<'_, ()>,
        y: RowOf<'_, ()>,
        value: f64,
        gradient: f64,
        pulled: &mut [f64],
    ) {
        let norm = value.powf(1.0 / self.power);
        if norm == 0.0 {
            return;
        }
        let outer = gradient * self.power * value / norm; // The derivative of the power.
        with_power!(self.p - 1.0, raised => add_to(pulled, x, y, |x, y| {
            let ratio = ((x - y).abs() / norm).min(1.0);
            outer * sign(x - y) * raised(ratio)
        }));
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Var};

    use super::*;

    fn lp(p: f64, power: f64) -> Minkowski {
        Minkowski {
            p: Exponent::new(p).expect("1 or more"),
            power: Positive::literal(power),
        }
    }

    #[test]
    fn the_gradient_is_as_on_paper_and_zero_where_rows_coincide() -> Result<()> {
        // 27 + 64 + 125 = 6³; the gradient is (δ/6)².
        let x = Var::new(&[[3f64, -4.0, 5.0], [0.0, 0.0, 0.0]], &Device::Cpu)?;
        let y = Tensor::new(&[[0f64, 0.0, 0.0]], &Device::Cpu)?;
        for (power, value, outer) in [
            (1.0, 6.0, 1.0),
            (2.0, 36.0, 12.0),
            (0.5, 6f64.sqrt(), 0.5 / 6f64.sqrt()),
        ] {
            let distance = lp(3.0, power).matrix(&x, &y)?;
            let got = distance.to_vec2::<f64>()?;
            assert!((got[0][0] - value).abs() < 1e-13 && got[1] == [0.0]);
            let gradients = distance.backward()?;
            let gradient = gradients
                .get(&x)
                .expect("it depends on it")
                .to_vec2::<f64>()?;
            for (got, delta) in gradient[0].iter().zip([3.0, -4.0, 5.0f64]) {
                assert!((got - outer * delta * delta.abs() / 36.0).abs() < 1e-13);
            }
            assert_eq!(gradient[1], [0.0; 3]);
        }
        Ok(())
    }

    #[test]
    fn the_first_two_are_the_distances_of_that_name() -> Result<()> {
        let x = nearfar_kernels::test_util::noise((4, 9), 1)?;
        let y = nearfar_kernels::test_util::noise((3, 9), 2)?;
        let pairs: [(Minkowski, Box<dyn Distance>); 3] = [
            (lp(1.0, 1.0), Box::new(Manhattan {})),
            (lp(2.0, 1.0), Box::new(Euclidean {})),
            (lp(2.0, 2.0), Box::new(SquaredEuclidean {})),
        ];
        for (ours, named) in pairs {
            let general = coordinates::matrix(&ours.general(), &x, &y)?.to_vec2::<f64>()?;
            let named = named.matrix(&x, &y)?.to_vec2::<f64>()?;
            assert_eq!(ours.matrix(&x, &y)?.to_vec2::<f64>()?, named);
            for (x, y) in general.concat().iter().zip(named.concat()) {
                assert!((x - y).abs() < 1e-13, "{ours:?}: {x} {y}");
            }
        }
        Ok(())
    }

    #[test]
    fn large_exponents_and_huge_rows_neither_overflow_nor_vanish() -> Result<()> {
        let x = Tensor::new(&[[3e30f32, 4e30, 0.0], [3e-30, 4e-30, 0.0]], &Device::Cpu)?;
        let y = Tensor::new(&[[0f32, 0.0, 0.0]], &Device::Cpu)?;
        let d = lp(200.0, 1.0).matrix(&x, &y)?.to_vec2::<f32>()?;
        assert_eq!(d, [[4e30], [4e-30]]);
        Ok(())
    }

    #[test]
    fn an_exponent_below_one_is_refused_where_it_is_written() {
        let message = toml::from_str::<Minkowski>("p = 0.5").expect_err("below 1");
        assert!(
            message.to_string().contains("0.5 must be 1 or greater"),
            "{message}"
        );
        assert!(Exponent::new(f64::INFINITY).is_err() && Exponent::new(f64::NAN).is_err());
    }
}
