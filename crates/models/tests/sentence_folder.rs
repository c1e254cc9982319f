//! Folders of sentence-transformers: what is read of them, and what is refused.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use candle_core::{DType, Device, Result, Tensor};
use nearfar_core::{Encoder, Input, Mode, Seed};
use nearfar_models::layers::Activation;
use nearfar_models::{
    Bert, BertPooling, InputShape, ModelConfig, Params, Pretrained, SentenceFolder,
};
use serde_json::{Value, json};
use tempfile::TempDir;

fn params(seed: u64) -> Params {
    Params::new(Seed(seed), DType::F32, &Device::Cpu).expect("f32")
}

fn small() -> Bert {
    Bert {
        hidden: 8,
        layers: 1,
        heads: 2,
        intermediate: 12,
        positions: 6,
        ..Bert::default()
    }
}

fn config() -> Value {
    json!({
        "model_type": "bert", "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 12,
        "max_position_embeddings": 6, "type_vocab_size": 2, "vocab_size": 9, "layer_norm_eps": 1e-12, "hidden_act": "gelu",
        "hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1, "position_embedding_type": "absolute",
    })
}

fn pooling() -> Value {
    json!({ "word_embedding_dimension": 8, "pooling_mode_cls_token": false, "pooling_mode_mean_tokens": true })
}

fn modules() -> Value {
    let module =
        |name: &str, path: &str| json!({ "idx": 0, "path": path, "type": format!("a.b.{name}") });
    json!([
        module("Transformer", ""),
        module("Pooling", "1_Pooling"),
        module("Normalize", "2_Normalize")
    ])
}

/// The tensors of a tower under the names that others write, with what only others have.
fn published(params: &Params, prefix: &str) -> Vec<(String, Tensor)> {
    let mut tensors: Vec<_> = params
        .parameters()
        .into_iter()
        .map(|it| (format!("{prefix}{}", it.name), it.var.as_tensor().clone()))
        .collect();
    let ids = Tensor::arange(0i64, 6, &Device::Cpu).expect("six");
    let pooler = Tensor::zeros((8, 8), DType::F32, &Device::Cpu).expect("small");
    tensors.push((format!("{prefix}embeddings.position_ids"), ids));
    tensors.push((format!("{prefix}pooler.dense.weight"), pooler));
    tensors
}

/// The tensors of a tower, by name.
fn tensors(params: &Params) -> BTreeMap<String, Tensor> {
    published(params, "")
        .into_iter()
        .take(params.parameters().len())
        .collect()
}

fn write(path: &Path, value: &Value) {
    fs::write(path, value.to_string()).expect("writable");
}

fn write_weights(folder: &Path, tensors: Vec<(String, Tensor)>) {
    let bytes = safetensors::serialize(tensors, None).expect("fits");
    fs::write(folder.join("model.safetensors"), bytes).expect("writable");
}

/// A whole folder, and the parameters that its weights are from.
fn folder(prefix: &str) -> (TempDir, Params) {
    let folder = tempfile::tempdir().expect("a place for temporary files");
    let at = folder.path();
    fs::create_dir(at.join("1_Pooling")).expect("writable");
    write(&at.join("config.json"), &config());
    write(&at.join("1_Pooling/config.json"), &pooling());
    write(&at.join("modules.json"), &modules());
    let own = json!({ "max_seq_length": 5, "do_lower_case": false });
    write(&at.join("sentence_bert_config.json"), &own);
    let params = params(3);
    small()
        .build(&InputShape::Tokens { vocabulary: 9 }, &params)
        .expect("small");
    write_weights(at, published(&params, prefix));
    (folder, params)
}

fn embed(tower: &dyn Encoder) -> Result<Vec<Vec<f32>>> {
    let input = Input::Sequence {
        values: Tensor::new(&[[1u32, 2, 3], [4, 5, 0]], &Device::Cpu)?,
        lengths: vec![3, 2],
    };
    tower.encode(&input, Mode::Eval)?.embedding.to_vec2()
}

#[test]
fn a_folder_gives_settings_and_weights() -> Result<()> {
    for prefix in ["", "bert."] {
        let (folder, written) = folder(prefix);
        let read = SentenceFolder::read(folder.path())?;
        assert_eq!(read.bert, small());
        assert_eq!((read.vocabulary, read.max_length), (9, 5));
        let here = params(1).at("towers").at(0);
        let tower = read.build(&here)?;
        assert_eq!(here.to_safetensors()?, written.to_safetensors()?);
        let twin = small().build(&InputShape::Tokens { vocabulary: 9 }, &params(3))?;
        assert_eq!(embed(&tower)?, embed(&twin)?);
    }
    Ok(())
}

