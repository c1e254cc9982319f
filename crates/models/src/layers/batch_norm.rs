//! Batch normalization.

use candle_core::{DType, Result, Tensor};
use nearfar_core::{Error, Mode};
use serde::{Deserialize, Serialize};

use crate::input_shape::size;
use crate::{Init, Params, Weight};

/// By which statistics a normalization goes in training. In evaluation these always are the learned ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Statistics {
    /// By those of the batch, which the gradient passes through and which the running ones learn from.
    #[default]
    Batch,
    /// By the running ones, which stay as they are: for small batches and for a start from trained weights.
    Frozen,
}

/// How batch normalization works. The default is torch's.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Normalization {
    /// Added to the variance.
    pub eps: f64,
    /// What a batch counts in the running statistics, from 0 to 1. None counts every batch the same: the running statistics
    /// are the mean over all batches so far.
    pub momentum: Option<f64>,
    /// By what it goes in training.
    pub statistics: Statistics,
}

impl Default for Normalization {
    fn default() -> Self {
        Self {
            eps: 1e-5,
            momentum: Some(0.1),
            statistics: Statistics::Batch,
        }
    }
}

/// The affine map and the running statistics of a normalization, under torch's names: `weight`, `bias`, `running_mean`,
/// `running_var`, and `num_batches_tracked` where every batch counts the same.
#[derive(Clone, Debug)]
pub(super) struct Norm {
    pub(super) scale: Weight,
    pub(super) shift: Weight,
    mean: Weight,
    variance: Weight,
    learning: Learning,
    pub(super) settings: Normalization,
}

/// What a batch counts in the running statistics.
#[derive(Clone, Debug)]
enum Learning {
    /// This share.
    Share(f64),
    /// As much as every batch before it.
    Mean {
        /// How many batches there were, `(1)`: a statistic like the others, in their type. torch's is a whole number without a
        /// dimension, which it counts with a momentum too, though nothing reads it then.
        batches: Weight,
    },
}

impl Norm {
    pub(super) fn new(params: &Params, channels: usize, settings: Normalization) -> Result<Self> {
        if !(settings.eps > 0.0 && settings.eps.is_finite()) {
            Err(Error::Settings(format!(
                "batch_norm: `eps` is {}; a finite number above 0 is wanted",
                settings.eps
            )))?;
        }
        let learning = match settings.momentum {
            Some(momentum) if (0.0..=1.0).contains(&momentum) => Learning::Share(momentum),
            Some(momentum) => Err(Error::Settings(format!(
                "batch_norm: `momentum` is {momentum}; a number from 0 to 1 is wanted, or none for the mean over all batches"
            )))?,
            None => Learning::Mean {
                batches: params.statistic("num_batches_tracked", 1, 0.0)?,
            },
        };
        Ok(Self {
            scale: params.weight("weight", channels, Init::Constant(1.0))?,
            shift: params.weight("bias", channels, Init::Constant(0.0))?,
            mean: params.statistic("running_mean", channels, 0.0)?,
            variance: params.statistic("running_var", channels, 1.0)?,
            learning,
            settings,
        })
    }

    /// Whether this pass goes by the statistics of its batch.
    pub(super) fn by_batch(&self, mode: &Mode<'_>) -> bool {
        // Statistics that are frozen by name say the same as the setting.
        mode.trains() && self.settings.statistics == Statistics::Batch && !self.mean.frozen()
    }

    /// The running mean and variance, as constants.
    pub(super) fn running(&self) -> (Tensor, Tensor) {
        (self.mean.value(), self.variance.value())
    }

    /// Moves the running statistics towards those of a batch of `count` values per channel. `variance` is the biased
    /// one; the unbiased one is learned, as in torch.
    pub(super) fn learn(&self, mean: &Tensor, variance: &Tensor, count: usize) -> Result<()> {
        let momentum = match &self.learning {
            Learning::Share(momentum) => *momentum,
            Learning::Mean { batches } => {
                let count = (batches.value() + 1.0)?;
                batches.var().set(&count)?;
                1.0 / count.get(0)?.to_dtype(DType::F64)?.to_scalar::<f64>()?
            }
        };
        let unbiased = count as f64 / (count as f64 - 1.0);
        let mixed = |old: &Weight, new: &Tensor, factor: f64| -> Result<()> {
            let mixed =
                ((old.value() * (1.0 - momentum))? + (new.detach() * (momentum * factor))?)?;
            old.var().set(&mixed)
        };
        mixed(&self.mean, mean, 1.0)?;
        mixed(&self.variance, variance, unbiased)
    }
}

