//! First weights that were trained elsewhere.

use std::path::{Path, PathBuf};

use candle_core::Result;
use nearfar_core::{Error, name_matches};
use serde::{Deserialize, Serialize};

use crate::weights_file::Place;
use crate::{Bert, ModelConfig, Params, SentenceDense, SentenceFolder};

mod transformers;

/// What a model starts with in place of random numbers: `weights = { file = "resnet18.safetensors" }` in a run file.
///
/// Every tensor of the model must be in the file in its shape, and every tensor of the file in the model; else the file is refused
/// with the list of what is missing, unexpected or of another shape (and, where that is little, with the `except` that would let it start
/// anew), and nothing is read of it. Three things are not missed or
/// looked at: the head (`head.weight`, `head.bias`) that leads to another width, which published files do not have; what
/// published files have beyond an encoder (below), unless the model has a tensor of that name; and what `except` names.
///
/// | model | published by | not looked at |
/// |---|---|---|
/// | `bert` | Hugging Face (`BertModel`), sentence-transformers | `pooler.*`, `embeddings.position_ids`; `bert.` before names is left out |
/// | `resnet` | torchvision | `fc.*`, `*.num_batches_tracked` |
/// | `convnext` | timm; Hugging Face (`ConvNextModel`) | `head.fc.*`; `classifier.*` |
/// | `vit` | timm, DINOv2; Hugging Face (`ViTModel`, `Dinov2Model`, `Dinov2WithRegistersModel`) | `head.*`, `mask_token`; `pooler.*`, `classifier.*` |
///
/// Tensors of Hugging Face's image models have timm's names here, which `except` and messages speak of. Queries, keys and values, which are
/// three tensors there, are one; and what stands in front of all names of a model with a classifier (`vit.`, `dinov2.`, `convnext.`) is
/// left out.
///
/// Any other model reads what it wrote itself: `model.safetensors` of a checkpoint.
///
/// ```
/// use nearfar_models::Pretrained;
///
/// let weights: Pretrained = toml::from_str(r#"file = "encoder.safetensors""#).expect("a file");
/// assert!(weights.check().is_ok());
/// assert!(Pretrained::default().check().is_err());
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Pretrained {
    /// A file of safetensors.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<PathBuf>,
    /// Or, for `bert`, a folder of sentence-transformers, whose settings must be those of the model. Its module `Dense`, if it has one, is
    /// the head of the model, but for a head of another width, which starts anew.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub folder: Option<PathBuf>,
    /// What names begin with in the file alone, such as `module.`; tensors with other names are not looked at.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub prefix: String,
    /// Patterns of tensors that start anew: not read where the file has them, not missed where it has not. `*` stands for any text.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub except: Vec<String>,
}

impl Pretrained {
    /// Whether the settings fit one another.
    ///
    /// # Errors
    /// [`Error::Settings`] unless there is a file or a folder, and not both.
    pub fn check(&self) -> std::result::Result<(), Error> {
        match (&self.file, &self.folder) {
            (Some(_), None) | (None, Some(_)) => Ok(()),
            (Some(_), Some(_)) => Err(Error::Settings(
                "`weights` has a `file` and a `folder`; use one of them".into(),
            )),
            (None, None) => Err(Error::Settings(
                "`weights` says neither `file` nor `folder`; write where they are".into(),
            )),
        }
    }

