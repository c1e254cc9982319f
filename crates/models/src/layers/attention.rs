//! Attention of several heads.

use candle_core::{D, Device, Result, Tensor};
use nearfar_core::{Error, Fraction, Mode};
use nearfar_kernels::{Heads, attention, attention_weights, linear};

use super::dropout::factors;
use super::{Linear, RotaryPositions, dropout_rate};
use crate::input_shape::size;
use crate::{Init, Params, Weight};

/// Which keys a query may look at. Masks are joined by [`and`](Self::and); what is kept is 1, as everywhere in nearfar
/// (`torch.nn.MultiheadAttention` marks what is left out).
#[derive(Clone, Debug, Default)]
pub struct AttentionMask {
    /// Bytes that broadcast to `(b, heads, t, s)`; none keeps all.
    keep: Option<Tensor>,
}

impl AttentionMask {
    /// All keys.
    pub fn all() -> Self {
        Self::default()
    }

    /// The keys of each row that are not padding: `(b, s)`, 0 where one is left out, of any number type.
    ///
    /// # Errors
    /// For another number of dimensions.
    pub fn keys(keep: &Tensor) -> Result<Self> {
        let (batch, keys) = keep.dims2()?;
        Self::kept(&keep.reshape((batch, 1, 1, keys))?)
    }

    /// The first keys of each row, as many as it is long, of `keys` in all.
    ///
    /// # Errors
    /// Those of candle.
    pub fn lengths(lengths: &[u32], keys: usize, device: &Device) -> Result<Self> {
        let within = |&length: &u32| (0..keys).map(move |key| u8::from(key < length as usize));
        let keep: Vec<u8> = lengths.iter().flat_map(within).collect();
        Self::keys(&Tensor::from_vec(keep, (lengths.len(), keys), device)?)
    }

    /// For each query its own keys: `(t, s)`, 0 where one is left out, of any number type.
    ///
    /// # Errors
    /// For another number of dimensions.
    pub fn pairs(keep: &Tensor) -> Result<Self> {
        let (queries, keys) = keep.dims2()?;
        Self::kept(&keep.reshape((1, 1, queries, keys))?)
    }

    /// For each of `t` queries the keys up to its own place.
    ///
    /// # Errors
    /// Those of candle.
    pub fn causal(t: usize, device: &Device) -> Result<Self> {
        let row = |query: usize| (0..t).map(move |key| u8::from(key <= query));
        let keep: Vec<u8> = (0..t).flat_map(row).collect();
        Self::pairs(&Tensor::from_vec(keep, (t, t), device)?)
    }

    /// The keys that both masks keep.
    ///
    /// # Errors
    /// When they are for other numbers of rows, queries or keys.
    pub fn and(&self, other: &Self) -> Result<Self> {
        Ok(match (&self.keep, &other.keep) {
            (Some(one), Some(other)) => Self {
                keep: Some(one.broadcast_mul(other)?),
            },
            (one, other) => Self {
                keep: one.as_ref().or(other.as_ref()).cloned(),
            },
        })
    }

    fn kept(keep: &Tensor) -> Result<Self> {
        Ok(Self {
            keep: Some(keep.ne(&keep.zeros_like()?)?),
        })
    }
}

/// How a [`MultiHeadAttention`] is built.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AttentionSettings {
    /// Heads side by side; they divide the width.
    pub heads: usize,
    /// Whether the four linear maps have biases.
    pub bias: bool,
    /// Probability with which each weight is dropped in training.
    pub dropout: Fraction,
}

/// What attention gives.
#[derive(Clone, Debug)]
pub struct Attended {
    /// `(b, t, width)`
    pub output: Tensor,
    /// How much each query took of each key, for each head: `(b, heads, t, s)`, before dropout. A row sums to 1, or to 0
    /// where a query may look at nothing.
    pub weights: Tensor,
}

