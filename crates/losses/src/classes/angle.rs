//! Cosines of angles that were made larger, with derivatives that stay finite.

use candle_core::{Result, Tensor};
use nearfar_core::Error;
use nearfar_kernels::rows::Sloped;

use super::softmax::Target;

/// The largest derivative by the cosine.
const STEEPEST: f64 = 1e4;

/// Below this, a sine is none: the derivative is at its largest anyway.
const TINY: f64 = 1e-30;

/// What is known of cosines without a gradient: within −1 and 1, and their sines.
fn angles(cosine: &Tensor) -> Result<(Tensor, Tensor)> {
    let c = cosine.detach().clamp(-1f64, 1f64)?;
    let sine = c.sqr()?.affine(-1.0, 1.0)?.sqrt()?;
    Ok((c, sine))
}

/// A value with its derivative by the cosine: candle is not left to derive it, because that of the sine, √(1 − c²), is
/// infinite at 1.
fn derived(cosine: &Tensor, value: &Tensor, slope: &Tensor) -> Result<Tensor> {
    value + (slope * (cosine - cosine.detach())?)?
}

/// `cos(θ + margin)` of cosines `(n)` with a margin each, and `cos θ − margin sin margin` where `θ > π − margin`: `(n)`.
pub(crate) fn plus(cosine: &Tensor, margins: &[f64]) -> Result<Tensor> {
    let of = |f: fn(f64) -> f64| -> Result<Tensor> {
        let numbers: Vec<f64> = margins.iter().map(|&margin| f(margin)).collect();
        Tensor::from_vec(numbers, cosine.shape(), &candle_core::Device::Cpu)?
            .to_dtype(cosine.dtype())?
            .to_device(cosine.device())
    };
    let (sin, cos, drop) = (of(f64::sin)?, of(f64::cos)?, of(|m| m * m.sin())?);
    let (c, sine) = angles(cosine)?;
    let turned = ((&c * &cos)? - (&sine * &sin)?)?;
    let turned_slope = ((&c * &sin)? / sine.maximum(TINY)?)?;
    let turned_slope = (turned_slope + &cos)?.minimum(STEEPEST)?;
    let beyond = c.lt(&cos.neg()?)?; // θ > π − margin
    let value = beyond.where_cond(&(&c - drop)?, &turned)?;
    let slope = beyond.where_cond(&c.ones_like()?, &turned_slope)?;
    derived(cosine, &value, &slope)
}

/// `cos(factor · θ + margin)`, on all of its way: it turns back where its angle is beyond π.
pub(crate) fn stretched(cosine: &Tensor, factor: f64, margin: f64) -> Result<Tensor> {
    let (c, sine) = angles(cosine)?;
    // θ = atan2(sin θ, cos θ) = 2 atan(sin θ / (1 + cos θ)); candle has no arc functions, so it is taken on the host.
    let host = c.to_dtype(candle_core::DType::F64)?.to_vec1::<f64>()?;
    let of = |f: &dyn Fn(f64) -> f64| -> Result<Tensor> {
        let numbers: Vec<f64> = host.iter().map(|c| f(factor * c.acos() + margin)).collect();
        Tensor::from_vec(numbers, c.shape(), &candle_core::Device::Cpu)?
            .to_dtype(c.dtype())?
            .to_device(c.device())
    };
    let value = of(&f64::cos)?;
    let slope = (of(&f64::sin)? * factor)?;
    let slope = (slope / sine.maximum(TINY)?)?.clamp(-STEEPEST, STEEPEST)?;
    derived(cosine, &value, &slope)
}

