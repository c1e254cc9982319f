//! The Gaussian error linear unit, as it is defined and as it is often approximated.

use std::f64::consts::{FRAC_1_SQRT_2, FRAC_2_SQRT_PI, PI};

use candle_core::{Result, Tensor};

use crate::host::serves;
use crate::lanes::Element;
use crate::pointwise::{self, Pointwise};
use crate::slices;

/// What the approximation adds to `x` before the hyperbolic tangent.
const CUBE: f64 = 0.044715;

/// A number beyond whose negative and positive the hyperbolic tangent is ±1 to the last digit of f64.
const FLAT: f64 = 10.0;

/// The Gaussian error linear unit `x Φ(x)`, of any shape, where `Φ` is the distribution of the standard normal:
///
/// ```text
/// y = x · (1 + erf(x / √2)) / 2        y' = Φ(x) + x φ(x)
/// ```
///
/// Its gradient is exact; that of candle's own `gelu_erf` is wrong by a few millionths.
///
/// Source: Hendrycks, Gimpel, "Gaussian error linear units", 2016, <https://arxiv.org/abs/1606.08415>. Agrees with
/// torch's `gelu`.
pub fn gelu(x: &Tensor) -> Result<Tensor> {
    if serves(x) {
        pointwise::apply(x, Gelu)
    } else {
        reference(x)
    }
}

/// The usual approximation of [`gelu`], which some published networks were trained with:
///
/// ```text
/// y = x · (1 + tanh(√(2/π) (x + 0.044715 x³))) / 2
/// ```
///
/// Agrees with torch's `gelu` with `approximate = "tanh"`.
pub fn gelu_tanh(x: &Tensor) -> Result<Tensor> {
    if serves(x) {
        pointwise::apply(x, GeluTanh)
    } else {
        reference_tanh(x)
    }
}

/// [`gelu`](crate::gelu) in candle operations.
pub fn reference(x: &Tensor) -> Result<Tensor> {
    x * (x * FRAC_1_SQRT_2)?.erf()?.affine(0.5, 0.5)?
}

/// [`gelu_tanh`](crate::gelu_tanh) in candle operations.
pub fn reference_tanh(x: &Tensor) -> Result<Tensor> {
    // Beyond the limit the tangent is ±1 and flat, while its argument's slope may be infinite: there it is a constant.
    let limit = x.detach().sign()?.affine(FLAT, 0.0)?;
    let inner = x.abs()?.gt(FLAT)?.where_cond(&limit, x)?;
    let bent = (&inner * inner.sqr()?.affine(CUBE, 1.0)?)?;
    x * (bent * (2.0 / PI).sqrt())?.tanh()?.affine(0.5, 0.5)?
}

struct Gelu;

impl Gelu {
    /// `Φ(x)`.
    #[inline(always)]
    fn distribution<T: Element>(x: T) -> T {
        let half = T::from_f64(0.5);
        half * (T::ONE + (x * T::from_f64(FRAC_1_SQRT_2)).erf())
    }
}

impl Pointwise for Gelu {
    const NAME: &'static str = "gelu";
    const COST: usize = 64;

    fn singles(&self, x: &[f32], y: &mut [f32]) {
        slices::gelu::forward(x, y);
    }

    fn pull_singles(&self, x: &[f32], _: &[f32], gradient: &[f32], pulled: &mut [f32]) {
        slices::gelu::backward(x, gradient, pulled);
    }

    #[inline(always)]
    fn value<T: Element>(&self, x: T) -> T {
        x * Self::distribution(x)
    }

    #[inline(always)]
    fn pull<T: Element>(&self, x: T, _: T, gradient: T) -> T {
        let half = T::from_f64(0.5);
        // 1 / √(2π)
        let height = T::from_f64(0.5 * FRAC_2_SQRT_PI * FRAC_1_SQRT_2);
        let density = height * (T::ZERO - half * x * x).exp();
        gradient * (Self::distribution(x) + x * density)
    }
}

struct GeluTanh;

impl GeluTanh {
    /// The hyperbolic tangent in the formula.
    #[inline(always)]
    fn tanh<T: Element>(x: T) -> T {
        let bent = x * (T::ONE + T::from_f64(CUBE) * x * x);
        (T::from_f64((2.0 / PI).sqrt()) * bent).tanh()
    }
}