/// Whether heads of these settings fit rows of this width.
fn checked(width: usize, settings: AttentionSettings) -> Result<()> {
    size("attention", "width", width)?;
    heads_divide("attention", settings.heads, "width", width)?;
    dropout_rate("attention", settings.dropout)?;
    Ok(())
}

/// Attention of several heads, as torch's `MultiheadAttention` with the batch first:
///
/// ```text
/// head_h = softmax(q_h k_hᵀ / √d) v_h,   q, k, v = W_q x, W_k m, W_v m,   d = width / heads
/// y = W_o (head_1 … head_H side by side)
/// ```
///
/// A query that may look at no key gets zeros before `W_o` and no gradient; torch's gives NaN.
///
/// Its tensors are torch's: `in_proj_weight` `(3 width, width)` with `W_q`, `W_k` and `W_v` one above the other,
/// `in_proj_bias` `(3 width)`, `out_proj.weight` and `out_proj.bias`. They start as torch's do: `in_proj_weight` uniform in
/// `±√(6 / (4 width))`, `out_proj.weight` in `±1/√width`, the biases at 0.
///
/// Source: Vaswani et al., "Attention is all you need", NeurIPS 2017, <https://arxiv.org/abs/1706.03762>, section 3.2.
#[derive(Clone, Debug)]
pub struct MultiHeadAttention {
    weight: Weight,
    bias: Option<Weight>,
    output: Linear,
    settings: AttentionSettings,
}

impl MultiHeadAttention {
    /// Attention over rows of `width` numbers.
    ///
    /// # Errors
    /// [`Error::Settings`] for heads that do not divide the width and a dropout of 1, and those of [`Params::weight`].
    pub fn new(params: &Params, width: usize, settings: AttentionSettings) -> Result<Self> {
        checked(width, settings)?;
        let zero = settings.bias.then_some(Init::Constant(0.0));
        let bound = (6.0 / (4 * width) as f64).sqrt();
        let xavier = Init::Uniform {
            low: -bound,
            high: bound,
        };
        let out = params.at("out_proj");
        Ok(Self {
            weight: params.weight("in_proj_weight", (3 * width, width), xavier)?,
            bias: zero
                .map(|zero| params.weight("in_proj_bias", 3 * width, zero))
                .transpose()?,
            output: Linear::starting(&out, width, width, Init::fan_in(width), zero)?,
            settings,
        })
    }

    /// The same under the names of vision transformers, `qkv.weight`, `qkv.bias`, `proj.weight` and `proj.bias`, with their starts:
    /// matrices normal with this deviation, biases at 0.
    ///
    /// # Errors
    /// Those of [`new`](Self::new).
    pub(crate) fn of_images(
        params: &Params,
        width: usize,
        settings: AttentionSettings,
        deviation: f64,
    ) -> Result<Self> {
        checked(width, settings)?;
        let zero = settings.bias.then_some(Init::Constant(0.0));
        let normal = Init::Normal {
            mean: 0.0,
            deviation,
        };
        Ok(Self {
            weight: params.weight("qkv.weight", (3 * width, width), normal)?,
            bias: zero
                .map(|zero| params.weight("qkv.bias", 3 * width, zero))
                .transpose()?,
            output: Linear::starting(&params.at("proj"), width, width, normal, zero)?,
            settings,
        })
    }

    /// Each place of a sequence looks at all others: `(b, t, width)` to the same shape. With `positions`, queries and keys
    /// are turned by their places.
    ///
    /// # Errors
    /// [`Error::Shape`] for another width, and for a mask of other sizes.
    pub fn forward(
        &self,
        x: &Tensor,
        mask: &AttentionMask,
        positions: Option<&RotaryPositions>,
        mode: &mut Mode<'_>,
    ) -> Result<Tensor> {
        let (q, k, v) = self.maps(x, x, mode)?;
        let heads = self.heads((&q, &k, &v), mask, positions, mode)?;
        self.output.forward(&heads, mode)
    }

