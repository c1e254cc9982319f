//! Small distances and batches for the tests: metrics and miners are sibling crates, which losses do not know.
#![allow(dead_code)] // Each test takes what it needs.

use candle_core::{D, DType, Device, Result, Tensor};
use nearfar_core::{
    Axioms, Candidates, Comparison, Distance, Embeddings, Form, Gram, Loss, Miner, Pairs, Purpose,
    Relation, Rng, Seed, Similarity, Stateful, Tuples,
};
use nearfar_kernels::{absolute, euclidean, l2_normalize, manhattan, safe_sqrt, squared_euclidean};
use nearfar_losses::{Compares, Join, LossConfig, Reads};

/// Euclidean, squared, or Manhattan; of rows of length 1 or as they are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fake {
    pub(crate) kind: Kind,
    pub(crate) unit: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Kind {
    Euclidean,
    Squared,
    Manhattan,
    /// The variance of the difference over that of the first row.
    Snr,
}

pub(crate) const UNIT: Fake = Fake {
    kind: Kind::Euclidean,
    unit: true,
};
pub(crate) const RAW: Fake = Fake {
    kind: Kind::Euclidean,
    unit: false,
};

impl Fake {
    fn rows(&self, x: &Tensor) -> Result<Tensor> {
        if self.unit {
            l2_normalize(x)
        } else {
            Ok(x.clone())
        }
    }
}

impl Distance for Fake {
    fn matrix(&self, x: &Tensor, y: &Tensor) -> Result<Tensor> {
        let (x, y) = (self.rows(x)?, self.rows(y)?);
        match self.kind {
            Kind::Euclidean => euclidean(&x, &y),
            Kind::Squared => squared_euclidean(&x, &y),
            Kind::Manhattan => manhattan(&x, &y),
            Kind::Snr => noise_to_signal(&x.unsqueeze(1)?, &y.unsqueeze(0)?),
        }
    }

    fn paired(&self, x: &Tensor, y: &Tensor) -> Result<Tensor> {
        let difference = (self.rows(x)? - self.rows(y)?)?;
        match self.kind {
            Kind::Euclidean => safe_sqrt(&difference.sqr()?.sum(D::Minus1)?),
            Kind::Squared => difference.sqr()?.sum(D::Minus1),
            Kind::Manhattan => absolute(&difference)?.sum(D::Minus1),
            Kind::Snr => noise_to_signal(&self.rows(x)?, &self.rows(y)?),
        }
    }

    fn axioms(&self) -> Axioms {
        Axioms::METRIC
    }

    fn form(&self) -> Form {
        let unit_rows = self.unit;
        let gram = |kind| Form::Gram { kind, unit_rows };
        match self.kind {
            Kind::Euclidean => gram(Gram::Euclidean),
            Kind::Squared => gram(Gram::Squared),
            Kind::Manhattan | Kind::Snr => Form::General,
        }
    }
}

/// `var(x − y) / var(x)` along the last dimension.
fn noise_to_signal(x: &Tensor, y: &Tensor) -> Result<Tensor> {
    let variance = |rows: &Tensor| {
        rows.broadcast_sub(&rows.mean_keepdim(D::Minus1)?)?
            .sqr()?
            .mean(D::Minus1)
    };
    variance(&x.broadcast_sub(y)?)?.broadcast_div(&variance(x)?)
}

/// Cosines.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cosine;

impl Similarity for Cosine {
    fn matrix(&self, x: &Tensor, y: &Tensor) -> Result<Tensor> {
        l2_normalize(x)?.matmul(&l2_normalize(y)?.t()?)
    }

    fn paired(&self, x: &Tensor, y: &Tensor) -> Result<Tensor> {
        (l2_normalize(x)? * l2_normalize(y)?)?.sum(D::Minus1)
    }

    fn form(&self) -> Form {
        let (kind, unit_rows) = (Gram::Cosine, true);
        Form::Gram { kind, unit_rows }
    }
}

/// Takes what it was told to.
#[derive(Clone, Debug)]
pub(crate) struct Given(pub(crate) Tuples);

impl Stateful for Given {}

impl Miner for Given {
    fn mine(&self, _: &Candidates, _: &mut Rng) -> Tuples {
        self.0.clone()
    }
}

