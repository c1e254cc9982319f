//! Builds a tower as a run file would, embeds two images, and keeps its weights.
#![allow(clippy::print_stdout)] // It shows what it made.

use candle_core::{DType, Device, Result, Tensor};
use nearfar_core::{Encoder, Input, Mode, Seed};
use nearfar_models::{Conv4, InputShape, Params};

fn main() -> Result<()> {
    let params = Params::new(Seed(7), DType::F32, &Device::Cpu)?;
    let settings = Conv4 {
        width: 8,
        ..Conv4::default()
    };
    let shape = InputShape::Image {
        channels: 1,
        height: 28,
        width: 28,
    };
    let tower = settings.build(&shape, &params)?;
    for parameter in tower.parameters() {
        let kind = if parameter.trained { "trained" } else { "kept" };
        println!(
            "{:32} {:16} {kind}",
            parameter.name,
            format!("{:?}", parameter.var.dims())
        );
    }

    let ramp = Tensor::arange(0f32, 28.0, &Device::Cpu)?.broadcast_as((28, 28))?;
    let images = Tensor::stack(&[&ramp, &ramp.t()?], 0)?.unsqueeze(1)?; // (2, 1, 28, 28)
    let embedding = tower
        .encode(&Input::Dense((images / 28.0)?), Mode::Eval)?
        .embedding;
    println!("{embedding}");

    let bytes = params.to_safetensors()?;
    println!("{} bytes of safetensors", bytes.len());
    Ok(())
}
