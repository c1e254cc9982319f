//! Convolution to a larger map.

use candle_core::{Result, Tensor};
use nearfar_core::{Error, Mode};

use crate::input_shape::size;
use crate::{Init, Params, Weight};

/// A transposed convolution whose kernel is its stride: each place becomes a square of `factor × factor` places, as torch's
/// `ConvTranspose2d(kernel_size=factor, stride=factor)`:
///
/// ```text
/// y[b, o, factor·i + u, factor·j + v] = bias[o] + Σ_c x[b, c, i, j] · weight[c, o, u, v]        0 ≤ u, v < factor
/// ```
///
/// Squares do not overlap, so that it is one matrix product whose numbers are put in their places. Its tensors are `weight`
/// `(inputs, outputs, factor, factor)` and `bias` `(outputs)`; both start as torch's do, uniform in `±1/√(outputs · factor²)`.
///
/// Source: the "up-convolution" of Ronneberger et al., "U-Net", MICCAI 2015, <https://arxiv.org/abs/1505.04597>.
#[derive(Clone, Debug)]
pub struct UpConvolution {
    weight: Weight,
    bias: Weight,
}

impl UpConvolution {
    /// From `inputs` to `outputs` channels, with sides `factor` times as long.
    ///
    /// # Errors
    /// [`Error::Settings`] for sizes of 0, and those of [`Params::weight`].
    pub fn new(params: &Params, inputs: usize, outputs: usize, factor: usize) -> Result<Self> {
        size("up_convolution", "inputs", inputs)?;
        size("up_convolution", "outputs", outputs)?;
        size("up_convolution", "factor", factor)?;
        let init = Init::fan_in(outputs.saturating_mul(factor).saturating_mul(factor));
        Ok(Self {
            weight: params.weight("weight", (inputs, outputs, factor, factor), init)?,
            bias: params.weight("bias", outputs, init)?,
        })
    }

    /// `(b, inputs, h, w)` to `(b, outputs, factor h, factor w)`.
    ///
    /// # Errors
    /// [`Error::Shape`] for another number of dimensions or channels.
    pub fn forward(&self, x: &Tensor, mode: &mut Mode<'_>) -> Result<Tensor> {
        let weight = self.weight.tensor(mode);
        let (inputs, outputs, factor, _) = weight.dims4()?;
        let &[b, channels, h, w] = x.dims() else {
            Err(Error::Shape(format!(
                "up_convolution: the input has shape {:?}; (b, {inputs}, h, w) is wanted",
                x.dims()
            )))?
        };
        if channels != inputs {
            Err(Error::Shape(format!(
                "up_convolution: the input has {channels} channels; {inputs} are wanted"
            )))?;
        }
        let places = x
            .permute((0, 2, 3, 1))?
            .contiguous()?
            .reshape((b * h * w, inputs))?;
        let squares = nearfar_kernels::linear(
            &places,
            &weight.reshape((inputs, ()))?.t()?.contiguous()?, // (outputs · factor², inputs)
            None,
        )?;
        let maps = squares
            .reshape(&[b, h, w, outputs, factor, factor][..])?
            .permute(vec![0, 3, 1, 4, 2, 5])?
            .contiguous()?
            .reshape((b, outputs, h * factor, w * factor))?;
        maps.broadcast_add(&self.bias.tensor(mode).reshape((1, outputs, 1, 1))?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{DType, Device};
    use nearfar_core::Seed;

    fn layer(inputs: usize, outputs: usize) -> Result<(Params, UpConvolution)> {
        let params = Params::new(Seed(1), DType::F64, &Device::Cpu)?;
        let layer = UpConvolution::new(&params, inputs, outputs, 2)?;
        Ok((params, layer))
    }

    #[test]
    fn each_place_becomes_its_number_times_the_kernel() -> Result<()> {
        let (params, layer) = layer(1, 1)?;
        let kernel = Tensor::new(&[[[[1f64, 2.0], [3.0, 4.0]]]], &Device::Cpu)?;
        params.set("weight", &kernel)?;
        params.set("bias", &Tensor::new(&[0.5f64], &Device::Cpu)?)?;
        let x = Tensor::new(&[[[[1f64, 10.0]]]], &Device::Cpu)?;
        let y = layer.forward(&x, &mut Mode::Eval)?;
        let rows = y.squeeze(0)?.squeeze(0)?.to_vec2::<f64>()?;
        assert_eq!(rows, [[1.5, 2.5, 10.5, 20.5], [3.5, 4.5, 30.5, 40.5]]);
        Ok(())
    }

    /// `torch.nn.functional.conv_transpose2d(x, w, b, stride=2)` of torch 2.15.0 in f64, with `x = arange(8).reshape(1, 2, 2, 2) / 4 − 1`,
    /// `w = arange(24).reshape(2, 3, 2, 2) / 8 − 1` and `b = [0.5, −1, 2]`.
    #[test]
    fn agrees_with_torch() -> Result<()> {
        let (params, layer) = layer(2, 3)?;
        let range = |count: usize, part: f64| {
            Tensor::from_iter((0..count).map(|i| i as f64 * part - 1.0), &Device::Cpu)
        };
        params.set("weight", &range(24, 0.125)?.reshape((2, 3, 2, 2))?)?;
        params.set("bias", &Tensor::new(&[0.5f64, -1.0, 2.0], &Device::Cpu)?)?;
        let x = range(8, 0.25)?.reshape((1, 2, 2, 2))?;
        let y = layer.forward(&x, &mut Mode::Eval)?;
        assert_eq!(y.dims(), [1, 3, 4, 4]);
        assert_eq!(y.flatten_all()?.to_vec1::<f64>()?, TORCH);
        Ok(())
    }

    #[rustfmt::skip]
    const TORCH: [f64; 48] = [
        1.5, 1.375, 1.375, 1.3125, 1.25, 1.125, 1.25, 1.1875,
        1.25, 1.25, 1.125, 1.1875, 1.25, 1.25, 1.25, 1.3125,
        -0.5, -0.625, -0.375, -0.4375, -0.75, -0.875, -0.5, -0.5625,
        -0.25, -0.25, -0.125, -0.0625, -0.25, -0.25, 0.0, 0.0625,
        2.0, 1.875, 2.375, 2.3125, 1.75, 1.625, 2.25, 2.1875,
        2.75, 2.75, 3.125, 3.1875, 2.75, 2.75, 3.25, 3.3125,
    ];

    #[test]
    fn another_number_of_channels_is_told() -> Result<()> {
        let (_, layer) = layer(2, 3)?;
        let x = Tensor::zeros((1, 3, 2, 2), DType::F64, &Device::Cpu)?;
        let error = layer.forward(&x, &mut Mode::Eval).expect_err("three");
        assert_eq!(
            error.to_string(),
            "up_convolution: the input has 3 channels; 2 are wanted"
        );
        Ok(())
    }
}
