//! Encoders that sentence-transformers wrote.

use std::fs::File;
use std::io::Read;
use std::path::{Component, Path, PathBuf};

use candle_core::Result;
use nearfar_core::{Error, Fraction, Positive};
use serde_json::{Map, Value};

use crate::layers::Activation;
use crate::weights_file::{Compared, Place};
use crate::{Bert, BertPooling, InputShape, Params, Tower};

/// Settings are short; a longer file is something else.
const MAX_JSON_BYTES: u64 = 1 << 20;

/// A folder of sentence-transformers, such as `all-MiniLM-L6-v2`: what its settings say of the encoder, and where its weights
/// are.
///
/// ```no_run
/// use candle_core::{DType, Device};
/// use nearfar_core::Seed;
/// use nearfar_models::{Params, SentenceFolder};
///
/// let folder = SentenceFolder::read("all-MiniLM-L6-v2")?;
/// let params = Params::new(Seed(7), DType::F32, &Device::Cpu)?;
/// let tower = folder.build(&params)?; // Token ids to embeddings of 384 numbers.
/// # Ok::<(), candle_core::Error>(())
/// ```
///
/// | file | is read for |
/// |---|---|
/// | `modules.json` | the modules, which must be `Transformer`, `Pooling`, `Dense` if there is one, and, where embeddings have length 1, `Normalize`; their folders |
/// | `config.json` of the transformer | its sizes; `model_type` must be `bert` |
/// | `config.json` of the pooling | which states become the embedding: the mean, or that of `[CLS]` |
/// | `sentence_bert_config.json` | `max_seq_length`, if it is there |
/// | `config.json` and `model.safetensors` of the `Dense` | a linear layer and what bends behind it |
/// | `model.safetensors` of the transformer | its weights |
///
/// Source: Reimers, Gurevych, "Sentence-BERT", EMNLP 2019, <https://arxiv.org/abs/1908.10084>.
#[derive(Clone, Debug, PartialEq)]
pub struct SentenceFolder {
    /// The encoder. What it starts training with, such as the dropout or the width, may be changed before it is built.
    pub bert: Bert,
    /// Tokens that have a vector.
    pub vocabulary: usize,
    /// Tokens of a text at most, special ones among them: where a tokenizer has to cut.
    pub max_length: usize,
    /// `model.safetensors`.
    pub weights: PathBuf,
    /// The module `Dense`, where there is one.
    pub dense: Option<SentenceDense>,
}

/// A module `Dense`: a linear layer behind the pooling and what bends behind it, which are the head of the [`Bert`] here.
#[derive(Clone, Debug, PartialEq)]
pub struct SentenceDense {
    /// Numbers that it gives.
    pub width: usize,
    /// What bends them, as [`Bert::head_activation`].
    pub activation: Option<Activation>,
    /// Its `model.safetensors`.
    pub weights: PathBuf,
}

impl SentenceDense {
    /// Whether the head of these settings is this layer.
    pub(crate) fn is_head_of(&self, bert: &Bert) -> bool {
        bert.outputs() == self.width && bert.bends() == self.activation
    }

    /// Its weights beside the head that was made in `params`. A layer without a bias has one of 0 here.
    ///
    /// # Errors
    /// Those of [`Params::load`], with what is missing, unexpected or of another shape.
    pub(crate) fn compared(&self, params: &Params) -> Result<Compared> {
        let renamed = |name: &str| Some(Place::from(name.strip_prefix("linear.").unwrap_or(name)));
        let file = params
            .at("head")
            .compared(&self.weights, &renamed, &|name| name == "bias")?;
        file.check("")?;
        Ok(file)
    }

    /// Takes over what [`compared`](Self::compared) found.
    pub(crate) fn take(file: Compared, params: &Params) -> Result<()> {
        if file.stay.iter().any(|name| name == "bias")
            && let Some(bias) = params.find("head.bias")
        {
            bias.var().set(&bias.value().zeros_like()?)?;
        }
        file.take()
    }
}

