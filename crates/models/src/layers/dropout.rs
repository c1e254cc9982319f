//! Dropout.

use candle_core::{DType, Device, Result, Tensor};
use nearfar_core::{Error, Fraction, Mode};

/// In training, sets each number to 0 with probability `rate` and divides the others by `1 − rate`; else gives `x`.
///
/// The numbers are drawn in row-major order from the mode's stream, so that a pass can be repeated exactly.
///
/// # Errors
/// [`Error::Settings`] for a rate of 1, which leaves nothing.
pub fn dropout(x: &Tensor, rate: Fraction, mode: &mut Mode<'_>) -> Result<Tensor> {
    let rate = self::rate("dropout", rate)?.get();
    drop_parts(x, rate, x.dims(), mode)
}

/// In training, sets each row (along the first dimension) to 0 with probability `rate` and divides the others by
/// `1 − rate`; else gives `x`. On what a branch adds, the row goes around the branch: stochastic depth.
///
/// The rows are drawn in order from the mode's stream, so that a pass can be repeated exactly.
///
/// Source: Huang et al., "Deep networks with stochastic depth", ECCV 2016, <https://arxiv.org/abs/1603.09382>; divided by
/// what is kept as in timm's `DropPath`.
///
/// # Errors
/// [`Error::Settings`] for a rate of 1, which leaves nothing.
pub fn drop_path(x: &Tensor, rate: Fraction, mode: &mut Mode<'_>) -> Result<Tensor> {
    let rate = self::rate("drop_path", rate)?.get();
    let mut dims = vec![1; x.rank()];
    if let (Some(rows), Some(first)) = (dims.first_mut(), x.dims().first()) {
        *rows = *first;
    }
    drop_parts(x, rate, &dims, mode)
}

/// Drops parts of `x`, one for each number of a shape that broadcasts to that of `x`.
fn drop_parts(x: &Tensor, rate: f64, dims: &[usize], mode: &mut Mode<'_>) -> Result<Tensor> {
    match factors(rate, dims, (x.dtype(), x.device()), mode)? {
        Some(factors) => x.broadcast_mul(&factors),
        None => Ok(x.clone()),
    }
}

/// What a dropout multiplies by: 0 with probability `rate`, else `1 / (1 − rate)`, drawn in row-major order from the mode's stream. None
/// where nothing is dropped.
pub(crate) fn factors(
    rate: f64,
    dims: &[usize],
    (dtype, device): (DType, &Device),
    mode: &mut Mode<'_>,
) -> Result<Option<Tensor>> {
    let Mode::Train(rng) = mode else {
        return Ok(None);
    };
    if rate == 0.0 {
        return Ok(None);
    }
    let kept = 1.0 / (1.0 - rate);
    let mut draw = || if rng.chance(rate) { 0.0 } else { kept };
    let count = dims.iter().product::<usize>();
    let factors = match dtype {
        DType::F64 => {
            let factors: Vec<f64> = (0..count).map(|_| draw()).collect();
            Tensor::from_vec(factors, dims, &Device::Cpu)?
        }
        dtype => {
            let factors: Vec<f32> = (0..count).map(|_| draw() as f32).collect();
            Tensor::from_vec(factors, dims, &Device::Cpu)?.to_dtype(dtype)?
        }
    };
    factors.to_device(device).map(Some)
}

/// A rate that leaves something.
pub(crate) fn rate(place: &str, rate: Fraction) -> Result<Fraction> {
    if rate.get() >= 1.0 {
        Err(Error::Settings(format!(
            "{place}: a dropout of 1 drops everything; it must be less than 1"
        )))?;
    }
    Ok(rate)
}

#[cfg(test)]
mod tests {
    use super::*;
    use nearfar_core::{Purpose, Seed};

    #[test]
    fn the_expected_value_stays_and_a_stream_repeats() -> Result<()> {
        let x = Tensor::ones((100, 100), DType::F32, &Device::Cpu)?;
        let pass = |step| -> Result<Vec<f32>> {
            let mut rng = Seed(1).rng(Purpose::Dropout, step);
            let y = dropout(&x, Fraction::literal(0.25), &mut Mode::Train(&mut rng))?;
            y.flatten_all()?.to_vec1()
        };
        let y = pass(0)?;
        assert!(y.iter().all(|&y| y == 0.0 || (y - 4.0 / 3.0).abs() < 1e-6));
        let mean = y.iter().sum::<f32>() / 1e4;
        assert!((mean - 1.0).abs() < 0.025, "{mean}"); // Four standard errors.
        assert_eq!(y, pass(0)?);
        assert_ne!(y, pass(1)?);
        Ok(())
    }

    #[test]
    fn outside_of_training_nothing_is_dropped() -> Result<()> {
        let x = Tensor::ones(4, DType::F32, &Device::Cpu)?;
        let y = dropout(&x, Fraction::literal(0.5), &mut Mode::Eval)?;
        assert_eq!(y.to_vec1::<f32>()?, [1.0; 4]);
        assert!(dropout(&x, Fraction::literal(1.0), &mut Mode::Eval).is_err());
        assert!(drop_path(&x, Fraction::literal(1.0), &mut Mode::Eval).is_err());
        Ok(())
    }

    #[test]
    fn a_row_goes_as_a_whole() -> Result<()> {
        let x = Tensor::ones((1000, 2, 3), DType::F64, &Device::Cpu)?;
        let rate = Fraction::literal(0.5);
        let mut rng = Seed(1).rng(Purpose::Dropout, 0);
        let y = drop_path(&x, rate, &mut Mode::Train(&mut rng))?;
        let rows = y.flatten_from(1)?.to_vec2::<f64>()?;
        let whole = |row: &Vec<f64>| row.iter().all(|&y| y == row[0] && (y == 0.0 || y == 2.0));
        assert!(rows.iter().all(whole));
        let kept = rows.iter().filter(|row| row[0] > 0.0).count();
        assert!((437..563).contains(&kept), "{kept}"); // Four standard deviations.
        assert_eq!(drop_path(&x, rate, &mut Mode::Eval)?.id(), x.id());
        Ok(())
    }
}