/// `(−1)^k cos(mθ) − 2k` with `k = ⌊mθ/π⌋`, which falls from 1 to `1 − 2m` as `θ` goes from 0 to π: `(n) → (n)`.
///
/// `cos(mθ)` is Chebyshev's polynomial of the cosine, so that the derivative is finite everywhere.
pub(crate) fn multiplied(cosine: &Tensor, m: u32) -> Result<Tensor> {
    let (mut before, mut multiple) = (cosine.ones_like()?, cosine.clone());
    for _ in 1..m {
        let next = ((cosine * &multiple)? * 2.0)?;
        let next = (next - &before)?;
        (before, multiple) = (multiple, next);
    }
    let (c, _) = angles(cosine)?;
    // k counts the bounds cos(π/m), cos(2π/m), … that the cosine is not above.
    let mut k = c.zeros_like()?;
    for step in 1..m {
        let bound = (std::f64::consts::PI * f64::from(step) / f64::from(m)).cos();
        k = (k + c.le(bound)?.to_dtype(c.dtype())?)?;
    }
    // (−1)^k = 1 − 2 (k mod 2)
    let half = (&k * 0.5)?;
    let odd = ((&half - half.floor()?)? * 2.0)?;
    let sign = odd.affine(-2.0, 1.0)?;
    (sign * multiple)? - (k * 2.0)?
}

/// [`plus`] of one number, with its slope.
pub(crate) fn plus_one(cosine: f32, margin: f64) -> Sloped {
    let (sin, cos) = margin.sin_cos();
    let c = f64::from(cosine).clamp(-1.0, 1.0);
    if c < -cos {
        return Sloped {
            value: (c - margin * sin) as f32,
            slope: 1.0,
        };
    }
    let sine = (1.0 - c * c).sqrt();
    Sloped {
        value: (c * cos - sine * sin) as f32,
        slope: (c * sin / sine.max(TINY) + cos).min(STEEPEST) as f32,
    }
}

/// [`stretched`] of one number, with its slope.
pub(crate) fn stretched_one(cosine: f32, factor: f64, margin: f64) -> Sloped {
    let c = f64::from(cosine).clamp(-1.0, 1.0);
    let angle = factor * c.acos() + margin;
    let slope = factor * angle.sin() / (1.0 - c * c).sqrt().max(TINY);
    Sloped {
        value: angle.cos() as f32,
        slope: slope.clamp(-STEEPEST, STEEPEST) as f32,
    }
}

/// [`multiplied`] of one number, with its slope.
pub(crate) fn multiplied_one(cosine: f32, m: u32) -> Sloped {
    let c = f64::from(cosine);
    let (mut before, mut multiple) = ((1.0, 0.0), (c, 1.0));
    for _ in 1..m {
        let next = (
            2.0 * c * multiple.0 - before.0,
            2.0 * (multiple.0 + c * multiple.1) - before.1,
        );
        (before, multiple) = (multiple, next);
    }
    let bound = |step: u32| (std::f64::consts::PI * f64::from(step) / f64::from(m)).cos();
    let c = c.clamp(-1.0, 1.0);
    let k = (1..m).filter(|&step| c <= bound(step)).count();
    let sign = if k % 2 == 0 { 1.0 } else { -1.0 };
    Sloped {
        value: (sign * multiple.0 - 2.0 * k as f64) as f32,
        slope: (sign * multiple.1) as f32,
    }
}

/// `length · ψ(z / length)` of a projection or inner product `z`, where `length` is the product of all lengths that it has and
/// [`multiplied_one`] is `ψ`. Of no length it is 0, and does not move.
pub(crate) fn multiplied_with_length(z: f32, length: f32, m: u32) -> Target {
    if length <= 0.0 {
        return Target {
            value: 0.0,
            slope: 0.0,
            by_lengths: [0.0; 2],
        };
    }
    let cosine = z / length;
    let turned = multiplied_one(cosine, m);
    let by_length = turned.value - cosine * turned.slope;
    Target {
        value: length * turned.value,
        slope: turned.slope,
        by_lengths: [by_length; 2],
    }
}

