//! A residual block of three convolutions.

use candle_core::{Result, Tensor};
use nearfar_core::Mode;

use super::residual::{around, kept, places};
use super::{ConvNorm, Normalization, Valid};
use crate::Params;

/// The block of ResNet-50 and deeper: a 1 × 1 convolution to few channels, a 3 × 3 one among them, a 1 × 1 one to
/// [`WIDER`](Self::WIDER) times as many, each with batch normalization, and what they read is added.
///
/// ```text
/// y = relu(x' + bn3(conv3(relu(bn2(conv2(relu(bn1(conv1(x))))))))
/// ```
///
/// `x'` is `x`, or `downsample(x)`, a 1 × 1 convolution with batch normalization, where the stride or the channels are not
/// the same. The stride is that of the 3 × 3 convolution, as in torchvision ("ResNet v1.5"); the paper's is that of the first.
/// Its parts are `conv1`, `bn1`, …, `conv3`, `bn3`, `downsample.0` and `downsample.1`, as torchvision names them, and they start
/// as torchvision's: see [`ConvNorm`].
///
/// Source: He, Zhang, Ren, Sun, "Deep residual learning for image recognition", CVPR 2016,
/// <https://arxiv.org/abs/1512.03385>, figure 5.
#[derive(Clone, Debug)]
pub struct Bottleneck {
    branch: [ConvNorm; 3],
    shortcut: Option<ConvNorm>,
}

impl Bottleneck {
    /// How many times as many channels come out as are in the middle.
    pub const WIDER: usize = 4;

    /// A block from `inputs` channels through `middle` to [`WIDER`](Self::WIDER) times as many.
    ///
    /// # Errors
    /// Those of its parts.
    pub fn new(
        params: &Params,
        (inputs, middle): (usize, usize),
        stride: usize,
        norm: Normalization,
    ) -> Result<Self> {
        let outputs = middle.saturating_mul(Self::WIDER);
        let part = |names, channels, kernel, stride, relu| {
            ConvNorm::new(&places(params, names), channels, kernel, stride, norm, relu)
        };
        let shortcut = |stride| {
            let names = ["downsample.0", "downsample.1"];
            part(names, (inputs, outputs), 1, stride, false)
        };
        let same = stride == 1 && inputs == outputs;
        Ok(Self {
            branch: [
                part(["conv1", "bn1"], (inputs, middle), 1, 1, true)?,
                part(["conv2", "bn2"], (middle, middle), 3, stride, true)?,
                part(["conv3", "bn3"], (middle, outputs), 1, 1, true)?,
            ],
            shortcut: (!same).then(|| shortcut(stride)).transpose()?,
        })
    }

    /// `(b, inputs, h, w)` to `(b, 4 middle, ⌈h / stride⌉, ⌈w / stride⌉)`.
    ///
    /// # Errors
    /// For another number of channels, and in training by the statistics of a batch that has one value per channel.
    pub fn forward(&self, x: &Tensor, mode: &mut Mode<'_>) -> Result<Tensor> {
        self.within(x, [None, None], mode)
    }

    /// The same of padded maps, which are zero in the padding before and after: what is valid in what comes in, and in what comes out.
    pub(crate) fn within(
        &self,
        x: &Tensor,
        [before, after]: [Option<&Valid>; 2],
        mode: &mut Mode<'_>,
    ) -> Result<Tensor> {
        let around = around(self.shortcut.as_ref(), x, mode)?;
        let [narrow, middle, wide] = &self.branch;
        // The one in the middle alone looks at neighbors.
        let y = kept(narrow.forward(x, mode)?, before)?;
        let y = middle.forward(&y, mode)?;
        kept(wide.forward_added(&y, &around, mode)?, after)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{DType, Device};
    use nearfar_core::Seed;

    #[test]
    fn a_shortcut_is_there_where_sizes_change() -> Result<()> {
        for (inputs, middle, stride, tensors) in [(8, 2, 1, 15), (8, 2, 2, 20), (2, 2, 1, 20)] {
            let params = Params::new(Seed(1), DType::F32, &Device::Cpu)?;
            let block =
                Bottleneck::new(&params, (inputs, middle), stride, Normalization::default())?;
            assert_eq!(params.parameters().len(), tensors);
            let x = Tensor::ones((1, inputs, 5, 4), DType::F32, &Device::Cpu)?;
            let y = block.forward(&x, &mut Mode::Eval)?;
            let (rows, columns) = (5usize.div_ceil(stride), 4usize.div_ceil(stride));
            assert_eq!(y.dims(), [1, 4 * middle, rows, columns]);
        }
        Ok(())
    }

    #[test]
    fn a_block_that_adds_nothing_gives_what_it_reads() -> Result<()> {
        let params = Params::new(Seed(1), DType::F32, &Device::Cpu)?;
        let block = Bottleneck::new(&params, (4, 1), 1, Normalization::default())?;
        params.set("bn3.weight", &Tensor::zeros(4, DType::F32, &Device::Cpu)?)?;
        let x = Tensor::new(&[[[[1f32]], [[2.0]], [[3.0]], [[4.0]]]], &Device::Cpu)?;
        let y = block.forward(&x, &mut Mode::Eval)?;
        assert_eq!(y.flatten_all()?.to_vec1::<f32>()?, [1.0, 2.0, 3.0, 4.0]);
        Ok(())
    }
}
