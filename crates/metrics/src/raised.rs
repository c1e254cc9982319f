//! Powers of similarities.

use std::num::NonZeroU32;

use candle_core::{Result, Tensor};
use nearfar_core::{Form, Similarity};

/// A similarity raised to a whole power
///
/// An even power takes opposite rows for similar ones. The `power` of the similarities of pytorch-metric-learning; for
/// distances [`Minkowski`](crate::Minkowski) has its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Raised<T> {
    inner: T,
    power: NonZeroU32,
}

impl<T> Raised<T> {
    /// `inner` to the power `power`.
    pub const fn new(inner: T, power: NonZeroU32) -> Self {
        Self { inner, power }
    }

    fn raised(&self, x: &Tensor) -> Result<Tensor> {
        // By squaring: the powers of candle have no gradient at zero.
        let (mut result, mut square, mut left) = (None::<Tensor>, x.clone(), self.power.get());
        loop {
            if left % 2 == 1 {
                result = Some(match result {
                    None => square.clone(),
                    Some(result) => (result * &square)?,
                });
            }
            left /= 2;
            match result {
                Some(result) if left == 0 => return Ok(result),
                _ => square = (&square * &square)?,
            }
        }
    }
}

impl<T: Similarity> Similarity for Raised<T> {
    fn matrix(&self, x: &Tensor, y: &Tensor) -> Result<Tensor> {
        self.raised(&self.inner.matrix(x, y)?)
    }

    fn paired(&self, x: &Tensor, y: &Tensor) -> Result<Tensor> {
        self.raised(&self.inner.paired(x, y)?)
    }

    fn form(&self) -> Form {
        match self.power.get() {
            1 => self.inner.form(),
            _ => Form::General,
        }
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Var};

    use super::*;
    use crate::Dot;

    #[test]
    fn every_power_has_its_value_and_gradient() -> Result<()> {
        for (power, value, slope) in [
            (1, -2.0, 1.0),
            (2, 4.0, -4.0),
            (3, -8.0, 12.0),
            (6, 64.0, -192.0),
        ] {
            let x = Var::new(&[[-2f64], [0.0]], &Device::Cpu)?;
            let y = Tensor::new(&[[1f64]], &Device::Cpu)?;
            let raised = Raised::new(Dot {}, NonZeroU32::new(power).expect("not 0"));
            let powers = raised.matrix(&x, &y)?;
            assert_eq!(powers.to_vec2::<f64>()?, [[value], [0.0]]);
            let gradients = powers.backward()?;
            let gradient = gradients
                .get(&x)
                .expect("it depends on it")
                .to_vec2::<f64>()?;
            assert_eq!(gradient, [[slope], [if power == 1 { 1.0 } else { 0.0 }]]);
        }
        Ok(())
    }
}
