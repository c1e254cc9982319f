//! No silent freeze in heads over models: every weight of both gets a right gradient and moves, and a checkpoint has all of them.

use candle_core::{DType, Device, Result, Tensor};
use nearfar_core::{Encoder, Finite, Input, Mode, Parameter, Positive, Purpose, Seed};
use nearfar_kernels::test_util::noise;
use nearfar_models::heads::{Fusion, Local, Mahalanobis, NetVlad, Projection};
use nearfar_models::{Conv4, HeadConfig, InputShape, Params, Under};

mod support;
use support::{check_differences, contracted, coordinates, stream};

/// Each head of the list, small, in its variants, and what it stands over. A head that is added has to be added here.
fn variants(head: &HeadConfig) -> Vec<(HeadConfig, Conv4)> {
    // 16 × 16 pixels become 4 × 4 places: an embedding of 3 · 16 numbers needs no layer.
    let plain = Conv4 {
        channels: 3,
        blocks: 2,
        width: 48,
        ..Conv4::default()
    };
    match head {
        HeadConfig::Fusion(_) => [Local::Joined, Local::Mean, Local::Attention]
            .map(|local| {
                let weight = Finite::literal(0.7);
                let parts = Conv4 {
                    width: 5,
                    parts: 2,
                    ..plain.clone()
                };
                (HeadConfig::Fusion(Fusion { weight, local }), parts)
            })
            .to_vec(),
        HeadConfig::Mahalanobis(_) => [(None, false), (Some(4), false), (None, true)]
            .map(|(width, diagonal)| {
                let narrow = Conv4 {
                    width: 6,
                    ..plain.clone()
                };
                let settings = Mahalanobis { width, diagonal };
                (HeadConfig::Mahalanobis(settings), narrow)
            })
            .to_vec(),
        HeadConfig::NetVlad(_) => [(None, true), (Some(5), true), (Some(5), false)]
            .map(|(width, normalize)| {
                let maps = Conv4 {
                    maps: true,
                    ..plain.clone()
                };
                let settings = NetVlad {
                    clusters: 4,
                    width,
                    sharpness: Positive::literal(1.0),
                    normalize,
                };
                (HeadConfig::NetVlad(settings), maps)
            })
            .to_vec(),
        HeadConfig::Projection(_) => [
            (vec![], false, true),
            (vec![7], false, true),
            (vec![7, 6], true, false),
        ]
        .map(|(hidden, batch_norm, normalize)| {
            let narrow = Conv4 {
                width: 6,
                ..plain.clone()
            };
            let settings = Projection {
                width: 5,
                hidden,
                batch_norm,
                normalize,
            };
            (HeadConfig::Projection(settings), narrow)
        })
        .to_vec(),
    }
}

fn all() -> Vec<(HeadConfig, Conv4)> {
    HeadConfig::all().iter().flat_map(variants).collect()
}

fn images(seed: u64, dtype: DType) -> Result<Input> {
    Ok(Input::Dense(noise((5, 1, 16, 16), seed)?.to_dtype(dtype)?))
}

fn build(
    head: &HeadConfig,
    model: &Conv4,
    dtype: DType,
    from_data: bool,
) -> Result<Box<dyn Encoder>> {
    let params = Params::new(Seed(7), dtype, &Device::Cpu)?;
    let shape = InputShape::Image {
        channels: 1,
        height: 16,
        width: 16,
    };
    let tower: Box<dyn Encoder> = Box::new(model.build(&shape, &params)?);
    let encoded = tower.encode(&images(1, dtype)?, Mode::Eval)?;
    let sizes = encoded.extra.iter();
    let under = Under {
        width: tower.width(),
        beside: sizes
            .map(|(name, it)| (name.clone(), it.dims()[1..].to_vec()))
            .collect(),
        samples: from_data.then_some(encoded),
    };
    head.build(tower, &under, &params)
}

fn loss(encoder: &dyn Encoder, dtype: DType) -> Result<Tensor> {
    contracted(
        &encoder
            .encode(&images(2, dtype)?, Mode::Train(&mut stream()))?
            .embedding,
    )
}

