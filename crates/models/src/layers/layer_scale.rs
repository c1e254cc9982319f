//! A learned factor for each number.

use candle_core::{D, Result, Tensor};
use nearfar_core::{Error, Finite, Mode};

use crate::input_shape::size;
use crate::{Init, Params, Weight};

/// Multiplies each number of a row by a learned factor, `y = gamma · x`: what a residual branch adds starts small.
///
/// Its tensor is `gamma` `(width)`, as in timm's and DINOv2's weights.
///
/// Source: Touvron et al., "Going deeper with image transformers", ICCV 2021, <https://arxiv.org/abs/2103.17239>; there
/// and in ConvNeXt it starts at 1e−6 for deep networks, in DINOv2 at 1e−5.
#[derive(Clone, Debug)]
pub struct LayerScale {
    gamma: Weight,
}

impl LayerScale {
    /// Factors for rows of `width` numbers, which start at `start`.
    ///
    /// # Errors
    /// For a width of 0, and those of [`Params::weight`].
    pub fn new(params: &Params, width: usize, start: Finite) -> Result<Self> {
        size("layer_scale", "width", width)?;
        Ok(Self {
            gamma: params.weight("gamma", width, Init::Constant(start.get()))?,
        })
    }

    /// `(…, width)` to the same shape.
    ///
    /// # Errors
    /// [`Error::Shape`] when the last dimension is another.
    pub fn forward(&self, x: &Tensor, mode: &mut Mode<'_>) -> Result<Tensor> {
        let gamma = self.gamma.tensor(mode);
        let width = gamma.dim(0)?;
        if x.rank() == 0 || x.dim(D::Minus1)? != width {
            Err(Error::Shape(format!(
                "layer_scale: the input has shape {:?}; (…, {width}) is wanted",
                x.dims()
            )))?;
        }
        x.broadcast_mul(&gamma)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{DType, Device};
    use nearfar_core::Seed;

    #[test]
    fn each_number_has_its_factor() -> Result<()> {
        let params = Params::new(Seed(1), DType::F64, &Device::Cpu)?;
        let layer = LayerScale::new(&params, 2, Finite::literal(0.5))?;
        let x = Tensor::new(&[[2f64, 4.0]], &Device::Cpu)?;
        assert_eq!(
            layer.forward(&x, &mut Mode::Eval)?.to_vec2::<f64>()?,
            [[1.0, 2.0]]
        );
        let error = layer
            .forward(&x.t()?, &mut Mode::Eval)
            .expect_err("rows of one");
        assert!(error.to_string().contains("[2, 1]; (…, 2)"), "{error}");
        Ok(())
    }
}
