//! The pieces on their own: `cargo bench -p nearfar-bench`.

use std::hint::black_box;

use candle_core::{DType, Device, Tensor, Var};
use criterion::{Criterion, criterion_group, criterion_main};
use nearfar_core::{Comparison, Embeddings, Purpose, Seed};
use nearfar_kernels::{ConvBlock, Norm, conv_block};
use nearfar_metrics::DistanceConfig;
use nearfar_miners::MinerConfig;

fn normal(shape: impl Into<candle_core::Shape>) -> Tensor {
    let shape = shape.into();
    let mut rng = Seed(0).rng(Purpose::Generation, 0);
    let values: Vec<f32> = (0..shape.elem_count())
        .map(|_| rng.normal() as f32)
        .collect();
    Tensor::from_vec(values, shape, &Device::Cpu).expect("as many values as the shape says")
}

fn kernels(c: &mut Criterion) {
    let input = Var::from_tensor(&normal((128, 64, 14, 14))).expect("a tensor");
    let weight = Var::from_tensor(&normal((64, 64, 3, 3))).expect("a tensor");
    let ones = Tensor::ones(64, DType::F32, &Device::Cpu).expect("small");
    let block = ConvBlock {
        padding: 1,
        stride: 1,
        norm: Some(Norm::Batch { eps: 1e-5 }),
        relu: true,
        pool: 2,
    };
    let forward = || {
        conv_block(&input, &weight, Some(&ones), &ones, None, None, &block)
            .expect("shapes fit")
            .output
    };
    c.bench_function("conv_block 128×64×14² forward", |b| {
        b.iter(|| black_box(forward()))
    });
    c.bench_function("conv_block 128×64×14² forward and backward", |b| {
        b.iter(|| {
            black_box(
                forward()
                    .sum_all()
                    .and_then(|sum| sum.backward())
                    .expect("differentiable"),
            )
        })
    });
    let rows = normal((1024, 128));
    c.bench_function("squared_euclidean 1024×128", |b| {
        b.iter(|| black_box(nearfar_kernels::squared_euclidean(&rows, &rows).expect("one width")))
    });
}

fn mining(c: &mut Criterion) {
    let rows = Embeddings::labeled(normal((128, 64)), (0..128).map(|row| row / 4).collect())
        .expect("one label for each row");
    let comparison = Comparison::within(&rows);
    let distance = DistanceConfig::all().swap_remove(0).build();
    let distances = distance
        .matrix(&rows.vectors, &rows.vectors)
        .expect("one width");
    let candidates =
        nearfar_core::Candidates::new(&distances, &comparison, "bench").expect("classes");
    for miner in MinerConfig::all() {
        let built = miner.build();
        c.bench_function(&format!("miner {} 128", miner.name()), |b| {
            b.iter(|| black_box(built.mine(&candidates, &mut Seed(0).rng(Purpose::Mining, 0))))
        });
    }
}

fn searching(c: &mut Criterion) {
    let vectors = normal((5_000, 64))
        .flatten_all()
        .and_then(|it| it.to_vec1::<f32>())
        .expect("f32");
    let table = nearfar_core::EmbeddingTable {
        vectors,
        dim: 64,
        labels: Vec::new(),
        ids: (0..5_000).collect(),
    };
    let search = nearfar_eval::Search {
        k: 10,
        ..nearfar_eval::Search::default()
    };
    c.bench_function("search 5000×5000, 10 of 64 dimensions", |b| {
        b.iter(|| {
            black_box(
                nearfar_eval::search(&table, &table, nearfar_eval::Measure::EUCLIDEAN, &search)
                    .expect("one width"),
            )
        })
    });
}

criterion_group! {
    name = pieces;
    config = Criterion::default().sample_size(10);
    targets = kernels, mining, searching
}
criterion_main!(pieces);
