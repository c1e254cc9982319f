//! Convolution, normalization, activation and pooling.

use candle_core::{Result, Tensor};
use nearfar_core::{Error, Mode};
use nearfar_kernels::{ConvBlock as Block, Norm as BlockNorm, conv_block};

use super::batch_norm::{Norm, Normalization, Statistics};
use crate::input_shape::size;
use crate::{Init, Params, Weight};

/// What a [`ConvBlock`] does, in this order.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ConvSettings {
    /// Side of the square kernel.
    pub kernel: usize,
    /// Zeros around the image, on each side; fewer than `kernel`.
    pub padding: usize,
    /// Batch normalization; without one the convolution has a bias.
    pub norm: Option<Normalization>,
    /// Whether `max(0, x)` follows.
    pub relu: bool,
    /// Side of the pooling windows, which do not overlap; 1 means none.
    pub pool: usize,
}

impl ConvSettings {
    /// A map of each pixel by itself, with a bias.
    pub const PIXELS: Self = Self {
        kernel: 1,
        padding: 0,
        norm: None,
        relu: false,
        pool: 1,
    };

    /// The usual block: 3 × 3 that keeps the size, batch normalization, `max(0, x)`, and pooling by `pool`.
    pub fn usual(statistics: Statistics, pool: usize) -> Self {
        Self {
            kernel: 3,
            padding: 1,
            norm: Some(Normalization {
                statistics,
                ..Normalization::default()
            }),
            relu: true,
            pool,
        }
    }

    /// Rows (or columns) that become of `rows`; none where nothing is left.
    pub fn output(&self, rows: usize) -> Option<usize> {
        let around = self.padding.checked_mul(2)?.checked_add(1)?;
        let convolved = rows.checked_add(around)?.checked_sub(self.kernel)?;
        match convolved.checked_div(self.pool)? {
            0 => None,
            pooled => Some(pooled),
        }
    }
}

/// Convolution with stride 1, batch normalization or bias, activation and max-pooling as one operation
/// ([`nearfar_kernels::conv_block`]).
///
/// Its tensors are `conv.weight` `(outputs, inputs, kernel, kernel)` and either `conv.bias` or `norm.weight`,
/// `norm.bias`, `norm.running_mean`, `norm.running_var`. A bias under a normalization would do nothing, and there is
/// none. Starting values are torch's: uniform in `±1/√(inputs · kernel²)`.
#[derive(Clone, Debug)]
pub struct ConvBlock {
    weight: Weight,
    finish: Finish,
    settings: ConvSettings,
}

#[derive(Clone, Debug)]
enum Finish {
    Bias(Weight),
    Norm(Norm),
}

impl ConvBlock {
    /// Blocks one on top of the other, at `0`, `1`, … in `params`: the first reads `inputs` channels, all give `channels`.
    ///
    /// # Errors
    /// Those of [`new`](Self::new).
    pub fn stack(
        params: &Params,
        count: usize,
        inputs: usize,
        channels: usize,
        settings: ConvSettings,
    ) -> Result<Vec<Self>> {
        (0..count)
            .map(|index| {
                let inputs = if index == 0 { inputs } else { channels };
                Self::new(&params.at(index), inputs, channels, settings)
            })
            .collect()
    }

    /// A block from `inputs` to `outputs` channels.
    ///
    /// # Errors
    /// For settings out of range, and those of [`Params::weight`].
    pub fn new(
        params: &Params,
        inputs: usize,
        outputs: usize,
        settings: ConvSettings,
    ) -> Result<Self> {
        size("conv_block", "inputs", inputs)?;
        size("conv_block", "outputs", outputs)?;
        size("conv_block", "pool", settings.pool)?;
        let kernel = size("conv_block", "kernel", settings.kernel)?;
        if settings.padding >= kernel {
            Err(Error::Settings(format!(
                "conv_block: `padding` is {}; it must be smaller than the kernel, {kernel}",
                settings.padding
            )))?;
        }
        let init = Init::fan_in(inputs.saturating_mul(kernel).saturating_mul(kernel));
        let weight = params.weight("conv.weight", (outputs, inputs, kernel, kernel), init)?;
        let finish = match settings.norm {
            Some(norm) => Finish::Norm(Norm::new(&params.at("norm"), outputs, norm)?),
            None => Finish::Bias(params.weight("conv.bias", outputs, init)?),
        };
        Ok(Self {
            weight,
            finish,
            settings,
        })
    }

