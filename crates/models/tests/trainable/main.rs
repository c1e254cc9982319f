//! No silent freeze: every weight of every model of the registry gets a right gradient and moves.

mod devices;
mod variants;

use candle_core::{DType, Device, Result, Tensor};
use nearfar_core::{Encoded, Encoder, Input, Mode, Parameter, Parse, Purpose, Seed};
use nearfar_kernels::test_util::noise;
use nearfar_models::{InputShape, Mlp, ModelConfig, Params};

#[path = "../support/mod.rs"]
mod support;
use support::{check_differences, contracted, coordinates, stream};

use variants::{PARSED, TOKENS, VOLUME, all};

const ROWS: usize = 6;

/// A batch of the shape. Every token occurs.
fn batch(shape: &InputShape, seed: u64) -> Result<Input> {
    Ok(match *shape {
        InputShape::Image {
            channels,
            height,
            width,
        } => Input::Dense(noise((ROWS, channels, height, width), seed)?),
        InputShape::Volume {
            channels,
            depth,
            height,
            width,
        } => Input::Dense(noise((ROWS, channels, depth, height, width), seed)?),
        InputShape::Views {
            views,
            channels,
            height,
            width,
        } => Input::Dense(noise((ROWS, views, channels, height, width), seed)?),
        InputShape::Features(features) => Input::Dense(noise((ROWS, features), seed)?),
        InputShape::Tokens { vocabulary } => Input::Sequence {
            values: ids(vocabulary, seed)?,
            lengths: LENGTHS.to_vec(),
        },
        InputShape::Parsed { vocabulary } => Input::Parsed {
            values: ids(vocabulary, seed)?,
            lengths: LENGTHS.to_vec(),
            parses: (LENGTHS.into_iter().zip(seed as u32..))
                .map(|(length, shift)| parse(length, shift))
                .collect::<Result<_>>()?,
        },
        InputShape::Frames { features } => Input::Sequence {
            // So long that a residual network leaves several places, among which attention can choose.
            values: noise((ROWS, 20, features), seed)?,
            lengths: vec![20, 1, 11, 20, 9, 17],
        },
    })
}

/// True lengths of the rows of a batch of tokens.
const LENGTHS: [u32; ROWS] = [5, 1, 3, 5, 2, 4];

/// `(ROWS, 5)`. Every token occurs.
fn ids(vocabulary: usize, seed: u64) -> Result<Tensor> {
    let ids: Vec<u32> = (0..ROWS as u32 * 5)
        .map(|i| (i * (seed as u32 + 1)) % vocabulary as u32)
        .collect();
    Tensor::from_vec(ids, (ROWS, 5), &Device::Cpu)
}

/// A tree whose root is in the middle: words in front of it depend on the next one, those behind it on the root or the one before.
fn parse(length: u32, shift: u32) -> Result<Parse> {
    let root = length / 2;
    let head = |word: u32| match word {
        _ if word < root => Some(word + 1),
        _ if word == root => None,
        _ if (word + shift).is_multiple_of(2) => Some(root),
        _ => Some(word - 1),
    };
    let basic: Vec<bool> = (0..length).map(|word| word + 1 == root).collect();
    Ok(Parse::new((0..length).map(head).collect(), &basic)?)
}

fn build(
    model: &ModelConfig,
    shape: &InputShape,
    dtype: DType,
) -> Result<(Params, Box<dyn Encoder>)> {
    let params = Params::new(Seed(7), dtype, &Device::Cpu)?;
    let encoder = model.build(shape, &params)?;
    Ok((params, encoder))
}

fn trained(encoder: &dyn Encoder) -> Vec<Parameter> {
    encoder
        .parameters()
        .into_iter()
        .filter(|it| it.trained)
        .collect()
}

fn loss(encoder: &dyn Encoder, input: &Input) -> Result<Tensor> {
    contracted_all(&encoder.encode(input, Mode::Train(&mut stream()))?)
}

/// A scalar of the embedding and of what is given beside it.
fn contracted_all(encoded: &Encoded) -> Result<Tensor> {
    let embedding = contracted(&encoded.embedding)?;
    let mut beside = encoded.extra.values();
    beside.try_fold(embedding, |sum, it| sum + contracted(it)?)
}

