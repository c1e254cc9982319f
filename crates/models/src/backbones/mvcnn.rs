//! A network over several views of a thing.

use candle_core::{Result, Tensor};
use nearfar_core::{Error, Fraction, Input, Mode};
use nearfar_kernels::relu;
use serde::{Deserialize, Serialize};

use crate::input_shape::size;
use crate::layers::{self, ConvBlock, ConvSettings, Slide, Statistics, dropout, max_pool};
use crate::tower::{Backbone, Features, Head, Pooling, Tower};
use crate::{InputShape, Params};

/// MVCNN: one convolutional network sees each view of a thing, and of all views the largest number at each place is kept.
///
/// ```text
/// each view ─▶ blocks × [conv 3×3, channels ─▶ batch norm ─▶ ReLU ─▶ max 2×2] ─┐
/// each view ─▶ the same ───────────────────────────────────────────────────────┼─▶ max over the views ─▶ full hidden ─▶ ReLU ─▶ dropout ─▶ linear width
/// each view ─▶ the same ───────────────────────────────────────────────────────┘
/// ```
///
/// Reads views `(b, views, channels, height, width)`: images of one size, of at least 2 to the power of `blocks` pixels along each side.
/// Reads images, too, as one view each. The order of the views changes nothing, and a view that is there twice changes nothing in
/// evaluation; of views whose numbers are equal the first gets the gradient. In training the statistics of the normalization are those of
/// all views of a batch.
///
/// Names: `blocks.0.conv.weight`, `blocks.0.norm.weight`, …, `full.weight`, `full.bias`, `head.weight`, `head.bias`.
///
/// Source: Su et al., "Multi-view Convolutional Neural Networks for 3D Shape Recognition", ICCV 2015, <https://arxiv.org/abs/1505.00880>,
/// section 3.2: the maximum stands behind the last convolution. There the blocks are those of VGG-M, the full layer has 4096 numbers and
/// half of them are dropped; here blocks are those of `conv4`, and there are 256.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Mvcnn {
    /// Numbers in an embedding.
    pub width: usize,
    /// Channels of each block.
    pub channels: usize,
    /// Number of blocks, each of which halves the sides.
    pub blocks: usize,
    /// Numbers of the full layer behind the maximum.
    pub hidden: usize,
    /// Probability with which a number of the full layer is dropped in training, less than 1.
    pub dropout: Fraction,
    /// By which statistics the normalizations go in training: `"batch"` or `"frozen"`.
    pub statistics: Statistics,
    /// Whether embeddings have length 1.
    pub normalize: bool,
}

impl Default for Mvcnn {
    /// Small, and otherwise as in the paper.
    fn default() -> Self {
        Self {
            width: 64,
            channels: 64,
            blocks: 4,
            hidden: 256,
            dropout: Fraction::literal(0.5),
            statistics: Statistics::Batch,
            normalize: true,
        }
    }
}

#[derive(Debug)]
struct Network {
    blocks: Vec<ConvBlock>,
    full: layers::Linear,
    dropout: Fraction,
}

impl Mvcnn {
    /// A tower of these settings whose parameters are made in `params`.
    ///
    /// # Errors
    /// [`Error::Settings`] for data that are no views or too small, and sizes out of range.
    pub fn build(&self, input: &InputShape, params: &Params) -> Result<Tower> {
        let (&InputShape::Views {
            channels,
            height,
            width,
            ..
        }
        | &InputShape::Image {
            channels,
            height,
            width,
        }) = input
        else {
            return Err(input.refused("mvcnn", "views or images"));
        };
        if let &InputShape::Views { views, .. } = input {
            size("mvcnn", "views", views)?;
        }
        size("mvcnn", "blocks", self.blocks)?;
        size("mvcnn", "channels", self.channels)?;
        size("mvcnn", "hidden", self.hidden)?;
        let embedding = size("mvcnn", "width", self.width)?;
        let block = ConvSettings::usual(self.statistics, 2);
        let halved =
            |pixels: usize| (0..self.blocks).try_fold(pixels, |pixels, _| block.output(pixels));
        let (Some(rows), Some(columns)) = (halved(height), halved(width)) else {
            return Err(Error::Settings(format!(
                "mvcnn: views of {height} × {width} are too small for {} poolings by 2; make them larger, or set fewer `blocks`",
                self.blocks
            ))
            .into());
        };
        let flat = rows.saturating_mul(columns).saturating_mul(self.channels);
        let flat = size("mvcnn", "height × width × channels", flat)?;
        let places = params.at("blocks");
        let blocks = ConvBlock::stack(&places, self.blocks, channels, self.channels, block)?;
        let network = Network {
            blocks,
            full: layers::Linear::new(&params.at("full"), flat, self.hidden, true)?,
            dropout: layers::dropout_rate("mvcnn", self.dropout).map(|_| self.dropout)?,
        };
        let head = Head {
            pooling: Pooling::Flatten,
            projection: Some(layers::Linear::new(
                &params.at("head"),
                self.hidden,
                embedding,
                true,
            )?),
            normalize: self.normalize,
        };
        Ok(Tower::new(
            "mvcnn",
            input.clone(),
            Box::new(network),
            head,
            embedding,
            params,
        ))
    }
}