impl SentenceFolder {
    /// Reads the settings; the weights wait until [`build`](Self::build).
    ///
    /// # Errors
    /// [`Error::Input`] with the file and the key: what is not there, of another kind or out of range, modules and poolings
    /// that are not known here, and settings of more numbers than the file of weights can hold.
    pub fn read(folder: impl AsRef<Path>) -> Result<Self> {
        let folder = folder.as_ref();
        let modules = Modules::read(folder)?;
        let config = Json::read(&modules.transformer.join("config.json"))?;
        let pooling = Json::read(&modules.pooling.join("config.json"))?;

        config.must_be("model_type", "bert")?;
        if config.has("position_embedding_type") {
            config.must_be("position_embedding_type", "absolute")?;
        }
        if config.flag("is_decoder")? {
            return Err(config.refused("is_decoder", "is true; an encoder is wanted"));
        }
        let mut bert = Bert {
            width: None,
            head_activation: None,
            hidden: config.size("hidden_size")?,
            layers: config.size("num_hidden_layers")?,
            heads: config.size("num_attention_heads")?,
            intermediate: config.size("intermediate_size")?,
            positions: config.size("max_position_embeddings")?,
            types: config.size("type_vocab_size")?,
            eps: config.checked("layer_norm_eps", Positive::new)?,
            activation: activation(&config)?,
            dropout: config.checked("hidden_dropout_prob", Fraction::new)?,
            attention_dropout: config.checked("attention_probs_dropout_prob", Fraction::new)?,
            pooling: pooled(&pooling)?,
            normalize: modules.normalize,
        };
        if !bert.hidden.is_multiple_of(bert.heads) {
            let but = format!(
                "is {}, which does not divide `hidden_size` {}",
                bert.heads, bert.hidden
            );
            return Err(config.refused("num_attention_heads", &but));
        }
        let vocabulary = config.size("vocab_size")?;
        // As it is called until sentence-transformers 5, and from 6 on.
        for key in ["word_embedding_dimension", "embedding_dimension"] {
            if pooling.has(key) {
                let dimension = pooling.size(key)?;
                if dimension != bert.hidden {
                    let but = format!("is {dimension}, but the states have {}", bert.hidden);
                    return Err(pooling.refused(key, &but));
                }
            }
        }
        let weights = modules.transformer.join("model.safetensors");
        let sizes = "`hidden_size`, `num_hidden_layers`, `intermediate_size`, `vocab_size`, `max_position_embeddings` or \
                     `type_vocab_size`";
        config.holds(numbers(&bert, vocabulary), &weights, sizes)?;
        let mut dense = None;
        if let Some(folder) = modules.dense {
            let config = Json::read(&folder.join("config.json"))?;
            let read = dense_layer(&config, folder.join("model.safetensors"), bert.hidden)?;
            bert.width = (read.width != bert.hidden).then_some(read.width);
            bert.head_activation = read.activation;
            dense = Some(read);
        }

        let own = modules.transformer.join("sentence_bert_config.json");
        let mut max_length = bert.positions;
        if own.exists() {
            let own = Json::read(&own)?;
            if own.flag("do_lower_case")? {
                let but = "is true; texts would have to be in lower case before they are tokenized, which is not done here";
                return Err(own.refused("do_lower_case", but));
            }
            if own.has("max_seq_length") {
                max_length = max_length.min(own.size("max_seq_length")?);
            }
        }
        Ok(Self {
            bert,
            vocabulary,
            max_length,
            weights,
            dense,
        })
    }

    /// The tower with the weights of the folder. Where [`bert`](Self::bert) was given another width or `head_activation`, the layer that
    /// leads there starts as any other does.
    ///
    /// # Errors
    /// Those of [`Bert::build`] and [`Bert::load_published`], and the same of the module `Dense`.
    pub fn build(&self, params: &Params) -> Result<Tower> {
        let input = InputShape::Tokens {
            vocabulary: self.vocabulary,
        };
        let tower = self.bert.build(&input, params)?;
        Bert::load_published(params, &self.weights)?;
        if let Some(dense) = &self.dense
            && dense.is_head_of(&self.bert)
        {
            SentenceDense::take(dense.compared(params)?, params)?;
        }
        Ok(tower)
    }
}

/// The folders of the modules.
struct Modules {
    transformer: PathBuf,
    pooling: PathBuf,
    dense: Option<PathBuf>,
    normalize: bool,
}