    /// Reads the weights into what `model` made in `params`, all or none, and gives the names of the tensors that start anew.
    ///
    /// # Errors
    /// [`Error::Input`] for a file that is damaged or of another model, as [`Params::load`], and a folder that
    /// [`SentenceFolder::read`] refuses; [`Error::Settings`] for a folder whose settings are not those of the model, and
    /// those of [`check`](Self::check).
    pub fn load(&self, model: &ModelConfig, params: &Params) -> Result<Vec<String>> {
        self.check()?;
        let mut dense = None;
        let path = match (&self.file, &self.folder) {
            (_, Some(folder)) => {
                let read = agreeing(folder, model)?;
                dense = read.dense;
                read.weights
            }
            (Some(file), None) => file.clone(),
            (None, None) => return Ok(Vec::new()), // Not possible after `check`.
        };
        let excepted = |name: &str| self.except.iter().any(|it| name_matches(it, name));
        let renamed = |name: &str| {
            let name = name.strip_prefix(self.prefix.as_str())?;
            let is_own = |name: &str| params.find(name).is_some();
            let place = match model {
                ModelConfig::Bert(_) => Place::from(Bert::own_name(name)),
                _ if is_own(name) => Place::from(name),
                _ => transformers::place(model, name),
            };
            let beyond = !is_own(&place.name) && beyond_encoder(model, &place.name);
            (!excepted(&place.name) && !beyond).then_some(place)
        };
        let anew = |name: &str| excepted(name) || matches!(name, "head.weight" | "head.bias");
        let file = params.compared(&path, &renamed, &anew)?;
        let exceptions: Vec<_> = file
            .exceptions()
            .iter()
            .map(|it| format!("{it:?}"))
            .collect();
        let them = if exceptions.len() == 1 { "it" } else { "them" };
        file.check(&match &exceptions[..] {
            [] => String::new(),
            names => format!(
                "; to let {them} start anew, write `except = [{}]` in `weights`",
                names.join(", ")
            ),
        })?;
        let mut anew = file.stay.clone();
        let is_head = |dense: &SentenceDense| match model {
            ModelConfig::Bert(bert) => dense.is_head_of(bert),
            _ => false,
        };
        let is_kept = |name: &&str| !excepted(name);
        if let Some(dense) = dense.filter(is_head)
            && ["head.weight", "head.bias"].iter().all(is_kept)
        {
            SentenceDense::take(dense.compared(params)?, params)?;
            anew.retain(|name| !name.starts_with("head."));
        }
        file.take()?;
        Ok(anew)
    }
}

/// What published files have that embeddings do not depend on.
fn beyond_encoder(model: &ModelConfig, name: &str) -> bool {
    let patterns: &[&str] = match model {
        ModelConfig::Bert(_) => Bert::NOT_READ,
        ModelConfig::Resnet(_) => &["fc.*", "*.num_batches_tracked"],
        ModelConfig::Convnext(_) => &["head.fc.*", "classifier.*"],
        ModelConfig::Vit(_) => &["head.*", "mask_token", "pooler.*", "classifier.*"],
        _ => &[],
    };
    patterns.iter().any(|pattern| name_matches(pattern, name))
}

/// A folder whose settings are those of the model. Its dropout is its own, and its head where it has another width.
fn agreeing(folder: &Path, model: &ModelConfig) -> Result<SentenceFolder> {
    let ModelConfig::Bert(own) = model else {
        Err(Error::Settings(format!(
            "`weights.folder` is for `model.bert`; `{}` reads a `file`",
            model.name()
        )))?
    };
    let own = &Bert {
        head_activation: own.bends(),
        ..own.clone()
    };
    let read = SentenceFolder::read(folder)?;
    let mut theirs = Bert {
        dropout: own.dropout,
        attention_dropout: own.attention_dropout,
        ..read.bert.clone()
    };
    // Without a head of its own it has theirs.
    let other_width = own.has_head() && own.outputs() != theirs.outputs();
    if other_width || read.dense.is_none() {
        theirs.head_activation = own.head_activation;
    }
    if other_width || own.outputs() == theirs.outputs() {
        theirs.width = own.width;
    }
    if theirs != *own {
        let written = |bert: &Bert| serde_json::to_value(bert).map_err(candle_core::Error::wrap);
        let (theirs, own) = (written(&theirs)?, written(own)?);
        let mut other: Vec<_> = theirs
            .as_object()
            .into_iter()
            .flatten()
            .filter(|(key, value)| own.get(key) != Some(value))
            .map(|(key, value)| format!("{key} = {value}"))
            .collect();
        let only_own = own.as_object().into_iter().flatten();
        let only_own = only_own.filter(|(key, _)| theirs.get(key).is_none());
        other.extend(only_own.map(|(key, _)| format!("no {key}")));
        Err(Error::Settings(format!(
            "{} has other settings than `model.bert`; write {} there",
            folder.display(),
            other.join(", ")
        )))?;
    }
    Ok(read)
}