#[test]
fn poolings_are_read_as_sentence_transformers_6_writes_them() -> Result<()> {
    for (mode, pooling) in [("mean", BertPooling::Mean), ("cls", BertPooling::Cls)] {
        let (folder, _) = folder("");
        let path = folder.path().join("1_Pooling/config.json");
        write(
            &path,
            &json!({ "embedding_dimension": 8, "pooling_mode": mode, "include_prompt": true }),
        );
        assert_eq!(SentenceFolder::read(folder.path())?.bert.pooling, pooling);
        for (key, value) in [
            ("pooling_mode", json!("max")),
            ("embedding_dimension", json!(7)),
        ] {
            let mut other = json!({ "embedding_dimension": 8, "pooling_mode": mode });
            other[key] = value;
            write(&path, &other);
            let error = SentenceFolder::read(folder.path()).expect_err(key);
            assert!(
                error.to_string().contains(&format!("`{key}` is ")),
                "{error}"
            );
        }
    }
    Ok(())
}

#[test]
fn a_head_starts_anew() -> Result<()> {
    let (folder, _) = folder("");
    let mut read = SentenceFolder::read(folder.path())?;
    read.bert.width = Some(3);
    let tower = read.build(&params(1))?;
    assert_eq!(embed(&tower)?[0].len(), 3);
    Ok(())
}

#[test]
fn modules_say_how_states_become_embeddings() -> Result<()> {
    let (folder, _) = folder("");
    let first = json!({ "pooling_mode_cls_token": true, "pooling_mode_mean_tokens": false });
    write(&folder.path().join("1_Pooling/config.json"), &first);
    let mut two = modules();
    two.as_array_mut().expect("a list").pop();
    write(&folder.path().join("modules.json"), &two);
    fs::remove_file(folder.path().join("sentence_bert_config.json")).expect("there");
    let read = SentenceFolder::read(folder.path())?;
    assert_eq!(read.bert.pooling, BertPooling::Cls);
    assert!(!read.bert.normalize);
    assert_eq!(read.max_length, 6);
    Ok(())
}

#[test]
fn weights_of_another_model_are_refused_with_three_lists() -> Result<()> {
    let (folder, written) = folder("bert.");
    let mut tensors = published(&written, "bert.");
    tensors.retain(|(name, _)| name != "bert.embeddings.LayerNorm.bias");
    let zeros = Tensor::zeros((2, 8), DType::F32, &Device::Cpu)?;
    tensors.push(("cls.predictions.bias".into(), zeros.clone()));
    for (name, tensor) in &mut tensors {
        if name == "bert.embeddings.position_embeddings.weight" {
            *tensor = zeros.clone();
        }
    }
    write_weights(folder.path(), tensors);
    let here = params(1);
    let read = SentenceFolder::read(folder.path())?;
    let error = read.build(&here).expect_err("differs").to_string();
    let lists = "is of another model: missing are `embeddings.LayerNorm.bias`; the model has no `cls.predictions.bias`; \
                 `embeddings.position_embeddings.weight` has shape [2, 8] where the model has [6, 8]";
    assert!(error.ends_with(lists), "{error}");
    assert!(error.contains("model.safetensors"), "{error}");

    let mut twice = published(&written, "");
    twice.push(("bert.embeddings.LayerNorm.bias".into(), zeros));
    write_weights(folder.path(), twice);
    let error = read.build(&params(1)).expect_err("twice").to_string();
    assert!(
        error.contains("are both `embeddings.LayerNorm.bias`"),
        "{error}"
    );
    Ok(())
}

