//! Relative positions by rotation.

use candle_core::{D, DType, Result, Tensor};
use nearfar_core::{Error, Positive};
use nearfar_kernels::{Pairing, rotary};

use crate::input_shape::size;

/// Rotary positions for the queries and keys of attention: pair `i` of a row at place `t` is turned by
/// `t · base^(−2i / width)` ([`nearfar_kernels::rotary`] has the formula). It has no tensors.
///
/// Source: Su et al., "RoFormer", 2021, <https://arxiv.org/abs/2104.09864>, section 3.2, where `base` is 10,000.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RotaryPositions {
    width: usize,
    base: f64,
    pairing: Pairing,
}

impl RotaryPositions {
    /// For heads of `width` numbers.
    ///
    /// # Errors
    /// [`Error::Settings`] for an odd width.
    pub fn new(width: usize, base: Positive, pairing: Pairing) -> Result<Self> {
        if size("rotary", "width", width)? % 2 != 0 {
            Err(Error::Settings(format!(
                "rotary: `width` is {width}; pairs of numbers are turned, so it must be even"
            )))?;
        }
        Ok(Self {
            width,
            base: base.get(),
            pairing,
        })
    }

    /// `(…, t, width)` to the same shape; the first row is at place 0.
    ///
    /// # Errors
    /// [`Error::Shape`] when the last dimension is another.
    pub fn turn(&self, x: &Tensor) -> Result<Tensor> {
        if x.rank() < 2 || x.dim(D::Minus1)? != self.width {
            Err(Error::Shape(format!(
                "rotary: the input has shape {:?}; (…, t, {}) is wanted",
                x.dims(),
                self.width
            )))?;
        }
        rotary(x, &self.angles(x)?, self.pairing)
    }

    /// [`turn`](Self::turn) of two tensors of one type, whose angles are computed once.
    ///
    /// # Errors
    /// Those of [`turn`](Self::turn).
    pub(crate) fn turn_both(&self, x: &Tensor, y: &Tensor) -> Result<(Tensor, Tensor)> {
        let (of_x, of_y) = (x.dim(D::Minus2)?, y.dim(D::Minus2)?);
        if x.dim(D::Minus1)? != self.width || y.dim(D::Minus1)? != self.width {
            return Ok((self.turn(x)?, self.turn(y)?)); // One of them refuses.
        }
        let angles = self.angles(if of_x > of_y { x } else { y })?;
        let turned = |z: &Tensor, steps| rotary(z, &angles.narrow(0, 0, steps)?, self.pairing);
        Ok((turned(x, of_x)?, turned(y, of_y)?))
    }

    /// `(t, width / 2)` for the places of `x`.
    fn angles(&self, x: &Tensor) -> Result<Tensor> {
        let (steps, pairs) = (x.dim(D::Minus2)?, self.width / 2);
        let speed = |pair: usize| self.base.powf(-2.0 * pair as f64 / self.width as f64);
        // In f64 until they are done: f32 has no digits left behind the point for places far out.
        let angles =
            (0..steps).flat_map(|step| (0..pairs).map(move |pair| step as f64 * speed(pair)));
        let turns = std::f64::consts::TAU;
        let angles: Vec<f64> = angles.map(|angle| angle % turns).collect();
        let angles = Tensor::from_vec(angles, (steps, pairs), &candle_core::Device::Cpu)?;
        let dtype = if x.dtype() == DType::F64 {
            DType::F64
        } else {
            DType::F32
        };
        angles.to_dtype(dtype)?.to_device(x.device())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    #[test]
    fn products_depend_on_the_distance_of_places_only() -> Result<()> {
        for pairing in [Pairing::Halves, Pairing::Neighbors] {
            let positions = RotaryPositions::new(4, Positive::literal(100.0), pairing)?;
            let row = |values: [f64; 4]| Tensor::new(&[values; 6], &Device::Cpu);
            let queries = positions.turn(&row([1.0, -2.0, 0.5, 3.0])?)?;
            let keys = positions.turn(&row([0.25, 1.0, -1.0, 2.0])?)?;
            let products = queries.matmul(&keys.t()?)?.to_vec2::<f64>()?;
            for i in 0..5 {
                for j in 0..5 {
                    assert!((products[i][j] - products[i + 1][j + 1]).abs() < 1e-12);
                }
            }
            assert!((products[0][0] - products[0][1]).abs() > 0.1);
            assert!((products[0][0] - (0.25 - 2.0 - 0.5 + 6.0)).abs() < 1e-12); // Not turned at all.
        }
        Ok(())
    }

    #[test]
    fn widths_are_even_and_agree() -> Result<()> {
        assert!(RotaryPositions::new(3, Positive::literal(1e4), Pairing::Halves).is_err());
        let positions = RotaryPositions::new(4, Positive::literal(1e4), Pairing::Halves)?;
        let x = Tensor::zeros((2, 6), DType::F32, &Device::Cpu)?;
        let error = positions.turn(&x).expect_err("rows of six").to_string();
        assert!(error.contains("[2, 6]; (…, t, 4)"), "{error}");
        Ok(())
    }
}