/// Normalizes each channel over the batch and all places, as torch's `BatchNorm1d` and `BatchNorm2d`:
///
/// ```text
/// y = (x − mean) / √(variance + eps) · weight + bias
/// ```
///
/// In training, mean and biased variance of the batch, and the running ones move towards it by `momentum` (the variance
/// towards the unbiased one); in evaluation, with [`Statistics::Frozen`], and while `running_mean` is
/// [frozen](nearfar_core::Encoder::freeze), the running ones. For images behind a convolution, [`ConvBlock`](super::ConvBlock) does the same faster.
///
/// Its tensors are `weight`, `bias`, `running_mean` and `running_var`, `(channels)` each; and `num_batches_tracked` `(1)`
/// without a momentum.
///
/// Source: Ioffe, Szegedy, "Batch Normalization", ICML 2015, <https://arxiv.org/abs/1502.03167>.
#[derive(Clone, Debug)]
pub struct BatchNorm {
    norm: Norm,
}

impl BatchNorm {
    /// A normalization of `channels` channels.
    ///
    /// # Errors
    /// For settings out of range, and those of [`Params::weight`].
    pub fn new(params: &Params, channels: usize, settings: Normalization) -> Result<Self> {
        size("batch_norm", "channels", channels)?;
        Ok(Self {
            norm: Norm::new(params, channels, settings)?,
        })
    }

