//! A network over sets.

use candle_core::{DType, Device, Result, Tensor};
use nearfar_core::{Error, Input, Mode, NonNegative};
use nearfar_kernels::{masked_softmax, relu};
use serde::{Deserialize, Serialize};

use super::Words;
use super::mvcnn::largest;
use crate::input_shape::size;
use crate::layers::{self, Embedding};
use crate::tower::{Backbone, Features, Head, Pooling, Tower};
use crate::{InputShape, Params};

/// Deep Sets: a function of sets whose order does not count, of points, of frames or of words.
///
/// ```text
/// each element ─▶ for each of `elements` [full ─▶ ReLU] ─▶ pooling over the elements that are there ─▶ for each of `hidden` [full ─▶ ReLU] ─▶ linear width
/// ```
///
/// Reads sequences of vectors or of tokens, each up to its true length, as sets: an embedding is the same for every order of the elements
/// (but for the last digits of sums), and padding changes nothing. Sets may have different sizes, of one element or more. `pooling` says
/// what becomes of the elements `φ_i`:
///
/// ```text
/// "sum"         Σ_i φ_i                       the paper's; it knows how many there are
/// "mean"        Σ_i φ_i / n
/// "max"         max_i φ_i                     for points of shapes; of equal elements the first has the gradient
/// "attention"   Σ_i softmax_i(w · tanh(V φ_i)) φ_i
/// ```
///
/// Names: `words.weight` of tokens, `elements.0.weight`, `elements.0.bias`, …, `attention.hidden.weight`, `attention.hidden.bias` (V),
/// `attention.score.weight` (w), `layers.0.weight`, …, `head.weight`, `head.bias`.
///
/// Source: Zaheer et al., "Deep Sets", NeurIPS 2017, <https://arxiv.org/abs/1703.06114>, theorem 2; the attention of Ilse et al.,
/// "Attention-based Deep Multiple Instance Learning", ICML 2018, <https://arxiv.org/abs/1802.04712>, equation 8.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DeepSets {
    /// Numbers in an embedding.
    pub width: usize,
    /// The vectors of words; elements that are vectors have none.
    pub words: Words,
    /// Sizes of the layers that see each element by itself; at least one.
    pub elements: Vec<usize>,
    /// What becomes of the elements: `"sum"`, `"mean"`, `"max"` or `"attention"`.
    pub pooling: SetPooling,
    /// Numbers of the layer `V` that attention looks at.
    pub attention: usize,
    /// Sizes of the layers behind the pooling; an empty list leaves a linear map.
    pub hidden: Vec<usize>,
    /// Whether embeddings have length 1.
    pub normalize: bool,
}

/// How the elements of a set become one vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SetPooling {
    /// Their sum.
    Sum,
    /// Their mean.
    Mean,
    /// The largest number of each column.
    Max,
    /// Their mean by learned weights.
    Attention,
}

impl Default for DeepSets {
    /// The sum of the paper, between layers of 128 numbers, which are ours; so is the layer of attention.
    fn default() -> Self {
        Self {
            width: 64,
            words: Words::default(),
            elements: vec![128, 128],
            pooling: SetPooling::Sum,
            attention: 64,
            hidden: vec![128],
            normalize: true,
        }
    }
}

#[derive(Debug)]
struct Network {
    words: Option<Embedding>,
    elements: Vec<layers::Linear>,
    pool: Pool,
    hidden: Vec<layers::Linear>,
}

#[derive(Debug)]
enum Pool {
    Sum,
    Mean,
    Max,
    Attention {
        hidden: layers::Linear,
        score: layers::Linear,
    },
}