#[test]
fn a_wrong_setting_is_told_with_its_file_and_key() {
    let error = |file: &str, key: &str, value: Value| {
        let (folder, _) = folder("");
        let path = folder.path().join(file);
        let text = fs::read_to_string(&path).expect("written above");
        let mut content: Value = serde_json::from_str(&text).expect("written above");
        let place = match &mut content {
            Value::Array(list) => list[0].as_object_mut(),
            other => other.as_object_mut(),
        };
        let place = place.expect("an object");
        match value {
            Value::Null => place.remove(key),
            value => place.insert(key.into(), value),
        };
        write(&path, &content);
        let error = SentenceFolder::read(folder.path()).expect_err(key);
        error.to_string()
    };
    for (file, key, value, why) in [
        (
            "config.json",
            "model_type",
            json!("roberta"),
            "\"bert\" is wanted",
        ),
        (
            "config.json",
            "num_attention_heads",
            json!(3),
            "does not divide `hidden_size` 8",
        ),
        ("config.json", "hidden_size", Value::Null, "is missing"),
        ("config.json", "hidden_size", json!("8"), "whole number"),
        ("config.json", "num_hidden_layers", json!(0), "whole number"),
        ("config.json", "vocab_size", json!(1e9), "whole number"),
        (
            "config.json",
            "vocab_size",
            json!(10_000_000),
            "does not hold",
        ),
        ("config.json", "layer_norm_eps", json!(-1), "is -1"),
        (
            "config.json",
            "hidden_dropout_prob",
            json!("no"),
            "a number is wanted",
        ),
        ("config.json", "hidden_act", json!("elo"), "gelu"),
        (
            "config.json",
            "position_embedding_type",
            json!("relative_key"),
            "absolute",
        ),
        (
            "config.json",
            "is_decoder",
            json!(true),
            "an encoder is wanted",
        ),
        (
            "1_Pooling/config.json",
            "pooling_mode_max_tokens",
            json!(true),
            "no other",
        ),
        (
            "1_Pooling/config.json",
            "pooling_mode_mean_tokens",
            json!(1),
            "true or false",
        ),
        (
            "1_Pooling/config.json",
            "word_embedding_dimension",
            json!(7),
            "is 7, but the states have 8",
        ),
        (
            "modules.json",
            "path",
            json!("../elsewhere"),
            "leads out of the folder",
        ),
        ("modules.json", "type", json!("a.b.Dropout"), "Dropout"),
        ("modules.json", "type", Value::Null, "`[0].type` is missing"),
        (
            "sentence_bert_config.json",
            "do_lower_case",
            json!(true),
            "lower case",
        ),
    ] {
        let message = error(file, key, value);
        let told = message.contains(file) && message.contains(key) && message.contains(why);
        assert!(told, "{file} {key}: {message}");
    }
}

#[test]
fn files_that_are_no_settings_are_refused() {
    for (file, content, why) in [
        ("config.json", "[]", "not an object"),
        ("config.json", "{", "is no JSON"),
        ("modules.json", "{}", "not a list"),
        ("modules.json", "[]", "the modules []"),
    ] {
        let (folder, _) = folder("");
        fs::write(folder.path().join(file), content).expect("writable");
        let error = SentenceFolder::read(folder.path())
            .expect_err(file)
            .to_string();
        assert!(error.contains(file) && error.contains(why), "{error}");
    }
    let (folder, _) = folder("");
    let long = format!("{{\"a\": \"{}\"}}", "x".repeat(1 << 20));
    fs::write(folder.path().join("config.json"), long).expect("writable");
    let error = SentenceFolder::read(folder.path())
        .expect_err("long")
        .to_string();
    assert!(error.contains("longer than 1048576"), "{error}");
    for file in ["model.safetensors", "modules.json"] {
        let (folder, _) = self::folder("");
        fs::remove_file(folder.path().join(file)).expect("there");
        let error = SentenceFolder::read(folder.path())
            .expect_err(file)
            .to_string();
        assert!(
            error.contains(file) && error.contains("cannot be read"),
            "{error}"
        );
    }
}