    /// `(b, inputs, h, w)` to `(b, outputs, h', w')`.
    ///
    /// # Errors
    /// For images of other channels or too small, and in training by the statistics of a batch that has one value per
    /// channel.
    pub fn forward(&self, x: &Tensor, mode: &mut Mode<'_>) -> Result<Tensor> {
        let weight = self.weight.tensor(mode);
        let ConvSettings {
            padding,
            relu,
            pool,
            ..
        } = self.settings;
        let block = Block {
            padding,
            stride: 1,
            norm: None,
            relu,
            pool,
        };
        match &self.finish {
            Finish::Bias(bias) => {
                Ok(conv_block(x, &weight, None, &bias.tensor(mode), None, None, &block)?.output)
            }
            Finish::Norm(norm) => normalized(x, &weight, norm, None, block, mode),
        }
    }
}

/// The block with batch normalization, and with a sum before the activation; the running statistics learn from what it sees.
pub(super) fn normalized(
    x: &Tensor,
    weight: &Tensor,
    norm: &Norm,
    residual: Option<&Tensor>,
    block: Block,
    mode: &Mode<'_>,
) -> Result<Tensor> {
    let block = |norm| Block {
        norm: Some(norm),
        ..block
    };
    let (scale, shift) = (norm.scale.tensor(mode), norm.shift.tensor(mode));
    let eps = norm.settings.eps;
    if !norm.by_batch(mode) {
        let (mean, variance) = norm.running();
        let statistics = Some((&mean, &variance));
        let block = block(BlockNorm::Fixed { eps });
        let scale = Some(&scale);
        return Ok(conv_block(x, weight, scale, &shift, statistics, residual, &block)?.output);
    }
    let block = block(BlockNorm::Batch { eps });
    let done = conv_block(x, weight, Some(&scale), &shift, None, residual, &block)?;
    if let (Some(mean), Some(variance)) = (&done.mean, &done.variance) {
        norm.learn(mean, variance, done.count)?;
    }
    Ok(done.output)
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{DType, Device};
    use nearfar_core::{Purpose, Seed};

    const SETTINGS: ConvSettings = ConvSettings {
        kernel: 1,
        padding: 0,
        norm: None,
        relu: true,
        pool: 2,
    };

    #[test]
    fn a_block_is_its_four_steps() -> Result<()> {
        let params = Params::new(Seed(1), DType::F32, &Device::Cpu)?;
        let block = ConvBlock::new(&params, 1, 2, SETTINGS)?;
        let weight = Tensor::new(&[1f32, -1.0], &Device::Cpu)?.reshape((2, 1, 1, 1))?;
        params.set("conv.weight", &weight)?;
        params.set("conv.bias", &Tensor::new(&[0.5f32, 2.0], &Device::Cpu)?)?;
        let x = Tensor::new(&[[[[1f32, 2.0], [3.0, 4.0]]]], &Device::Cpu)?;
        let y = block.forward(&x, &mut Mode::Eval)?;
        assert_eq!(y.dims(), [1, 2, 1, 1]);
        assert_eq!(y.flatten_all()?.to_vec1::<f32>()?, [4.5, 1.0]);
        Ok(())
    }

    #[test]
    fn statistics_are_learned_before_pooling() -> Result<()> {
        let params = Params::new(Seed(1), DType::F32, &Device::Cpu)?;
        let norm = Some(Normalization::default());
        let block = ConvBlock::new(&params, 1, 1, ConvSettings { norm, ..SETTINGS })?;
        params.set(
            "conv.weight",
            &Tensor::ones((1, 1, 1, 1), DType::F32, &Device::Cpu)?,
        )?;
        let x = Tensor::new(&[[[[0f32, 0.0], [0.0, 4.0]]]], &Device::Cpu)?; // Mean 1, variance 3, unbiased 4.
        let mut rng = Seed(1).rng(Purpose::Dropout, 0);
        let y = block.forward(&x, &mut Mode::Train(&mut rng))?;
        assert!((y.flatten_all()?.to_vec1::<f32>()?[0] - 3f32.sqrt()).abs() < 1e-5);
        let value = |name| params.find(name).expect("made with the block").value();
        assert!((value("norm.running_mean").to_vec1::<f32>()?[0] - 0.1).abs() < 1e-6);
        assert!((value("norm.running_var").to_vec1::<f32>()?[0] - 1.3).abs() < 1e-6);
        Ok(())
    }

    #[test]
    fn sizes_are_counted_as_the_kernel_counts() {
        let block = ConvSettings {
            kernel: 5,
            ..SETTINGS
        };
        assert_eq!(block.output(28), Some(12));
        assert_eq!(block.output(6), Some(1));
        assert_eq!(
            (block.output(5), block.output(3), block.output(usize::MAX)),
            (None, None, None)
        );
        let params = Params::new(Seed(1), DType::F32, &Device::Cpu).expect("f32");
        let padded = ConvSettings {
            padding: 1,
            ..SETTINGS
        };
        assert!(ConvBlock::new(&params, 1, 1, padded).is_err());
    }
}