impl DeepSets {
    /// A tower of these settings whose parameters are made in `params`.
    ///
    /// # Errors
    /// [`Error::Settings`] for data that are no sequences, no layer that sees elements, and sizes out of range.
    pub fn build(&self, input: &InputShape, params: &Params) -> Result<Tower> {
        let embedding = size("deep_sets", "width", self.width)?;
        let (words, inputs) = match *input {
            InputShape::Tokens { vocabulary } | InputShape::Parsed { vocabulary } => {
                let dim = size("deep_sets", "words.dim", self.words.dim)?;
                let deviation: NonNegative = self.words.deviation;
                let words = Embedding::new(&params.at("words"), vocabulary, dim, deviation)?;
                (Some(words), dim)
            }
            InputShape::Frames { features } => (None, features),
            _ => return Err(input.refused("deep_sets", "sequences, as sets of their elements")),
        };
        if self.elements.is_empty() {
            Err(Error::Settings(
                "deep_sets: `elements` is empty; it lists the sizes of one layer or more".into(),
            ))?;
        }
        let (elements, pooled) = full(params, "elements", inputs, &self.elements)?;
        let pool = match self.pooling {
            SetPooling::Sum => Pool::Sum,
            SetPooling::Mean => Pool::Mean,
            SetPooling::Max => Pool::Max,
            SetPooling::Attention => {
                let place = params.at("attention");
                let looked_at = size("deep_sets", "attention", self.attention)?;
                Pool::Attention {
                    hidden: layers::Linear::new(&place.at("hidden"), pooled, looked_at, true)?,
                    // A bias would be the same for all elements, and do nothing.
                    score: layers::Linear::new(&place.at("score"), looked_at, 1, false)?,
                }
            }
        };
        let (hidden, last) = full(params, "layers", pooled, &self.hidden)?;
        let network = Network {
            words,
            elements,
            pool,
            hidden,
        };
        let head = Head {
            pooling: Pooling::Flatten,
            projection: Some(layers::Linear::new(
                &params.at("head"),
                last,
                embedding,
                true,
            )?),
            normalize: self.normalize,
        };
        Ok(Tower::new(
            "deep_sets",
            input.clone(),
            Box::new(network),
            head,
            embedding,
            params,
        ))
    }
}

/// Full layers of these sizes, and how many numbers come out.
fn full(
    params: &Params,
    name: &str,
    mut inputs: usize,
    sizes: &[usize],
) -> Result<(Vec<layers::Linear>, usize)> {
    let places = params.at(name);
    let mut made = Vec::with_capacity(sizes.len());
    for (index, &outputs) in sizes.iter().enumerate() {
        size("deep_sets", name, outputs)?;
        made.push(layers::Linear::new(
            &places.at(index),
            inputs,
            outputs,
            true,
        )?);
        inputs = outputs;
    }
    Ok((made, inputs))
}

fn bent(x: Tensor, layers: &[layers::Linear], mode: &mut Mode<'_>) -> Result<Tensor> {
    layers
        .iter()
        .try_fold(x, |x, layer| relu(&layer.forward(&x, mode)?))
}

impl Backbone for Network {
    fn features(&self, input: &Input, mode: &mut Mode<'_>) -> Result<Features> {
        let (values, lengths) = input.sequence("deep_sets")?;
        let values = match &self.words {
            Some(words) => words.forward(values, mode)?,
            None => values.clone(),
        };
        let elements = bent(values, &self.elements, mode)?; // (b, t, d)
        let there = there(lengths, elements.dim(1)?, elements.device())?; // (b, t)
        let pooled = self.pool.pool(&elements, &there, mode)?;
        Ok(Features::Vectors(bent(pooled, &self.hidden, mode)?))
    }
}

/// 1 for the elements that are there, 0 for padding: `(b, t)`.
fn there(lengths: &[u32], t: usize, device: &Device) -> Result<Tensor> {
    let mask: Vec<u8> = lengths
        .iter()
        .flat_map(|&length| (0..t).map(move |at| u8::from(at < length as usize)))
        .collect();
    Tensor::from_vec(mask, (lengths.len(), t), device)
}

