//! Numbers with a shape.

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use safetensors::{Dtype, SafeTensors};

use super::Unreadable;

/// Numbers with a shape.
#[derive(Clone, Debug, PartialEq)]
pub struct Array {
    /// Lengths of the axes.
    pub shape: Vec<usize>,
    /// Row-major.
    pub numbers: Numbers,
}

/// Real or whole numbers.
#[derive(Clone, Debug, PartialEq)]
pub enum Numbers {
    /// Compared with a tolerance.
    Real(Vec<f64>),
    /// Compared exactly.
    Whole(Vec<i64>),
}

impl Array {
    /// Real numbers.
    pub fn real(shape: &[usize], values: Vec<f64>) -> Self {
        Self {
            shape: shape.to_vec(),
            numbers: Numbers::Real(values),
        }
    }

    /// One real number.
    pub fn scalar(value: f64) -> Self {
        Self::real(&[], vec![value])
    }

    /// Whole numbers.
    pub fn whole(shape: &[usize], values: Vec<i64>) -> Self {
        Self {
            shape: shape.to_vec(),
            numbers: Numbers::Whole(values),
        }
    }

    /// The numbers of a tensor.
    ///
    /// # Errors
    /// Those of candle.
    pub fn of(tensor: &Tensor) -> candle_core::Result<Self> {
        let values = tensor.to_dtype(DType::F64)?.flatten_all()?.to_vec1()?;
        Ok(Self::real(tensor.dims(), values))
    }

    pub(super) fn read_all(path: &Path) -> Result<BTreeMap<String, Self>, Unreadable> {
        let bytes = std::fs::read(path).map_err(|error| error.to_string())?;
        let file = SafeTensors::deserialize(&bytes).map_err(|error| error.to_string())?;
        let mut arrays = BTreeMap::new();
        for (name, view) in file.tensors() {
            let eights = view.data().chunks_exact(8).map(|chunk| {
                let mut eight = [0; 8];
                eight.copy_from_slice(chunk);
                eight
            });
            let numbers = match view.dtype() {
                Dtype::F64 => Numbers::Real(eights.map(f64::from_le_bytes).collect()),
                Dtype::I64 => Numbers::Whole(eights.map(i64::from_le_bytes).collect()),
                other => return Err(format!("`{name}` is {other:?}; F64 or I64 is wanted")),
            };
            let shape = view.shape().to_vec();
            arrays.insert(name, Self { shape, numbers });
        }
        Ok(arrays)
    }

    /// How many numbers.
    pub fn len(&self) -> usize {
        match &self.numbers {
            Numbers::Real(values) => values.len(),
            Numbers::Whole(values) => values.len(),
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// As real numbers.
    pub fn to_real(&self) -> Vec<f64> {
        match &self.numbers {
            Numbers::Real(values) => values.clone(),
            Numbers::Whole(values) => values.iter().map(|&value| value as f64).collect(),
        }
    }

    /// As a tensor on the CPU.
    ///
    /// # Errors
    /// Those of candle.
    pub fn tensor(&self, dtype: DType) -> candle_core::Result<Tensor> {
        Tensor::from_vec(self.to_real(), self.shape.as_slice(), &Device::Cpu)?.to_dtype(dtype)
    }

    pub(super) fn is_finite(&self) -> bool {
        match &self.numbers {
            Numbers::Real(values) => values.iter().all(|value| value.is_finite()),
            Numbers::Whole(_) => true,
        }
    }
}