    /// Queries look at a memory: `(b, t, width)` and `(b, s, width)` to `(b, t, width)`, with the weights.
    ///
    /// # Errors
    /// Those of [`forward`](Self::forward).
    pub fn attend(
        &self,
        queries: &Tensor,
        memory: &Tensor,
        mask: &AttentionMask,
        positions: Option<&RotaryPositions>,
        mode: &mut Mode<'_>,
    ) -> Result<Attended> {
        let (q, k, v) = self.maps(queries, memory, mode)?;
        let heads = self.heads((&q, &k, &v), mask, positions, mode)?;
        let count = self.settings.heads;
        let (q, k) = turned(&q, &k, count, positions)?;
        let (q, k) = (by_head(&q, count)?, by_head(&k, count)?);
        Ok(Attended {
            output: self.output.forward(&heads, mode)?,
            weights: attention_weights(&q, &k, mask.keep.as_ref())?,
        })
    }

    fn heads(
        &self,
        maps: (&Tensor, &Tensor, &Tensor),
        mask: &AttentionMask,
        positions: Option<&RotaryPositions>,
        mode: &mut Mode<'_>,
    ) -> Result<Tensor> {
        let AttentionSettings { heads, dropout, .. } = self.settings;
        attend_by_heads(maps, heads, mask, positions, dropout, mode)
    }

    /// The maps of queries, and of what they look at to keys and values.
    fn maps(
        &self,
        queries: &Tensor,
        memory: &Tensor,
        mode: &Mode<'_>,
    ) -> Result<(Tensor, Tensor, Tensor)> {
        let weight = self.weight.tensor(mode);
        let bias = self.bias.as_ref().map(|bias| bias.tensor(mode));
        let width = weight.dim(1)?;
        let batch = match (queries.dims(), memory.dims()) {
            (&[b, _, w], &[c, _, v]) if b == c && w == width && v == width => b,
            (queries, memory) => Err(Error::Shape(format!(
                "attention: the queries have shape {queries:?}, what they look at {memory:?}; (b, t, {width}) and (b, s, \
                 {width}) are wanted"
            )))?,
        };
        // `parts` of the three maps, from the first one on, in one product.
        let mapped = |x: &Tensor, first: usize, parts: usize| -> Result<Tensor> {
            let weight = weight.narrow(0, first * width, parts * width)?;
            let bias = bias.as_ref();
            let bias = bias.map(|bias| bias.narrow(0, first * width, parts * width));
            let steps = x.dim(1)?;
            let rows = x.reshape((batch * steps, width))?;
            linear(&rows, &weight, bias.transpose()?.as_ref())?.reshape((
                batch,
                steps,
                parts * width,
            ))
        };
        let part = |x: &Tensor, index: usize| x.narrow(D::Minus1, index * width, width);
        let (q, k, v) = if queries.id() == memory.id() {
            let all = mapped(queries, 0, 3)?;
            (part(&all, 0)?, part(&all, 1)?, part(&all, 2)?)
        } else {
            let both = mapped(memory, 1, 2)?;
            (mapped(queries, 0, 1)?, part(&both, 0)?, part(&both, 1)?)
        };
        Ok((q, k, v))
    }
}