impl Pointwise for GeluTanh {
    const NAME: &'static str = "gelu_tanh";
    const COST: usize = 512;

    #[inline(always)]
    fn value<T: Element>(&self, x: T) -> T {
        T::from_f64(0.5) * x * (T::ONE + Self::tanh(x))
    }

    #[inline(always)]
    fn pull<T: Element>(&self, x: T, _: T, gradient: T) -> T {
        let half = T::from_f64(0.5);
        let tanh = Self::tanh(x);
        let slope = T::from_f64((2.0 / PI).sqrt()) * (T::ONE + T::from_f64(3.0 * CUBE) * x * x);
        let flatness = T::ONE - tanh * tanh;
        // Where the tangent is flat the slope may be infinite.
        let rest = if flatness == T::ZERO {
            T::ZERO
        } else {
            half * x * flatness * slope
        };
        gradient * (half * (T::ONE + tanh) + rest)
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Var};

    use super::*;

    #[test]
    fn it_is_half_open_at_zero_and_open_far_above() -> Result<()> {
        for version in [gelu, reference, gelu_tanh, reference_tanh] {
            let x = Var::new(&[-100f64, 0.0, 100.0], &Device::Cpu)?;
            let y = version(&x)?;
            assert_eq!(y.to_vec1::<f64>()?, [0.0, 0.0, 100.0]);
            let gradients = y.backward()?;
            let gradient = gradients
                .get(&x)
                .expect("it depends on its input")
                .to_vec1::<f64>()?;
            assert_eq!(gradient, [0.0, 0.5, 1.0]);
        }
        Ok(())
    }

    /// `Φ(x)` for `x ≤ 0`, by the continued fraction of its tail below −2 and by the error function above.
    fn tail(x: f64) -> f64 {
        let density = (-0.5 * x * x).exp() / (2.0 * PI).sqrt();
        if x > -2.0 {
            return 0.5 * (1.0 + candle_core::cpu::erf::erf_f64(x * FRAC_1_SQRT_2));
        }
        let fraction = (1..200)
            .rev()
            .fold(-x, |below, k| -x + f64::from(k) / below);
        density / fraction
    }

    #[test]
    fn vectors_keep_the_digits_of_the_tails() -> Result<()> {
        let places: Vec<f32> = (0..1301).map(|at| -13.0 + 0.01 * at as f32).collect();
        let x = Var::from_vec(places.clone(), places.len(), &Device::Cpu)?;
        let y = gelu(&x)?;
        let values = y.to_vec1::<f32>()?;
        let gradients = y.backward()?;
        let slopes = gradients.get(&x).expect("it depends on its input");
        let slopes = slopes.to_vec1::<f32>()?;
        for ((x, y), slope) in places.iter().zip(values).zip(slopes) {
            let (x, y) = (f64::from(*x), f64::from(y));
            let share = tail(x);
            // The exponent of the density is rounded: a part in 10⁷ of x²/2.
            let limit = 1e-6 + 1.2e-7 * x * x;
            assert!(
                (y - x * share).abs() <= limit * (x * share).abs() + 1e-37,
                "{x}: {y}"
            );
            let wanted = share + x * (-0.5 * x * x).exp() / (2.0 * PI).sqrt();
            assert!((f64::from(slope) - wanted).abs() <= 1e-6, "{x}: {slope}");
        }
        Ok(())
    }

    #[test]
    fn numbers_whose_squares_are_infinite_have_a_gradient() -> Result<()> {
        for version in [gelu, reference, gelu_tanh, reference_tanh] {
            let x = Var::new(&[-1e30f32, -2e19, 2e19, 1e30, f32::NAN], &Device::Cpu)?;
            let y = version(&x)?;
            let values = y.to_vec1::<f32>()?;
            assert_eq!(values[..4], [0.0, 0.0, 2e19, 1e30]);
            let gradients = y.backward()?;
            let gradient = gradients.get(&x).expect("it depends on its input");
            let gradient = gradient.to_vec1::<f32>()?;
            assert_eq!(gradient[..4], [0.0, 0.0, 1.0, 1.0]);
            assert!(values[4].is_nan() && gradient[4].is_nan());
        }
        Ok(())
    }
}