impl Modules {
    fn read(folder: &Path) -> Result<Self> {
        let path = folder.join("modules.json");
        let Value::Array(list) = json(&path)? else {
            return Err(input(&path, "is not a list of modules"));
        };
        let mut kinds = Vec::new();
        let mut folders = Vec::new();
        for (at, module) in list.into_iter().enumerate() {
            let module = Json::of(&path, module, &format!("[{at}]."))?;
            let name = module.text("type")?;
            kinds.push(name.rsplit('.').next().unwrap_or(name).to_owned());
            let within = Path::new(module.text("path")?);
            // A published folder has no business outside of itself.
            if !within
                .components()
                .all(|it| matches!(it, Component::Normal(_)))
            {
                return Err(module.refused("path", "leads out of the folder"));
            }
            folders.push(folder.join(within));
        }
        let kinds: Vec<_> = kinds.iter().map(String::as_str).collect();
        let (dense, normalize) = match kinds[..] {
            ["Transformer", "Pooling"] => (false, false),
            ["Transformer", "Pooling", "Normalize"] => (false, true),
            ["Transformer", "Pooling", "Dense"] => (true, false),
            ["Transformer", "Pooling", "Dense", "Normalize"] => (true, true),
            _ => {
                let what = format!(
                    "`type` gives the modules {kinds:?}; Transformer, Pooling and, if need be, Dense and Normalize are known, in this order"
                );
                return Err(input(&path, &what));
            }
        };
        let mut folders = folders.into_iter();
        match (folders.next(), folders.next()) {
            (Some(transformer), Some(pooling)) => Ok(Self {
                transformer,
                pooling,
                dense: folders.next().filter(|_| dense),
                normalize,
            }),
            _ => Err(input(&path, "has fewer than two modules")),
        }
    }
}

fn activation(config: &Json) -> Result<Activation> {
    match config.text("hidden_act")? {
        "gelu" => Ok(Activation::Gelu),
        "gelu_new" | "gelu_pytorch_tanh" => Ok(Activation::GeluTanh),
        "relu" => Ok(Activation::Relu),
        "silu" | "swish" => Ok(Activation::Silu),
        other => {
            let but = format!("is {other:?}; gelu, gelu_new, relu and silu are known");
            Err(config.refused("hidden_act", &but))
        }
    }
}

/// What a module `Dense` is behind states of `hidden` numbers.
fn dense_layer(config: &Json, weights: PathBuf, hidden: usize) -> Result<SentenceDense> {
    let inputs = config.size("in_features")?;
    if inputs != hidden {
        let but = format!("is {inputs}, but the states have {hidden} numbers");
        return Err(config.refused("in_features", &but));
    }
    if config.flag("use_residual")? {
        return Err(config.refused(
            "use_residual",
            "is true; a layer without a way around it is wanted",
        ));
    }
    for key in ["module_input_name", "module_output_name"] {
        let name = config.values.get(key).filter(|it| !it.is_null());
        if name.is_some_and(|it| it != "sentence_embedding") {
            config.must_be(key, "sentence_embedding")?;
        }
    }
    let width = config.size("out_features")?;
    let name = config.text("activation_function")?;
    let activation = match name.rsplit('.').next().unwrap_or(name) {
        // A linear layer to another width is there without a word.
        "Identity" if width != hidden => None,
        "Identity" => Some(Activation::Identity),
        "Tanh" => Some(Activation::Tanh),
        "ReLU" => Some(Activation::Relu),
        "GELU" => Some(Activation::Gelu),
        "SiLU" => Some(Activation::Silu),
        "Sigmoid" => Some(Activation::Sigmoid),
        _ => {
            let but = format!(
                "is {name:?}; Identity, Tanh, ReLU, GELU, SiLU and Sigmoid of torch are known"
            );
            return Err(config.refused("activation_function", &but));
        }
    };
    let numbers = inputs as u128 * width as u128;
    config.holds(numbers, &weights, "`out_features`")?;
    Ok(SentenceDense {
        width,
        activation,
        weights,
    })
}

/// The one mode that is on.
fn pooled(config: &Json) -> Result<BertPooling> {
    if config.has("pooling_mode") {
        // From sentence-transformers 6 on.
        return match config.text("pooling_mode")? {
            "mean" => Ok(BertPooling::Mean),
            "cls" => Ok(BertPooling::Cls),
            other => {
                let but = format!("is {other:?}; mean and cls are known");
                Err(config.refused("pooling_mode", &but))
            }
        };
    }
    let mut on = Vec::new();
    for key in config.values.keys() {
        if key.starts_with("pooling_mode_") && config.flag(key)? {
            on.push(key.as_str());
        }
    }
    match on[..] {
        ["pooling_mode_mean_tokens"] => Ok(BertPooling::Mean),
        ["pooling_mode_cls_token"] => Ok(BertPooling::Cls),
        _ => {
            let what = format!(
                "{on:?} are on; either `pooling_mode_mean_tokens` or `pooling_mode_cls_token` is wanted, and no other"
            );
            Err(input(&config.path, &what))
        }
    }
}

