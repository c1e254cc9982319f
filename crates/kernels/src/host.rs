//! Tensors of the CPU as slices, for the operations that work on them.

use std::cell::Cell;

use candle_core::{
    CpuStorage, DType, InplaceOp1, InplaceOp2, Layout, Result, Shape, Storage, Tensor, WithDType,
    bail,
};

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

/// Calls `f` with the numbers of a tensor, in row-major order, whatever its strides.
pub(crate) fn read<T: WithDType, R>(x: &Tensor, f: impl FnOnce(&[T]) -> Result<R>) -> Result<R> {
    let x = x.contiguous()?;
    let (storage, layout) = x.storage_and_layout();
    match &*storage {
        Storage::Cpu(storage) => f(slice(storage, layout)?),
        _ => bail!("the tensor lies on {:?}, not on the CPU", x.device()),
    }
}

/// Calls `f` with the numbers of a contiguous tensor, to be changed in place. Calls may be nested for tensors that do not
/// share memory: see [`apart`].
pub(crate) fn write<T: Element>(x: &Tensor, f: impl FnOnce(&mut [T]) -> Result<()>) -> Result<()> {
    x.inplace_op1(&Write(
        Cell::new(Some(f)),
        std::marker::PhantomData::<fn(T)>,
    ))
}

struct Write<F, T>(Cell<Option<F>>, std::marker::PhantomData<fn(T)>);

impl<T: Element, F: FnOnce(&mut [T]) -> Result<()>> InplaceOp1 for Write<F, T> {
    fn name(&self) -> &'static str {
        "write"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> Result<()> {
        let Some((from, to)) = layout.contiguous_offsets() else {
            bail!("the tensor is not contiguous; its layout is {layout:?}");
        };
        let f = self.0.take().expect("an in-place operation runs once");
        f(&mut T::storage_mut(storage)?[from..to])
    }
}

/// Refuses tensors that share memory: changing one while the other is read would wait for itself forever.
pub(crate) fn apart(x: &Tensor, y: &Tensor) -> Result<()> {
    x.inplace_op2(y, &Apart)
}

struct Apart;

impl InplaceOp2 for Apart {
    fn name(&self) -> &'static str {
        "an update in place"
    }

    fn cpu_fwd(&self, _: &mut CpuStorage, _: &Layout, _: &CpuStorage, _: &Layout) -> Result<()> {
        Ok(())
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
