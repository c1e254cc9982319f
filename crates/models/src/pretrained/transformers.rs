//! Names of Hugging Face's image models.

use crate::ModelConfig;
use crate::weights_file::Place;

/// What a vision transformer's names are there and here, piece by piece: each piece of a name that is there is replaced, in this order.
const VIT: &[(&str, &str)] = &[
    ("embeddings.cls_token", "cls_token"),
    ("embeddings.mask_token", "mask_token"),
    ("embeddings.position_embeddings", "pos_embed"),
    ("embeddings.register_tokens", "register_tokens"),
    (
        "embeddings.patch_embeddings.projection.",
        "patch_embed.proj.",
    ),
    ("encoder.layer.", "blocks."),
    (".attention.output.dense.", ".attn.proj."),
    // ViT has these, DINOv2 timm's.
    (".layernorm_before.", ".norm1."),
    (".layernorm_after.", ".norm2."),
    (".intermediate.dense.", ".mlp.fc1."),
    (".output.dense.", ".mlp.fc2."),
    (".layer_scale1.lambda1", ".ls1.gamma"),
    (".layer_scale2.lambda1", ".ls2.gamma"),
];

/// The three tensors that are one here, in their order.
const THIRDS: [&str; 3] = [
    ".attention.attention.query.",
    ".attention.attention.key.",
    ".attention.attention.value.",
];

/// The same of a ConvNeXt.
const CONVNEXT: &[(&str, &str)] = &[
    ("embeddings.patch_embeddings.", "stem.0."),
    ("embeddings.layernorm.", "stem.1."),
    ("encoder.stages.", "stages."),
    (".downsampling_layer.", ".downsample."),
    (".layers.", ".blocks."),
    (".dwconv.", ".conv_dw."),
    (".layernorm.", ".norm."),
    (".pwconv1.", ".mlp.fc1."),
    (".pwconv2.", ".mlp.fc2."),
    (".layer_scale_parameter", ".gamma"),
];

/// Where a tensor of Hugging Face's name belongs in a network with timm's names, which `model` must be one of. A name that is none of
/// Hugging Face's stays as it is.
pub(super) fn place(model: &ModelConfig, name: &str) -> Place {
    let (pieces, beginnings, norm): (_, &[&str], _) = match model {
        ModelConfig::Vit(_) => (VIT, &["vit.", "dinov2.", "dinov2_with_registers."], "norm."),
        ModelConfig::Convnext(_) => (CONVNEXT, &["convnext."], "head.norm."),
        _ => return Place::from(name),
    };
    // What a model with a classifier puts in front of its encoder.
    let name = beginnings
        .iter()
        .find_map(|beginning| name.strip_prefix(beginning))
        .unwrap_or(name);
    // The normalization behind all blocks.
    if let Some(rest) = name.strip_prefix("layernorm.") {
        return Place::from(format!("{norm}{rest}"));
    }
    let replaced = |name: String, (theirs, ours): &(&str, &str)| name.replacen(theirs, ours, 1);
    let own = pieces.iter().fold(name.to_owned(), replaced);
    match THIRDS.iter().position(|third| own.contains(third)) {
        Some(part) => Place {
            name: own.replacen(THIRDS[part], ".attn.qkv.", 1),
            part,
        },
        None => Place::from(own),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Convnext, Vit};

    #[test]
    fn names_lead_to_their_places() {
        let vit = ModelConfig::Vit(Vit::default());
        let convnext = ModelConfig::Convnext(Convnext::default());
        let at = |model: &ModelConfig, name: &str| {
            let Place { name, part } = place(model, name);
            (name, part)
        };
        let first = |name: &str| (name.to_owned(), 0);
        for beginning in ["", "vit.", "dinov2.", "dinov2_with_registers."] {
            let at = |name: &str| at(&vit, &format!("{beginning}{name}"));
            assert_eq!(at("layernorm.weight"), first("norm.weight"));
            let block = "encoder.layer.11";
            assert_eq!(
                at(&format!("{block}.attention.attention.value.bias")),
                ("blocks.11.attn.qkv.bias".to_owned(), 2)
            );
            assert_eq!(
                at(&format!("{block}.attention.output.dense.weight")),
                first("blocks.11.attn.proj.weight")
            );
            assert_eq!(
                at(&format!("{block}.output.dense.weight")),
                first("blocks.11.mlp.fc2.weight")
            );
        }
        assert_eq!(
            at(&vit, "blocks.0.attn.qkv.bias"),
            first("blocks.0.attn.qkv.bias")
        );
        assert_eq!(
            at(&convnext, "convnext.layernorm.bias"),
            first("head.norm.bias")
        );
        assert_eq!(
            at(&convnext, "encoder.stages.1.layers.2.layernorm.bias"),
            first("stages.1.blocks.2.norm.bias")
        );
        assert_eq!(
            at(&convnext, "encoder.stages.1.downsampling_layer.0.bias"),
            first("stages.1.downsample.0.bias")
        );
    }
}