/// All numbers of all tensors, for comparison bit by bit.
fn snapshot(encoder: &dyn Encoder) -> Result<Vec<(String, Vec<f64>)>> {
    encoder
        .parameters()
        .into_iter()
        .map(|it| {
            Ok((
                it.name,
                it.var
                    .flatten_all()?
                    .to_dtype(DType::F64)?
                    .to_vec1::<f64>()?,
            ))
        })
        .collect()
}

#[test]
fn every_variable_gets_a_gradient_and_one_step_moves_it() -> Result<()> {
    for dtype in [DType::F32, DType::F64] {
        for (model, shape) in all() {
            let (_, encoder) = build(&model, &shape, dtype)?;
            let gradients = loss(&*encoder, &batch(&shape, 1)?)?.backward()?;
            for Parameter { name, var, .. } in trained(&*encoder) {
                let gradient = gradients
                    .get(&var)
                    .unwrap_or_else(|| panic!("{model:?}: `{name}` has no gradient"));
                let largest = gradient
                    .abs()?
                    .max_all()?
                    .to_dtype(DType::F64)?
                    .to_scalar::<f64>()?;
                if name.ends_with("attention.self.key.bias") {
                    // It adds the same to all scores of a query, which a softmax does not see: the gradient is rounding.
                    assert!(largest < 1e-6, "{model:?}: `{name}` {largest}");
                    continue;
                }
                assert!(
                    largest.is_finite() && largest > 0.0,
                    "{model:?}: `{name}` {largest}"
                );
                // A gate that a wrong split of the 4h rows cut off would be a row of zeros.
                if name.contains("weight_ih")
                    || name.contains("weight_hh")
                    || name.contains("bias_l")
                {
                    let rows = gradient
                        .reshape((var.dim(0)?, ()))?
                        .to_dtype(DType::F64)?
                        .to_vec2::<f64>()?;
                    let idle = rows.iter().position(|row| row.iter().all(|&x| x == 0.0));
                    assert_eq!(idle, None, "{model:?}: a row of `{name}` has no gradient");
                }
                let before = var.copy()?;
                var.set(&(var.as_tensor() - (gradient * 0.1)?)?)?;
                let moved = (var.as_tensor() - before)?.abs()?.max_all()?;
                assert!(
                    moved.to_dtype(DType::F64)?.to_scalar::<f64>()? > 0.0,
                    "{model:?}: `{name}` stays"
                );
            }
        }
    }
    Ok(())
}

#[test]
fn gradients_agree_with_finite_differences() -> Result<()> {
    for (model, shape) in all() {
        let (_, encoder) = build(&model, &shape, DType::F64)?;
        let input = batch(&shape, 2)?;
        let parameters = trained(&*encoder);
        let places = coordinates(&parameters, 50, &mut Seed(9).rng(Purpose::Init, 0));
        // Some of the many kinks of ReLU and pooling lie within a step; what they shift is small against the gradient.
        let loss = || loss(&*encoder, &input);
        check_differences(&format!("{model:?}"), &loss, &parameters, &places, 2e-5)?;
    }
    Ok(())
}

#[test]
fn f32_agrees_with_f64() -> Result<()> {
    // Two ways through the kernels: fused f32, and composed f64.
    for (model, shape) in all() {
        let (_, single) = build(&model, &shape, DType::F32)?;
        let (_, double) = build(&model, &shape, DType::F64)?;
        let input = batch(&shape, 3)?;
        let values = |encoder: &dyn Encoder| -> Result<Vec<(String, Vec<f64>)>> {
            let encoded = encoder.encode(&input, Mode::Train(&mut stream()))?;
            let gradients = contracted_all(&encoded)?.backward()?;
            let flat =
                |tensor: &Tensor| tensor.flatten_all()?.to_dtype(DType::F64)?.to_vec1::<f64>();
            let mut values = vec![("embedding".to_owned(), flat(&encoded.embedding)?)];
            for Parameter { name, var, .. } in trained(encoder) {
                values.push((name, flat(gradients.get(&var).expect("see above"))?));
            }
            Ok(values)
        };
        for ((name, single), (_, double)) in values(&*single)?.into_iter().zip(values(&*double)?) {
            let scale = double.iter().map(|x| x.abs()).fold(1e-2, f64::max);
            for (a, b) in single.iter().zip(&double) {
                assert!(
                    (a - b).abs() < 2e-4 * scale,
                    "{model:?} `{name}`: {a} in f32, {b} in f64"
                );
            }
        }
    }
    Ok(())
}

