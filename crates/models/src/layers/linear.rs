//! A linear map.

use candle_core::{D, Result, Tensor};
use nearfar_core::{Error, Mode};

use crate::input_shape::size;
use crate::{Init, Params, Weight};

/// `x Wᵀ + b`, as torch's `Linear`, with its starting values: both uniform in `±1/√inputs`.
///
/// Its tensors are `weight` `(outputs, inputs)` and, if it has one, `bias` `(outputs)`.
#[derive(Clone, Debug)]
pub struct Linear {
    weight: Weight,
    bias: Option<Weight>,
}

impl Linear {
    /// A map from `inputs` to `outputs` numbers.
    ///
    /// # Errors
    /// For sizes of 0, and those of [`Params::weight`].
    pub fn new(params: &Params, inputs: usize, outputs: usize, bias: bool) -> Result<Self> {
        let init = Init::fan_in(inputs);
        Self::starting(params, inputs, outputs, init, bias.then_some(init))
    }

    /// The same with other starts; no start of a bias is no bias.
    pub(crate) fn starting(
        params: &Params,
        inputs: usize,
        outputs: usize,
        weight: Init,
        bias: Option<Init>,
    ) -> Result<Self> {
        size("linear", "inputs", inputs)?;
        size("linear", "outputs", outputs)?;
        Ok(Self {
            weight: params.weight("weight", (outputs, inputs), weight)?,
            bias: bias
                .map(|bias| params.weight("bias", outputs, bias))
                .transpose()?,
        })
    }

    /// A map with a bias where the sizes differ, and none where nothing needs to be mapped.
    ///
    /// # Errors
    /// Those of [`new`](Self::new).
    pub fn fitting(params: &Params, inputs: usize, outputs: usize) -> Result<Option<Self>> {
        if inputs == outputs {
            Ok(None)
        } else {
            Self::new(params, inputs, outputs, true).map(Some)
        }
    }

    /// `(…, inputs)` to `(…, outputs)`.
    ///
    /// # Errors
    /// [`Error::Shape`] when the last dimension is not `inputs`.
    pub fn forward(&self, x: &Tensor, mode: &mut Mode<'_>) -> Result<Tensor> {
        let weight = self.weight.tensor(mode);
        let (outputs, inputs) = weight.dims2()?;
        if x.rank() < 2 || x.dim(D::Minus1)? != inputs {
            Err(Error::Shape(format!(
                "linear: the input has shape {:?}; (…, {inputs}) is wanted",
                x.dims()
            )))?;
        }
        // One product for all rows, whatever the leading dimensions.
        let rows = if x.rank() == 2 {
            x.clone()
        } else {
            x.reshape(((), inputs))?
        };
        let bias = self.bias.as_ref().map(|bias| bias.tensor(mode));
        let y = nearfar_kernels::linear(&rows, &weight, bias.as_ref())?; // (rows, outputs)
        if x.rank() == 2 {
            return Ok(y);
        }
        let mut dims = x.dims().to_vec();
        dims.pop();
        dims.push(outputs);
        y.reshape(dims)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{DType, Device};
    use nearfar_core::Seed;

    #[test]
    fn rows_are_multiplied_and_shifted() -> Result<()> {
        let params = Params::new(Seed(1), DType::F32, &Device::Cpu)?;
        let layer = Linear::new(&params, 2, 1, true)?;
        params.set("weight", &Tensor::new(&[[2f32, 3.0]], &Device::Cpu)?)?;
        params.set("bias", &Tensor::new(&[1f32], &Device::Cpu)?)?;
        let x = Tensor::new(&[[[1f32, 1.0]], [[0.0, 2.0]]], &Device::Cpu)?; // (2, 1, 2)
        let y = layer.forward(&x, &mut Mode::Eval)?;
        assert_eq!(y.to_vec3::<f32>()?, [[[6.0]], [[7.0]]]);
        assert!(layer.forward(&y, &mut Mode::Eval).is_err());
        Ok(())
    }

    #[test]
    fn equal_sizes_need_no_map() -> Result<()> {
        let params = Params::new(Seed(1), DType::F32, &Device::Cpu)?;
        assert!(Linear::fitting(&params, 4, 4)?.is_none() && params.parameters().is_empty());
        assert!(Linear::fitting(&params, 4, 2)?.is_some());
        assert!(Linear::new(&params.at("x"), 0, 2, true).is_err());
        Ok(())
    }
}
