//! A miner of one's own: the nearest positive and the nearest negative of each anchor.
#![allow(clippy::print_stdout)] // It shows what it found.

use candle_core::{Device, Result, Tensor};
use nearfar_core::{
    Candidates, Comparison, Embeddings, Miner, Purpose, Rng, Seed, Stateful, Triplets, Tuples,
};

#[derive(Debug)]
struct Easiest;

impl Stateful for Easiest {}

impl Miner for Easiest {
    fn mine(&self, candidates: &Candidates, _: &mut Rng) -> Tuples {
        let mut triplets = Triplets::default();
        for anchor in candidates.anchors() {
            let positive = candidates
                .positives(anchor)
                .min_by(|a, b| a.distance.total_cmp(&b.distance));
            let negative = candidates
                .negatives(anchor)
                .min_by(|a, b| a.distance.total_cmp(&b.distance));
            if let (Some(positive), Some(negative)) = (positive, negative) {
                triplets.push(anchor, positive.index, negative.index);
            }
        }
        Tuples::Triplets(triplets)
    }
}

fn main() -> Result<()> {
    let rows = Embeddings::labeled(
        Tensor::new(&[[0f32], [1.], [1.5], [4.]], &Device::Cpu)?,
        vec![0, 0, 1, 0],
    )?;
    let x = &rows.vectors;
    let distances = x.broadcast_sub(&x.t()?)?.abs()?;
    let candidates = Candidates::new(&distances, &Comparison::within(&rows), "example")?;
    let tuples = Easiest.mine(&candidates, &mut Seed(0).rng(Purpose::Mining, 0));
    println!("{tuples:?}");
    Ok(())
}
