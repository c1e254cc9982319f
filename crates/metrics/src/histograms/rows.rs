//! Rows as histograms: what is accepted, and what is made of it.

use candle_core::{D, DType, Result, Tensor};
use nearfar_core::{Axioms, Error, shape};
use nearfar_kernels::safe_sqrt;

/// What holds of every metric of distributions: rows of one direction are one distribution.
pub(super) const METRIC_OF_DISTRIBUTIONS: Axioms = Axioms {
    separates: false,
    ..Axioms::METRIC
};

/// Both sides as a formula wants them.
type Made = fn(&str, &Tensor, &Tensor, f64) -> Result<(Tensor, Tensor)>;

/// What a distance of histograms makes of its two sides, before its formula sees them.
pub(super) struct Sides {
    /// The distance, in messages.
    pub(super) name: &'static str,
    /// Added to every bin.
    pub(super) smoothing: f64,
    /// [`both`] as they are, their [`roots`], or [`with_logarithms`].
    pub(super) made: Made,
}

impl Sides {
    /// Every row of `x` with every row of `y`, by a formula of matrices; in the type of `x`.
    pub(super) fn matrix(
        &self,
        x: &Tensor,
        y: &Tensor,
        formula: impl FnOnce(&Tensor, &Tensor) -> Result<Tensor>,
    ) -> Result<Tensor> {
        shape::rows_of_one_width(self.name, ("x", x), ("y", y))?;
        let (p, q) = (self.made)(self.name, x, y, self.smoothing)?;
        formula(&p, &q)?.to_dtype(x.dtype())
    }

    /// The same row by row.
    pub(super) fn paired(
        &self,
        x: &Tensor,
        y: &Tensor,
        formula: impl FnOnce(&Tensor, &Tensor) -> Result<Tensor>,
    ) -> Result<Tensor> {
        shape::same(self.name, ("x", x), ("y", y))?;
        let (p, q) = (self.made)(self.name, x, y, self.smoothing)?;
        formula(&p, &q)?.to_dtype(x.dtype())
    }
}

/// The rows divided by their sum, then smoothed: `(p + smoothing) / (1 + d · smoothing)`.
///
/// A row of zeros becomes the uniform histogram, without a gradient. Half numbers become f32, which can hold a smoothing.
///
/// # Errors
/// [`Error::Input`] for the first number that is negative or not finite.
pub(super) fn histograms(place: &str, name: &str, x: &Tensor, smoothing: f64) -> Result<Tensor> {
    let (n, d) = shape::matrix(place, (name, x))?;
    if n == 0 || d == 0 {
        return Ok(x.clone());
    }
    let x = &match x.dtype() {
        DType::F32 | DType::F64 => x.clone(),
        _ => x.to_dtype(DType::F32)?,
    };
    // In units of the largest number of a row, so that no sum overflows or vanishes.
    let largest = x.detach().max_keepdim(D::Minus1)?;
    let empty = largest.eq(0f64)?;
    let unit = empty.where_cond(&largest.ones_like()?, &largest)?;
    let scaled = x.broadcast_div(&unit)?;
    let sum = scaled.sum_keepdim(D::Minus1)?;
    check(place, name, x, &sum)?;
    let sum = empty.where_cond(&sum.ones_like()?, &sum)?;
    let shares = scaled.broadcast_div(&sum)?;
    let uniform = (x.detach().ones_like()? / d as f64)?;
    let shares = empty
        .broadcast_as(x.shape())?
        .where_cond(&uniform, &shares)?;
    if smoothing == 0.0 {
        return Ok(shares);
    }
    let total = 1.0 + d as f64 * smoothing;
    shares.affine(1.0 / total, smoothing / total)
}

/// Both sides; a batch with itself is divided once.
pub(super) fn both(
    place: &str,
    x: &Tensor,
    y: &Tensor,
    smoothing: f64,
) -> Result<(Tensor, Tensor)> {
    let rows = histograms(place, "x", x, smoothing)?;
    let others = if x.id() == y.id() {
        rows.clone()
    } else {
        histograms(place, "y", y, smoothing)?
    };
    Ok((rows, others))
}

