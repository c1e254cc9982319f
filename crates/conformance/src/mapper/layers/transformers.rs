//! Attention, and a layer of it.

use candle_core::{DType, Tensor};
use nearfar_core::Fraction;
use nearfar_models::layers::{
    Activation, AttentionMask, AttentionSettings, MultiHeadAttention, TransformerLayer,
    TransformerSettings,
};

use super::fixture::{Fixture, positive, size, training};
use crate::golden::{Given, Mapped, Outputs, Settings, Trouble};

pub(super) fn attention(
    _: &str,
    given: &Given<'_>,
    params: &mut Settings,
    outputs: &mut Outputs,
) -> Mapped<()> {
    let fixture = Fixture::new(given)?;
    params.flag_or("batch_first", true)?;
    params.text("mask")?; // The mask is an input.
    let settings = AttentionSettings {
        heads: size(params, "num_heads")?,
        bias: true,
        dropout: Fraction::literal(0.0),
    };
    let width = size(params, "embed_dim")?;
    let layer = MultiHeadAttention::new(&fixture.params, width, settings)?;
    fixture.set_all(given)?;
    let mut mask = AttentionMask::all();
    // 1 is what torch leaves out.
    let kept = |role: &str| -> Mapped<Option<Tensor>> {
        match given.find(role) {
            None => Ok(None),
            Some(_) => Ok(Some(given.tensor(role, DType::F64)?.affine(-1.0, 1.0)?)),
        }
    };
    if let Some(keys) = kept("key_padding_mask")? {
        mask = mask.and(&AttentionMask::keys(&keys)?)?;
    }
    if let Some(pairs) = kept("attn_mask")? {
        mask = mask.and(&AttentionMask::pairs(&pairs)?)?;
    }
    let memory = given.tensor("key_value", DType::F64)?;
    let got = training(|mode| layer.attend(&fixture.input, &memory, &mask, None, mode))?;
    let parts = [("output", &got.output), ("weights", &got.weights)];
    let gradients = fixture.gradients(given, &parts, outputs)?;
    fixture.put_gradients(&gradients, outputs)
}

pub(super) fn layer(
    _: &str,
    given: &Given<'_>,
    params: &mut Settings,
    outputs: &mut Outputs,
) -> Mapped<()> {
    let fixture = Fixture::new(given)?;
    let activation = match params.text("activation")?.as_deref() {
        Some("gelu") => Activation::Gelu,
        Some("relu") | None => Activation::Relu,
        Some(other) => return Err(Trouble::unmapped(format!("the activation {other}"))),
    };
    let settings = TransformerSettings {
        width: size(params, "d_model")?,
        heads: size(params, "nhead")?,
        hidden: size(params, "dim_feedforward")?,
        activation,
        norm_first: params.flag_or("norm_first", false)?,
        eps: positive(params, "layer_norm_eps", 1e-5)?,
        dropout: Fraction::new(params.number_or("dropout", 0.1)?)?,
        drop_path: Fraction::literal(0.0),
    };
    let layer = TransformerLayer::new(&fixture.params, &settings)?;
    let all = AttentionMask::all();
    fixture.layer(given, outputs, |x, mode| layer.forward(x, &all, None, mode))
}