#[test]
fn what_is_written_for_sentence_transformers_is_read_here_too() -> Result<()> {
    let tokenizer = json!({ "added_tokens": [{ "id": 0, "content": "[PAD]" }] }).to_string();
    let here = tempfile::tempdir().expect("a place for temporary files");
    let input = InputShape::Tokens { vocabulary: 9 };
    for (name, pooling, normalize) in [
        ("a", BertPooling::Mean, true),
        ("b", BertPooling::Cls, false),
    ] {
        let bert = Bert {
            pooling,
            normalize,
            ..small()
        };
        let params = params(3);
        let tower = bert.build(&input, &params)?;
        let weights = tensors(&params);
        let folder = here.path().join(name);
        bert.write_sentence_folder(&folder, &weights, &tokenizer, 5)?;
        let read = SentenceFolder::read(&folder)?;
        assert_eq!(
            (&read.bert, read.vocabulary, read.max_length),
            (&bert, 9, 5)
        );
        assert_eq!(embed(&read.build(&self::params(1))?)?, embed(&tower)?);
        let again = bert.write_sentence_folder(&folder, &weights, &tokenizer, 5);
        assert!(
            again
                .expect_err("there")
                .to_string()
                .contains("is there already")
        );
        let none = bert.write_sentence_folder(here.path().join("c"), &weights, "{}", 5);
        assert!(none.expect_err("no padding").to_string().contains("[PAD]"));
    }

    // A head is a module of its own.
    for (name, width, head_activation) in [
        ("tanh", Some(3), Some(Activation::Tanh)),
        ("alike", None, Some(Activation::Gelu)),
        ("plain", None, Some(Activation::Identity)),
        ("dense", Some(3), None),
    ] {
        let bert = Bert {
            width,
            head_activation,
            ..small()
        };
        let params = params(3);
        let tower = bert.build(&input, &params)?;
        let folder = here.path().join(name);
        bert.write_sentence_folder(&folder, &tensors(&params), &tokenizer, 5)?;
        let read = SentenceFolder::read(&folder)?;
        assert_eq!(read.bert, bert);
        assert_eq!(embed(&read.build(&self::params(1))?)?, embed(&tower)?);
        // The head is what it says.
        let without = Bert {
            width: None,
            head_activation: None,
            ..bert.clone()
        };
        let without = without.build(&input, &self::params(3))?;
        assert_ne!(embed(&without)?, embed(&tower)?);
    }
    let unknown = Bert {
        head_activation: Some(Activation::Mish),
        ..small()
    };
    let params = params(3);
    unknown.build(&input, &params)?;
    let refused =
        unknown.write_sentence_folder(here.path().join("d"), &tensors(&params), &tokenizer, 5);
    assert!(refused.expect_err("no name").to_string().contains("Mish"));
    let folder = here.path().join("dense");
    let text = fs::read_to_string(folder.join("modules.json")).expect("written");
    let kinds: Vec<_> = ["Transformer", "Pooling", "Dense", "Normalize"]
        .map(|it| text.find(&format!("models.{it}")).expect("a module"))
        .into();
    assert!(kinds.is_sorted(), "{text}");
    let dense = fs::read(folder.join("2_Dense/model.safetensors")).expect("written");
    let dense = safetensors::SafeTensors::deserialize(&dense).expect("whole");
    assert_eq!(
        dense.tensor("linear.weight").expect("there").shape(),
        [3, 8]
    );
    Ok(())
}

/// A folder with a module `Dense` to three numbers under a hyperbolic tangent, and its tensors.
fn with_dense(config: &Value, bias: bool) -> (TempDir, Params) {
    let (folder, written) = folder("");
    let at = folder.path();
    let module = |name: &str, path: &str| json!({ "path": path, "type": format!("a.b.{name}") });
    let modules = json!([
        module("Transformer", ""),
        module("Pooling", "1_Pooling"),
        module("Dense", "2_Dense")
    ]);
    write(&at.join("modules.json"), &modules);
    let dense = at.join("2_Dense");
    fs::create_dir(&dense).expect("writable");
    let mut settings = json!({
        "in_features": 8, "out_features": 3, "bias": bias, "activation_function": "torch.nn.modules.activation.Tanh",
        "module_input_name": "sentence_embedding", "module_output_name": null,
    });
    for (key, value) in config.as_object().expect("settings") {
        settings[key] = value.clone();
    }
    write(&dense.join("config.json"), &settings);
    let numbers = |count: usize| {
        (0..count)
            .map(|it| it as f32 / 10.0 - 1.0)
            .collect::<Vec<_>>()
    };
    let tensor = |dims: &[usize]| {
        let numbers = numbers(dims.iter().product());
        Tensor::from_vec(numbers, dims, &Device::Cpu).expect("fits")
    };
    let mut tensors = vec![("linear.weight".to_owned(), tensor(&[3, 8]))];
    if bias {
        tensors.push(("linear.bias".to_owned(), tensor(&[3])));
    }
    write_weights(&dense, tensors);
    (folder, written)
}

