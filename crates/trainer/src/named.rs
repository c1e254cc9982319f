//! Parameters and state as tensors by name.

use std::collections::{BTreeMap, BTreeSet};

use candle_core::{Device, Tensor};
use nearfar_core::Parameter;

use crate::error::Error;

pub(crate) fn copies(parameters: Vec<Parameter>) -> candle_core::Result<BTreeMap<String, Tensor>> {
    let copy = |parameter: Parameter| {
        // A step changes the parameter in its place, so that a clone would change with it.
        let tensor = parameter.var.as_detached_tensor();
        let tensor = if tensor.device().is_cpu() {
            tensor.copy()?
        } else {
            tensor.to_device(&Device::Cpu)?
        };
        Ok((parameter.name, tensor))
    };
    parameters.into_iter().map(copy).collect()
}

pub(crate) fn put(
    component: &str,
    parameters: Vec<Parameter>,
    values: &BTreeMap<String, Tensor>,
) -> Result<(), Error> {
    for parameter in &parameters {
        let name = &parameter.name;
        let Some(value) = values.get(name) else {
            return Err(Error::misfit(component, format!("`{name}` is missing")));
        };
        if value.dims() != parameter.var.dims() || value.dtype() != parameter.var.dtype() {
            let reason = format!(
                "`{name}` is {:?} of shape {:?}, the run's {:?} of shape {:?}",
                value.dtype(),
                value.dims(),
                parameter.var.dtype(),
                parameter.var.dims()
            );
            return Err(Error::misfit(component, reason));
        }
    }
    let known: BTreeSet<&str> = parameters.iter().map(|it| it.name.as_str()).collect();
    if let Some(name) = values.keys().find(|name| !known.contains(name.as_str())) {
        return Err(Error::misfit(component, format!("`{name}` is unknown")));
    }
    for parameter in &parameters {
        let value = values[&parameter.name].to_device(parameter.var.device())?;
        parameter.var.set(&value)?;
    }
    Ok(())
}

pub(crate) fn to_device(
    tensors: BTreeMap<String, Tensor>,
    device: &Device,
) -> Result<BTreeMap<String, Tensor>, Error> {
    let moved = tensors
        .into_iter()
        .map(|(name, tensor)| Ok((name, tensor.to_device(device)?)));
    moved.collect()
}
