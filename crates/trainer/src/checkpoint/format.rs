//! The files of a checkpoint.

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use nearfar_core::Seed;
use safetensors::{Dtype, SafeTensors};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{Checkpoint, Fs};
use crate::error::Error;
use crate::progress::{Counters, Position};

/// What a manifest names its format.
pub const FORMAT: &str = "nearfar-checkpoint/1";

pub(super) const MANIFEST: &str = "MANIFEST.json";
const MODEL: &str = "model.safetensors";
const OPTIMIZER: &str = "optim.safetensors";
const STATE: &str = "state.safetensors";
const POSITION: &str = "state.json";

// What is read is capped: a file that is not ours costs no more than its own size in memory.
const MAX_JSON: u64 = 1 << 20;
const MAX_TENSORS: usize = 10_000;
const MAX_DIMENSIONS: usize = 8;
const MAX_NAME: usize = 512; // 256 for a parameter, and as much for what is remembered of it.

/// What a checkpoint's files should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// [`FORMAT`].
    pub format: String,
    /// The version of nearfar that wrote it.
    pub version: String,
    /// SHA-256 of the run's resolved configuration.
    pub run: String,
    /// The files by name.
    pub files: BTreeMap<String, ManifestFile>,
    /// SHA-256 of the manifest itself, written with nothing here.
    pub sha256: String,
}

/// What a file should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ManifestFile {
    /// Its size.
    pub bytes: u64,
    /// Its hash, in hexadecimal.
    pub sha256: String,
}

/// `state.json`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct State {
    seed: Seed,
    epoch: u64,
    batch: u64,
    step: u64,
    counters: Counters,
    gathered: u64,
    /// Whether `best` is to name it: so the pointer can be set by the next start, if this process is killed before it is.
    #[serde(default)]
    best: bool,
    components: Vec<String>,
}

/// SHA-256 in hexadecimal; of the text of `resolved.toml`, this is what a checkpoint calls its run.
pub fn sha256(bytes: &[u8]) -> String {
    use std::fmt::Write;
    Sha256::digest(bytes)
        .iter()
        .fold(String::with_capacity(64), |mut hex, byte| {
            write!(hex, "{byte:02x}").expect("strings do not fail");
            hex
        })
}