/// How many numbers the weights have.
fn numbers(bert: &Bert, vocabulary: usize) -> u128 {
    let wide = |size: usize| size as u128;
    let (h, i) = (wide(bert.hidden), wide(bert.intermediate));
    let embeddings = (wide(vocabulary) + wide(bert.positions) + wide(bert.types) + 2) * h;
    embeddings + wide(bert.layers) * (4 * h * h + 2 * h * i + i + 9 * h)
}

/// An object of a file of settings.
struct Json {
    path: PathBuf,
    /// Where in the file the object is: what its keys begin with in messages.
    within: String,
    values: Map<String, Value>,
}

impl Json {
    fn read(path: &Path) -> Result<Self> {
        Self::of(path, json(path)?, "")
    }

    fn of(path: &Path, value: Value, within: &str) -> Result<Self> {
        match value {
            Value::Object(values) => Ok(Self {
                path: path.to_owned(),
                within: within.to_owned(),
                values,
            }),
            _ => Err(input(path, &format!("`{within}` is not an object"))),
        }
    }

    fn has(&self, key: &str) -> bool {
        self.values.contains_key(key)
    }

    fn refused(&self, key: &str, but: &str) -> candle_core::Error {
        input(&self.path, &format!("`{}{key}` {but}", self.within))
    }

    fn value(&self, key: &str) -> Result<&Value> {
        let value = self.values.get(key);
        value.ok_or_else(|| self.refused(key, "is missing"))
    }

    fn text(&self, key: &str) -> Result<&str> {
        let value = self.value(key)?;
        let but = || self.refused(key, &format!("is {value}; a text is wanted"));
        value.as_str().ok_or_else(but)
    }

    /// Off where it is not there.
    fn flag(&self, key: &str) -> Result<bool> {
        match self.values.get(key) {
            None => Ok(false),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(other) => Err(self.refused(key, &format!("is {other}; true or false is wanted"))),
        }
    }

    fn size(&self, key: &str) -> Result<usize> {
        const LARGEST: u64 = 1 << 24;
        let value = self.value(key)?;
        match value.as_u64() {
            Some(size @ 1..=LARGEST) => Ok(size as usize),
            _ => {
                let but = format!("is {value}; a whole number from 1 to {LARGEST} is wanted");
                Err(self.refused(key, &but))
            }
        }
    }

    /// A number in the range of a type.
    fn checked<T>(
        &self,
        key: &str,
        new: impl Fn(f64) -> std::result::Result<T, Error>,
    ) -> Result<T> {
        let value = self.value(key)?;
        let number = value.as_f64();
        let number =
            number.ok_or_else(|| self.refused(key, &format!("is {value}; a number is wanted")))?;
        new(number).map_err(|error| self.refused(key, &format!("is {value}: {error}")))
    }

    fn must_be(&self, key: &str, wanted: &str) -> Result<()> {
        match self.text(key)? {
            found if found == wanted => Ok(()),
            found => Err(self.refused(key, &format!("is {found:?}; {wanted:?} is wanted"))),
        }
    }

    /// Whether a file of weights is as large as these settings claim, of which `sizes` is one. Nothing is made for them before.
    fn holds(&self, numbers: u128, weights: &Path, sizes: &str) -> Result<()> {
        let file = std::fs::metadata(weights).map_err(|error| {
            let what = format!("cannot be read: {error}; weights in other files than safetensors have to be converted");
            input(weights, &what)
        })?;
        // The smallest type that is read has two bytes.
        if 2 * numbers > u128::from(file.len()) {
            let what = format!(
                "claims a model of {numbers} numbers, which {} of {} bytes does not hold: {sizes} is too large",
                weights.display(),
                file.len()
            );
            return Err(input(&self.path, &what));
        }
        Ok(())
    }
}

fn input(path: &Path, what: &str) -> candle_core::Error {
    Error::Input(format!("{}: {what}", path.display())).into()
}

/// A file of settings.
fn json(path: &Path) -> Result<Value> {
    let unread = |error: std::io::Error| input(path, &format!("cannot be read: {error}"));
    // A pipe or a device has no end that could be trusted.
    if !std::fs::metadata(path).map_err(unread)?.is_file() {
        return Err(input(path, "is not a file"));
    }
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(unread)?;
    file.take(MAX_JSON_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(unread)?;
    if bytes.len() as u64 > MAX_JSON_BYTES {
        return Err(input(
            path,
            &format!("is longer than {MAX_JSON_BYTES} bytes; are these settings?"),
        ));
    }
    serde_json::from_slice(&bytes).map_err(|error| input(path, &format!("is no JSON: {error}")))
}
