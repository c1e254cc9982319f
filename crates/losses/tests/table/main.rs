//! All losses by their names: the laws that hold for each, how they are joined to others, and the row engine.

#[path = "../fakes/mod.rs"]
mod fakes;

mod by_row;
mod joins;
mod laws;

use candle_core::{DType, Tensor};

fn numbers(tensor: &Tensor) -> Vec<f64> {
    let flat = tensor.flatten_all().and_then(|it| it.to_dtype(DType::F64));
    flat.and_then(|it| it.to_vec1()).expect("numbers")
}
