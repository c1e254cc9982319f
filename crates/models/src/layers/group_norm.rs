//! Normalization of groups of channels.

use candle_core::{Result, Tensor};
use nearfar_core::{Error, Mode, Positive};
use nearfar_kernels::standardize;

use crate::input_shape::size;
use crate::{Init, Params, Weight};

/// Normalizes each group of channels of each input over all its places, as torch's `GroupNorm`:
///
/// ```text
/// y = (x − mean) / √(variance + eps) · weight + bias
/// ```
///
/// with the biased variance; weight and bias are of each channel. One group is layer normalization of the whole input, and
/// as many as there are channels is instance normalization. It does not look at the batch, and has no running statistics.
///
/// Its tensors are `weight` and `bias` `(channels)`, which start at 1 and 0.
///
/// Source: Wu, He, "Group normalization", ECCV 2018, <https://arxiv.org/abs/1803.08494>.
#[derive(Clone, Debug)]
pub struct GroupNorm {
    weight: Weight,
    bias: Weight,
    groups: usize,
    eps: f64,
}

impl GroupNorm {
    /// A normalization of `channels` channels in `groups` groups. torch's `eps` is 1e−5.
    ///
    /// # Errors
    /// [`Error::Settings`] for groups that do not divide the channels, and those of [`Params::weight`].
    pub fn new(params: &Params, groups: usize, channels: usize, eps: Positive) -> Result<Self> {
        size("group_norm", "groups", groups)?;
        size("group_norm", "channels", channels)?;
        if !channels.is_multiple_of(groups) {
            Err(Error::Settings(format!(
                "group_norm: `groups` is {groups} and `channels` {channels}; groups must divide channels"
            )))?;
        }
        Ok(Self {
            weight: params.weight("weight", channels, Init::Constant(1.0))?,
            bias: params.weight("bias", channels, Init::Constant(0.0))?,
            groups,
            eps: eps.get(),
        })
    }

    /// `(b, channels, …)` to the same shape.
    ///
    /// # Errors
    /// [`Error::Shape`] for another number of channels.
    pub fn forward(&self, x: &Tensor, mode: &mut Mode<'_>) -> Result<Tensor> {
        let (weight, bias) = (self.weight.tensor(mode), self.bias.tensor(mode));
        let channels = weight.dim(0)?;
        if x.rank() < 2 || x.dim(1)? != channels {
            Err(Error::Shape(format!(
                "group_norm: the input has shape {:?}; (b, {channels}, …) is wanted",
                x.dims()
            )))?;
        }
        let batch = x.dim(0)?;
        let places: usize = x.dims()[2..].iter().product();
        let rows = x.reshape((batch, self.groups, channels / self.groups * places))?;
        standardize(&rows, self.eps)?
            .reshape((batch, channels, places))?
            .broadcast_mul(&weight.reshape((1, channels, 1))?)?
            .broadcast_add(&bias.reshape((1, channels, 1))?)?
            .reshape(x.shape())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{DType, Device};
    use nearfar_core::Seed;

    #[test]
    fn a_group_is_normalized_as_one_row() -> Result<()> {
        let params = Params::new(Seed(1), DType::F64, &Device::Cpu)?;
        let layer = GroupNorm::new(&params, 1, 2, Positive::literal(3.0))?;
        params.set("weight", &Tensor::new(&[1f64, 2.0], &Device::Cpu)?)?;
        let x = Tensor::new(&[[[1f64, 3.0], [3.0, 1.0]]], &Device::Cpu)?; // Mean 2, variance 1.
        let y = layer.forward(&x, &mut Mode::Eval)?;
        assert_eq!(y.to_vec3::<f64>()?, [[[-0.5, 0.5], [1.0, -1.0]]]);
        Ok(())
    }

    #[test]
    fn groups_divide_channels() -> Result<()> {
        let params = Params::new(Seed(1), DType::F64, &Device::Cpu)?;
        let error = GroupNorm::new(&params, 2, 3, Positive::literal(1e-5));
        let error = error.expect_err("three in two groups").to_string();
        assert!(error.contains("`groups` is 2 and `channels` 3"), "{error}");
        let layer = GroupNorm::new(&params, 3, 3, Positive::literal(1e-5))?;
        let x = Tensor::zeros((2, 4), DType::F64, &Device::Cpu)?;
        let error = layer
            .forward(&x, &mut Mode::Eval)
            .expect_err("four")
            .to_string();
        assert!(
            error.contains("[2, 4]") && error.contains("(b, 3, …)"),
            "{error}"
        );
        Ok(())
    }
}
