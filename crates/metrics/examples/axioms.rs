//! What each distance says of three points, and which axioms it claims.
#![allow(clippy::print_stdout)] // It shows what it found.

use candle_core::{Device, Result, Tensor};
use nearfar_metrics::DistanceConfig;

fn main() -> Result<()> {
    let points = Tensor::new(&[[1f32, 0.0], [1.0, 1.0], [0.0, 1.0]], &Device::Cpu)?;
    for config in DistanceConfig::all() {
        let distance = config.build();
        let d = distance.matrix(&points, &points)?.to_vec2::<f32>()?;
        println!(
            "{:<24} straight {:.3}, over the middle {:.3}; {:?}",
            config.name(),
            d[0][2],
            d[0][1] + d[1][2],
            distance.axioms()
        );
    }
    Ok(())
}
