//! On a GPU every model is the function that it is on the CPU, forward and backward.

use candle_core::{DType, Device, Result, Tensor};
use nearfar_core::{Encoder, Mode, Seed};
use nearfar_models::{InputShape, ModelConfig, Params};

use crate::support::stream;
use crate::variants::all;
use crate::{batch, contracted_all, trained};

/// The largest difference, relative to the largest number: products of a GPU may be of shorter numbers, and are added up in another order.
const TOLERANCE: f64 = 1e-3;

/// The GPU that this was built for, if this machine has one.
fn gpu() -> Option<Device> {
    let cuda = Device::new_cuda(0);
    cuda.or_else(|_| Device::new_metal(0)).ok()
}

/// What a model gives for a batch, and the gradients of its parameters, by name.
fn results(
    model: &ModelConfig,
    shape: &InputShape,
    device: &Device,
) -> Result<Vec<(String, Vec<f64>)>> {
    let params = Params::new(Seed(7), DType::F32, device)?;
    let encoder: Box<dyn Encoder> = model.build(shape, &params)?;
    let input = batch(shape, 1)?.map(|values| {
        let values = match values.dtype() {
            DType::F64 => values.to_dtype(DType::F32)?,
            _ => values.clone(),
        };
        values.to_device(device)
    })?;
    let encoded = encoder.encode(&input, Mode::Train(&mut stream()))?;
    let numbers = |x: &Tensor| {
        let x = x.to_device(&Device::Cpu)?.flatten_all()?;
        x.to_dtype(DType::F64)?.to_vec1::<f64>()
    };
    let mut found = vec![("the embedding".to_owned(), numbers(&encoded.embedding)?)];
    for (name, extra) in &encoded.extra {
        found.push((name.clone(), numbers(extra)?));
    }
    let gradients = contracted_all(&encoded)?.backward()?;
    for parameter in trained(&*encoder) {
        let gradient = gradients
            .get(&parameter.var)
            .unwrap_or_else(|| panic!("{model:?}: `{}` has no gradient", parameter.name));
        found.push((parameter.name, numbers(gradient)?));
    }
    Ok(found)
}

#[test]
#[allow(clippy::print_stdout)] // What is skipped is told.
fn a_gpu_computes_what_the_cpu_does() -> Result<()> {
    let Some(gpu) = gpu() else {
        println!(
            "skipped: models on a GPU (there is none, or this was built without `cuda` or `metal`)"
        );
        return Ok(());
    };
    for (model, shape) in all() {
        let expected = results(&model, &shape, &Device::Cpu)?;
        let found = results(&model, &shape, &gpu)?;
        // Gradients that normalization cancels are rounding, so they are measured against the others.
        let size = |values: &[f64]| values.iter().fold(0f64, |most, x| most.max(x.abs()));
        let all = expected.iter().skip(1).map(|(_, values)| size(values));
        let least = 1e-2 * all.fold(0f64, f64::max);
        for ((name, expected), (_, found)) in expected.iter().zip(&found) {
            let apart: Vec<f64> = expected.iter().zip(found).map(|(a, b)| a - b).collect();
            let limit = TOLERANCE * size(expected).max(least);
            let most = size(&apart);
            assert!(
                most <= limit,
                "{model:?}: `{name}` is {most} apart, {limit} is allowed"
            );
        }
    }
    Ok(())
}
