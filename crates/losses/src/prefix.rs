//! State and parameters of parts, under their names.

use std::collections::BTreeMap;

use candle_core::{Result, Tensor};
use nearfar_core::{Error, Parameter};

/// A part's state under `prefix`.
pub(crate) fn put(
    prefix: &str,
    state: BTreeMap<String, Tensor>,
) -> impl Iterator<Item = (String, Tensor)> {
    state
        .into_iter()
        .map(move |(name, tensor)| (format!("{prefix}{name}"), tensor))
}

/// A part's parameters under `prefix`.
pub(crate) fn name(prefix: &str, parameters: Vec<Parameter>) -> impl Iterator<Item = Parameter> {
    parameters.into_iter().map(move |parameter| Parameter {
        name: format!("{prefix}{}", parameter.name),
        ..parameter
    })
}

/// What is under `prefix`, without it.
pub(crate) fn take(prefix: &str, state: &BTreeMap<String, Tensor>) -> BTreeMap<String, Tensor> {
    state
        .iter()
        .filter_map(|(name, tensor)| {
            let name = name.strip_prefix(prefix)?;
            Some((name.to_owned(), tensor.clone()))
        })
        .collect()
}

/// Refuses names that belong to no part.
pub(crate) fn refuse_others(
    state: &BTreeMap<String, Tensor>,
    is_known: impl Fn(&str) -> bool,
) -> Result<()> {
    match state.keys().find(|name| !is_known(name)) {
        None => Ok(()),
        Some(name) => Err(Error::Input(format!(
            "there is state `{name}` for a loss that has no such part"
        )))?,
    }
}

/// Refuses state of another shape.
pub(crate) fn wants_shape(
    place: &str,
    (name, tensor): (&str, &Tensor),
    wanted: &[usize],
) -> Result<()> {
    if tensor.dims() == wanted {
        return Ok(());
    }
    Err(Error::Shape(format!(
        "{place}: the state `{name}` has shape {:?}, and {wanted:?} is wanted",
        tensor.dims()
    )))?
}
