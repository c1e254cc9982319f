//! Full layers over the embedding of any model.

use candle_core::{Result, Tensor};
use nearfar_core::{Encoded, Encoder, Input, Mode};
use serde::{Deserialize, Serialize};

use super::{Over, Under};
use crate::{InputShape, Mlp, Params, Tower};

/// Maps embeddings by full layers with ReLU to embeddings of another width.
///
/// ```text
/// embedding ─▶ for each hidden size [full ─▶ batch norm, if set ─▶ ReLU] ─▶ linear width ─▶ unit length, if set
/// ```
///
/// Over a published network whose weights stay as they are this is all that is trained: the network is a fixed reader, and the layers
/// learn what of it says the likeness that is wanted. With `hidden = []` it is one linear map with a bias.
///
/// Names: those of `model.mlp` behind `projection.`: `projection.layers.0.weight`, `projection.layers.0.bias` (none under batch norm),
/// `projection.norms.0.weight`, …, `projection.head.weight`, `projection.head.bias`.
///
/// Source: Chen, Kornblith, Norouzi, Hinton, "A Simple Framework for Contrastive Learning of Visual Representations", ICML 2020,
/// <https://arxiv.org/abs/2002.05709>, section 4.2, one hidden layer between the network and the loss. There the layers are thrown away
/// after training; here what they give is the embedding.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Projection {
    /// Numbers in an embedding.
    pub width: usize,
    /// Sizes of the hidden layers; an empty list leaves a linear map.
    pub hidden: Vec<usize>,
    /// Whether hidden layers are normalized over the batch.
    pub batch_norm: bool,
    /// Whether embeddings have length 1.
    pub normalize: bool,
}

impl Default for Projection {
    /// One hidden layer of 256 numbers, to 128.
    fn default() -> Self {
        Self {
            width: 128,
            hidden: vec![256],
            batch_norm: false,
            normalize: true,
        }
    }
}

impl Projection {
    pub(super) fn over(&self, under: &Under, params: &Params) -> Result<(Box<dyn Over>, usize)> {
        let layers = Mlp {
            width: self.width,
            hidden: self.hidden.clone(),
            batch_norm: self.batch_norm,
            normalize: self.normalize,
            ..Mlp::default()
        };
        let layers = layers.build(&InputShape::Features(under.width), params)?;
        let width = layers.width();
        Ok((Box::new(layers), width))
    }
}

impl Over for Tower {
    fn embed(&self, encoded: &Encoded, mode: &mut Mode<'_>) -> Result<Tensor> {
        let rows = Input::Dense(encoded.embedding.clone());
        Ok(self.encode(&rows, mode.reborrow())?.embedding)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use candle_core::{DType, Device};
    use nearfar_core::Seed;

    fn over(settings: &Projection, params: &Params) -> Result<(Box<dyn Over>, usize)> {
        let under = Under {
            width: 2,
            beside: BTreeMap::new(),
            samples: None,
        };
        settings.over(&under, params)
    }

    #[test]
    fn it_is_the_layers_that_it_says() -> Result<()> {
        let params = Params::new(Seed(1), DType::F64, &Device::Cpu)?;
        let settings = Projection {
            width: 1,
            hidden: vec![2],
            normalize: false,
            ..Projection::default()
        };
        let (head, width) = over(&settings, &params)?;
        assert_eq!(width, 1);
        let set = |name: &str, values: &[[f64; 2]]| {
            let numbers = values.as_flattened();
            params.set(
                name,
                &Tensor::from_slice(numbers, (values.len(), 2), &Device::Cpu)?,
            )
        };
        set("layers.0.weight", &[[1.0, 1.0], [1.0, -1.0]])?;
        params.set(
            "layers.0.bias",
            &Tensor::zeros(2, DType::F64, &Device::Cpu)?,
        )?;
        set("head.weight", &[[2.0, 10.0]])?;
        params.set("head.bias", &Tensor::new(&[0.5f64], &Device::Cpu)?)?;
        let rows = Tensor::new(&[[1f64, 2.0], [2.0, 1.0]], &Device::Cpu)?;
        let found = head.embed(&rows.into(), &mut Mode::Eval)?;
        // (1 + 2, max(1 − 2, 0)) and (2 + 1, 2 − 1) by 2 and 10, and a half.
        assert_eq!(found.to_vec2::<f64>()?, [[6.5], [16.5]]);
        Ok(())
    }

    #[test]
    fn sizes_out_of_range_are_refused() -> Result<()> {
        let params = Params::new(Seed(1), DType::F32, &Device::Cpu)?;
        let nothing = Projection {
            width: 0,
            ..Projection::default()
        };
        let error = over(&nothing, &params).expect_err("no width");
        assert!(error.to_string().contains("`width`"), "{error}");
        Ok(())
    }
}
