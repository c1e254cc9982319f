//! Means and deviations over time.

use candle_core::{D, Device, Result, Tensor};
use nearfar_core::{Error, Mode};
use nearfar_kernels::softmax;

use super::Linear;
use crate::{Init, Params};

/// The least variance that a deviation is taken of: its root has no finite slope at 0.
const LEAST_VARIANCE: f64 = 1e-5;

/// The mean and the deviation of each channel over the valid places, `(b, c, t)` to `(b, 2c)`: first all means, then all deviations.
///
/// ```text
/// μ = 1/T Σ_t h_t,   σ = √max(1/T Σ_t (h_t − μ)², 1e−5)
/// ```
///
/// Where the variance is below the least one its gradient is 0.
///
/// Source: Snyder, Garcia-Romero, Povey, Khudanpur, "Deep neural network embeddings for text-independent speaker verification",
/// Interspeech 2017.
///
/// # Errors
/// [`Error::Shape`] for another number of dimensions, and for lengths that are not from 1 to `t`, one for each row.
pub fn statistics_pool(x: &Tensor, lengths: &[u32]) -> Result<Tensor> {
    let places = checked("statistics_pool", x, lengths)?;
    let shares: Vec<f64> = lengths
        .iter()
        .flat_map(|&length| {
            let share = 1.0 / f64::from(length);
            (0..places).map(move |at| if at < length as usize { share } else { 0.0 })
        })
        .collect();
    let shares = Tensor::from_vec(shares, (lengths.len(), places, 1), &Device::Cpu)?
        .to_dtype(x.dtype())?
        .to_device(x.device())?;
    statistics(x, &shares)
}

/// The same, with places that count as much as a small network finds them worth:
///
/// ```text
/// e_t = vᵀ tanh(W h_t + b),   α = softmax of e over the valid places
/// μ = Σ_t α_t h_t,            σ = √max(Σ_t α_t (h_t − μ)², 1e−5)
/// ```
///
/// Its tensors are `hidden.weight` `(width, c)`, `hidden.bias` `(width)` and `score.weight` `(1, width)`. (The paper adds a constant
/// to the scores, which a softmax does not see.)
///
/// Source: Okabe, Koshinaka, Shinoda, "Attentive statistics pooling for deep speaker embedding", Interspeech 2018,
/// <https://arxiv.org/abs/1803.10963>.
#[derive(Clone, Debug)]
pub struct AttentiveStatistics {
    hidden: Linear,
    score: Linear,
}

impl AttentiveStatistics {
    /// Of so many channels, looked at with `width` numbers a place.
    ///
    /// # Errors
    /// For sizes of 0, and those of [`Params::weight`].
    pub fn new(params: &Params, channels: usize, width: usize) -> Result<Self> {
        let init = Init::fan_in(width);
        Ok(Self {
            hidden: Linear::new(&params.at("hidden"), channels, width, true)?,
            score: Linear::starting(&params.at("score"), width, 1, init, None)?,
        })
    }

    /// `(b, c, t)` to `(b, 2c)`.
    ///
    /// # Errors
    /// Those of [`statistics_pool`], and for another number of channels.
    pub fn forward(&self, x: &Tensor, lengths: &[u32], mode: &mut Mode<'_>) -> Result<Tensor> {
        let places = checked("attentive_statistics", x, lengths)?;
        let looked = self
            .hidden
            .forward(&x.transpose(1, 2)?.contiguous()?, mode)?;
        let scores = self
            .score
            .forward(&looked.tanh()?, mode)?
            .squeeze(D::Minus1)?; // (b, t)
        let flags = lengths
            .iter()
            .flat_map(|&length| (0..places).map(move |at| u8::from(at < length as usize)));
        let is_valid = Tensor::from_vec(flags.collect(), scores.shape(), &Device::Cpu)?
            .to_device(x.device())?;
        let nothing = Tensor::full(f32::NEG_INFINITY, scores.shape(), x.device())?;
        let scores = is_valid.where_cond(&scores, &nothing.to_dtype(scores.dtype())?)?;
        statistics(x, &softmax(&scores)?.unsqueeze(D::Minus1)?)
    }
}

/// Means and deviations by shares `(b, t, 1)`, which are 0 where there is padding.
fn statistics(x: &Tensor, shares: &Tensor) -> Result<Tensor> {
    let shares = shares.contiguous()?;
    let mean = x.contiguous()?.matmul(&shares)?; // (b, c, 1)
    let centered = x.broadcast_sub(&mean)?;
    let variance = centered.sqr()?.contiguous()?.matmul(&shares)?;
    let least = Tensor::full(LEAST_VARIANCE, variance.shape(), x.device())?.to_dtype(x.dtype())?;
    // Not `maximum`: NaN is not below, and stays to be seen.
    let variance = variance.lt(LEAST_VARIANCE)?.where_cond(&least, &variance)?;
    Tensor::cat(&[mean, variance.sqrt()?], 1)?.squeeze(D::Minus1)
}

/// How many places there are.
fn checked(name: &str, x: &Tensor, lengths: &[u32]) -> Result<usize> {
    match *x.dims() {
        [rows, _, places]
            if lengths.len() == rows
                && lengths
                    .iter()
                    .all(|&it| (1..=places).contains(&(it as usize))) =>
        {
            Ok(places)
        }
        _ => Err(Error::Shape(format!(
            "{name}: the input has shape {:?}, the lengths are {lengths:?}; (b, c, t) with b lengths from 1 to t is wanted",
            x.dims()
        )))?,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::DType;
    use nearfar_core::Seed;

    fn near(found: &Tensor, expected: &[f64]) -> Result<bool> {
        let found = found.flatten_all()?.to_vec1::<f64>()?;
        let pairs = found.iter().zip(expected);
        Ok(found.len() == expected.len()
            && pairs.fold(true, |all, (a, b)| all && (a - b).abs() < 1e-12))
    }

    #[test]
    fn means_and_deviations_are_of_the_valid_places() -> Result<()> {
        let x = Tensor::new(&[[[1f64, 3.0, 9.0]], [[2.0, 2.0, 2.0]]], &Device::Cpu)?;
        let least = 1e-5f64.sqrt();
        assert!(near(
            &statistics_pool(&x, &[2, 3])?,
            &[2.0, 1.0, 2.0, least]
        )?);
        for lengths in [&[2][..], &[0, 3], &[2, 4]] {
            let error = statistics_pool(&x, lengths)
                .expect_err("lengths")
                .to_string();
            assert!(error.contains(&format!("{lengths:?}")), "{error}");
        }
        Ok(())
    }

    #[test]
    fn attention_weighs_places_and_never_padding() -> Result<()> {
        let params = Params::new(Seed(1), DType::F64, &Device::Cpu)?;
        let layer = AttentiveStatistics::new(&params, 1, 1)?;
        let set = |name: &str, value: f64, dims: &[usize]| {
            params.set(name, &Tensor::full(value, dims, &Device::Cpu)?)
        };
        set("hidden.weight", 1.0, &[1, 1])?;
        set("hidden.bias", 0.0, &[1])?;
        set("score.weight", 3f64.ln() / 1f64.tanh(), &[1, 1])?;
        // Scores 0 and ln 3: weights 1/4 and 3/4.
        let x = Tensor::new(&[[[0f64, 1.0, 50.0]]], &Device::Cpu)?;
        let pooled = layer.forward(&x, &[2], &mut Mode::Eval)?;
        assert!(near(&pooled, &[0.75, (3.0f64 / 16.0).sqrt()])?, "{pooled}");
        Ok(())
    }
}
