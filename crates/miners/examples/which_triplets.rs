//! How many triplets of a random batch each miner takes, and how hard they are.
#![allow(clippy::print_stdout)] // It shows what it found.

use candle_core::{Device, Result, Tensor};
use nearfar_core::{Candidates, Comparison, Embeddings, Purpose, Seed};
use nearfar_miners::MinerConfig;

fn main() -> Result<()> {
    // 32 rows of 8 classes: the place of the class, and some noise.
    let mut rng = Seed(7).rng(Purpose::Generation, 0);
    let labels: Vec<u32> = (0..32).map(|row| row / 4).collect();
    let places: Vec<f64> = (0..8 * 6).map(|_| rng.normal()).collect();
    let mut vectors = Vec::new();
    for &label in &labels {
        vectors.extend((0..6).map(|k| places[label as usize * 6 + k] + rng.normal()));
    }
    let rows = Embeddings::labeled(Tensor::from_vec(vectors, (32, 6), &Device::Cpu)?, labels)?;

    let x = &rows.vectors;
    let differences = x.unsqueeze(1)?.broadcast_sub(&x.unsqueeze(0)?)?;
    let distances = differences.sqr()?.sum(2)?.sqrt()?;
    let candidates = Candidates::new(&distances, &Comparison::within(&rows), "example")?;

    println!(
        "{:<18} {:>8} {:>18}",
        "miner", "triplets", "mean d(a,n)−d(a,p)"
    );
    for config in MinerConfig::all() {
        let mut rng = Seed(7).rng(Purpose::Mining, 0);
        let triplets = config.build().mine(&candidates, &mut rng).into_triplets();
        let gaps: f64 = triplets
            .iter()
            .map(|(a, p, n)| candidates.distance(a, n) - candidates.distance(a, p))
            .sum();
        let mean = gaps / triplets.len().max(1) as f64;
        println!("{:<18} {:>8} {:>18.3}", config.name(), triplets.len(), mean);
    }
    Ok(())
}
