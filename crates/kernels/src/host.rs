//! Tensors of the CPU as slices, for the operations that work on them.

use candle_core::{CpuStorage, DType, Layout, Result, Shape, Storage, Tensor, WithDType, bail};

use crate::lanes::Element;

/// Whether the slice versions serve this tensor: it lies in the CPU's memory, as f32 or f64.
pub(crate) fn serves(x: &Tensor) -> bool {
    x.device().is_cpu() && matches!(x.dtype(), DType::F32 | DType::F64)
}

/// The numbers of a contiguous tensor inside a custom operation.
pub(crate) fn slice<'a, T: WithDType>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [T]> {
    let Some((from, to)) = layout.contiguous_offsets() else {
        bail!("the tensor is not contiguous; its layout is {layout:?}");
    };
    Ok(&storage.as_slice::<T>()?[from..to])
}

/// The same for a tensor to be written.
pub(crate) fn slice_mut<'a, T: Element>(
    storage: &'a mut CpuStorage,
    layout: &Layout,
) -> Result<&'a mut [T]> {
    let Some((from, to)) = layout.contiguous_offsets() else {
        bail!("the tensor is not contiguous; its layout is {layout:?}");
    };
    Ok(&mut T::storage_mut(storage)?[from..to])
}

/// Calls `f` with the numbers of a tensor, in row-major order, whatever its strides.
pub(crate) fn read<T: WithDType, R>(x: &Tensor, f: impl FnOnce(&[T]) -> Result<R>) -> Result<R> {
    let x = x.contiguous()?;
    let (storage, layout) = x.storage_and_layout();
    match &*storage {
        Storage::Cpu(storage) => f(slice(storage, layout)?),
        _ => bail!("the tensor lies on {:?}, not on the CPU", x.device()),
    }
}

/// Numbers as a custom operation returns them.
pub(crate) fn give<T: WithDType>(values: Vec<T>, shape: impl Into<Shape>) -> (CpuStorage, Shape) {
    (T::to_cpu_storage_owned(values), shape.into())
}

/// Numbers as a tensor like another.
pub(crate) fn tensor<T: WithDType>(values: Vec<T>, like: &Tensor) -> Result<Tensor> {
    Tensor::from_vec(values, like.shape(), like.device())
}

/// Calls a function that is generic over the number type with the type of a tensor that [`serves`] accepts.
macro_rules! by_type {
    ($dtype:expr, $name:expr, $T:ident => $call:expr) => {
        match $dtype {
            candle_core::DType::F32 => {
                type $T = f32;
                $call
            }
            candle_core::DType::F64 => {
                type $T = f64;
                $call
            }
            other => Err(candle_core::Error::UnsupportedDTypeForOp(other, $name).bt()),
        }
    };
}
pub(crate) use by_type;