/// The roots of both. An empty bin has root 0 and gradient 0.
pub(super) fn roots(
    place: &str,
    x: &Tensor,
    y: &Tensor,
    smoothing: f64,
) -> Result<(Tensor, Tensor)> {
    let (p, q) = both(place, x, y, smoothing)?;
    let rows = safe_sqrt(&p)?;
    let others = if x.id() == y.id() {
        rows.clone()
    } else {
        safe_sqrt(&q)?
    };
    Ok((rows, others))
}

/// Each row with its logarithms behind it, in f64: `(n, d) → (n, 2 d)`, so that none is taken for a pair. No bin may be
/// empty.
pub(super) fn with_logarithms(
    place: &str,
    x: &Tensor,
    y: &Tensor,
    smoothing: f64,
) -> Result<(Tensor, Tensor)> {
    let (p, q) = both(place, x, y, smoothing)?;
    let joined = |p: &Tensor| -> Result<Tensor> {
        let p = p.to_dtype(DType::F64)?;
        Tensor::cat(&[&p, &p.log()?], D::Minus1)
    };
    let rows = joined(&p)?;
    let others = if x.id() == y.id() {
        rows.clone()
    } else {
        joined(&q)?
    };
    Ok((rows, others))
}

/// One look at the smallest number and at the sums; the place of what is wrong is found only where there is some.
fn check(place: &str, name: &str, x: &Tensor, sums: &Tensor) -> Result<()> {
    let smallest = x.detach().flatten_all()?.min(0)?.to_dtype(DType::F64)?;
    let sums = sums.detach().flatten_all()?.to_dtype(DType::F64)?;
    let finite = sums.to_vec1::<f64>()?.iter().all(|sum| sum.is_finite());
    if smallest.to_scalar::<f64>()? >= 0.0 && finite {
        return Ok(());
    }
    let rows = x.detach().to_dtype(DType::F64)?.to_vec2::<f64>()?;
    for (row, numbers) in rows.iter().enumerate() {
        let wrong = |x: &&f64| !(x.is_finite() && **x >= 0.0);
        if let Some(number) = numbers.iter().find(wrong) {
            Err(Error::Input(format!(
                "{place}: `{name}` has {number} in row {row}; a histogram has finite numbers of 0 or more, as of a softmax or a count"
            )))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Var};

    use super::*;

    #[test]
    fn rows_are_divided_by_their_sum_and_zeros_are_uniform() -> Result<()> {
        let x = Tensor::new(&[[1f64, 3.0], [0.0, 0.0], [3e307, 9e307]], &Device::Cpu)?;
        let p = histograms("test", "x", &x, 0.0)?.to_vec2::<f64>()?;
        assert_eq!(p, [[0.25, 0.75], [0.5, 0.5], [0.25, 0.75]]);
        let p = histograms("test", "x", &x, 0.5)?.to_vec2::<f64>()?;
        assert_eq!(p[0], [0.375, 0.625]);
        Ok(())
    }

    #[test]
    fn the_gradient_does_not_change_the_sum_and_is_none_of_zeros() -> Result<()> {
        let x = Var::new(&[[1f64, 3.0], [0.0, 0.0]], &Device::Cpu)?;
        let p = histograms("test", "x", &x, 0.0)?;
        let first = p.narrow(1, 0, 1)?.sum_all()?;
        let gradients = first.backward()?;
        let gradient = gradients
            .get(&x)
            .expect("it depends on it")
            .to_vec2::<f64>()?;
        // x/(x + y) has the derivatives y/(x + y)² and −x/(x + y)².
        assert_eq!(gradient, [[0.1875, -0.0625], [0.0, 0.0]]);
        Ok(())
    }

    #[test]
    fn what_is_no_histogram_is_refused_with_its_place() -> Result<()> {
        for (row, shown) in [
            ([1f32, -0.5], "-0.5"),
            ([f32::NAN, 1.0], "NaN"),
            ([1.0, f32::INFINITY], "inf"),
        ] {
            let x = Tensor::new(&[[1f32, 1.0], row], &Device::Cpu)?;
            let error = histograms("hellinger", "y", &x, 0.0).expect_err("refused");
            assert!(matches!(Error::of(&error), Some(Error::Input(_))));
            let message = error.to_string();
            assert!(
                message.contains(&format!("hellinger: `y` has {shown} in row 1")),
                "{message}"
            );
        }
        Ok(())
    }
}
