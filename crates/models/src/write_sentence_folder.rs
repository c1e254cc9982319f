//! Encoders for sentence-transformers to read.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use candle_core::{Device, Result, Tensor};
use nearfar_core::Error;
use serde_json::{Value, json};

use crate::layers::Activation;
use crate::{Bert, BertPooling};

impl Bert {
    /// Writes a folder that `SentenceTransformer(folder)` of Python reads, and [`SentenceFolder`](crate::SentenceFolder) too.
    /// `weights` are the tensors by their names here, `tokenizer` the content of a
    /// `tokenizer.json`, `length` the tokens of a text at most.
    ///
    /// The head, a layer to another width or with a `head_activation`, becomes a module `Dense`. The folder must not be there; its files come into being beside it, and
    /// it is there when they all are.
    ///
    /// # Errors
    /// [`Error::Settings`] when the activation has no name there, [`Error::Input`] when the tokenizer has no token for padding or a
    /// tensor is missing; those of files.
    pub fn write_sentence_folder(
        &self,
        folder: impl AsRef<Path>,
        weights: &BTreeMap<String, Tensor>,
        tokenizer: &str,
        length: usize,
    ) -> Result<()> {
        let folder = folder.as_ref();
        if folder.exists() {
            Err(Error::Settings(format!(
                "{} is there already and is not overwritten; name another folder",
                folder.display()
            )))?;
        }
        let vocabulary = tensor(weights, "embeddings.word_embeddings.weight")?.dim(0)?;
        let mut kinds = vec!["Transformer", "Pooling"];
        let mut files: Vec<(String, Vec<u8>)> = vec![
            ("config.json".into(), text(&self.config(vocabulary)?)),
            (
                "sentence_bert_config.json".into(),
                text(&json!({ "max_seq_length": length, "do_lower_case": false })),
            ),
            ("config_sentence_transformers.json".into(), text(&json!({}))),
            ("tokenizer.json".into(), tokenizer.as_bytes().to_vec()),
            (
                "tokenizer_config.json".into(),
                text(&tokenizer_config(tokenizer, length)?),
            ),
            ("1_Pooling/config.json".into(), text(&self.pooled())),
        ];
        let (head, encoder): (Vec<_>, Vec<_>) = weights
            .iter()
            .map(|(name, tensor)| (name.as_str(), tensor))
            .partition(|(name, _)| name.starts_with("head."));
        files.push(("model.safetensors".into(), safetensors(encoder)?));
        if !head.is_empty() {
            kinds.push("Dense");
            let (weight, bias) = (tensor(weights, HEAD[0])?, tensor(weights, HEAD[1])?);
            let config = json!({
                "in_features": weight.dim(1)?, "out_features": weight.dim(0)?, "bias": true,
                "activation_function": self.bent()?,
            });
            let dense = vec![("linear.weight", weight), ("linear.bias", bias)];
            files.push(("2_Dense/config.json".into(), text(&config)));
            files.push(("2_Dense/model.safetensors".into(), safetensors(dense)?));
        }
        if self.normalize {
            kinds.push("Normalize");
        }
        let place = |at: usize| match at {
            0 => String::new(),
            _ => format!("{at}_{}", kinds[at]),
        };
        let modules = kinds.iter().enumerate().map(|(at, kind)| {
            let kind = format!("sentence_transformers.models.{kind}");
            json!({ "idx": at, "name": at.to_string(), "path": place(at), "type": kind })
        });
        files.push(("modules.json".into(), text(&modules.collect::<Value>())));

        let mut beside = folder.as_os_str().to_owned();
        beside.push(".partial");
        let beside = Path::new(&beside);
        let written = (|| {
            for (name, bytes) in &files {
                let path = beside.join(name);
                path.parent().map_or(Ok(()), fs::create_dir_all)?;
                fs::write(path, bytes)?;
            }
            if self.normalize {
                fs::create_dir_all(beside.join(place(kinds.len() - 1)))?;
            }
            fs::rename(beside, folder)
        })();
        written.map_err(|error| {
            // What is half written is of no use to anybody; the first error is the one to tell.
            fs::remove_dir_all(beside).ok();
            let kind = error.kind();
            let told = format!("cannot write {}: {error}", folder.display());
            std::io::Error::new(kind, told).into()
        })
    }

