//! A layer of a transformer.

use candle_core::{Result, Tensor};
use nearfar_core::{Fraction, Mode, Positive};

use super::{
    Activation, AttentionMask, AttentionSettings, LayerNorm, Linear, MultiHeadAttention,
    RotaryPositions, drop_path, dropout,
};
use crate::Params;
use crate::input_shape::size;

/// The shape of a [`TransformerLayer`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TransformerSettings {
    /// Numbers at each place.
    pub width: usize,
    /// Heads of the attention.
    pub heads: usize,
    /// Numbers between the two linear maps.
    pub hidden: usize,
    /// What bends between them.
    pub activation: Activation,
    /// Whether a branch is normalized before it is computed, and not the sum after it. Deep networks train more easily so.
    pub norm_first: bool,
    /// Of the layer normalizations; torch's is 1e−5, BERT's 1e−12.
    pub eps: Positive,
    /// Of the attention's weights, of what is between the linear maps, and of what both branches add.
    pub dropout: Fraction,
    /// Probability with which a row goes around a branch in training.
    pub drop_path: Fraction,
}

/// A layer of a transformer, as torch's `TransformerEncoderLayer` with the batch first: attention and two linear maps, each
/// as a branch that adds to what it reads.
///
/// ```text
/// norm_first:   x ← x + attention(norm1(x)),   x ← x + linear2(activation(linear1(norm2(x))))
/// else:         x ← norm1(x + attention(x)),   x ← norm2(x + linear2(activation(linear1(x))))
/// ```
///
/// Its parts are `self_attn`, `linear1`, `linear2`, `norm1` and `norm2`, as torch names them.
///
/// Source: Vaswani et al., "Attention is all you need", NeurIPS 2017, <https://arxiv.org/abs/1706.03762>; normalization
/// first after Xiong et al., "On layer normalization in the transformer architecture", ICML 2020,
/// <https://arxiv.org/abs/2002.04745>.
#[derive(Clone, Debug)]
pub struct TransformerLayer {
    attention: MultiHeadAttention,
    linear: (Linear, Linear),
    norm: (LayerNorm, LayerNorm),
    settings: TransformerSettings,
}

impl TransformerLayer {
    /// A layer in `params`.
    ///
    /// # Errors
    /// Those of its parts.
    pub fn new(params: &Params, settings: &TransformerSettings) -> Result<Self> {
        let &TransformerSettings {
            width,
            heads,
            hidden,
            eps,
            dropout,
            ..
        } = settings;
        size("transformer", "width", width)?;
        size("transformer", "hidden", hidden)?;
        let attention = AttentionSettings {
            heads,
            bias: true,
            dropout,
        };
        let norm = |name: &str| LayerNorm::new(&params.at(name), &[width], eps, true);
        Ok(Self {
            attention: MultiHeadAttention::new(&params.at("self_attn"), width, attention)?,
            linear: (
                Linear::new(&params.at("linear1"), width, hidden, true)?,
                Linear::new(&params.at("linear2"), hidden, width, true)?,
            ),
            norm: (norm("norm1")?, norm("norm2")?),
            settings: *settings,
        })
    }

    /// `(b, t, width)` to the same shape.
    ///
    /// # Errors
    /// For another width, and a mask of other sizes.
    pub fn forward(
        &self,
        x: &Tensor,
        mask: &AttentionMask,
        positions: Option<&RotaryPositions>,
        mode: &mut Mode<'_>,
    ) -> Result<Tensor> {
        if self.settings.norm_first {
            let read = self.norm.0.forward(x, mode)?;
            let x = self.add(
                x,
                &self.attention.forward(&read, mask, positions, mode)?,
                mode,
            )?;
            let read = self.norm.1.forward(&x, mode)?;
            let added = self.mapped(&read, mode)?;
            self.add(&x, &added, mode)
        } else {
            let added = self.attention.forward(x, mask, positions, mode)?;
            let x = self.norm.0.forward(&self.add(x, &added, mode)?, mode)?;
            let added = self.mapped(&x, mode)?;
            self.norm.1.forward(&self.add(&x, &added, mode)?, mode)
        }
    }

    fn mapped(&self, x: &Tensor, mode: &mut Mode<'_>) -> Result<Tensor> {
        let bent = self
            .settings
            .activation
            .forward(&self.linear.0.forward(x, mode)?)?;
        self.linear
            .1
            .forward(&dropout(&bent, self.settings.dropout, mode)?, mode)
    }

    fn add(&self, x: &Tensor, branch: &Tensor, mode: &mut Mode<'_>) -> Result<Tensor> {
        let branch = dropout(branch, self.settings.dropout, mode)?;
        x + drop_path(&branch, self.settings.drop_path, mode)?
    }
}
