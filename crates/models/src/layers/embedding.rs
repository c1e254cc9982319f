//! Vectors of words.

use candle_core::{Result, Tensor};
use nearfar_core::{Error, Mode, NonNegative};

use crate::input_shape::size;
use crate::{Init, Params, Weight};

/// A learned vector for each id, as torch's `Embedding`. It starts normal with mean 0 and a given deviation; torch's is 1.
///
/// Its tensor is `weight` `(count, dim)`. A row that no id of a batch names gets gradient zero. The layers here that read
/// the vectors do not look beyond the true length of a sequence, so no id needs to be that of padding; published networks
/// have one, whose vector starts at 0 and is never trained: [`with_padding`](Self::with_padding).
#[derive(Clone, Debug)]
pub struct Embedding {
    weight: Weight,
    padding: Option<u32>,
}

impl Embedding {
    /// Vectors of `dim` numbers for ids below `count`.
    ///
    /// # Errors
    /// For sizes of 0, and those of [`Params::weight`].
    pub fn new(params: &Params, count: usize, dim: usize, deviation: NonNegative) -> Result<Self> {
        size("embedding", "count", count)?;
        size("embedding", "dim", dim)?;
        let init = Init::Normal {
            mean: 0.0,
            deviation: deviation.get(),
        };
        Ok(Self {
            weight: params.weight("weight", (count, dim), init)?,
            padding: None,
        })
    }

    /// The same with the id of padding: its vector becomes 0, and gets no gradient.
    ///
    /// # Errors
    /// [`Error::Settings`] for an id that has no vector.
    pub fn with_padding(mut self, id: u32) -> Result<Self> {
        let (count, dim) = self.weight.var().dims2()?;
        if id as usize >= count {
            Err(Error::Settings(format!(
                "embedding: the id of padding is {id}; there are vectors for {count}, numbered from 0"
            )))?;
        }
        let mut kept = vec![1u8; count];
        kept[id as usize] = 0;
        let kept = Tensor::from_vec(kept, (count, 1), self.weight.var().device())?;
        let vectors = self.weight.value();
        let kept = kept.broadcast_as((count, dim))?;
        let vectors = kept.where_cond(&vectors, &vectors.zeros_like()?)?;
        self.weight.var().set(&vectors)?;
        self.padding = Some(id);
        Ok(self)
    }

    /// Ids of any shape, u32, to vectors `(…, dim)`.
    ///
    /// # Errors
    /// [`Error::Input`] for an id that has no vector, and for ids that are not u32.
    pub fn forward(&self, ids: &Tensor, mode: &mut Mode<'_>) -> Result<Tensor> {
        let weight = self.weight.tensor(mode);
        let (count, dim) = weight.dims2()?;
        if ids.dtype() != candle_core::DType::U32 {
            Err(Error::Input(format!(
                "embedding: token ids are {}; u32 is wanted",
                ids.dtype().as_str()
            )))?;
        }
        let flat = ids.flatten_all()?;
        // Not every device checks its indices.
        let known = |id: &u32| (*id as usize) < count;
        if let Some(id) = flat.to_vec1::<u32>()?.into_iter().find(|id| !known(id)) {
            Err(Error::Input(format!(
                "embedding: there is no vector for token {id}; the vocabulary has {count}, numbered from 0"
            )))?;
        }
        let mut dims = ids.dims().to_vec();
        dims.push(dim);
        let vectors = weight.index_select(&flat, 0)?;
        let vectors = match self.padding {
            None => vectors,
            Some(padding) => {
                let trained = flat
                    .ne(padding)?
                    .unsqueeze(1)?
                    .broadcast_as(vectors.shape())?;
                trained.where_cond(&vectors, &vectors.detach())?
            }
        };
        vectors.reshape(dims)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{DType, Device};
    use nearfar_core::{Purpose, Seed};

    #[test]
    fn a_row_gets_the_gradients_of_all_its_places() -> Result<()> {
        let params = Params::new(Seed(1), DType::F32, &Device::Cpu)?;
        let layer = Embedding::new(&params, 3, 1, NonNegative::literal(1.0))?;
        params.set(
            "weight",
            &Tensor::new(&[[1f32], [2.0], [3.0]], &Device::Cpu)?,
        )?;
        let ids = Tensor::new(&[[2u32, 0], [2, 2]], &Device::Cpu)?;
        let mut rng = Seed(1).rng(Purpose::Dropout, 0);
        let vectors = layer.forward(&ids, &mut Mode::Train(&mut rng))?;
        assert_eq!(vectors.to_vec3::<f32>()?, [[[3.0], [1.0]], [[3.0], [3.0]]]);
        let gradients = vectors.sum_all()?.backward()?;
        let weight = params.find("weight").expect("made above");
        let gradient = gradients
            .get(weight.var())
            .expect("all was looked up in it");
        assert_eq!(gradient.to_vec2::<f32>()?, [[1.0], [0.0], [3.0]]);
        Ok(())
    }

    #[test]
    fn padding_is_zero_and_is_not_trained() -> Result<()> {
        let params = Params::new(Seed(1), DType::F32, &Device::Cpu)?;
        let layer = Embedding::new(&params, 3, 2, NonNegative::literal(1.0))?.with_padding(1)?;
        let ids = Tensor::new(&[1u32, 2, 1], &Device::Cpu)?;
        let mut rng = Seed(1).rng(Purpose::Dropout, 0);
        let vectors = layer.forward(&ids, &mut Mode::Train(&mut rng))?;
        assert_eq!(vectors.get(0)?.to_vec1::<f32>()?, [0.0, 0.0]);
        assert_ne!(vectors.get(1)?.to_vec1::<f32>()?, [0.0, 0.0]);
        let gradients = vectors.sum_all()?.backward()?;
        let weight = params.find("weight").expect("made above");
        let gradient = gradients.get(weight.var()).expect("2 was looked up");
        assert_eq!(
            gradient.to_vec2::<f32>()?,
            [[0.0, 0.0], [0.0, 0.0], [1.0, 1.0]]
        );
        let error = layer
            .with_padding(3)
            .expect_err("3 is not below 3")
            .to_string();
        assert!(
            error.contains("padding is 3; there are vectors for 3"),
            "{error}"
        );
        Ok(())
    }

    #[test]
    fn unknown_tokens_are_named() -> Result<()> {
        let params = Params::new(Seed(1), DType::F32, &Device::Cpu)?;
        let layer = Embedding::new(&params, 3, 1, NonNegative::literal(1.0))?;
        let error = layer.forward(&Tensor::new(&[0u32, 3], &Device::Cpu)?, &mut Mode::Eval);
        assert_eq!(
            error.expect_err("3 is not below 3").to_string(),
            "embedding: there is no vector for token 3; the vocabulary has 3, numbered from 0"
        );
        assert!(
            layer
                .forward(&Tensor::new(&[0f32], &Device::Cpu)?, &mut Mode::Eval)
                .is_err()
        );
        Ok(())
    }
}
