//! Networks of torchvision, timm and transformers, weights and all, where `NEARFAR_PYTHON` names a Python that has them.
#![allow(clippy::print_stdout)] // What is skipped is printed.

use std::path::Path;
use std::process::Command;

use candle_core::{DType, Device, Result, Tensor, safetensors};
use nearfar_core::{Finite, Input, Mode, Positive, Seed};
use nearfar_models::{Convnext, InputShape, ModelConfig, Params, Pretrained, Resnet, Vit};

/// The networks that `published.py` writes.
fn networks() -> Vec<(&'static str, ModelConfig)> {
    let resnet = |depth| {
        ModelConfig::Resnet(Resnet {
            depth,
            width: if depth == 50 { 2048 } else { 512 },
            normalize: false,
            ..Resnet::default()
        })
    };
    let vit = |patch, channels, heads, blocks, layer_scale| {
        ModelConfig::Vit(Vit {
            patch,
            channels,
            heads,
            blocks,
            layer_scale,
            width: channels,
            normalize: false,
            ..Vit::default()
        })
    };
    let convnext = || {
        ModelConfig::Convnext(Convnext {
            width: 768,
            normalize: false,
            ..Convnext::default()
        })
    };
    let of_transformers = ModelConfig::Vit(Vit {
        patch: 16,
        channels: 48,
        heads: 3,
        blocks: 3,
        eps: Positive::literal(1e-12),
        width: 48,
        normalize: false,
        ..Vit::default()
    });
    let with_registers = ModelConfig::Vit(Vit {
        patch: 14,
        channels: 48,
        heads: 3,
        blocks: 3,
        layer_scale: Some(Finite::literal(1.0)),
        registers: 4,
        width: 48,
        normalize: false,
        ..Vit::default()
    });
    vec![
        ("resnet18", resnet(18)),
        ("resnet34", resnet(34)),
        ("resnet50", resnet(50)),
        ("vit", vit(16, 192, 3, 12, None)),
        ("dinov2", vit(14, 384, 6, 12, Some(Finite::literal(1e-5)))),
        ("convnext", convnext()),
        ("vit_of_transformers", of_transformers.clone()),
        ("vit_classifier_of_transformers", of_transformers),
        (
            "dinov2_of_transformers",
            vit(14, 48, 3, 3, Some(Finite::literal(1.0))),
        ),
        ("dinov2_registers_of_transformers", with_registers),
        ("convnext_of_transformers", convnext()),
    ]
}

#[test]
fn published_networks_have_the_features_of_their_publishers() -> Result<()> {
    let Some(python) = std::env::var_os("NEARFAR_PYTHON") else {
        println!("skipped: networks of torchvision and timm (NEARFAR_PYTHON is not set)");
        return Ok(());
    };
    let folder = tempfile::tempdir().expect("a place for temporary files");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/published.py");
    let written = Command::new(python).arg(script).arg(folder.path()).output();
    let written = written.expect("NEARFAR_PYTHON can be started");
    let told = String::from_utf8_lossy(&written.stderr);
    if told.contains("ModuleNotFoundError") {
        println!("skipped: networks of torchvision and timm (NEARFAR_PYTHON has not both)");
        return Ok(());
    }
    assert!(written.status.success(), "{told}");

    for (name, model) in networks() {
        let file = |what: &str| folder.path().join(format!("{name}{what}.safetensors"));
        if name.ends_with("_of_transformers") && !file("").exists() {
            println!("skipped: {name} (NEARFAR_PYTHON has no transformers)");
            continue;
        }
        let seen = safetensors::load(file(".seen"), &Device::Cpu)?;
        let (images, wanted) = (&seen["images"], &seen["features"]);
        let (_, channels, height, width) = images.dims4()?;
        let input = InputShape::Image {
            channels,
            height,
            width,
        };
        let params = Params::new(Seed(1), DType::F32, &Device::Cpu)?;
        let tower = model.build(&input, &params)?;
        let weights = Pretrained {
            file: Some(file("")),
            ..Pretrained::default()
        };
        assert!(weights.load(&model, &params)?.is_empty(), "{name}");
        let found = tower.encode(&Input::Dense(images.clone()), Mode::Eval)?;
        let apart = furthest(&(&found.embedding - wanted)?)?;
        let size = furthest(wanted)?;
        println!("{name}: {apart:.1e} apart, where the largest feature is {size:.2}");
        assert!(apart <= 1e-5 * size.max(1.0), "{name}: {apart} of {size}");
    }
    Ok(())
}

fn furthest(values: &Tensor) -> Result<f32> {
    values.abs()?.flatten_all()?.max(0)?.to_scalar()
}
