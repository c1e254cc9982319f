//! The positive part whose leak is learned.

use candle_core::{Result, Tensor};
use nearfar_core::{Error, Mode};

use crate::input_shape::size;
use crate::{Init, Params, Weight};

/// `x` above zero and `weight · x` else, as torch's `PReLU`: one slope for all, or one for each channel.
///
/// Its tensor is `weight` `(1)` or `(channels)`, and starts at 1/4. At zero the gradient is the slope.
///
/// Source: He et al., "Delving deep into rectifiers", ICCV 2015, <https://arxiv.org/abs/1502.01852>.
#[derive(Clone, Debug)]
pub struct PRelu {
    weight: Weight,
}

impl PRelu {
    /// With `slopes` slopes: 1, or the number of channels.
    ///
    /// # Errors
    /// For no slopes, and those of [`Params::weight`].
    pub fn new(params: &Params, slopes: usize) -> Result<Self> {
        size("prelu", "slopes", slopes)?;
        Ok(Self {
            weight: params.weight("weight", slopes, Init::Constant(0.25))?,
        })
    }

    /// `(b, channels, …)` to the same shape; any shape with one slope.
    ///
    /// # Errors
    /// [`Error::Shape`] for another number of channels than slopes.
    pub fn forward(&self, x: &Tensor, mode: &mut Mode<'_>) -> Result<Tensor> {
        let weight = self.weight.tensor(mode);
        let slopes = weight.dim(0)?;
        let weight = match slopes {
            1 => weight,
            _ if x.rank() < 2 || x.dim(1)? != slopes => Err(Error::Shape(format!(
                "prelu: the input has shape {:?}; (b, {slopes}, …) is wanted",
                x.dims()
            )))?,
            _ => {
                let mut dims = vec![1; x.rank()];
                dims[1] = slopes;
                weight.reshape(dims)?
            }
        };
        x.gt(0f64)?.where_cond(x, &x.broadcast_mul(&weight)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{DType, Device};
    use nearfar_core::Seed;

    #[test]
    fn each_channel_has_its_slope() -> Result<()> {
        let params = Params::new(Seed(1), DType::F64, &Device::Cpu)?;
        let layer = PRelu::new(&params, 2)?;
        params.set("weight", &Tensor::new(&[0.5f64, 0.0], &Device::Cpu)?)?;
        let x = Tensor::new(&[[[-2f64, 2.0], [-2.0, 2.0]]], &Device::Cpu)?;
        let y = layer.forward(&x, &mut Mode::Eval)?;
        assert_eq!(y.to_vec3::<f64>()?, [[[-1.0, 2.0], [0.0, 2.0]]]);
        let error = layer.forward(&x.transpose(0, 1)?, &mut Mode::Eval);
        let error = error.expect_err("one channel").to_string();
        assert!(
            error.contains("[2, 1, 2]") && error.contains("(b, 2, …)"),
            "{error}"
        );
        Ok(())
    }
}
