//! Weights that were trained elsewhere: what is read, what is refused; and tensors that are frozen by name.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Result, Tensor};
use nearfar_core::{Encoder, Error, Input, Mode, Purpose, Seed};
use nearfar_models::{
    Conv4, InputShape, Mlp, ModelConfig, Params, Pretrained, Resnet, ResnetStem, Vit,
};
use tempfile::TempDir;

fn params(seed: u64) -> Params {
    Params::new(Seed(seed), DType::F32, &Device::Cpu).expect("f32")
}

const IMAGE: InputShape = InputShape::Image {
    channels: 1,
    height: 16,
    width: 16,
};

fn resnet(width: usize) -> ModelConfig {
    ModelConfig::Resnet(Resnet {
        stem: ResnetStem::Small,
        width,
        ..Resnet::default()
    })
}

fn tensors(params: &Params) -> BTreeMap<String, Tensor> {
    let prefix = params.prefix().len();
    let parameters = params.parameters().into_iter();
    parameters
        .map(|it| {
            let copy = it.var.as_tensor().copy().expect("small").detach();
            (it.name[prefix..].to_owned(), copy)
        })
        .collect()
}

fn zeros(dims: &[usize]) -> Tensor {
    Tensor::zeros(dims, DType::F32, &Device::Cpu).expect("small")
}

fn write(tensors: BTreeMap<String, Tensor>) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a place for temporary files");
    let path = folder.path().join("weights.safetensors");
    let bytes = safetensors::serialize(tensors, None).expect("fits");
    std::fs::write(&path, bytes).expect("writable");
    (folder, path)
}

fn of_file(path: &Path) -> Pretrained {
    Pretrained {
        file: Some(path.to_owned()),
        ..Pretrained::default()
    }
}

/// A ResNet without a head, as torchvision writes it: with a classifier and counters of batches.
fn torchvision() -> Result<BTreeMap<String, Tensor>> {
    let params = params(3);
    resnet(512).build(&IMAGE, &params)?;
    let mut tensors = tensors(&params);
    let counters: Vec<_> = tensors
        .keys()
        .filter_map(|name| name.strip_suffix("running_mean"))
        .map(|place| format!("{place}num_batches_tracked"))
        .collect();
    assert_eq!(counters.len(), 20);
    for counter in counters {
        tensors.insert(counter, Tensor::new(7i64, &Device::Cpu)?);
    }
    tensors.insert("fc.weight".into(), zeros(&[1000, 512]));
    tensors.insert("fc.bias".into(), zeros(&[1000]));
    Ok(tensors)
}

#[test]
fn published_files_are_read_and_a_head_starts_anew() -> Result<()> {
    let (_folder, path) = write(torchvision()?);
    for (width, anew) in [(512, &[][..]), (8, &["head.bias", "head.weight"])] {
        let params = params(1).at("towers").at(0);
        resnet(width).build(&IMAGE, &params)?;
        let before = tensors(&params);
        assert_eq!(of_file(&path).load(&resnet(width), &params)?, anew);
        let written = torchvision()?;
        for (name, tensor) in tensors(&params) {
            let wanted = if anew.contains(&name.as_str()) {
                &before[&name]
            } else {
                &written[&name]
            };
            let bits = |it: &Tensor| it.flatten_all()?.to_vec1::<f32>();
            assert_eq!(bits(&tensor)?, bits(wanted)?, "{name}");
        }
    }
    Ok(())
}

#[test]
fn a_prefix_is_left_out_and_other_names_are_not_looked_at() -> Result<()> {
    let mut file = BTreeMap::from([("decoder.weight".to_owned(), zeros(&[3]))]);
    for (name, tensor) in torchvision()? {
        file.insert(format!("module.{name}"), tensor);
    }
    let (_folder, path) = write(file);
    let params = params(1);
    let model = resnet(512);
    model.build(&IMAGE, &params)?;
    let error = of_file(&path)
        .load(&model, &params)
        .expect_err("other names");
    assert!(error.to_string().contains("missing are `bn1.bias`"));
    let weights = Pretrained {
        prefix: "module.".into(),
        ..of_file(&path)
    };
    assert!(weights.load(&model, &params)?.is_empty());
    Ok(())
}