    /// `(b, channels, …)` to the same shape.
    ///
    /// # Errors
    /// [`Error::Shape`] for another number of channels; [`Error::Input`] in training by the statistics of a batch that
    /// has one value per channel, which has no variance.
    pub fn forward(&self, x: &Tensor, mode: &mut Mode<'_>) -> Result<Tensor> {
        let (scale, shift) = (self.norm.scale.tensor(mode), self.norm.shift.tensor(mode));
        let channels = scale.dim(0)?;
        if x.rank() < 2 || x.dim(1)? != channels {
            Err(Error::Shape(format!(
                "batch_norm: the input has shape {:?}; (b, {channels}, …) is wanted",
                x.dims()
            )))?;
        }
        let places: usize = x.dims()[2..].iter().product();
        let values = x.reshape((x.dim(0)?, channels, places))?; // (b, c, places)
        let count = values.dim(0)? * values.dim(2)?;
        let per_channel = |vector: &Tensor| vector.reshape((1, channels, 1));
        let (centered, variance) = if self.norm.by_batch(mode) {
            if count < 2 {
                Err(Error::Input(format!(
                    "batch_norm: a batch with {count} value per channel has no variance; use a larger batch, or \
                     `statistics = \"frozen\"`"
                )))?;
            }
            let mean = values.mean_keepdim((0, 2))?;
            let centered = values.broadcast_sub(&mean)?;
            let variance = centered.sqr()?.mean_keepdim((0, 2))?; // (1, c, 1)
            self.norm
                .learn(&mean.flatten_all()?, &variance.flatten_all()?, count)?;
            (centered, variance)
        } else {
            let (mean, variance) = self.norm.running();
            (
                values.broadcast_sub(&per_channel(&mean)?)?,
                per_channel(&variance)?,
            )
        };
        let deviation = (variance + self.norm.settings.eps)?.sqrt()?;
        centered
            .broadcast_div(&deviation)?
            .broadcast_mul(&per_channel(&scale)?)?
            .broadcast_add(&per_channel(&shift)?)?
            .reshape(x.shape())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;
    use nearfar_core::{Purpose, Seed};

    fn params() -> Params {
        Params::new(Seed(1), DType::F64, &Device::Cpu).expect("f64")
    }

    fn running(params: &Params) -> Result<(f64, f64)> {
        let value = |name| -> Result<f64> {
            params
                .find(name)
                .expect("made with the layer")
                .value()
                .get(0)?
                .to_scalar()
        };
        Ok((value("running_mean")?, value("running_var")?))
    }

    #[test]
    fn a_batch_is_normalized_and_learned_from() -> Result<()> {
        let params = params();
        let layer = BatchNorm::new(&params, 1, Normalization::default())?;
        let x = Tensor::new(&[[1f64], [3.0]], &Device::Cpu)?; // Mean 2, variance 1, unbiased 2.
        let mut rng = Seed(1).rng(Purpose::Dropout, 0);
        let y = layer
            .forward(&x, &mut Mode::Train(&mut rng))?
            .to_vec2::<f64>()?;
        assert!((y[0][0] + 1.0).abs() < 1e-5 && (y[1][0] - 1.0).abs() < 1e-5);
        let (mean, variance) = running(&params)?;
        assert!((mean - 0.2).abs() < 1e-12 && (variance - 1.1).abs() < 1e-12);
        let y = layer.forward(&x, &mut Mode::Eval)?.to_vec2::<f64>()?;
        assert!((y[0][0] - 0.8 / (1.1f64 + 1e-5).sqrt()).abs() < 1e-12);
        assert_eq!(running(&params)?, (mean, variance));
        Ok(())
    }

    #[test]
    fn frozen_statistics_stay_and_serve_one_row() -> Result<()> {
        let params = params();
        let settings = Normalization {
            statistics: Statistics::Frozen,
            ..Normalization::default()
        };
        let layer = BatchNorm::new(&params, 1, settings)?;
        let mut rng = Seed(1).rng(Purpose::Dropout, 0);
        let x = Tensor::new(&[[3f64]], &Device::Cpu)?;
        let y = layer.forward(&x, &mut Mode::Train(&mut rng))?;
        let gradients = y.sum_all()?.backward()?;
        let scale = params.find("weight").expect("made with the layer");
        assert!(gradients.get(scale.var()).is_some());
        assert_eq!(running(&params)?, (0.0, 1.0));
        Ok(())
    }

    #[test]
    fn without_momentum_every_batch_counts_the_same() -> Result<()> {
        let params = params();
        let settings = Normalization {
            momentum: None,
            ..Normalization::default()
        };
        let layer = BatchNorm::new(&params, 1, settings)?;
        let mut rng = Seed(1).rng(Purpose::Dropout, 0);
        for mean in [1f64, 2.0, 6.0] {
            let x = Tensor::new(&[[mean - 1.0], [mean + 1.0]], &Device::Cpu)?;
            layer.forward(&x, &mut Mode::Train(&mut rng))?;
        }
        let (mean, variance) = running(&params)?;
        assert!((mean - 3.0).abs() < 1e-12 && (variance - 2.0).abs() < 1e-12);
        Ok(())
    }

    #[test]
    fn one_value_has_no_variance() -> Result<()> {
        let layer = BatchNorm::new(&params(), 2, Normalization::default())?;
        let mut rng = Seed(1).rng(Purpose::Dropout, 0);
        let x = Tensor::zeros((1, 2), DType::F64, &Device::Cpu)?;
        let error = layer
            .forward(&x, &mut Mode::Train(&mut rng))
            .expect_err("one row");
        assert!(error.to_string().contains("no variance"), "{error}");
        assert!(
            layer.forward(&x.t()?, &mut Mode::Eval).is_err(),
            "one channel"
        );
        let settings = Normalization {
            momentum: Some(1.5),
            ..Normalization::default()
        };
        let error = BatchNorm::new(&params(), 2, settings).expect_err("more than all");
        assert!(error.to_string().contains("`momentum` is 1.5"), "{error}");
        let settings = Normalization {
            eps: 0.0,
            momentum: None,
            ..Normalization::default()
        };
        let error = BatchNorm::new(&params(), 2, settings).expect_err("no eps");
        assert!(error.to_string().contains("`eps` is 0; "), "{error}");
        Ok(())
    }

    #[test]
    fn an_empty_batch_gives_an_empty_one() -> Result<()> {
        let layer = BatchNorm::new(&params(), 2, Normalization::default())?;
        let x = Tensor::zeros((0, 2, 3), DType::F64, &Device::Cpu)?;
        assert_eq!(layer.forward(&x, &mut Mode::Eval)?.dims(), [0, 2, 3]);
        let mut rng = Seed(1).rng(Purpose::Dropout, 0);
        assert!(layer.forward(&x, &mut Mode::Train(&mut rng)).is_err());
        Ok(())
    }
}
