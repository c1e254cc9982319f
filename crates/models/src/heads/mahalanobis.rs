//! A learned linear metric over embeddings.

use candle_core::{DType, Device, Result, Tensor};
use nearfar_core::{Encoded, Error, Mode};
use serde::{Deserialize, Serialize};

use super::{Over, Under};
use crate::input_shape::size;
use crate::{Init, Params, Weight};

/// Maps embeddings by a matrix that starts as the identity, so that Euclidean distances of what it gives are Mahalanobis distances of the
/// embeddings.
///
/// ```text
/// y = L x        ‖y_a − y_b‖² = (x_a − x_b)ᵀ M (x_a − x_b),   M = Lᵀ L
/// ```
///
/// `M` is positive semidefinite whatever `L` is. Before training nothing is changed: where `width` is smaller than the model's, the first
/// coordinates are taken. With `diagonal` each coordinate has a factor, and `L` is a diagonal matrix. There is no bias, which distances do
/// not see, and the rows are not normalized afterwards.
///
/// Over a model that does not normalize, `L` can be folded into the last linear layer when training is over:
/// [`MahalanobisMap::folded`]. Names: `mahalanobis.weight`, `(width, d)` or `(d)`.
///
/// Source: Shi, Yang, Zhu et al., "Embedding Deep Metric for Person Re-identification: A Study Against Large Variations", ECCV 2016,
/// <https://arxiv.org/abs/1611.00137>, section 3.2. There `M` is kept near the identity by `λ / 2 · ‖M − I‖²`, which a run file adds to the
/// loss with `head_regularizer = { penalty.orthonormal = {}, weight = 0.01 }`; the weight is `λ`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Mahalanobis {
    /// Numbers it gives; as many as the model's embeddings where it is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub width: Option<usize>,
    /// Whether each coordinate has a factor of its own and nothing is mixed.
    pub diagonal: bool,
}

impl Mahalanobis {
    pub(super) fn over(&self, under: &Under, params: &Params) -> Result<(Box<dyn Over>, usize)> {
        let map = MahalanobisMap::new(self, under.width, params)?;
        let width = map.width();
        Ok((Box::new(map), width))
    }
}

/// The map of [`Mahalanobis`], as a layer.
#[derive(Clone, Debug)]
pub struct MahalanobisMap {
    /// `(k, d)`, or `(d)` of a diagonal one.
    weight: Weight,
}

impl MahalanobisMap {
    /// For embeddings of `inputs` numbers.
    ///
    /// # Errors
    /// [`Error::Settings`] for sizes out of range, more outputs than inputs, or a diagonal map of another width; and those of
    /// [`Params::weight`].
    pub fn new(settings: &Mahalanobis, inputs: usize, params: &Params) -> Result<Self> {
        let inputs = size("mahalanobis", "inputs", inputs)?;
        let width = size("mahalanobis", "width", settings.width.unwrap_or(inputs))?;
        if width > inputs || (settings.diagonal && width != inputs) {
            Err(Error::Settings(format!(
                "mahalanobis: `width` is {width} for embeddings of {inputs} numbers; {} is possible",
                if settings.diagonal {
                    "the same with `diagonal`".to_owned()
                } else {
                    format!("up to {inputs}")
                }
            )))?;
        }
        if settings.diagonal {
            let weight = params.weight("weight", inputs, Init::Constant(1.0))?;
            return Ok(Self { weight });
        }
        let weight = params.weight("weight", (width, inputs), Init::Constant(0.0))?;
        let identity = (0..width * inputs).map(|at| f64::from(at / inputs == at % inputs));
        let identity = Tensor::from_iter(identity, &Device::Cpu)?.reshape((width, inputs))?;
        params.set("weight", &identity)?;
        Ok(Self { weight })
    }

    /// Numbers it gives.
    pub fn width(&self) -> usize {
        self.weight.var().dims()[0]
    }

    /// `(b, d)` to `(b, k)`.
    ///
    /// # Errors
    /// [`Error::Shape`] when the rows have another width.
    pub fn forward(&self, x: &Tensor, mode: &mut Mode<'_>) -> Result<Tensor> {
        let weight = self.weight.tensor(mode);
        let inputs = *weight.dims().last().unwrap_or(&0);
        if x.rank() != 2 || x.dim(1)? != inputs {
            Err(Error::Shape(format!(
                "mahalanobis: the embeddings have shape {:?}; (b, {inputs}) is wanted",
                x.dims()
            )))?;
        }
        match weight.rank() {
            1 => x.broadcast_mul(&weight),
            _ => nearfar_kernels::linear(x, &weight, None),
        }
    }

    /// `L`, `(k, d)`, whether it is diagonal or not.
    ///
    /// # Errors
    /// Those of candle.
    pub fn transform(&self) -> Result<Tensor> {
        let weight = self.weight.value();
        match weight.rank() {
            1 => {
                let unit = Tensor::eye(weight.dim(0)?, weight.dtype(), weight.device())?;
                unit.broadcast_mul(&weight)
            }
            _ => Ok(weight),
        }
    }

    /// `M = Lᵀ L`, `(d, d)`.
    ///
    /// # Errors
    /// Those of candle.
    pub fn metric(&self) -> Result<Tensor> {
        let map = self.transform()?;
        map.t()?.matmul(&map)
    }