#[test]
fn a_dense_module_is_the_head() -> Result<()> {
    let input = InputShape::Tokens { vocabulary: 9 };
    for bias in [true, false] {
        let (folder, _) = with_dense(&json!({}), bias);
        let mut read = SentenceFolder::read(folder.path())?;
        let bent = Bert {
            width: Some(3),
            head_activation: Some(Activation::Tanh),
            normalize: false,
            ..small()
        };
        assert_eq!(read.bert, bent);
        let here = params(1);
        let tower = read.build(&here)?;
        let head = here.find("head.bias").expect("a head").value();
        let expected = if bias {
            [-1.0, -0.9, -0.8]
        } else {
            [0.0f32; 3]
        };
        assert_eq!(head.to_vec1::<f32>()?, expected);

        // The same through a run file, where the pooled states are at hand by a model without a head.
        let weights = Pretrained {
            folder: Some(folder.path().to_owned()),
            ..Pretrained::default()
        };
        let model = ModelConfig::Bert(bent.clone());
        let twin = params(2);
        let built = model.build(&input, &twin)?;
        assert!(weights.load(&model, &twin)?.is_empty());
        assert_eq!(embed(&*built)?, embed(&tower)?);
        assert!(embed(&tower)?.concat().iter().all(|it| it.abs() < 1.0));

        // A head of another width starts anew, and so does one that is excepted; none, or another activation, is a mistake.
        let other = ModelConfig::Bert(Bert {
            width: Some(4),
            head_activation: None,
            ..bent.clone()
        });
        let place = params(2);
        other.build(&input, &place)?;
        assert_eq!(weights.load(&other, &place)?, ["head.bias", "head.weight"]);
        let excepted = Pretrained {
            except: vec!["head.*".into()],
            ..weights.clone()
        };
        assert_eq!(excepted.load(&model, &twin)?, ["head.bias", "head.weight"]);
        for (bert, told) in [
            (
                Bert {
                    width: None,
                    head_activation: None,
                    ..bent.clone()
                },
                "write head_activation = \"tanh\", width = 3 there",
            ),
            (
                Bert {
                    head_activation: None,
                    ..bent.clone()
                },
                "write head_activation = \"tanh\" there",
            ),
        ] {
            let model = ModelConfig::Bert(bert);
            let place = params(2);
            model.build(&input, &place)?;
            let error = weights.load(&model, &place).expect_err("another head");
            assert!(error.to_string().ends_with(told), "{error}");
        }
        read.bert.width = Some(5);
        assert_eq!(embed(&read.build(&params(1))?)?[0].len(), 5);
    }
    Ok(())
}

#[test]
fn a_dense_module_of_another_kind_is_refused() {
    for (key, value, why) in [
        ("in_features", json!(7), "is 7, but the states have 8"),
        (
            "out_features",
            json!(1 << 20),
            "`out_features` is too large",
        ),
        ("use_residual", json!(true), "a way around it"),
        ("module_input_name", json!("token_embeddings"), "is wanted"),
        (
            "activation_function",
            json!("torch.nn.modules.activation.Hardtanh"),
            "are known",
        ),
    ] {
        let (folder, _) = with_dense(&json!({ key: value }), true);
        let error = SentenceFolder::read(folder.path()).expect_err(key);
        let error = error.to_string();
        assert!(error.contains(key) && error.contains(why), "{error}");
    }
    let (folder, _) = with_dense(&json!({ "out_features": 4 }), true);
    let read = SentenceFolder::read(folder.path()).expect("no larger than its file");
    let error = read.build(&params(1)).expect_err("three").to_string();
    assert!(
        error.contains("2_Dense") && error.contains("`weight` has shape [3, 8]"),
        "{error}"
    );
}

#[test]
fn a_run_file_names_a_folder_of_the_same_settings() -> Result<()> {
    let (folder, written) = folder("bert.");
    let weights = Pretrained {
        folder: Some(folder.path().to_owned()),
        ..Pretrained::default()
    };
    let input = InputShape::Tokens { vocabulary: 9 };
    let model = ModelConfig::Bert(small());
    let here = params(1);
    model.build(&input, &here)?;
    assert!(weights.load(&model, &here)?.is_empty());
    assert_eq!(here.to_safetensors()?, written.to_safetensors()?);

    let other = ModelConfig::Bert(Bert {
        heads: 4,
        pooling: BertPooling::Cls,
        ..small()
    });
    let error = weights.load(&other, &here).expect_err("4 heads for 2");
    assert!(
        error.to_string().ends_with(
            "has other settings than `model.bert`; write heads = 2, pooling = \"mean\" there"
        ),
        "{error}"
    );
    Ok(())
}
