//! A residual block of two convolutions.

use candle_core::{Result, Tensor};
use nearfar_core::Mode;

use super::{ConvNorm, Normalization, Valid};
use crate::Params;

/// The block of ResNet-18 and ResNet-34: two 3 × 3 convolutions with batch normalization, and what they read is added.
///
/// ```text
/// y = relu(x' + bn2(conv2(relu(bn1(conv1(x))))))
/// ```
///
/// `x'` is `x`, or `downsample(x)`, a 1 × 1 convolution with batch normalization, where the stride or the channels are not
/// the same. Its parts are `conv1`, `bn1`, `conv2`, `bn2`, `downsample.0` and `downsample.1`, as torchvision names them, and they start
/// as torchvision's: see [`ConvNorm`].
///
/// Source: He, Zhang, Ren, Sun, "Deep residual learning for image recognition", CVPR 2016,
/// <https://arxiv.org/abs/1512.03385>.
#[derive(Clone, Debug)]
pub struct BasicBlock {
    first: ConvNorm,
    second: ConvNorm,
    shortcut: Option<ConvNorm>,
}

impl BasicBlock {
    /// A block from `inputs` to `outputs` channels, whose first convolution has a stride.
    ///
    /// # Errors
    /// Those of its parts.
    pub fn new(
        params: &Params,
        (inputs, outputs): (usize, usize),
        stride: usize,
        norm: Normalization,
    ) -> Result<Self> {
        let part = |names, inputs, kernel, stride, relu| {
            let places = places(params, names);
            ConvNorm::new(&places, (inputs, outputs), kernel, stride, norm, relu)
        };
        let same = stride == 1 && inputs == outputs;
        Ok(Self {
            first: part(["conv1", "bn1"], inputs, 3, stride, true)?,
            second: part(["conv2", "bn2"], outputs, 3, 1, true)?,
            shortcut: (!same)
                .then(|| part(["downsample.0", "downsample.1"], inputs, 1, stride, false))
                .transpose()?,
        })
    }

    /// `(b, inputs, h, w)` to `(b, outputs, ⌈h / stride⌉, ⌈w / stride⌉)`.
    ///
    /// # Errors
    /// For another number of channels, and in training by the statistics of a batch that has one value per channel.
    pub fn forward(&self, x: &Tensor, mode: &mut Mode<'_>) -> Result<Tensor> {
        self.within(x, None, mode)
    }

    /// The same of padded maps, which are zero in the padding before and after: what is valid in what comes out.
    pub(crate) fn within(
        &self,
        x: &Tensor,
        valid: Option<&Valid>,
        mode: &mut Mode<'_>,
    ) -> Result<Tensor> {
        let around = around(self.shortcut.as_ref(), x, mode)?;
        let y = kept(self.first.forward(x, mode)?, valid)?;
        kept(self.second.forward_added(&y, &around, mode)?, valid)
    }
}

/// Maps with zeros in the padding, if there is any.
pub(crate) fn kept(maps: Tensor, valid: Option<&Valid>) -> Result<Tensor> {
    match valid {
        Some(valid) => valid.keep(maps),
        None => Ok(maps),
    }
}

/// Where a convolution and its normalization are.
pub(super) fn places(params: &Params, names: [&str; 2]) -> [Params; 2] {
    names.map(|name| params.at(name))
}

/// What goes around a block, to be added within its last part.
pub(super) fn around(
    shortcut: Option<&ConvNorm>,
    x: &Tensor,
    mode: &mut Mode<'_>,
) -> Result<Tensor> {
    match shortcut {
        Some(shortcut) => shortcut.forward(x, mode),
        None => Ok(x.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{DType, Device};
    use nearfar_core::Seed;

    #[test]
    fn a_shortcut_is_there_where_sizes_change() -> Result<()> {
        for (inputs, outputs, stride, tensors) in [(2, 2, 1, 10), (2, 2, 2, 15), (2, 3, 1, 15)] {
            let params = Params::new(Seed(1), DType::F32, &Device::Cpu)?;
            let block =
                BasicBlock::new(&params, (inputs, outputs), stride, Normalization::default())?;
            assert_eq!(params.parameters().len(), tensors);
            let x = Tensor::ones((1, inputs, 5, 4), DType::F32, &Device::Cpu)?;
            let y = block.forward(&x, &mut Mode::Eval)?;
            assert_eq!(
                y.dims(),
                [1, outputs, 5usize.div_ceil(stride), 4usize.div_ceil(stride)]
            );
        }
        Ok(())
    }

    #[test]
    fn a_block_that_adds_nothing_gives_what_it_reads() -> Result<()> {
        let params = Params::new(Seed(1), DType::F32, &Device::Cpu)?;
        let block = BasicBlock::new(&params, (1, 1), 1, Normalization::default())?;
        params.set("bn2.weight", &Tensor::zeros(1, DType::F32, &Device::Cpu)?)?;
        let x = Tensor::new(&[[[[1f32, 2.0]]]], &Device::Cpu)?;
        let y = block.forward(&x, &mut Mode::Eval)?;
        assert_eq!(y.flatten_all()?.to_vec1::<f32>()?, [1.0, 2.0]);
        Ok(())
    }
}