    /// The one linear layer that does what a linear layer with this map after it does: its weight `L A`, `(k, inputs)`, and bias `L b`,
    /// `(k)`, of a layer `x ↦ A x + b`. In f64 and then of the layer's type, so that no more is lost than by rounding once.
    ///
    /// Nothing may stand between the two: a model with `normalize = true` cannot be folded.
    ///
    /// # Errors
    /// When the layer does not give what the map reads.
    ///
    /// ```
    /// use candle_core::{DType, Device, Tensor};
    /// use nearfar_core::Seed;
    /// use nearfar_models::Params;
    /// use nearfar_models::heads::{Mahalanobis, MahalanobisMap};
    ///
    /// let params = Params::new(Seed(1), DType::F32, &Device::Cpu)?;
    /// let map = MahalanobisMap::new(&Mahalanobis::default(), 2, &params)?;
    /// params.set("weight", &Tensor::new(&[[2f32, 0.0], [1.0, 1.0]], &Device::Cpu)?)?;
    /// let layer = Tensor::new(&[[1f32, 0.0, 3.0], [0.0, 1.0, 0.0]], &Device::Cpu)?;
    /// let (weight, bias) = map.folded(&layer, None)?;
    /// assert_eq!(weight.to_vec2::<f32>()?, [[2.0, 0.0, 6.0], [1.0, 1.0, 3.0]]);
    /// assert!(bias.is_none());
    /// # Ok::<(), candle_core::Error>(())
    /// ```
    pub fn folded(
        &self,
        weight: &Tensor,
        bias: Option<&Tensor>,
    ) -> Result<(Tensor, Option<Tensor>)> {
        let map = self.transform()?.to_dtype(DType::F64)?;
        let (_, inputs) = map.dims2()?;
        if weight.rank() != 2 || weight.dim(0)? != inputs {
            Err(Error::Shape(format!(
                "mahalanobis: the layer's weight has shape {:?}; ({inputs}, inputs) is wanted",
                weight.dims()
            )))?;
        }
        let folded = map.matmul(&weight.to_dtype(DType::F64)?)?;
        let bias = bias.map(|bias| -> Result<Tensor> {
            let column = bias.to_dtype(DType::F64)?.reshape((inputs, 1))?;
            map.matmul(&column)?.squeeze(1)?.to_dtype(bias.dtype())
        });
        Ok((folded.to_dtype(weight.dtype())?, bias.transpose()?))
    }
}

impl Over for MahalanobisMap {
    fn embed(&self, encoded: &Encoded, mode: &mut Mode<'_>) -> Result<Tensor> {
        self.forward(&encoded.embedding, mode)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nearfar_core::Seed;

    fn build(settings: &Mahalanobis, inputs: usize) -> Result<(Params, MahalanobisMap)> {
        let params = Params::new(Seed(1), DType::F64, &Device::Cpu)?;
        let map = MahalanobisMap::new(settings, inputs, &params)?;
        Ok((params, map))
    }

    #[test]
    fn it_starts_as_the_identity() -> Result<()> {
        let x = Tensor::new(&[[1f64, 2.0, 3.0]], &Device::Cpu)?;
        for (width, diagonal, wanted) in [
            (None, false, &[1.0, 2.0, 3.0][..]),
            (Some(2), false, &[1.0, 2.0]),
            (None, true, &[1.0, 2.0, 3.0]),
        ] {
            let (_, map) = build(&Mahalanobis { width, diagonal }, 3)?;
            let y = map.forward(&x, &mut Mode::Eval)?;
            assert_eq!(y.flatten_all()?.to_vec1::<f64>()?, wanted);
            assert_eq!(map.width(), wanted.len());
        }
        Ok(())
    }

    #[test]
    fn distances_are_those_of_its_metric_and_folding_changes_nothing() -> Result<()> {
        let (params, map) = build(&Mahalanobis::default(), 2)?;
        params.set(
            "weight",
            &Tensor::new(&[[2f64, -1.0], [0.5, 3.0]], &Device::Cpu)?,
        )?;
        let difference = Tensor::new(&[[1f64, -2.0]], &Device::Cpu)?;
        let mapped = map
            .forward(&difference, &mut Mode::Eval)?
            .sqr()?
            .sum_all()?
            .to_scalar::<f64>()?;
        let metric = difference
            .matmul(&map.metric()?)?
            .matmul(&difference.t()?)?;
        assert!((mapped - metric.flatten_all()?.get(0)?.to_scalar::<f64>()?).abs() < 1e-12);
        assert!((mapped - (16.0 + 5.5 * 5.5)).abs() < 1e-12); // L · (1, −2) = (4, −5.5)

        let (weight, bias) = (
            Tensor::new(&[[1f64, 2.0, 0.0], [0.0, -1.0, 4.0]], &Device::Cpu)?,
            Tensor::new(&[0.5f64, -1.0], &Device::Cpu)?,
        );
        let x = Tensor::new(&[[3f64, 1.0, -2.0]], &Device::Cpu)?;
        let layer = |weight: &Tensor, bias: &Tensor| x.matmul(&weight.t()?)?.broadcast_add(bias);
        let apart = map.forward(&layer(&weight, &bias)?, &mut Mode::Eval)?;
        let (folded, moved) = map.folded(&weight, Some(&bias))?;
        let together = layer(&folded, &moved.expect("there was one"))?;
        for (a, b) in apart.to_vec2::<f64>()?[0]
            .iter()
            .zip(&together.to_vec2::<f64>()?[0])
        {
            assert!((a - b).abs() < 1e-12, "{a} {b}");
        }
        assert!(map.folded(&weight.t()?, None).is_err());
        Ok(())
    }

    #[test]
    fn what_cannot_be_is_told() {
        for (width, diagonal) in [(Some(4), false), (Some(2), true), (Some(0), false)] {
            assert!(build(&Mahalanobis { width, diagonal }, 3).is_err());
        }
    }
}