/// What heads take, side by side: the formula of [`MultiHeadAttention`] between the maps of its inputs and `W_o`, for
/// whoever has maps under other names. `q` is `(b, t, width)`, `k` and `v` are `(b, s, width)`, and `heads` divides `width`.
///
/// # Errors
/// [`Error::Shape`] for a mask of other sizes.
pub(crate) fn attend_by_heads(
    (q, k, v): (&Tensor, &Tensor, &Tensor),
    heads: usize,
    mask: &AttentionMask,
    positions: Option<&RotaryPositions>,
    dropout: Fraction,
    mode: &mut Mode<'_>,
) -> Result<Tensor> {
    let ((batch, t, _), s) = (q.dims3()?, k.dim(1)?);
    let (q, k) = turned(q, k, heads, positions)?;
    let weights = [batch, heads, t, s];
    if let Some(keep) = &mask.keep
        && keep.broadcast_as(&weights).is_err()
    {
        Err(Error::Shape(format!(
            "attention: the mask is for (rows, heads, queries, keys) = {:?}, where 1 is any number; there are {weights:?}",
            keep.dims()
        )))?;
    }
    let factors = factors(dropout.get(), &weights, (q.dtype(), q.device()), mode)?;
    let heads = Heads {
        count: heads,
        keep: mask.keep.as_ref(),
        factors: factors.as_ref(),
    };
    attention(&q, &k, v, heads)
}

/// Queries and keys turned by their places, if they are to be: the same shapes.
fn turned(
    q: &Tensor,
    k: &Tensor,
    heads: usize,
    positions: Option<&RotaryPositions>,
) -> Result<(Tensor, Tensor)> {
    let Some(positions) = positions else {
        return Ok((q.clone(), k.clone()));
    };
    let (turned_q, turned_k) = positions.turn_both(&by_head(q, heads)?, &by_head(k, heads)?)?;
    let beside = |x: Tensor, like: &Tensor| x.transpose(1, 2)?.reshape(like.shape());
    Ok((beside(turned_q, q)?, beside(turned_k, k)?))
}

/// `(b, t, width)` to `(b, heads, t, width / heads)`
fn by_head(x: &Tensor, heads: usize) -> Result<Tensor> {
    let (batch, t, width) = x.dims3()?;
    x.reshape((batch, t, heads, width / heads))?
        .transpose(1, 2)?
        .contiguous()
}

