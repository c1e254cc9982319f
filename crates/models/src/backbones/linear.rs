//! One matrix.

use candle_core::Result;
use nearfar_core::{Input, Mode};
use serde::{Deserialize, Serialize};

use crate::input_shape::size;
use crate::layers;
use crate::tower::{Backbone, Features, Head, Pooling, Tower};
use crate::{InputShape, Params};

/// One matrix: under a loss this is a linear metric learner, and the baseline of every deeper model.
///
/// ```text
/// embedding = W x            d(x, y) = ‖W (x − y)‖, a Mahalanobis distance with M = Wᵀ W
/// ```
///
/// Reads vectors, and images as their pixels in row-major order. The distances above are those of `normalize = false`,
/// which the classical methods (NCA, LMNN) want.
///
/// Names: `map.weight` `(width, features)`, `map.bias`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Linear {
    /// Numbers in an embedding.
    pub width: usize,
    /// Whether a vector is added. It moves all embeddings alike, so it matters only where these are normalized.
    pub bias: bool,
    /// Whether embeddings have length 1.
    pub normalize: bool,
}

impl Default for Linear {
    fn default() -> Self {
        Self {
            width: 64,
            bias: false,
            normalize: true,
        }
    }
}

#[derive(Debug)]
struct Map(layers::Linear);

impl Linear {
    /// A tower of these settings whose parameters are made in `params`.
    ///
    /// # Errors
    /// [`Error::Settings`](nearfar_core::Error::Settings) for data that are sequences, and sizes out of range.
    pub fn build(&self, input: &InputShape, params: &Params) -> Result<Tower> {
        let Some(features) = input.numbers() else {
            return Err(input.refused("linear", "vectors or images"));
        };
        let width = size("linear", "width", self.width)?;
        let map = layers::Linear::new(&params.at("map"), features, width, self.bias)?;
        let head = Head {
            pooling: Pooling::Flatten,
            projection: None,
            normalize: self.normalize,
        };
        Ok(Tower::new(
            "linear",
            input.clone(),
            Box::new(Map(map)),
            head,
            width,
            params,
        ))
    }
}

impl Backbone for Map {
    fn features(&self, input: &Input, mode: &mut Mode<'_>) -> Result<Features> {
        let x = input.dense("linear")?.flatten_from(1)?;
        Ok(Features::Vectors(self.0.forward(&x, mode)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{DType, Device, Tensor};
    use nearfar_core::{Encoder, Seed};

    #[test]
    fn an_embedding_is_a_product() -> Result<()> {
        let params = Params::new(Seed(1), DType::F32, &Device::Cpu)?;
        let settings = Linear {
            width: 1,
            normalize: false,
            ..Linear::default()
        };
        let tower = settings.build(&InputShape::Features(2), &params)?;
        params.set("map.weight", &Tensor::new(&[[2f32, -1.0]], &Device::Cpu)?)?;
        let x = Input::Dense(Tensor::new(&[[1f32, 1.0], [0.0, 3.0]], &Device::Cpu)?);
        let embedding = tower.encode(&x, Mode::Eval)?.embedding;
        assert_eq!(embedding.to_vec2::<f32>()?, [[1.0], [-3.0]]);
        Ok(())
    }
}
