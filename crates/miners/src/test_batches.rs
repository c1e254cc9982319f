//! Small batches for the unit tests.

use candle_core::{Device, Result, Tensor};
use nearfar_core::{Candidates, Comparison, Embeddings, Miner, Purpose, Seed, Tuples};

/// Points on a line.
pub(crate) fn line(places: &[f64], labels: &[u32]) -> Embeddings {
    let vectors = Tensor::from_slice(places, (places.len(), 1), &Device::Cpu).expect("full");
    Embeddings::labeled(vectors, labels.to_vec()).expect("a label each")
}

/// Eight rows of three classes, for which the choices of pytorch-metric-learning 2.9 are known; its distances are those of
/// rows divided by their length.
pub(crate) fn f8() -> Embeddings {
    let rows: [[f64; 3]; 8] = [
        [0.9, 0.1, 0.2],
        [0.2, 0.7, -0.3],
        [0.8, 0.5, 0.1],
        [-0.1, 0.9, 0.4],
        [0.7, -0.4, 0.6],
        [0.1, 0.3, 0.8],
        [0.5, 0.6, 0.6],
        [-0.3, 0.2, 0.9],
    ];
    let rows = rows.map(|row| {
        let length = row.iter().map(|x| x * x).sum::<f64>().sqrt();
        row.map(|x| x / length)
    });
    let vectors = Tensor::new(&rows, &Device::Cpu).expect("small");
    Embeddings::labeled(vectors, vec![0, 0, 1, 1, 2, 2, 0, 2]).expect("a label each")
}

/// The batch with itself, by Euclidean distance.
pub(crate) fn candidates(rows: &Embeddings) -> Candidates {
    let distances = euclidean(&rows.vectors).expect("a matrix");
    Candidates::new(&distances, &Comparison::within(rows), "test").expect("classes")
}

/// What a miner takes of a batch.
pub(crate) fn mined(miner: &dyn Miner, rows: &Embeddings) -> Tuples {
    mined_with(miner, rows, 0)
}

/// The same with a seed.
pub(crate) fn mined_with(miner: &dyn Miner, rows: &Embeddings, seed: u64) -> Tuples {
    miner.mine(&candidates(rows), &mut Seed(seed).rng(Purpose::Mining, 0))
}

/// The same by the cosine of rows of length 1, as its negative.
pub(crate) fn mined_by_cosine(miner: &dyn Miner, rows: &Embeddings) -> Tuples {
    let x = &rows.vectors;
    let distances = x
        .matmul(&x.t().expect("a matrix"))
        .and_then(|it| it.neg())
        .expect("square");
    let candidates =
        Candidates::new(&distances, &Comparison::within(rows), "test").expect("classes");
    miner.mine(&candidates, &mut Seed(0).rng(Purpose::Mining, 0))
}

fn euclidean(x: &Tensor) -> Result<Tensor> {
    let difference = x.unsqueeze(1)?.broadcast_sub(&x.unsqueeze(0)?)?;
    difference.sqr()?.sum(2)?.sqrt()
}