    /// Settings of Hugging Face's `BertModel`.
    fn config(&self, vocabulary: usize) -> Result<Value> {
        let activation = match self.activation {
            Activation::Gelu => "gelu",
            Activation::GeluTanh => "gelu_new",
            Activation::Relu => "relu",
            Activation::Silu => "silu",
            ref other => Err(Error::Settings(format!(
                "`activation` is {other:?}, which BERT of Hugging Face does not know; gelu, gelu_tanh, relu and silu are"
            )))?,
        };
        Ok(json!({
            "architectures": ["BertModel"], "model_type": "bert", "vocab_size": vocabulary, "hidden_size": self.hidden,
            "num_hidden_layers": self.layers, "num_attention_heads": self.heads, "intermediate_size": self.intermediate,
            "max_position_embeddings": self.positions, "type_vocab_size": self.types, "layer_norm_eps": self.eps,
            "hidden_act": activation, "hidden_dropout_prob": self.dropout,
            "attention_probs_dropout_prob": self.attention_dropout, "position_embedding_type": "absolute",
        }))
    }

    /// The class of torch that bends the numbers of the head.
    fn bent(&self) -> Result<&'static str> {
        Ok(match self.head_activation {
            None | Some(Activation::Identity) => "torch.nn.modules.linear.Identity",
            Some(Activation::Tanh) => "torch.nn.modules.activation.Tanh",
            Some(Activation::Relu) => "torch.nn.modules.activation.ReLU",
            Some(Activation::Gelu) => "torch.nn.modules.activation.GELU",
            Some(Activation::Silu) => "torch.nn.modules.activation.SiLU",
            Some(Activation::Sigmoid) => "torch.nn.modules.activation.Sigmoid",
            Some(ref other) => Err(Error::Settings(format!(
                "`head_activation` is {other:?}, which is not written; identity, tanh, relu, gelu, silu and sigmoid are"
            )))?,
        })
    }

    fn pooled(&self) -> Value {
        let mean = self.pooling == BertPooling::Mean;
        json!({
            "word_embedding_dimension": self.hidden, "pooling_mode_cls_token": !mean, "pooling_mode_mean_tokens": mean,
            "pooling_mode_max_tokens": false, "pooling_mode_mean_sqrt_len_tokens": false,
        })
    }
}

/// The layer to another width.
const HEAD: [&str; 2] = ["head.weight", "head.bias"];

/// What the special tokens of a tokenizer are: key there, and the names that are looked for.
const SPECIAL: [(&str, [&str; 2]); 5] = [
    ("pad_token", ["[PAD]", "<pad>"]),
    ("unk_token", ["[UNK]", "<unk>"]),
    ("cls_token", ["[CLS]", "<s>"]),
    ("sep_token", ["[SEP]", "</s>"]),
    ("mask_token", ["[MASK]", "<mask>"]),
];

fn tokenizer_config(tokenizer: &str, length: usize) -> Result<Value> {
    let read: Value = serde_json::from_str(tokenizer)
        .map_err(|error| Error::Input(format!("the tokenizer is no JSON: {error}")))?;
    let added: Vec<&str> = (read["added_tokens"].as_array())
        .into_iter()
        .flatten()
        .filter_map(|it| it["content"].as_str())
        .collect();
    let mut config =
        json!({ "tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": length });
    for (key, names) in SPECIAL {
        if let Some(name) = names.iter().find(|name| added.contains(name)) {
            config[key] = json!(name);
        }
    }
    if config.get("pad_token").is_none() {
        Err(Error::Input(
            "the tokenizer has neither `[PAD]` nor `<pad>` among its added tokens, which sentence-transformers pads texts with"
                .into(),
        ))?;
    }
    Ok(config)
}

fn tensor<'a>(weights: &'a BTreeMap<String, Tensor>, name: &str) -> Result<&'a Tensor> {
    let missing = || Error::Input(format!("there is no tensor `{name}` to write"));
    Ok(weights.get(name).ok_or_else(missing)?)
}

fn text(value: &Value) -> Vec<u8> {
    format!("{value:#}\n").into_bytes()
}

/// Equal tensors give equal bytes. The key `format` is what readers in Python look for.
fn safetensors(tensors: Vec<(&str, &Tensor)>) -> Result<Vec<u8>> {
    let tensors = tensors
        .into_iter()
        .map(|(name, tensor)| Ok((name, tensor.to_device(&Device::Cpu)?.contiguous()?)))
        .collect::<Result<Vec<_>>>()?;
    let format = std::collections::HashMap::from([("format".to_owned(), "pt".to_owned())]);
    Ok(safetensors::serialize(tensors, Some(format))?)
}