fn trained(encoder: &dyn Encoder) -> Vec<Parameter> {
    encoder
        .parameters()
        .into_iter()
        .filter(|it| it.trained)
        .collect()
}

#[test]
fn every_weight_gets_a_gradient_and_names_are_in_order() -> Result<()> {
    for dtype in [DType::F32, DType::F64] {
        for (head, model) in all() {
            let encoder = build(&head, &model, dtype, true)?;
            let gradients = loss(&*encoder, dtype)?.backward()?;
            for Parameter { name, var, .. } in trained(&*encoder) {
                let gradient = gradients.get(&var);
                let gradient = gradient.unwrap_or_else(|| panic!("{head:?}: `{name}` is frozen"));
                let largest = gradient
                    .abs()?
                    .max_all()?
                    .to_dtype(DType::F64)?
                    .to_scalar::<f64>()?;
                assert!(
                    largest > 0.0 && largest.is_finite(),
                    "{head:?}: `{name}` {largest}"
                );
            }
            let names: Vec<String> = encoder.parameters().into_iter().map(|it| it.name).collect();
            assert!(names.is_sorted(), "{names:?}");
            let of_head = format!("{}.", head.name());
            assert!(
                names.iter().any(|name| name.starts_with(&of_head)),
                "{names:?}"
            );
        }
    }
    Ok(())
}

#[test]
fn gradients_agree_with_finite_differences() -> Result<()> {
    for (head, model) in all() {
        let encoder = build(&head, &model, DType::F64, false)?;
        let parameters = trained(&*encoder);
        let places = coordinates(&parameters, 60, &mut Seed(9).rng(Purpose::Init, 0));
        let loss = || loss(&*encoder, DType::F64);
        check_differences(&format!("{head:?}"), &loss, &parameters, &places, 2e-5)?;
    }
    Ok(())
}

#[test]
fn what_is_frozen_has_no_gradient_in_model_and_head() -> Result<()> {
    for (head, model) in all() {
        let encoder = build(&head, &model, DType::F32, false)?;
        let names: Vec<String> = trained(&*encoder).into_iter().map(|it| it.name).collect();
        let of_head = format!("{}.", head.name());
        for of_model in [true, false] {
            for name in &names {
                let frozen = name.starts_with(&of_head) != of_model;
                assert!(encoder.freeze(name, frozen), "{head:?}: `{name}`");
            }
            let gradients = loss(&*encoder, DType::F32)?.backward()?;
            for Parameter { name, var, .. } in trained(&*encoder) {
                let moves = name.starts_with(&of_head) == of_model;
                assert_eq!(gradients.get(&var).is_some(), moves, "{head:?}: `{name}`");
            }
        }
        assert!(!encoder.freeze("no such tensor", true));
    }
    Ok(())
}

#[test]
fn evaluation_keeps_no_graph_and_no_rows_give_no_embeddings() -> Result<()> {
    for (head, model) in all() {
        let encoder = build(&head, &model, DType::F32, false)?;
        let whole = encoder
            .encode(&images(3, DType::F32)?, Mode::Eval)?
            .embedding;
        assert!(!whole.track_op(), "{head:?}");
        assert_eq!(whole.dims(), [5, encoder.width()], "{head:?}");
        let Input::Dense(values) = images(3, DType::F32)? else {
            unreachable!("images are dense")
        };
        let part = Input::Dense(values.narrow(0, 2, 1)?);
        let part = encoder
            .encode(&part, Mode::Eval)?
            .embedding
            .to_vec2::<f32>()?;
        for (a, b) in part[0].iter().zip(&whole.to_vec2::<f32>()?[2]) {
            assert!((a - b).abs() < 1e-5, "{head:?}: {a} {b}");
        }
        let none = Input::Dense(values.narrow(0, 0, 0)?);
        let none = encoder.encode(&none, Mode::Eval)?.embedding;
        assert_eq!(none.dims(), [0, encoder.width()]);
    }
    Ok(())
}