/// The files of a checkpoint, by name; the manifest is the last to be written.
pub(super) struct Files {
    pub(super) files: Vec<(&'static str, Vec<u8>)>,
    pub(super) manifest: Vec<u8>,
}

pub(super) fn files(checkpoint: &Checkpoint, run: &str) -> Result<Files, Error> {
    let mut state = BTreeMap::new();
    for (component, tensors) in &checkpoint.components {
        for (name, tensor) in tensors {
            state.insert(format!("{component}/{name}"), tensor.clone());
        }
    }
    let position = State {
        seed: checkpoint.seed,
        epoch: checkpoint.position.epoch,
        batch: checkpoint.position.batch,
        step: checkpoint.position.step,
        counters: checkpoint.counters,
        gathered: checkpoint.gathered,
        best: checkpoint.best,
        components: checkpoint.components.keys().cloned().collect(),
    };
    let files = vec![
        (MODEL, serialize(&checkpoint.model)?),
        (OPTIMIZER, serialize(&checkpoint.optimizer)?),
        (STATE, serialize(&state)?),
        (POSITION, json(&position)),
    ];
    let listed = files.iter().map(|(name, bytes)| {
        let file = ManifestFile {
            bytes: bytes.len() as u64,
            sha256: sha256(bytes),
        };
        (name.to_string(), file)
    });
    let manifest = Manifest {
        format: FORMAT.into(),
        version: env!("CARGO_PKG_VERSION").into(),
        run: run.into(),
        files: listed.collect(),
        sha256: String::new(),
    };
    Ok(Files {
        files,
        manifest: sealed(manifest),
    })
}

/// A manifest's bytes, with the hash of itself.
fn sealed(mut manifest: Manifest) -> Vec<u8> {
    manifest.sha256 = String::new();
    manifest.sha256 = sha256(&json(&manifest));
    json(&manifest)
}

fn json(value: &impl Serialize) -> Vec<u8> {
    let mut bytes = serde_json::to_vec_pretty(value).expect("names and numbers");
    bytes.push(b'\n');
    bytes
}

fn serialize(tensors: &BTreeMap<String, Tensor>) -> Result<Vec<u8>, Error> {
    for (name, tensor) in tensors {
        if name.len() > MAX_NAME || tensor.rank() > MAX_DIMENSIONS || tensors.len() > MAX_TENSORS {
            return Err(Error::Settings(format!(
                "a checkpoint holds at most {MAX_TENSORS} tensors a file, of at most {MAX_DIMENSIONS} dimensions, with names of at most \
                 {MAX_NAME} bytes; here are {}, and `{name}` has {} dimensions",
                tensors.len(),
                tensor.rank()
            )));
        }
    }
    let contiguous = tensors
        .iter()
        .map(|(name, tensor)| Ok((name, tensor.to_device(&Device::Cpu)?.contiguous()?)))
        .collect::<candle_core::Result<Vec<_>>>()?;
    // The order within the file is by size of numbers, then by name: the same for every run.
    safetensors::serialize(contiguous, None).map_err(|error| candle_core::Error::from(error).into())
}

/// Reads and checks one checkpoint: nothing is given back unless every hash holds.
///
/// # Errors
/// [`Error::Io`] when a file cannot be read, and [`Error::Corrupt`] when it is not what was written.
pub fn load(fs: &dyn Fs, path: &Path) -> Result<(Manifest, Checkpoint), Error> {
    let manifest = manifest(fs, path)?;
    let file = |name: &str| -> Result<Vec<u8>, Error> {
        let path = path.join(name);
        let Some(wanted) = manifest.files.get(name) else {
            let reason = "it is not in the manifest".into();
            return Err(Error::Corrupt { path, reason });
        };
        let bytes = read(fs, &path, wanted.bytes)?;
        if bytes.len() as u64 != wanted.bytes {
            let found = if bytes.len() as u64 > wanted.bytes {
                format!("more than {}", wanted.bytes)
            } else {
                bytes.len().to_string()
            };
            let reason = format!("it has {found} bytes, the manifest says {}", wanted.bytes);
            return Err(Error::Corrupt { path, reason });
        }
        let found = sha256(&bytes);
        if found != wanted.sha256 {
            let wanted = &wanted.sha256;
            let reason = format!("its SHA-256 is {found}, the manifest says {wanted}");
            return Err(Error::Corrupt { path, reason });
        }
        Ok(bytes)
    };
    let tensors = |name: &str| deserialize(&path.join(name), &file(name)?);

    let corrupt = |reason: String| Error::Corrupt {
        path: path.join(POSITION),
        reason,
    };
    let state: State =
        serde_json::from_slice(&file(POSITION)?).map_err(|error| corrupt(error.to_string()))?;
    let mut components: BTreeMap<String, BTreeMap<String, Tensor>> = state
        .components
        .iter()
        .map(|name| (name.clone(), BTreeMap::new()))
        .collect();
    for (key, tensor) in tensors(STATE)? {
        let (component, name) = key.split_once('/').unwrap_or(("", &key));
        let Some(component) = components.get_mut(component) else {
            return Err(corrupt(format!("no component is listed for `{key}`")));
        };
        component.insert(name.to_string(), tensor);
    }
    let checkpoint = Checkpoint {
        seed: state.seed,
        position: Position {
            epoch: state.epoch,
            batch: state.batch,
            step: state.step,
        },
        counters: state.counters,
        model: tensors(MODEL)?,
        optimizer: tensors(OPTIMIZER)?,
        components,
        gathered: state.gathered,
        best: state.best,
    };
    Ok((manifest, checkpoint))
}

/// Reads and checks the manifest of a checkpoint. One changed byte anywhere in it is noticed.
pub(super) fn manifest(fs: &dyn Fs, path: &Path) -> Result<Manifest, Error> {
    let path = path.join(MANIFEST);
    let bytes = read(fs, &path, MAX_JSON)?;
    let corrupt = |reason: String| Error::Corrupt {
        path: path.clone(),
        reason,
    };
    if bytes.len() as u64 > MAX_JSON {
        return Err(corrupt(format!("it has more than {MAX_JSON} bytes")));
    }
    // The format first: another version's manifest may have other fields.
    #[derive(Deserialize)]
    struct Head {
        format: String,
    }
    let head: Head = serde_json::from_slice(&bytes).map_err(|error| corrupt(error.to_string()))?;
    if head.format != FORMAT {
        let found = head.format;
        return Err(corrupt(format!(
            "its format is `{found}`, this version reads `{FORMAT}`"
        )));
    }
    let manifest: Manifest =
        serde_json::from_slice(&bytes).map_err(|error| corrupt(error.to_string()))?;
    if sealed(manifest.clone()) != bytes {
        return Err(corrupt("it was changed after it was written".into()));
    }
    Ok(manifest)
}

fn read(fs: &dyn Fs, path: &Path, limit: u64) -> Result<Vec<u8>, Error> {
    fs.read(path, limit).map_err(Error::io("read", path))
}

fn deserialize(path: &Path, bytes: &[u8]) -> Result<BTreeMap<String, Tensor>, Error> {
    let corrupt = |reason: String| Error::Corrupt {
        path: path.to_path_buf(),
        reason,
    };
    let file = SafeTensors::deserialize(bytes).map_err(|error| corrupt(error.to_string()))?;
    if file.len() > MAX_TENSORS {
        let count = file.len();
        return Err(corrupt(format!(
            "it holds {count} tensors, {MAX_TENSORS} are possible"
        )));
    }
    let mut tensors = BTreeMap::new();
    for (name, view) in file.tensors() {
        if name.len() > MAX_NAME || view.shape().len() > MAX_DIMENSIONS {
            return Err(corrupt(format!(
                "a tensor has a name of {} bytes and {} dimensions; {MAX_NAME} and {MAX_DIMENSIONS} are possible",
                name.len(),
                view.shape().len()
            )));
        }
        let dtype = match view.dtype() {
            Dtype::U8 => DType::U8,
            Dtype::U32 => DType::U32,
            Dtype::I64 => DType::I64,
            Dtype::F16 => DType::F16,
            Dtype::BF16 => DType::BF16,
            Dtype::F32 => DType::F32,
            Dtype::F64 => DType::F64,
            other => return Err(corrupt(format!("`{name}` is of type {other:?}"))),
        };
        let tensor = Tensor::from_raw_buffer(view.data(), dtype, view.shape(), &Device::Cpu)
            .map_err(|error| corrupt(format!("`{name}`: {error}")))?;
        tensors.insert(name, tensor);
    }
    Ok(tensors)
}