/// Whether there are as many heads as can share a width, whose setting has the name `of`.
pub(crate) fn heads_divide(place: &str, heads: usize, of: &str, width: usize) -> Result<()> {
    size(place, "heads", heads)?;
    if !width.is_multiple_of(heads) {
        Err(Error::Settings(format!(
            "{place}: `heads` is {heads} and `{of}` {width}; heads must divide {of}"
        )))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use candle_core::DType;

    use super::*;
    use nearfar_core::{Positive, Seed};
    use nearfar_kernels::Pairing;
    use nearfar_kernels::test_util::noise;

    fn settings(heads: usize) -> AttentionSettings {
        AttentionSettings {
            heads,
            bias: true,
            dropout: Fraction::literal(0.0),
        }
    }

    fn layer(width: usize, heads: usize) -> Result<MultiHeadAttention> {
        let params = Params::new(Seed(1), DType::F64, &Device::Cpu)?;
        MultiHeadAttention::new(&params, width, settings(heads))
    }

    #[test]
    fn what_is_left_out_changes_nothing() -> Result<()> {
        let (layer, x) = (layer(4, 2)?, noise((2, 3, 4), 1)?);
        let short = x.narrow(1, 0, 2)?.contiguous()?;
        let alone = layer.forward(&short, &AttentionMask::all(), None, &mut Mode::Eval)?;
        let mask = AttentionMask::lengths(&[2, 2], 3, &Device::Cpu)?;
        let padded = layer.forward(&x, &mask, None, &mut Mode::Eval)?;
        let apart = (padded.narrow(1, 0, 2)? - alone)?.abs()?.max_all()?;
        assert!(apart.to_scalar::<f64>()? < 1e-14);

        let causal = AttentionMask::causal(3, &Device::Cpu)?;
        let first = layer
            .forward(&x, &causal, None, &mut Mode::Eval)?
            .narrow(1, 0, 2)?;
        let changed = Tensor::cat(&[&short, &noise((2, 1, 4), 2)?], 1)?;
        let second = layer.forward(&changed, &causal, None, &mut Mode::Eval)?;
        let apart = (first - second.narrow(1, 0, 2)?)?.abs()?.max_all()?;
        assert_eq!(apart.to_scalar::<f64>()?, 0.0);
        Ok(())
    }

    #[test]
    fn an_empty_batch_gives_an_empty_one() -> Result<()> {
        let (layer, x) = (
            layer(4, 2)?,
            Tensor::zeros((0, 3, 4), DType::F64, &Device::Cpu)?,
        );
        let positions = RotaryPositions::new(2, Positive::literal(1e4), Pairing::Halves)?;
        for mask in [
            AttentionMask::all(),
            AttentionMask::causal(3, &Device::Cpu)?,
        ] {
            let got = layer.attend(&x, &x, &mask, Some(&positions), &mut Mode::Eval)?;
            assert_eq!(got.output.dims(), [0, 3, 4]);
            assert_eq!(got.weights.dims(), [0, 2, 3, 3]);
        }
        Ok(())
    }

    #[test]
    fn a_query_without_keys_takes_nothing() -> Result<()> {
        let (layer, x) = (layer(4, 2)?, noise((2, 3, 4), 1)?);
        let mask = AttentionMask::lengths(&[3, 0], 3, &Device::Cpu)?;
        let mask = mask.and(&AttentionMask::causal(3, &Device::Cpu)?)?;
        let x = candle_core::Var::from_tensor(&x)?;
        let got = layer.attend(&x, &x, &mask, None, &mut Mode::Eval)?;
        let sums = got
            .weights
            .sum(D::Minus1)?
            .flatten_all()?
            .to_vec1::<f64>()?;
        assert!(sums[..6].iter().all(|sum| (sum - 1.0).abs() < 1e-14));
        assert_eq!(sums[6..], [0.0; 6]);
        // The bias of the output starts at 0.
        assert_eq!(
            got.output.get(1)?.abs()?.max_all()?.to_scalar::<f64>()?,
            0.0
        );
        let gradients = got.output.sqr()?.backward()?;
        let gradient = gradients.get(&x).expect("it depends on its input");
        let gradient = gradient.abs()?.max(D::Minus1)?.to_vec2::<f64>()?;
        assert!(gradient[0].iter().all(|&g| g > 0.0 && g.is_finite()));
        assert_eq!(gradient[1], [0.0; 3]);
        Ok(())
    }

    #[test]
    fn looking_at_oneself_is_looking_at_a_memory_that_is_equal() -> Result<()> {
        let (layer, x) = (layer(6, 3)?, noise((2, 3, 6), 1)?);
        let all = AttentionMask::all();
        let own = layer.forward(&x, &all, None, &mut Mode::Eval)?;
        let other = layer
            .attend(&x, &x.copy()?, &all, None, &mut Mode::Eval)?
            .output;
        let apart = (own - other)?.abs()?.max_all()?.to_scalar::<f64>()?;
        assert!(apart < 1e-14, "{apart}");
        Ok(())
    }

    #[test]
    fn sizes_that_do_not_fit_are_told() -> Result<()> {
        let error = layer(4, 3).expect_err("three heads of four").to_string();
        assert!(error.contains("`heads` is 3 and `width` 4"), "{error}");
        let (layer, x) = (layer(4, 2)?, noise((2, 3, 4), 1)?);
        let mask = AttentionMask::lengths(&[1, 1], 5, &Device::Cpu)?;
        let error = layer.forward(&x, &mask, None, &mut Mode::Eval);
        let error = error.expect_err("five keys").to_string();
        assert!(
            error.contains("[2, 1, 1, 5]") && error.contains("[2, 2, 3, 3]"),
            "{error}"
        );
        let memory = noise((1, 3, 4), 1)?;
        let error = layer.attend(&x, &memory, &AttentionMask::all(), None, &mut Mode::Eval);
        let error = error.expect_err("another batch").to_string();
        assert!(
            error.contains("[2, 3, 4]") && error.contains("[1, 3, 4]"),
            "{error}"
        );
        Ok(())
    }
}