impl Pool {
    /// `(b, t, d)` and the elements that are there `(b, t)` to `(b, d)`.
    fn pool(&self, elements: &Tensor, there: &Tensor, mode: &mut Mode<'_>) -> Result<Tensor> {
        let (b, t, d) = elements.dims3()?;
        let dtype = elements.dtype();
        let weights = match self {
            Self::Max => {
                // Behind a ReLU nothing is below 0, and the first element is always there.
                let kept = there.unsqueeze(2)?.broadcast_as((b, t, d))?.contiguous()?;
                let never = (elements.zeros_like()? - 1.0)?;
                return largest(&kept.where_cond(elements, &never)?);
            }
            Self::Sum => there.to_dtype(dtype)?,
            Self::Mean => {
                let ones = there.to_dtype(DType::F64)?;
                let counts = ones.sum_keepdim(1)?;
                ones.broadcast_div(&counts)?.to_dtype(dtype)?
            }
            Self::Attention { hidden, score } => {
                let seen = hidden.forward(elements, mode)?.tanh()?;
                let scores = score.forward(&seen, mode)?.reshape((b, t))?;
                masked_softmax(&scores, there)?
            }
        };
        weights
            .unsqueeze(1)?
            .matmul(&elements.contiguous()?)?
            .squeeze(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nearfar_core::{Encoder, Purpose, Seed};
    use nearfar_kernels::test_util::noise;

    const POOLINGS: [SetPooling; 4] = [
        SetPooling::Sum,
        SetPooling::Mean,
        SetPooling::Max,
        SetPooling::Attention,
    ];

    fn build(pooling: SetPooling, input: &InputShape) -> Result<Tower> {
        let settings = DeepSets {
            pooling,
            elements: vec![16, 16],
            ..DeepSets::default()
        };
        settings.build(input, &Params::new(Seed(1), DType::F64, &Device::Cpu)?)
    }

    fn embed(tower: &Tower, values: Tensor, lengths: Vec<u32>) -> Result<Vec<f64>> {
        let input = Input::Sequence { values, lengths };
        let encoded = tower.encode(&input, Mode::Eval)?;
        encoded.embedding.flatten_all()?.to_vec1::<f64>()
    }

    fn apart(a: &[f64], b: &[f64]) -> f64 {
        let differences = a.iter().zip(b).map(|(a, b)| (a - b).abs());
        differences.fold(0.0, f64::max)
    }

    #[test]
    fn order_does_not_count_and_neither_does_padding() -> Result<()> {
        let shape = InputShape::Frames { features: 3 };
        for pooling in POOLINGS {
            let tower = build(pooling, &shape)?;
            let mut rng = Seed(4).rng(Purpose::Sampling, 0);
            for trial in 0..20u64 {
                let size = 1 + rng.below(6);
                let set = noise((1, size, 3), trial)?;
                let plain = embed(&tower, set.clone(), vec![size as u32])?;
                let mut order: Vec<u32> = (0..size as u32).collect();
                rng.shuffle(&mut order);
                let order = Tensor::new(order, &Device::Cpu)?;
                let shuffled = set.index_select(&order, 1)?;
                // Behind the set stands what no set should see.
                let padding = (noise((1, 3, 3), 90 + trial)? * 50.0)?;
                let padded = Tensor::cat(&[shuffled, padding], 1)?;
                let other = embed(&tower, padded, vec![size as u32])?;
                assert!(
                    apart(&plain, &other) < 1e-12,
                    "{pooling:?}, seed 4, trial {trial}"
                );
                let one_more = noise((1, size + 1, 3), trial + 40)?;
                let different = embed(&tower, one_more, vec![size as u32 + 1])?;
                assert!(apart(&plain, &different) > 1e-6, "{pooling:?}");
            }
        }
        Ok(())
    }

    #[test]
    fn a_sum_counts_and_a_mean_does_not() -> Result<()> {
        let shape = InputShape::Frames { features: 3 };
        let (one, thrice) = (
            noise((1, 1, 3), 7)?,
            noise((1, 1, 3), 7)?.repeat((1, 3, 1))?,
        );
        for pooling in POOLINGS {
            let tower = build(pooling, &shape)?;
            let apart = apart(
                &embed(&tower, one.clone(), vec![1])?,
                &embed(&tower, thrice.clone(), vec![3])?,
            );
            assert_eq!(
                apart > 1e-6,
                pooling == SetPooling::Sum,
                "{pooling:?}: {apart}"
            );
        }
        Ok(())
    }

    #[test]
    fn words_are_a_bag() -> Result<()> {
        let tower = build(SetPooling::Mean, &InputShape::Tokens { vocabulary: 9 })?;
        let words = |ids: [u32; 3]| Tensor::new(&[ids], &Device::Cpu);
        let there = embed(&tower, words([1, 5, 8])?, vec![3])?;
        assert!(apart(&there, &embed(&tower, words([8, 1, 5])?, vec![3])?) < 1e-12);
        let error = build(SetPooling::Mean, &InputShape::Features(3)).expect_err("vectors");
        assert!(
            error.to_string().contains("`deep_sets` reads sequences"),
            "{error}"
        );
        let none = DeepSets {
            elements: Vec::new(),
            ..DeepSets::default()
        };
        let params = Params::new(Seed(1), DType::F64, &Device::Cpu)?;
        let error = none.build(&InputShape::Frames { features: 3 }, &params);
        assert!(
            error
                .expect_err("no layer")
                .to_string()
                .contains("`elements` is empty")
        );
        Ok(())
    }
}
