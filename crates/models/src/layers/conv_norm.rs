//! A convolution with batch normalization.

use candle_core::{Result, Tensor};
use nearfar_core::{Error, Mode};
use nearfar_kernels::ConvBlock as Block;

use super::batch_norm::{Norm, Normalization};
use super::conv_block::normalized;
use crate::input_shape::size;
use crate::{Init, Params, Weight};

/// A convolution without bias, batch normalization, a sum and ReLU if wanted: what residual networks are made of.
///
/// All of it is one operation ([`nearfar_kernels::conv_block`]). Zeros around the image keep its size but for the stride: an odd
/// kernel has `⌊kernel / 2⌋` of them on each side.
///
/// The two parts have places of their own, since published networks name them apart: `weight` `(outputs, inputs, kernel, kernel)`
/// in one, and in the other `weight`, `bias`, `running_mean` and `running_var`. The convolution starts as torchvision's do:
/// [`Init::fan_out`].
#[derive(Clone, Debug)]
pub struct ConvNorm {
    weight: Weight,
    norm: Norm,
    block: Block,
}

impl ConvNorm {
    /// From `inputs` to `outputs` channels by a square kernel of an odd side. The convolution is made in the first place, the
    /// normalization in the second.
    ///
    /// # Errors
    /// [`Error::Settings`] for sizes of 0 and an even kernel, and those of [`Params::weight`].
    pub fn new(
        [conv, norm]: &[Params; 2],
        (inputs, outputs): (usize, usize),
        kernel: usize,
        stride: usize,
        normalization: Normalization,
        relu: bool,
    ) -> Result<Self> {
        for (name, value) in [
            ("inputs", inputs),
            ("outputs", outputs),
            ("kernel", kernel),
            ("stride", stride),
        ] {
            size("conv_norm", name, value)?;
        }
        if kernel.is_multiple_of(2) {
            Err(Error::Settings(format!(
                "conv_norm: `kernel` is {kernel}; an odd one is wanted, which has a middle"
            )))?;
        }
        let init = Init::fan_out(outputs.saturating_mul(kernel).saturating_mul(kernel));
        Ok(Self {
            weight: conv.weight("weight", (outputs, inputs, kernel, kernel), init)?,
            norm: Norm::new(norm, outputs, normalization)?,
            block: Block {
                padding: kernel / 2,
                stride,
                norm: None, // Known when it is called.
                relu,
                pool: 1,
            },
        })
    }

    /// `(b, inputs, h, w)` to `(b, outputs, ⌈h / stride⌉, ⌈w / stride⌉)`.
    ///
    /// # Errors
    /// For another number of channels, and in training by the statistics of a batch that has one value per channel.
    pub fn forward(&self, x: &Tensor, mode: &mut Mode<'_>) -> Result<Tensor> {
        let weight = self.weight.tensor(mode);
        normalized(x, &weight, &self.norm, None, self.block, mode)
    }

    /// The same with `residual`, of the output's shape, added before the activation.
    ///
    /// # Errors
    /// Those of [`forward`](Self::forward), and for a residual of another shape.
    pub fn forward_added(
        &self,
        x: &Tensor,
        residual: &Tensor,
        mode: &mut Mode<'_>,
    ) -> Result<Tensor> {
        let weight = self.weight.tensor(mode);
        normalized(x, &weight, &self.norm, Some(residual), self.block, mode)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{DType, Device};
    use nearfar_core::{Purpose, Seed};
    use nearfar_kernels::test_util::noise;

    #[test]
    fn a_stride_leaves_out_places_and_changes_nothing_else() -> Result<()> {
        let x = noise((2, 2, 5, 4), 3)?.to_dtype(DType::F32)?;
        for relu in [false, true] {
            let outputs = [1, 2].map(|stride| -> Result<Tensor> {
                let params = Params::new(Seed(1), DType::F32, &Device::Cpu)?;
                let places = [params.at("conv"), params.at("bn")];
                let norm = Normalization::default();
                let layer = ConvNorm::new(&places, (2, 3), 3, stride, norm, relu)?;
                let names: Vec<_> = params.parameters().into_iter().map(|it| it.name).collect();
                let of_norm = ["bias", "running_mean", "running_var", "weight"];
                assert_eq!(names[..4], of_norm.map(|name| format!("bn.{name}")));
                assert_eq!(names[4..], ["conv.weight"]);
                layer.forward(&x, &mut Mode::Eval)
            });
            let [whole, strided] = outputs;
            let rows = Tensor::new(&[0u32, 2, 4], &Device::Cpu)?;
            let columns = Tensor::new(&[0u32, 2], &Device::Cpu)?;
            let kept = whole?.index_select(&rows, 2)?.index_select(&columns, 3)?;
            let apart = (kept - strided?)?.abs()?.max_all()?.to_scalar::<f32>()?;
            assert!(apart < 1e-6, "{apart}");
        }
        Ok(())
    }

    #[test]
    fn any_stride_learns_statistics() -> Result<()> {
        for stride in [1, 2] {
            let params = Params::new(Seed(1), DType::F32, &Device::Cpu)?;
            let places = [params.at("conv"), params.at("bn")];
            let layer = ConvNorm::new(&places, (1, 1), 1, stride, Normalization::default(), true)?;
            let ones = Tensor::ones((1, 1, 1, 1), DType::F32, &Device::Cpu)?;
            params.set("conv.weight", &ones)?;
            let x = Tensor::new(&[[[[1f32]]], [[[3.0]]]], &Device::Cpu)?; // Mean 2, variance 1.
            let mut rng = Seed(1).rng(Purpose::Dropout, 0);
            let y = layer.forward(&x, &mut Mode::Train(&mut rng))?;
            let y = y.flatten_all()?.to_vec1::<f32>()?;
            assert!(y[0] == 0.0 && (y[1] - 1.0).abs() < 1e-4, "{y:?}");
            let mean = params.find("bn.running_mean").expect("made above").value();
            assert!((mean.to_vec1::<f32>()?[0] - 0.2).abs() < 1e-6);
        }
        Ok(())
    }

    #[test]
    fn an_even_kernel_is_refused() -> Result<()> {
        let params = Params::new(Seed(1), DType::F32, &Device::Cpu)?;
        let places = [params.at("conv"), params.at("bn")];
        let error = ConvNorm::new(&places, (1, 1), 2, 1, Normalization::default(), true);
        let error = error.expect_err("it has no middle").to_string();
        assert!(error.contains("`kernel` is 2"), "{error}");
        Ok(())
    }
}
