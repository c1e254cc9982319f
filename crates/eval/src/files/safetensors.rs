//! Embeddings as safetensors: `vectors`, `labels`, `ids`, and where they are from.

use std::collections::{BTreeMap, HashMap};
use std::io::Write;
use std::path::Path;

use nearfar_core::EmbeddingTable;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};

use super::{FORMAT, LONGEST_HEADER, Origin, format_error, ids_of, labels_of, publish, table};
use crate::error::Result;

pub(super) fn write(path: &Path, table: &EmbeddingTable, origin: &Origin) -> Result<()> {
    let (labels, ids) = (labels_of(table), ids_of(path, table)?);

    let vectors: Vec<u8> = table.vectors.iter().flat_map(|x| x.to_le_bytes()).collect();
    let integers = |values: &[i64]| values.iter().flat_map(|x| x.to_le_bytes()).collect();
    let (labels, ids): (Vec<u8>, Vec<u8>) = (integers(&labels), integers(&ids));
    let view = |dtype, shape: Vec<usize>, bytes| {
        TensorView::new(dtype, shape, bytes).map_err(|error| format_error(path, error.to_string()))
    };
    let n = table.len();
    let mut tensors = BTreeMap::from([
        ("vectors", view(Dtype::F32, vec![n, table.dim], &vectors)?),
        ("ids", view(Dtype::I64, vec![n], &ids)?),
    ]);
    if !table.labels.is_empty() {
        tensors.insert("labels", view(Dtype::I64, vec![n], &labels)?);
    }
    let mut metadata = HashMap::from([("format".to_owned(), FORMAT.to_owned())]);
    let entries = [
        ("model", origin.model.clone()),
        ("data", origin.data.clone()),
        ("split", origin.split.clone()),
        ("normalized", origin.normalized.map(|it| it.to_string())),
    ];
    for (name, value) in entries {
        metadata.extend(value.map(|value| (name.to_owned(), value)));
    }
    let bytes = safetensors::serialize(tensors, Some(metadata))
        .map_err(|error| format_error(path, error.to_string()))?;
    publish(path, |file| file.write_all(&bytes))
}

pub(super) fn read(path: &Path, bytes: &[u8]) -> Result<(EmbeddingTable, Origin)> {
    let wrong = |problem: String| format_error(path, problem);
    let header = bytes
        .first_chunk()
        .map(|length| u64::from_le_bytes(*length));
    if header.is_some_and(|length| length > LONGEST_HEADER) {
        return Err(wrong(
            "the header says that it is longer than 1 MiB; this is not a file of embeddings".into(),
        ));
    }
    let (_, metadata) =
        SafeTensors::read_metadata(bytes).map_err(|error| wrong(error.to_string()))?;
    let entry = |name: &str| {
        metadata
            .metadata()
            .as_ref()
            .and_then(|entries| entries.get(name).cloned())
    };
    match entry("format").as_deref() {
        Some(FORMAT) => {}
        Some(other) if other.starts_with("nearfar-embeddings/") => {
            return Err(wrong(format!(
                "the format is `{other}`, and this version reads `{FORMAT}`; use the version that wrote it, or a newer one"
            )));
        }
        _ => {
            return Err(wrong(format!(
                "the metadata does not say `format = {FORMAT}`; this is another kind of safetensors file"
            )));
        }
    }
    let tensors = SafeTensors::deserialize(bytes).map_err(|error| wrong(error.to_string()))?;
    let view = |name: &str, dtype: Dtype, rank: usize| {
        let view = tensors
            .tensor(name)
            .map_err(|_| wrong(format!("there is no tensor `{name}`")))?;
        if view.dtype() != dtype || view.shape().len() != rank {
            return Err(wrong(format!(
                "`{name}` is {:?} of shape {:?}; {dtype:?} of {rank} dimensions is wanted",
                view.dtype(),
                view.shape()
            )));
        }
        Ok(view)
    };
    let vectors = view("vectors", Dtype::F32, 2)?;
    let shape = (vectors.shape()[0], vectors.shape()[1]);
    let integers = |view: &TensorView<'_>| -> Vec<i64> {
        let (values, _) = view.data().as_chunks();
        values
            .iter()
            .map(|bytes| i64::from_le_bytes(*bytes))
            .collect()
    };
    let ids = integers(&view("ids", Dtype::I64, 1)?);
    let labels = if tensors.names().contains(&"labels") {
        integers(&view("labels", Dtype::I64, 1)?)
    } else {
        Vec::new()
    };
    let (values, _) = vectors.data().as_chunks();
    let vectors = values
        .iter()
        .map(|bytes| f32::from_le_bytes(*bytes))
        .collect();
    let normalized = match entry("normalized").as_deref() {
        None => None,
        Some("true") => Some(true),
        Some("false") => Some(false),
        Some(other) => {
            return Err(wrong(format!(
                "`normalized` is `{other}`; `true` or `false` is wanted"
            )));
        }
    };
    let origin = Origin {
        model: entry("model"),
        data: entry("data"),
        split: entry("split"),
        normalized,
    };
    Ok((table(path, shape, vectors, &labels, &ids)?, origin))
}
