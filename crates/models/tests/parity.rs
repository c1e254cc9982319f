//! Same weights, same output: image towers against networks written out in PyTorch (`fixtures/peer_towers.py`).

use candle_core::{DType, Device, Result, Tensor};
use nearfar_core::{Finite, Input, Mode, Seed};
use nearfar_models::{
    Convnext, InputShape, ModelConfig, Params, Resnet, ResnetStem, Vit, VitPooling,
};

#[derive(serde::Deserialize)]
struct Fixture {
    case: Vec<Case>,
}

#[derive(serde::Deserialize)]
struct Case {
    name: String,
    image: [usize; 3],
    rows: Vec<Vec<f64>>,
}

/// The settings of a case, with the width of its features, so that there is no head.
fn model(case: &Case) -> ModelConfig {
    let width = case.rows[0].len();
    let resnet = Resnet {
        width,
        normalize: false,
        ..Resnet::default()
    };
    let vit = Vit {
        width,
        normalize: false,
        ..Vit::default()
    };
    match case.name.as_str() {
        "resnet18" => ModelConfig::Resnet(resnet),
        "resnet18_small" => ModelConfig::Resnet(Resnet {
            stem: ResnetStem::Small,
            ..resnet
        }),
        "resnet50" => ModelConfig::Resnet(Resnet {
            depth: 50,
            ..resnet
        }),
        "convnext" => ModelConfig::Convnext(Convnext {
            width,
            normalize: false,
            ..Convnext::default()
        }),
        "vit" => ModelConfig::Vit(Vit {
            pooling: VitPooling::Mean,
            ..vit
        }),
        "dinov2" => ModelConfig::Vit(Vit {
            patch: 14,
            registers: 4,
            layer_scale: Some(Finite::literal(1e-5)),
            ..vit
        }),
        other => panic!("{other} is no case"),
    }
}

/// Numbers in [0, 1) from a name and their indices: a hash, in 32 bits. The same as in `peer_towers.py`.
fn unit(name: &str, count: usize) -> impl Iterator<Item = f64> {
    let hashed = |seed: u32, byte: u8| seed.wrapping_mul(31).wrapping_add(u32::from(byte));
    let seed = name.bytes().fold(0, hashed);
    (0..count as u32).map(move |at| {
        let mut h = at.wrapping_mul(2_654_435_761).wrapping_add(seed);
        for (shift, factor) in [(15, 2_246_822_519), (13, 3_266_489_917)] {
            h = (h ^ (h >> shift)).wrapping_mul(factor);
        }
        f64::from(h ^ (h >> 16)) / 2f64.powi(32)
    })
}

/// Matrices and kernels by what an output sums over; scales and variances around 1; others around 0.
fn filled(name: &str, shape: &[usize]) -> Result<Tensor> {
    let count = shape.iter().product();
    let u = unit(name, count);
    let values: Vec<f64> = if shape.len() > 1 {
        let bound = (3.0 * shape[0] as f64 / count as f64).sqrt();
        u.map(|u| (2.0 * u - 1.0) * bound).collect()
    } else if name.ends_with("running_var") || name.ends_with("weight") {
        u.map(|u| 0.5 + u).collect()
    } else {
        u.map(|u| 0.2 * (2.0 * u - 1.0)).collect()
    };
    Tensor::from_vec(values, shape, &Device::Cpu)
}

#[test]
fn image_towers_agree_with_their_peers() -> Result<()> {
    let fixture: Fixture = toml::from_str(include_str!("fixtures/towers.toml")).expect("stored");
    for case in &fixture.case {
        // The fused kernels are those of f32.
        let params = Params::new(Seed(1), DType::F32, &Device::Cpu)?;
        let [channels, height, width] = case.image;
        let shape = InputShape::Image {
            channels,
            height,
            width,
        };
        let tower = model(case).build(&shape, &params)?;
        for parameter in params.parameters() {
            params.set(
                &parameter.name,
                &filled(&parameter.name, parameter.var.dims())?,
            )?;
        }
        let image: Vec<f32> = unit("image", 2 * channels * height * width)
            .map(|u| (2.0 * u - 1.0) as f32)
            .collect();
        let image = Tensor::from_vec(image, (2, channels, height, width), &Device::Cpu)?;
        let embedding = tower.encode(&Input::Dense(image), Mode::Eval)?.embedding;
        let found = embedding.to_dtype(DType::F64)?.to_vec2::<f64>()?;
        let wanted = case.rows.concat();
        let scale = wanted.iter().map(|x| x.abs()).fold(0.0, f64::max);
        assert_eq!(found.len(), case.rows.len());
        for (found, wanted) in found.iter().flatten().zip(&wanted) {
            assert!(
                (found - wanted).abs() < 1e-5 * scale,
                "{}: {found}, not {wanted}, of {scale}",
                case.name
            );
        }
        // The two images are told apart, so that the weights had a say.
        let apart = found[0].iter().zip(&found[1]);
        let apart = apart
            .map(|(one, other)| (one - other).abs())
            .fold(0.0, f64::max);
        assert!(apart > 1e-4 * scale, "{}: {apart} of {scale}", case.name);
    }
    Ok(())
}
