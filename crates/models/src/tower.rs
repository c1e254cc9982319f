//! A backbone with a head.

use std::collections::BTreeMap;
use std::fmt::Debug;

use candle_core::{D, Device, Result, Tensor};
use nearfar_core::{Encoded, Encoder, Error, Input, Mode, Parameter};
use nearfar_kernels::l2_normalize;
use serde::{Deserialize, Serialize};

use crate::input_shape::InputShape;
use crate::layers::Linear;
use crate::{Params, Weight};

/// What a network sees in its inputs, before it becomes an embedding.
pub trait Backbone: Debug + Send + Sync {
    /// `b` inputs, at least one and of the shape that the tower was built for, to features.
    ///
    /// # Errors
    /// When the input cannot be read.
    fn features(&self, input: &Input, mode: &mut Mode<'_>) -> Result<Features>;

    /// The same, and beside them named tensors with a row for each input, for losses that ask for them: see
    /// [`Encoded`](nearfar_core::Encoded). By default none.
    ///
    /// # Errors
    /// As [`features`](Self::features).
    fn outputs(
        &self,
        input: &Input,
        mode: &mut Mode<'_>,
    ) -> Result<(Features, BTreeMap<String, Tensor>)> {
        Ok((self.features(input, mode)?, BTreeMap::new()))
    }
}

/// What a backbone gives to a head.
#[derive(Clone, Debug)]
pub enum Features {
    /// `(b, d)`
    Vectors(Tensor),
    /// `(b, c, h, w)`
    Maps(Tensor),
    /// The states of a sequence.
    States {
        /// State at each place, `(b, t, d)`; beyond the true length it is anything finite.
        all: Tensor,
        /// State after the last valid place, `(b, d)`.
        last: Tensor,
        /// True lengths.
        lengths: Vec<u32>,
    },
}

/// How features become one vector for each input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pooling {
    /// All numbers: vectors as they are, maps in row-major order. Sequences have different lengths and cannot be
    /// flattened.
    Flatten,
    /// The state of a sequence after its last valid place.
    Last,
    /// The mean over the places of a map, or over the valid places of a sequence.
    Mean,
}

impl Pooling {
    /// `(b, d)`
    pub(crate) fn pool(self, features: Features) -> Result<Tensor> {
        match (self, features) {
            (Self::Flatten, Features::Vectors(vectors)) => Ok(vectors),
            (Self::Flatten, Features::Maps(maps)) => maps.flatten_from(1),
            (Self::Mean, Features::Maps(maps)) => maps.flatten_from(2)?.mean(D::Minus1),
            (Self::Last, Features::States { last, .. }) => Ok(last),
            (Self::Mean, Features::States { all, lengths, .. }) => mean_of_valid(&all, &lengths),
            (pooling, features) => {
                let kind = match features {
                    Features::Vectors(_) => "vectors",
                    Features::Maps(_) => "maps",
                    Features::States { .. } => "states of a sequence",
                };
                Err(Error::Settings(format!("`{pooling:?}` cannot pool {kind}")))?
            }
        }
    }
}

/// `(b, t, d)` to `(b, d)`.
pub(crate) fn mean_of_valid(states: &Tensor, lengths: &[u32]) -> Result<Tensor> {
    let (_, t, _) = states.dims3()?;
    // Each valid place counts 1/length and each other 0: a masked mean is one product.
    let shares: Vec<f64> = lengths
        .iter()
        .flat_map(|&length| {
            let share = 1.0 / f64::from(length);
            (0..t).map(move |at| if at < length as usize { share } else { 0.0 })
        })
        .collect();
    let shares = Tensor::from_vec(shares, (lengths.len(), 1, t), &Device::Cpu)?
        .to_dtype(states.dtype())?
        .to_device(states.device())?;
    shares.matmul(&states.contiguous()?)?.squeeze(1)
}

/// Makes embeddings of features: pools, projects if it has a projection, normalizes if it should.
#[derive(Clone, Debug)]
pub struct Head {
    /// To one vector for each input.
    pub pooling: Pooling,
    /// To the width of the embedding; none where the features have it.
    pub projection: Option<Linear>,
    /// Whether embeddings have length 1.
    pub normalize: bool,
}

impl Head {
    /// Features to embeddings `(b, d)`.
    ///
    /// # Errors
    /// When the features do not fit the projection.
    pub fn embed(&self, features: Features, mode: &mut Mode<'_>) -> Result<Tensor> {
        let pooled = self.pooling.pool(features)?;
        let projected = match &self.projection {
            Some(projection) => projection.forward(&pooled, mode)?,
            None => pooled,
        };
        if self.normalize {
            l2_normalize(&projected)
        } else {
            Ok(projected)
        }
    }
}

/// An encoder made of a backbone and a head.
///
/// In `Mode::Eval` its weights are cut off from the graph: a pass keeps nothing for a backward pass.
#[derive(Debug)]
pub struct Tower {
    name: &'static str,
    input: InputShape,
    backbone: Box<dyn Backbone>,
    head: Head,
    width: usize,
    weights: Vec<(String, Weight)>,
    params: Params,
}