#[test]
fn two_passes_give_the_sum_of_their_gradients() -> Result<()> {
    // A Siamese network encodes twice before it goes back: buffers of the first pass must outlive the second.
    for (model, shape) in all() {
        let (_, encoder) = build(&model, &shape, DType::F32)?;
        let (left, right) = (batch(&shape, 4)?, batch(&shape, 5)?);
        let both = (loss(&*encoder, &left)? + loss(&*encoder, &right)?)?.backward()?;
        let apart = [
            loss(&*encoder, &left)?.backward()?,
            loss(&*encoder, &right)?.backward()?,
        ];
        for Parameter { name, var, .. } in trained(&*encoder) {
            let gradient = |store: &candle_core::backprop::GradStore| -> Result<Tensor> {
                Ok(store.get(&var).expect("see above").clone())
            };
            let sum = (gradient(&apart[0])? + gradient(&apart[1])?)?;
            let error = (gradient(&both)? - &sum)?
                .abs()?
                .max_all()?
                .to_scalar::<f32>()?;
            let scale = sum.abs()?.max_all()?.to_scalar::<f32>()?.max(1e-3);
            assert!(
                error <= 1e-5 * scale,
                "{model:?} `{name}`: off by {error} of {scale}"
            );
        }
    }
    Ok(())
}

#[test]
fn evaluation_repeats_itself_and_leaves_no_trace() -> Result<()> {
    for (model, shape) in all() {
        let (_, encoder) = build(&model, &shape, DType::F32)?;
        let input = batch(&shape, 6)?;
        encoder.encode(&input, Mode::Train(&mut stream()))?; // Statistics that are not those of the start.
        let before = snapshot(&*encoder)?;
        let embed = || -> Result<Vec<Vec<f32>>> {
            let embedding = encoder.encode(&input, Mode::Eval)?.embedding;
            assert!(!embedding.track_op(), "{model:?}: evaluation keeps a graph");
            embedding.to_vec2()
        };
        assert_eq!(embed()?, embed()?, "{model:?}");
        assert_eq!(before, snapshot(&*encoder)?, "{model:?}");
    }
    Ok(())
}

#[test]
fn rows_do_not_depend_on_their_batch_in_evaluation() -> Result<()> {
    for (model, shape) in all() {
        let (_, encoder) = build(&model, &shape, DType::F32)?;
        let input = batch(&shape, 7)?;
        let whole = encoder
            .encode(&input, Mode::Eval)?
            .embedding
            .to_vec2::<f32>()?;
        let part = match input {
            Input::Dense(values) => Input::Dense(values.narrow(0, 2, 3)?),
            Input::Sequence { values, lengths } => Input::Sequence {
                values: values.narrow(0, 2, 3)?,
                lengths: lengths[2..5].to_vec(),
            },
            Input::Parsed {
                values,
                lengths,
                parses,
            } => Input::Parsed {
                values: values.narrow(0, 2, 3)?,
                lengths: lengths[2..5].to_vec(),
                parses: parses[2..5].to_vec(),
            },
        };
        let part = encoder
            .encode(&part, Mode::Eval)?
            .embedding
            .to_vec2::<f32>()?;
        for (a, b) in part.concat().iter().zip(whole[2..5].concat()) {
            assert!((a - b).abs() < 1e-5, "{model:?}: {a} {b}");
        }
    }
    Ok(())
}

#[test]
fn weights_are_functions_of_seed_and_name() -> Result<()> {
    for (model, shape) in all() {
        let (first, second) = (
            build(&model, &shape, DType::F32)?.1,
            build(&model, &shape, DType::F32)?.1,
        );
        assert_eq!(snapshot(&*first)?, snapshot(&*second)?, "{model:?}");
        let other = Params::new(Seed(8), DType::F32, &Device::Cpu)?;
        assert_ne!(
            snapshot(&*first)?,
            snapshot(&*model.build(&shape, &other)?)?,
            "{model:?}"
        );
    }
    // A layer more changes none of the others.
    let deeper = |hidden: Vec<usize>| -> Result<Vec<(String, Vec<f64>)>> {
        let model = ModelConfig::Mlp(Mlp {
            hidden,
            ..Mlp::default()
        });
        snapshot(&*build(&model, &InputShape::Features(4), DType::F32)?.1)
    };
    let (short, long) = (deeper(vec![8])?, deeper(vec![8, 8])?);
    for entry in short
        .iter()
        .filter(|(name, _)| name.starts_with("layers.0"))
    {
        assert!(long.contains(entry), "{}", entry.0);
    }
    Ok(())
}

