//! A loss of one's own: the ratio of the two distances of a triplet, on rows that move to where it is small.
#![allow(clippy::print_stdout)] // It shows what it found.

use candle_core::{D, Device, Result, Tensor, Var};
use nearfar_core::{Axioms, Comparison, Distance, Embeddings, Loss, Purpose, Seed};
use nearfar_kernels::{euclidean, safe_sqrt};
use nearfar_losses::{OverTriplets, TripletLoss};

/// `d(a, p) / (d(a, p) + d(a, n))`
#[derive(Debug)]
struct Ratio;

impl TripletLoss for Ratio {
    fn triplets(&self, positive: &Tensor, negative: &Tensor) -> Result<Tensor> {
        positive / ((positive + negative)? + 1e-6)?
    }
}

#[derive(Debug)]
struct Plane;

impl Distance for Plane {
    fn matrix(&self, x: &Tensor, y: &Tensor) -> Result<Tensor> {
        euclidean(x, y)
    }
    fn paired(&self, x: &Tensor, y: &Tensor) -> Result<Tensor> {
        safe_sqrt(&(x - y)?.sqr()?.sum(D::Minus1)?)
    }
    fn axioms(&self) -> Axioms {
        Axioms::METRIC
    }
}

fn main() -> Result<()> {
    let mut rng = Seed(7).rng(Purpose::Init, 0);
    let numbers: Vec<f64> = (0..24).map(|_| rng.normal()).collect();
    let rows = Var::from_tensor(&Tensor::from_vec(numbers, (12, 2), &Device::Cpu)?)?;
    let labels: Vec<u32> = (0..12).map(|row| row % 3).collect();
    let loss = OverTriplets::new("ratio", Ratio, Box::new(Plane));
    for step in 0..=200 {
        let batch = Embeddings::labeled(rows.as_tensor().clone(), labels.clone())?;
        let mut rng = Seed(7).rng(Purpose::Mining, step);
        let evaluated = loss.evaluate(&Comparison::within(&batch), &mut rng)?;
        let Some(total) = evaluated.total()? else {
            break; // Nothing to learn.
        };
        if step % 50 == 0 {
            println!("step {step:>3}: {:.4}", total.to_scalar::<f64>()?);
        }
        let gradients = total.backward()?;
        let gradient = gradients.get(&rows).expect("the loss depends on its rows");
        rows.set(&(rows.as_tensor() - (gradient * 1.0)?)?)?;
    }
    Ok(())
}