impl Tower {
    /// The tower `name`, which reads `input` and gives embeddings of `width` numbers. Its parameters are those made in
    /// `params`, so give it a place where no other model is.
    ///
    /// A backbone of your own becomes an encoder here:
    ///
    /// ```
    /// use candle_core::{DType, Device, Result, Tensor};
    /// use nearfar_core::{Encoder, Input, Mode, Seed};
    /// use nearfar_models::layers::Linear;
    /// use nearfar_models::{Backbone, Features, Head, InputShape, Params, Pooling, Tower};
    ///
    /// /// Looks at the squares of its inputs.
    /// #[derive(Debug)]
    /// struct Squares(Linear);
    ///
    /// impl Backbone for Squares {
    ///     fn features(&self, input: &Input, mode: &mut Mode<'_>) -> Result<Features> {
    ///         let squares = input.dense("squares")?.sqr()?;
    ///         Ok(Features::Vectors(self.0.forward(&squares, mode)?))
    ///     }
    /// }
    ///
    /// let params = Params::new(Seed(7), DType::F32, &Device::Cpu)?;
    /// let squares = Squares(Linear::new(&params.at("squares"), 3, 2, true)?);
    /// let head = Head { pooling: Pooling::Flatten, projection: None, normalize: true };
    /// let tower = Tower::new("squares", InputShape::Features(3), Box::new(squares), head, 2, &params);
    /// let batch = Input::Dense(Tensor::ones((4, 3), DType::F32, &Device::Cpu)?);
    /// assert_eq!(tower.encode(&batch, Mode::Eval)?.embedding.dims(), [4, 2]);
    /// # Ok::<(), candle_core::Error>(())
    /// ```
    pub fn new(
        name: &'static str,
        input: InputShape,
        backbone: Box<dyn Backbone>,
        head: Head,
        width: usize,
        params: &Params,
    ) -> Self {
        Self {
            name,
            input,
            backbone,
            head,
            width,
            weights: params.here(),
            params: params.clone(),
        }
    }

    /// What it reads.
    pub fn input(&self) -> &InputShape {
        &self.input
    }

    /// The input in the type of the parameters: images of u8 or f64 under a model of f32 are no mistake.
    fn converted(&self, input: &Input) -> Result<Input> {
        let dtype = self.params.dtype();
        Ok(match input {
            Input::Dense(values) => Input::Dense(values.to_dtype(dtype)?),
            Input::Sequence { values, lengths } if values.rank() == 3 => Input::Sequence {
                values: values.to_dtype(dtype)?,
                lengths: lengths.clone(),
            },
            tokens => tokens.clone(),
        })
    }
}

impl Encoder for Tower {
    fn encode(&self, input: &Input, mut mode: Mode<'_>) -> Result<Encoded> {
        self.input.check(self.name, input)?;
        if input.rows()? == 0 {
            let none = Tensor::zeros((0, self.width), self.params.dtype(), self.params.device())?;
            return Ok(none.into());
        }
        let (features, extra) = (self.backbone).outputs(&self.converted(input)?, &mut mode)?;
        let embedding = self.head.embed(features, &mut mode)?;
        if embedding.dims() != [input.rows()?, self.width] {
            Err(Error::Shape(format!(
                "{}: the embeddings have shape {:?} where {:?} was promised; head and backbone do not fit",
                self.name,
                embedding.dims(),
                [input.rows()?, self.width]
            )))?;
        }
        Ok(Encoded { embedding, extra })
    }

    fn width(&self) -> usize {
        self.width
    }

    fn parameters(&self) -> Vec<Parameter> {
        self.weights
            .iter()
            .map(|(name, weight)| weight.parameter(name))
            .collect()
    }

    fn freeze(&self, name: &str, frozen: bool) -> bool {
        let found = self.weights.iter().find(|(own, _)| own == name);
        if let Some((_, weight)) = found {
            weight.freeze(frozen);
        }
        found.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pooling_gives_one_vector_each() -> Result<()> {
        let maps = || Tensor::new(&[[[[1f32, 2.0], [3.0, 4.0]]]], &Device::Cpu).map(Features::Maps);
        assert_eq!(
            Pooling::Flatten.pool(maps()?)?.to_vec2::<f32>()?,
            [[1.0, 2.0, 3.0, 4.0]]
        );
        assert_eq!(Pooling::Mean.pool(maps()?)?.to_vec2::<f32>()?, [[2.5]]);
        let states = || -> Result<Features> {
            Ok(Features::States {
                all: Tensor::new(
                    &[[[1f32], [3.0], [100.0]], [[4.0], [5.0], [6.0]]],
                    &Device::Cpu,
                )?,
                last: Tensor::new(&[[3f32], [6.0]], &Device::Cpu)?,
                lengths: vec![2, 3],
            })
        };
        assert_eq!(
            Pooling::Last.pool(states()?)?.to_vec2::<f32>()?,
            [[3.0], [6.0]]
        );
        assert_eq!(
            Pooling::Mean.pool(states()?)?.to_vec2::<f32>()?,
            [[2.0], [5.0]]
        );
        let error = Pooling::Last
            .pool(maps()?)
            .expect_err("maps have no end")
            .to_string();
        assert_eq!(error, "`Last` cannot pool maps");
        assert!(Pooling::Flatten.pool(states()?).is_err());
        Ok(())
    }
}