#[test]
fn a_saved_model_is_the_model() -> Result<()> {
    for (model, shape) in all() {
        let (params, encoder) = build(&model, &shape, DType::F32)?;
        let input = batch(&shape, 8)?;
        encoder.encode(&input, Mode::Train(&mut stream()))?;
        let bytes = params.to_safetensors()?;
        let elsewhere = Params::new(Seed(99), DType::F32, &Device::Cpu)?
            .at("towers")
            .at(0);
        let twin = model.build(&shape, &elsewhere)?;
        elsewhere.load_safetensors(&bytes, "the bytes above")?;
        let embed = |encoder: &dyn Encoder| -> Result<Vec<Vec<f32>>> {
            encoder.encode(&input, Mode::Eval)?.embedding.to_vec2()
        };
        assert_eq!(embed(&*encoder)?, embed(&*twin)?, "{model:?}");
        assert_eq!(elsewhere.to_safetensors()?, bytes, "{model:?}");
    }
    Ok(())
}

#[test]
fn frozen_layers_get_no_gradient_and_the_others_do() -> Result<()> {
    for (model, shape) in all() {
        let (params, encoder) = build(&model, &shape, DType::F32)?;
        let names: Vec<_> = trained(&*encoder).into_iter().map(|it| it.name).collect();
        params.freeze(&names[0])?;
        let gradients = loss(&*encoder, &batch(&shape, 1)?).map(|loss| loss.backward());
        let open = trained(&*encoder);
        assert_eq!(open.len(), names.len() - 1, "{model:?}");
        if open.is_empty() {
            continue; // Nothing is left to be trained, and there is no graph to go back through.
        }
        let gradients = gradients??;
        for Parameter { name, var, trained } in encoder.parameters() {
            assert_eq!(
                gradients.get(&var).is_some(),
                trained,
                "{model:?}: `{name}`"
            );
        }
    }
    Ok(())
}

#[test]
fn no_rows_give_no_embeddings() -> Result<()> {
    for (model, shape) in all() {
        let (_, encoder) = build(&model, &shape, DType::F32)?;
        let none = match batch(&shape, 1)? {
            Input::Dense(values) => Input::Dense(values.narrow(0, 0, 0)?),
            Input::Sequence { values, .. } => Input::Sequence {
                values: values.narrow(0, 0, 0)?,
                lengths: Vec::new(),
            },
            Input::Parsed { values, .. } => Input::Parsed {
                values: values.narrow(0, 0, 0)?,
                lengths: Vec::new(),
                parses: Vec::new(),
            },
        };
        assert_eq!(
            encoder.encode(&none, Mode::Eval)?.embedding.dims(),
            [0, encoder.width()]
        );
    }
    Ok(())
}

#[test]
fn a_model_says_what_it_reads() -> Result<()> {
    let image = InputShape::Image {
        channels: 1,
        height: 72, // Large enough for all, and whole patches.
        width: 72,
    };
    let shapes = [
        image,
        InputShape::Features(4),
        TOKENS,
        PARSED,
        InputShape::Frames { features: 3 },
        VOLUME,
        InputShape::Views {
            views: 3,
            channels: 1,
            height: 16,
            width: 16,
        },
    ];
    for model in ModelConfig::all() {
        let mut refused = 0;
        for shape in &shapes {
            let params = Params::new(Seed(7), DType::F32, &Device::Cpu)?;
            match model.build(shape, &params) {
                Ok(encoder) => assert_eq!(encoder.parameters().len(), params.parameters().len()),
                Err(error) => {
                    refused += 1;
                    let message = error.to_string();
                    let both = message.contains(&format!("`{}` reads ", model.name()))
                        && message.contains(&format!("the data are {shape}"));
                    assert!(both, "{message}");
                }
            }
        }
        assert!(
            (1..shapes.len()).contains(&refused),
            "{model:?} reads some shapes and not all"
        );
    }
    Ok(())
}