#[test]
fn what_is_excepted_starts_anew() -> Result<()> {
    // A classifier in the place of a head.
    let model = ModelConfig::Vit(Vit {
        patch: 8,
        channels: 12,
        heads: 2,
        blocks: 1,
        width: 5,
        ..Vit::default()
    });
    let params = params(3);
    model.build(&IMAGE, &params)?;
    let mut file = tensors(&params);
    file.insert("head.weight".into(), zeros(&[10, 12]));
    file.insert("mask_token".into(), zeros(&[1, 12]));
    let (_folder, path) = write(file);
    let error = of_file(&path).load(&model, &params).expect_err("10 for 5");
    assert!(
        error.to_string().ends_with(
            "is of another model: `head.weight` has shape [10, 12] where the model has [5, 12]; \
             to let it start anew, write `except = [\"head.weight\"]` in `weights`"
        ),
        "{error}"
    );
    assert!(matches!(Error::of(&error), Some(Error::Input(_))));
    let weights = Pretrained {
        except: vec!["head.*".into()],
        ..of_file(&path)
    };
    assert_eq!(weights.load(&model, &params)?, ["head.bias", "head.weight"]);
    Ok(())
}

#[test]
fn a_wrong_file_is_refused_with_a_bounded_list_and_nothing_is_taken() -> Result<()> {
    let mut file = BTreeMap::new();
    for at in 0..500 {
        file.insert(format!("other.{at:03}"), zeros(&[1]));
    }
    file.insert("conv1.weight".into(), zeros(&[64, 3, 7, 7]));
    let (_folder, path) = write(file);
    let params = params(1);
    let model = resnet(512);
    model.build(&IMAGE, &params)?;
    let before = params.to_safetensors()?;
    let error = of_file(&path)
        .load(&model, &params)
        .expect_err("another model");
    let message = error.to_string();
    for part in [
        "missing are `bn1.bias`",
        "the model has no `other.000`",
        "and 490 more",
        "`conv1.weight` has shape [64, 3, 7, 7] where the model has [64, 1, 3, 3]",
    ] {
        assert!(message.contains(part), "{part} in {message}");
    }
    assert!(message.len() < 1000, "{} bytes", message.len());
    assert_eq!(params.to_safetensors()?, before);

    let folder = Pretrained {
        folder: Some("x".into()),
        ..Pretrained::default()
    };
    let message = folder
        .load(&model, &params)
        .expect_err("no bert")
        .to_string();
    assert!(message.contains("`weights.folder` is for `model.bert`"));
    let both = Pretrained {
        file: Some("x".into()),
        ..folder
    };
    assert!(both.check().is_err() && Pretrained::default().check().is_err());
    Ok(())
}

/// Frozen by name, a block of batch norm goes by its running statistics, which stay, and its weights leave the graph.
#[test]
fn what_is_frozen_by_name_stays() -> Result<()> {
    let params = params(3);
    let tower = Conv4::default().build(
        &InputShape::Image {
            channels: 1,
            height: 16,
            width: 16,
        },
        &params,
    )?;
    let input = Tensor::rand(0f32, 1f32, (4, 1, 16, 16), &Device::Cpu)?;
    let input = Input::Dense(input);
    let names: Vec<String> = tower.parameters().into_iter().map(|it| it.name).collect();
    let statistics: Vec<_> = names.iter().filter(|it| it.contains("running_")).collect();
    assert_eq!(statistics.len(), 8);
    let first = statistics[0].rsplit_once('.').expect("of a block").0;
    let frozen: Vec<_> = names.iter().filter(|it| it.starts_with(first)).collect();
    for name in &frozen {
        assert!(tower.freeze(name, true), "{name}");
    }
    assert!(!tower.freeze("nothing", true));

    let before = tensors(&params);
    let mut rng = Seed(0).rng(Purpose::Dropout, 0);
    let embedding = tower.encode(&input, Mode::Train(&mut rng))?.embedding;
    let gradients = embedding.sqr()?.sum_all()?.backward()?;
    let bits = |it: &Tensor| it.flatten_all()?.to_vec1::<f32>();
    for parameter in tower.parameters() {
        let name = &parameter.name;
        let is_frozen = frozen.contains(&name);
        let is_statistic = name.contains("running_");
        let moved = bits(&before[name])? != bits(parameter.var.as_tensor())?;
        assert_eq!(moved, is_statistic && !is_frozen, "{name}");
        let has_gradient = gradients.get(parameter.var.as_tensor()).is_some();
        assert_eq!(has_gradient, !is_statistic && !is_frozen, "{name}");
    }
    Ok(())
}

#[test]
fn any_model_reads_what_it_wrote() -> Result<()> {
    let model = ModelConfig::Mlp(Mlp::default());
    let (one, other) = (params(1), params(2));
    model.build(&InputShape::Features(5), &one)?;
    model.build(&InputShape::Features(5), &other)?;
    let (_folder, path) = write(tensors(&one));
    of_file(&path).load(&model, &other)?;
    assert_eq!(one.to_safetensors()?, other.to_safetensors()?);
    Ok(())
}