impl Backbone for Network {
    fn features(&self, input: &Input, mode: &mut Mode<'_>) -> Result<Features> {
        let images = input.dense("mvcnn")?;
        let (b, views, images) = match *images.dims() {
            [b, views, c, h, w] => (b, views, images.reshape((b * views, c, h, w))?),
            [b, ..] => (b, 1, images.clone()),
            [] => (0, 1, images.clone()),
        };
        let maps = self
            .blocks
            .iter()
            .try_fold(images, |x, block| block.forward(&x, mode))?;
        let seen = maps.flatten_from(1)?;
        let seen = largest(&seen.reshape((b, views, seen.dim(1)?))?)?;
        let full = relu(&self.full.forward(&seen, mode)?)?;
        Ok(Features::Vectors(dropout(&full, self.dropout, mode)?))
    }
}

/// The largest number of each column, `(b, n, d)` to `(b, d)`. The first of equal ones has the gradient; candle's maximum gives it to all.
pub(super) fn largest(x: &Tensor) -> Result<Tensor> {
    let rows = x.dim(1)?;
    max_pool(&x.unsqueeze(1)?, &[Slide::over(rows), Slide::over(1)])?
        .squeeze(1)?
        .squeeze(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{DType, Device};
    use nearfar_core::{Encoder, Seed};
    use nearfar_kernels::test_util::noise;

    fn shape(views: usize) -> InputShape {
        InputShape::Views {
            views,
            channels: 1,
            height: 16,
            width: 16,
        }
    }

    fn build(input: &InputShape) -> Result<Tower> {
        let params = Params::new(Seed(1), DType::F64, &Device::Cpu)?;
        Mvcnn::default().build(input, &params)
    }

    #[test]
    fn neither_order_nor_number_of_equal_views_counts() -> Result<()> {
        let embed = |tower: &Tower, values: Tensor| -> Result<Vec<f64>> {
            let encoded = tower.encode(&Input::Dense(values), Mode::Eval)?;
            encoded.embedding.flatten_all()?.to_vec1::<f64>()
        };
        let x = noise((2, 3, 1, 16, 16), 3)?;
        let tower = build(&shape(3))?;
        let order = Tensor::new(&[2u32, 0, 1], &Device::Cpu)?;
        let near = |a: Vec<f64>, b: Vec<f64>| a.iter().zip(&b).all(|(a, b)| (a - b).abs() < 1e-12);
        let whole = embed(&tower, x.clone())?;
        assert!(near(
            whole.clone(),
            embed(&tower, x.index_select(&order, 1)?)?
        ));
        assert!(!near(
            whole,
            embed(&tower, x.narrow(1, 0, 1)?.repeat((1, 3, 1, 1, 1))?)?
        ));
        // One view is an image.
        let one = x.narrow(1, 1, 1)?;
        let image = InputShape::Image {
            channels: 1,
            height: 16,
            width: 16,
        };
        let thrice = embed(&tower, one.repeat((1, 3, 1, 1, 1))?)?;
        assert!(near(
            thrice.clone(),
            embed(&build(&shape(1))?, one.clone())?
        ));
        assert!(near(thrice, embed(&build(&image)?, one.squeeze(1)?)?));
        Ok(())
    }

    #[test]
    fn the_largest_of_each_column_has_the_gradient() -> Result<()> {
        let x = candle_core::Var::new(&[[[1f64, 5.0], [3.0, 5.0]]], &Device::Cpu)?;
        let y = largest(&x)?;
        assert_eq!(y.to_vec2::<f64>()?, [[3.0, 5.0]]);
        let gradients = y.sum_all()?.backward()?;
        let gradient = gradients.get(&x).expect("it depends on it");
        assert_eq!(gradient.to_vec3::<f64>()?, [[[0.0, 1.0], [1.0, 0.0]]]);
        Ok(())
    }

    #[test]
    fn views_that_pooling_would_use_up_are_refused() {
        let small = InputShape::Views {
            views: 2,
            channels: 1,
            height: 8,
            width: 16,
        };
        let error = build(&small).expect_err("too small").to_string();
        assert!(
            error.contains("views of 8 × 16 are too small for 4"),
            "{error}"
        );
    }
}