/// What a loss takes by default, for tests of all of them.
pub(crate) fn join(config: &LossConfig, width: usize, dtype: DType) -> Join {
    let mut join = Join {
        classes: Some(9),
        class_sizes: vec![5, 80, 3, 9, 1, 200, 40, 7, 30],
        width,
        dtype,
        ..Join::default()
    };
    match config.defaults().compares {
        Compares::Distance("manhattan") => {
            let kind = Kind::Manhattan;
            join.distance = Some(Box::new(Fake { kind, unit: false }));
        }
        Compares::Distance("squared_euclidean") => {
            let kind = Kind::Squared;
            join.distance = Some(Box::new(Fake { kind, unit: false }));
        }
        Compares::Distance(_) => join.distance = Some(Box::new(RAW)),
        Compares::Similarity(_) => join.similarity = Some(Box::new(Cosine)),
        Compares::Centers | Compares::DistantCenters | Compares::Own => {}
    }
    join
}

/// Every loss, joined to its defaults.
pub(crate) fn losses(width: usize, dtype: DType) -> Vec<(LossConfig, Box<dyn Loss>)> {
    LossConfig::all()
        .into_iter()
        .map(|config| {
            let loss = config
                .build(join(&config, width, dtype))
                .expect("its defaults");
            (config, loss)
        })
        .collect()
}

/// The stream of a step.
pub(crate) fn stream() -> Rng {
    Seed(0).rng(Purpose::Mining, 0)
}

/// A batch as the loss reads it: by class, each row scored with the next, or with sets, targets or masks made of the labels.
pub(crate) fn with_relation<T>(
    config: &LossConfig,
    rows: &Embeddings,
    f: impl FnOnce(&Comparison<'_>) -> T,
) -> T {
    let within = Comparison::within(rows);
    let with = |relation| Comparison { relation, ..within };
    match config.reads() {
        Reads::Classes | Reads::ClassesOrPairs => f(&within),
        Reads::Views => {
            let second = rows.vectors.affine(-0.7, 0.1).expect("numbers");
            let mut second = with_vectors(rows, second);
            second.ids.iter_mut().for_each(|id| *id += 1_000);
            f(&Comparison::between(rows, &second))
        }
        Reads::ScoredPairs => {
            let n = rows.len() as u32;
            // Each row with the next, and the first with the last too: one anchor has two pairs.
            let last = (n > 2).then(|| (0, n - 1));
            let pairs: Pairs = (1..n).map(|row| (row - 1, row)).chain(last).collect();
            let target = |row: u32| match config.name() {
                "softmax_nli" => (row % 3) as f32, // A class.
                _ => 1.0 + (row % 4) as f32,
            };
            let targets: Vec<f32> = (1..=pairs.len() as u32).map(target).collect();
            f(&with(Relation::Scored {
                pairs: &pairs,
                targets: &targets,
            }))
        }
        Reads::Sets => {
            let sets: Vec<Vec<u32>> = rows.labels.iter().map(|&it| set_of(it)).collect();
            f(&with(Relation::Sets {
                anchors: &sets,
                references: &sets,
            }))
        }
        Reads::Targets => {
            let targets: Vec<f32> = rows.labels.iter().map(|&it| it as f32 * 0.75).collect();
            f(&with(Relation::Targets {
                anchors: &targets,
                references: &targets,
            }))
        }
        Reads::Masks => {
            // One image of one row of pixels, whose vectors are the rows.
            let (n, d) = rows.vectors.dims2().expect("a matrix");
            let dense = rows.vectors.t().and_then(|it| it.reshape((1, d, 1, n)));
            let mut image = rows.clone();
            image.extra.insert("dense".into(), dense.expect("as large"));
            let ids = rows.labels.iter().map(|&it| it + 1).collect();
            let masks = Tensor::from_vec(ids, (1, 1, n), &Device::Cpu).expect("as large");
            let relation = Relation::Masks(&masks);
            f(&Comparison {
                relation,
                ..Comparison::within(&image)
            })
        }
    }
}

/// Sets that overlap in part; the fourth is empty.
fn set_of(label: u32) -> Vec<u32> {
    match label {
        3 => vec![],
        _ => vec![label, (label + 1) % 3, 7],
    }
}

/// Rows with labels and a seed.
pub(crate) fn noise(n: usize, d: usize, labels: Vec<u32>, seed: u64) -> Embeddings {
    let mut rng = Seed(seed).rng(Purpose::Generation, 0);
    let numbers: Vec<f64> = (0..n * d).map(|_| rng.normal()).collect();
    let vectors = Tensor::from_vec(numbers, (n, d), &Device::Cpu).expect("full");
    Embeddings::new(vectors, labels, (0..n as u64).collect()).expect("a label each, or none")
}

/// The same rows as another tensor.
pub(crate) fn with_vectors(rows: &Embeddings, vectors: Tensor) -> Embeddings {
    Embeddings {
        vectors,
        ..rows.clone()
    }
}
