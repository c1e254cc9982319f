//! Normalization of each row by itself.

use candle_core::{Result, Tensor};
use nearfar_core::{Error, Mode, Positive};
use nearfar_kernels::layer_norm;

use crate::input_shape::size;
use crate::{Init, Params, Weight};

/// Normalizes the last dimensions of each row by their own mean and variance, as torch's `LayerNorm`:
///
/// ```text
/// y = (x − mean) / √(variance + eps) · weight + bias
/// ```
///
/// with the biased variance. A constant row becomes `bias`, with a finite gradient. Its tensors are `weight` and, if it has
/// one, `bias`, of the shape that is normalized; they start at 1 and 0.
///
/// Source: Ba, Kiros, Hinton, "Layer normalization", 2016, <https://arxiv.org/abs/1607.06450>.
#[derive(Clone, Debug)]
pub struct LayerNorm {
    weight: Weight,
    bias: Option<Weight>,
    eps: f64,
}

impl LayerNorm {
    /// A normalization of the last dimensions, which have this shape. torch's `eps` is 1e−5.
    ///
    /// # Errors
    /// [`Error::Settings`] for no dimensions or a size of 0, and those of [`Params::weight`].
    pub fn new(params: &Params, shape: &[usize], eps: Positive, bias: bool) -> Result<Self> {
        if shape.is_empty() {
            Err(Error::Settings(
                "layer_norm: `shape` is empty; the last dimensions of the input are wanted".into(),
            ))?;
        }
        for &dim in shape {
            size("layer_norm", "shape", dim)?;
        }
        Ok(Self {
            weight: params.weight("weight", shape, Init::Constant(1.0))?,
            bias: bias
                .then(|| params.weight("bias", shape, Init::Constant(0.0)))
                .transpose()?,
            eps: eps.get(),
        })
    }

    /// `(…, shape…)` to the same shape.
    ///
    /// # Errors
    /// [`Error::Shape`] when the last dimensions are others.
    pub fn forward(&self, x: &Tensor, mode: &mut Mode<'_>) -> Result<Tensor> {
        let weight = self.weight.tensor(mode);
        let shape = weight.dims();
        if !x.dims().ends_with(shape) {
            Err(Error::Shape(format!(
                "layer_norm: the input has shape {:?}; its last dimensions must be {shape:?}",
                x.dims()
            )))?;
        }
        let rows = match shape.len() {
            1 => x.clone(),
            _ => x.flatten_from(x.rank() - shape.len())?,
        };
        let bias = self.bias.as_ref().map(|it| it.tensor(mode).flatten_all());
        let y = layer_norm(
            &rows,
            &weight.flatten_all()?,
            bias.transpose()?.as_ref(),
            self.eps,
        )?;
        y.reshape(x.shape())
    }

    /// The same over the channels of each place of a map: `(b, c, …)` to the same shape, as in ConvNeXt.
    ///
    /// # Errors
    /// Those of [`forward`](Self::forward).
    pub fn forward_channels(&self, x: &Tensor, mode: &mut Mode<'_>) -> Result<Tensor> {
        let channels = self.weight.var().dims();
        if channels.len() != 1 || x.rank() < 2 || x.dims()[1] != channels[0] {
            Err(Error::Shape(format!(
                "layer_norm: the input has shape {:?}; (b, c, …) with c = {channels:?} is wanted",
                x.dims()
            )))?;
        }
        let (b, c) = (x.dim(0)?, x.dim(1)?);
        let count: usize = x.dims()[2..].iter().product();
        let places = x.reshape((b, c, count))?.transpose(1, 2)?; // (b, places, c)
        let y = self.forward(&places.contiguous()?, mode)?;
        y.transpose(1, 2)?.reshape(x.shape())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{DType, Device};
    use nearfar_core::Seed;

    fn layer(shape: &[usize]) -> Result<LayerNorm> {
        let params = Params::new(Seed(1), DType::F64, &Device::Cpu)?;
        let layer = LayerNorm::new(&params, shape, Positive::literal(3.0), true)?;
        params.set("bias", &Tensor::ones(shape, DType::F64, &Device::Cpu)?)?;
        Ok(layer)
    }

    #[test]
    fn channels_are_rows_that_lie_across() -> Result<()> {
        let layer = layer(&[2])?;
        // Mean 2 and variance 1, so the row is divided by √(1 + 3).
        let x = Tensor::new(&[[[1f64, 5.0], [3.0, 5.0]]], &Device::Cpu)?;
        let y = layer.forward_channels(&x, &mut Mode::Eval)?;
        assert_eq!(y.to_vec3::<f64>()?, [[[0.5, 1.0], [1.5, 1.0]]]);
        let rows = layer.forward(&x.transpose(1, 2)?.contiguous()?, &mut Mode::Eval)?;
        assert_eq!(rows.to_vec3::<f64>()?, [[[0.5, 1.5], [1.0, 1.0]]]);
        Ok(())
    }

    #[test]
    fn an_empty_batch_gives_an_empty_one() -> Result<()> {
        let x = Tensor::zeros((0, 2, 3), DType::F64, &Device::Cpu)?;
        let y = layer(&[2])?.forward_channels(&x, &mut Mode::Eval)?;
        assert_eq!(y.dims(), [0, 2, 3]);
        let y = layer(&[2, 3])?.forward(&x, &mut Mode::Eval)?;
        assert_eq!(y.dims(), [0, 2, 3]);
        Ok(())
    }

    #[test]
    fn other_last_dimensions_are_told() -> Result<()> {
        let x = Tensor::zeros((4, 3, 2), DType::F64, &Device::Cpu)?;
        let error = layer(&[2, 3])?.forward(&x, &mut Mode::Eval);
        assert_eq!(
            error.expect_err("3, 2 are not 2, 3").to_string(),
            "layer_norm: the input has shape [4, 3, 2]; its last dimensions must be [2, 3]"
        );
        assert!(layer(&[3, 2])?.forward(&x, &mut Mode::Eval).is_ok());
        assert!(layer(&[2])?.forward_channels(&x, &mut Mode::Eval).is_err());
        assert!(layer(&[]).is_err());
        Ok(())
    }
}