/// The error of an angle that is no smaller than a half turn.
pub(crate) fn below_pi(place: &str, name: &str, angle: f64) -> std::result::Result<(), Error> {
    if angle < std::f64::consts::PI {
        return Ok(());
    }
    Err(Error::Settings(format!(
        "{place}: `{name}` is {angle} radians; it must be below π"
    )))
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Var};

    use super::*;

    fn value_and_slope(angle: f64, f: impl Fn(&Tensor) -> Result<Tensor>) -> Result<(f64, f64)> {
        let cosine = Var::new(&[angle.cos()], &Device::Cpu)?;
        let value = f(&cosine)?;
        let gradients = value.backward()?;
        let gradient = gradients.get(&cosine).expect("it depends on the cosine");
        Ok((value.to_vec1::<f64>()?[0], gradient.to_vec1::<f64>()?[0]))
    }

    #[test]
    fn a_margin_is_an_angle_up_to_where_it_would_turn_back() -> Result<()> {
        for angle in [0.1f64, 1.0, 2.0, 2.6, 2.7, 3.1] {
            let (value, slope) = value_and_slope(angle, |c| plus(c, &[0.5]))?;
            let (wanted, wanted_slope) = if angle <= std::f64::consts::PI - 0.5 {
                ((angle + 0.5).cos(), (angle + 0.5).sin() / angle.sin())
            } else {
                (angle.cos() - 0.5 * 0.5f64.sin(), 1.0)
            };
            assert!((value - wanted).abs() < 1e-14, "{angle}");
            assert!((slope - wanted_slope).abs() < 1e-10, "{angle}");
        }
        Ok(())
    }

    #[test]
    fn on_the_center_the_gradient_is_finite() -> Result<()> {
        let cosine = Var::new(&[1f32, -1.0, 1.0000001], &Device::Cpu)?;
        let value = plus(&cosine, &[0.5; 3])?;
        assert!((value.to_vec1::<f32>()?[0] - 0.5f32.cos()).abs() < 1e-7);
        let gradients = value.backward()?;
        let gradient = gradients.get(&cosine).expect("it depends on the cosine");
        assert_eq!(gradient.to_vec1::<f32>()?, [1e4, 1.0, 1e4]);
        Ok(())
    }

    #[test]
    fn a_stretched_angle_has_the_value_and_slope_of_its_formula() -> Result<()> {
        for angle in [0.2f64, 1.0, 2.0, 3.0] {
            let (value, slope) = value_and_slope(angle, |c| stretched(c, 1.2, 0.3))?;
            let turned = 1.2 * angle + 0.3;
            assert!((value - turned.cos()).abs() < 1e-14);
            assert!((slope - 1.2 * turned.sin() / angle.sin()).abs() < 1e-9);
        }
        Ok(())
    }

    #[test]
    fn a_multiplied_angle_falls_from_1_to_1_minus_2m() -> Result<()> {
        for m in 1..=5 {
            let mut last = f64::INFINITY;
            for step in 0..=100 {
                let angle = std::f64::consts::PI * f64::from(step) / 100.0;
                let (value, slope) = value_and_slope(angle, |c| multiplied(c, m))?;
                let one = multiplied_one(angle.cos() as f32, m);
                assert!((f64::from(one.value) - value).abs() < 1e-5, "{m} {angle}");
                assert!((f64::from(one.slope) - slope).abs() < 1e-4, "{m} {angle}");
                let multiple = f64::from(m) * angle;
                let k = (multiple / std::f64::consts::PI + 1e-12)
                    .floor()
                    .min(f64::from(m) - 1.0);
                let wanted = if k % 2.0 == 0.0 { 1.0 } else { -1.0 } * multiple.cos() - 2.0 * k;
                assert!(
                    (value - wanted).abs() < 1e-9,
                    "{m} {angle}: {value} {wanted}"
                );
                assert!(
                    value < last && slope.is_finite() && slope > -1e-6,
                    "{m} {angle}"
                );
                last = value;
            }
            assert!((last - (1.0 - 2.0 * f64::from(m))).abs() < 1e-12);
        }
        Ok(())
    }
}
