//! A run that was stopped and continued equals one that never stopped, bit for bit, on any number of threads.

use std::collections::{BTreeMap, BTreeSet};
use std::num::{NonZeroU64, NonZeroUsize};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use candle_core::{DType, Device};
use nearfar_core::{BoxError, Finite, Loss, NonNegative, Positive, Purpose, Seed, Span};
use nearfar_datasets::{
    AnchorNeighborhood, Annotation, CategoryBalance, ClassesBySamples, Dataset, Episode, Error,
    FixedTriplets, Frames, Glyphs, GraphSampler, GreedyCoreset, HardClasses, HardNegatives,
    Hierarchical, Loader, LossProportional, MagnetClusters, NoDuplicates, PairSampler, Sample,
    SamplerConfig, Seen, Shuffled, Solids, TuplesToWeights, Value,
};
use nearfar_losses::{
    CrossBatchMemory, Family, LossConfig, Matryoshka, Memory, Nesting, Penalty, Reads, Regularized,
    SelfSupervised, SelfSupervision, Sum,
};
use nearfar_miners::{MinerConfig, PairMargin};
use nearfar_models::{
    Bert, CharBilstm, Conv4, Convnext, DeepSets, DenseConv, InputShape, Koch, Lstm, Mlp,
    ModelConfig, Mvcnn, Params, Resnet, ResnetStem, SpeakerLstm, Unet, Vit, Voxnet,
};
use nearfar_trainer::schedule::Cosine;
use nearfar_trainer::{
    Answer, Checkpoint, Checkpoints, Ended, Event, OptimizerConfig, Options, Run, ScheduleConfig,
    Trainer, Watch, fit,
};

use crate::joined::{joined, reads_pairs, takes_miner};

const CLASSES: usize = 6;
const SAMPLES: usize = 6;
/// Two epochs of three batches, and one more.
const STEPS: u64 = 7;
const SEED: Seed = Seed(17);

/// A run as a run file says it.
#[derive(Clone, Debug)]
struct Case {
    loss: LossConfig,
    miner: Option<MinerConfig>,
    sampler: SamplerConfig,
    optimizer: OptimizerConfig,
    model: ModelConfig,
    accumulate: u64,
    around: Around,
}

/// What is around a loss, or beside it.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Around {
    Nothing,
    /// Past batches.
    Memory,
    /// Of embeddings, and of class centers where there are some.
    Regularizers,
    /// Two views of each row, whose numbers are their classes.
    Views,
    /// The first numbers of each embedding, each length with a memory of its own.
    Lengths,
    /// Losses that remember clusters, a tree of classes and a histogram.
    Remembering,
}

/// Of each setting the small form for twelve rows a batch.
fn small_sampler(config: &SamplerConfig) -> SamplerConfig {
    match config {
        SamplerConfig::Shuffled(it) => SamplerConfig::Shuffled(Shuffled {
            size: 12,
            ..it.clone()
        }),
        SamplerConfig::ClassesBySamples(it) => SamplerConfig::ClassesBySamples(ClassesBySamples {
            classes: 4,
            samples: 3,
            ..it.clone()
        }),
        SamplerConfig::Pairs(it) => SamplerConfig::Pairs(PairSampler {
            size: 12,
            ..it.clone()
        }),
        SamplerConfig::NoDuplicates(it) => SamplerConfig::NoDuplicates(NoDuplicates {
            size: 12,
            ..it.clone()
        }),
        SamplerConfig::Episode(it) => SamplerConfig::Episode(Episode {
            ways: 3,
            support: 1,
            queries: 3,
            ..it.clone()
        }),
        SamplerConfig::FixedTriplets(it) => SamplerConfig::FixedTriplets(FixedTriplets {
            triplets: 12,
            size: 4,
            ..it.clone()
        }),
        SamplerConfig::Hierarchical(it) => SamplerConfig::Hierarchical(Hierarchical {
            classes: 2,
            samples: 3,
            batches_per_tuple: 3,
            groups: groups(),
            ..it.clone()
        }),
        SamplerConfig::CategoryBalance(it) => SamplerConfig::CategoryBalance(CategoryBalance {
            categories: 2,
            classes: 2,
            samples: 3,
            groups: groups(),
            ..it.clone()
        }),
        // Shown the set at the start of an epoch, or in its middle.
        SamplerConfig::AnchorNeighborhood(it) => {
            SamplerConfig::AnchorNeighborhood(AnchorNeighborhood {
                anchors: 2,
                classes: 2,
                samples: 3,
                ..it.clone()
            })
        }
        SamplerConfig::GraphSampler(it) => SamplerConfig::GraphSampler(GraphSampler {
            classes: 4,
            samples: 3,
            batches: Some(3),
            every: Span::Steps(2),
            ..it.clone()
        }),
        SamplerConfig::HardClasses(it) => SamplerConfig::HardClasses(HardClasses {
            classes: 4,
            samples: 3,
            every: Span::Steps(2),
            ..it.clone()
        }),
        SamplerConfig::MagnetClusters(it) => SamplerConfig::MagnetClusters(MagnetClusters {
            clusters: 4,
            samples: 3,
            per_class: 2,
            every: Span::Steps(4),
            ..it.clone()
        }),
        SamplerConfig::GreedyCoreset(it) => SamplerConfig::GreedyCoreset(GreedyCoreset {
            classes: 4,
            samples: 3,
            ..it.clone()
        }),
        SamplerConfig::HardNegatives(it) => SamplerConfig::HardNegatives(HardNegatives {
            anchors: 4,
            range_max: 4,
            batches: Some(3),
            every: Span::Steps(5),
            ..it.clone()
        }),
        SamplerConfig::LossProportional(it) => SamplerConfig::LossProportional(LossProportional {
            classes: 4,
            samples: 3,
            every: Span::Epochs(2),
            ..it.clone()
        }),
        SamplerConfig::TuplesToWeights(it) => SamplerConfig::TuplesToWeights(TuplesToWeights {
            size: 12,
            subset: 30,
            every: Span::Steps(2),
            ..it.clone()
        }),
        other => panic!("{other:?} has no small form"),
    }
}

/// The classes, which have no names, as two super-classes.
fn groups() -> BTreeMap<String, Vec<String>> {
    let classes = |range: std::ops::Range<usize>| range.map(|it| it.to_string()).collect();
    BTreeMap::from([
        ("one".to_owned(), classes(0..CLASSES / 2)),
        ("other".to_owned(), classes(CLASSES / 2..CLASSES)),
    ])
}

/// Of each miner the form that finds something by distances and by negative similarities.
fn wide_miner(config: &MinerConfig) -> MinerConfig {
    match config {
        MinerConfig::PairMargin(_) => MinerConfig::PairMargin(PairMargin {
            positive_margin: Finite::literal(-2.0),
            negative_margin: Finite::literal(10.0),
        }),
        other => other.clone(),
    }
}

fn small_model(config: &ModelConfig) -> ModelConfig {
    match config {
        ModelConfig::Bert(it) => ModelConfig::Bert(Bert {
            hidden: 8,
            layers: 1,
            heads: 2,
            intermediate: 12,
            positions: 8,
            ..it.clone()
        }),
        ModelConfig::Conv4(it) => ModelConfig::Conv4(Conv4 {
            width: 8,
            channels: 8,
            ..it.clone()
        }),
        ModelConfig::Convnext(it) => ModelConfig::Convnext(Convnext {
            width: 8,
            depths: vec![1, 1],
            channels: vec![4, 8],
            drop_path: nearfar_core::Fraction::literal(0.25),
            ..it.clone()
        }),
        ModelConfig::DenseConv(it) => ModelConfig::DenseConv(DenseConv {
            channels: 8,
            layers: 2,
            ..it.clone()
        }),
        ModelConfig::DeepSets(it) => ModelConfig::DeepSets(DeepSets {
            width: 8,
            elements: vec![8],
            hidden: vec![8],
            ..it.clone()
        }),
        ModelConfig::Mvcnn(it) => ModelConfig::Mvcnn(Mvcnn {
            width: 8,
            channels: 4,
            blocks: 2,
            hidden: 8,
            ..it.clone()
        }),
        ModelConfig::Unet(it) => ModelConfig::Unet(Unet {
            channels: 4,
            ..it.clone()
        }),
        ModelConfig::Voxnet(it) => ModelConfig::Voxnet(Voxnet {
            width: 8,
            channels: 4,
            hidden: 8,
            ..it.clone()
        }),
        ModelConfig::Mlp(it) => ModelConfig::Mlp(Mlp {
            width: 8,
            hidden: vec![10],
            dropout: nearfar_core::Fraction::literal(0.25),
            batch_norm: true,
            ..it.clone()
        }),
        ModelConfig::Lstm(it) => ModelConfig::Lstm(Lstm {
            width: 8,
            ..it.clone()
        }),
        ModelConfig::CharBilstm(it) => ModelConfig::CharBilstm(CharBilstm {
            width: 8,
            dim: 4,
            hidden: 6,
            layers: 2,
            dropout: nearfar_core::Fraction::literal(0.25),
            ..it.clone()
        }),
        ModelConfig::Koch(it) => ModelConfig::Koch(Koch {
            width: 8,
            channels: 2,
            ..it.clone()
        }),
        ModelConfig::Resnet(it) => ModelConfig::Resnet(Resnet {
            width: 8,
            channels: 2,
            stem: ResnetStem::Small,
            ..it.clone()
        }),
        ModelConfig::SpeakerLstm(it) => ModelConfig::SpeakerLstm(SpeakerLstm {
            width: 8,
            hidden: 6,
            window: 4,
            step: 2,
            ..it.clone()
        }),
        ModelConfig::Vit(it) => ModelConfig::Vit(Vit {
            width: 8,
            channels: 6,
            blocks: 2,
            drop_path: nearfar_core::Fraction::literal(0.25),
            ..it.clone()
        }),
        other => other.clone(),
    }
}

/// Whether a loss can learn from what a sampler makes.
fn fits(loss: &LossConfig, sampler: &SamplerConfig) -> bool {
    match (loss.reads(), sampler) {
        (
            Reads::ScoredPairs | Reads::Views,
            SamplerConfig::Shuffled(_) | SamplerConfig::NoDuplicates(_),
        ) => true,
        (Reads::ScoredPairs | Reads::Views, _) => false,
        // Of listed pairs an anchor has one, which makes no triplet, no list and no class.
        (_, SamplerConfig::Pairs(_)) => loss.family() == Family::Pairs,
        _ => true,
    }
}

/// Each loss with miners, samplers, optimizers and models in rotation, until each of them had its turn.
fn cases() -> Vec<Case> {
    // Of pairs that share no row there is no difference of two scores, and a score is no class.
    let unfit = ["margin_mse", "softmax_nli"];
    let all = LossConfig::all().into_iter();
    let losses: Vec<_> = all.filter(|it| !unfit.contains(&it.name())).collect();
    let miners = MinerConfig::all();
    let (optimizers, models) = (OptimizerConfig::all(), ModelConfig::all());
    // Data in two domains, and pairs with a question in common, are other sets.
    let of_classes = |it: &SamplerConfig| !matches!(it.name(), "two_domains" | "grouped_pairs");
    let all = SamplerConfig::all().into_iter().filter(of_classes);
    let samplers: Vec<_> = all.map(|it| small_sampler(&it)).collect();
    let all = miners.len() + samplers.len() + optimizers.len() + models.len();
    let rounds = if cfg!(feature = "long") { 12 } else { 1 };
    let mut seen = BTreeSet::new();
    let mut cases = Vec::new();
    let mut next_miner = 0;
    for round in 0..12 {
        if round >= rounds && seen.len() == all {
            return cases;
        }
        for (place, loss) in losses.iter().enumerate() {
            if matches!(loss.reads(), Reads::Sets | Reads::Targets | Reads::Masks) {
                continue; // No data set of these tests says that.
            }
            let fitting: Vec<_> = samplers.iter().filter(|it| fits(loss, it)).collect();
            let sampler = fitting[(round + place + 2) % fitting.len()].clone();
            let takes_miner = takes_miner(loss) && !matches!(sampler, SamplerConfig::Pairs(_));
            let miner = takes_miner.then(|| {
                next_miner += 1;
                wide_miner(&miners[(next_miner - 1) % miners.len()])
            });
            let number = cases.len();
            let optimizer = optimizers[number % optimizers.len()].clone();
            let model = small_model(&models[number % models.len()]);
            seen.extend(miner.as_ref().map(|it| ("miner", it.name())));
            seen.insert(("sampler", sampler.name()));
            seen.insert(("optimizer", optimizer.name()));
            seen.insert(("model", model.name()));
            cases.push(Case {
                loss: loss.clone(),
                miner,
                sampler,
                optimizer,
                model,
                accumulate: 1 + number as u64 % 2,
                around: Around::Nothing,
            });
        }
    }
    assert_eq!(seen.len(), all, "only {seen:?} had their turn");
    cases
}

/// Losses of losses, and losses that remember side by side.
fn cases_around() -> Vec<Case> {
    let sampler = |name: &str| {
        let all = SamplerConfig::all();
        let config = all.iter().find(|it| it.name() == name).expect("known");
        small_sampler(config)
    };
    let (by_class, by_row) = (sampler("classes_by_samples"), sampler("shuffled"));
    let miners = MinerConfig::all();
    let model = ModelConfig::all();
    let model = model.iter().find(|it| matches!(it, ModelConfig::Mlp(_)));
    let optimizers = OptimizerConfig::all();
    let cases = [
        ("contrastive", Around::Memory),
        ("margin", Around::Memory),
        ("hierarchical_triplet", Around::Memory),
        ("dynamic_soft_margin", Around::Memory),
        ("multi_similarity", Around::Regularizers),
        ("arcface", Around::Regularizers),
        ("nt_xent", Around::Views),
        ("triplet_margin", Around::Lengths),
        ("proxy_nca", Around::Lengths),
        ("contrastive", Around::Remembering),
    ];
    let cases = cases.into_iter().enumerate();
    let cases = cases.map(|(number, (name, around))| {
        let loss = LossConfig::of_name(name).expect("known");
        let sampler = if around == Around::Views {
            &by_row
        } else {
            &by_class
        };
        // Every other one with a miner.
        let miner = takes_miner(&loss) && number % 2 == 0;
        Case {
            miner: miner.then(|| wide_miner(&miners[number % miners.len()])),
            loss,
            sampler: sampler.clone(),
            optimizer: optimizers[number % optimizers.len()].clone(),
            model: small_model(model.expect("there is one")),
            accumulate: 1,
            around,
        }
    });
    cases.collect()
}

/// The loss of a case, with what is around it.
fn loss_of(case: &Case, (classes, width): (usize, usize)) -> Box<dyn Loss> {
    let of_width = |config: &LossConfig, width: usize| {
        joined(config, case.miner.as_ref(), (classes, width), DType::F32)
    };
    let remembered = |loss: Box<dyn Loss>, width: usize| -> Box<dyn Loss> {
        let size = NonZeroUsize::new(30).expect("30"); // Two batches and a half.
        let settings = Memory { size, warmup: 1 };
        let memory = CrossBatchMemory::new(loss, settings, width, DType::F32, &Device::Cpu);
        Box::new(memory.expect("a width"))
    };
    let loss = of_width(&case.loss, width);
    match case.around {
        Around::Nothing => loss,
        Around::Memory => remembered(loss, width),
        Around::Regularizers => {
            let penalty = |text: &str| Some(toml::from_str::<Penalty>(text).expect("a penalty"));
            let of_rows = penalty("penalty.lp = {}\nweight = 0.1");
            let of_centers = match loss.parameters().is_empty() {
                true => None,
                false => penalty("penalty.regular_face = {}\nweight = 0.2"),
            };
            Box::new(Regularized::new(loss, of_rows, of_centers).expect("it has centers"))
        }
        Around::Views => {
            let settings = SelfSupervision::default();
            Box::new(SelfSupervised { loss, settings })
        }
        Around::Lengths => {
            let nesting = format!("dims = [{width}, {}]", width / 2);
            let nesting: Nesting = toml::from_str(&nesting).expect("two lengths");
            let reads_rows = case.loss.reads() == Reads::ClassesOrPairs;
            let nested = Matryoshka::new::<candle_core::Error>(&nesting, width, |width, _| {
                let loss = of_width(&case.loss, width);
                Ok(if reads_rows {
                    remembered(loss, width)
                } else {
                    loss
                })
            });
            Box::new(nested.expect("they fit"))
        }
        Around::Remembering => {
            let mut sum = Sum::default();
            sum.push(NonNegative::literal(1.0), loss);
            for text in [
                "magnet = { clusters = 2 }",
                "hierarchical_triplet = { levels = 4, every = { steps = 2 } }",
                "dynamic_soft_margin = { momentum = 0.2 }",
            ] {
                let config: LossConfig = toml::from_str(text).expect("settings of a test");
                let loss = joined(&config, None, (classes, width), DType::F32);
                sum.push(NonNegative::literal(0.5), loss);
            }
            Box::new(sum)
        }
    }
}

/// Generated samples of a kind that a model reads.
struct Generated {
    kind: Kind,
    labels: Vec<u32>,
    targets: Vec<f32>,
}

enum Kind {
    Features,
    Tokens,
    Frames,
    Glyphs(Glyphs, usize),
    Solids(Solids, InputShape),
}

/// Images of this side.
fn glyphs(side: usize) -> Kind {
    let glyphs = Glyphs::new(CLASSES, SAMPLES, side, SEED);
    Kind::Glyphs(glyphs.expect("a few"), side)
}

fn solids(seen: Seen, shape: InputShape) -> Kind {
    let solids = Solids::new(CLASSES, SAMPLES, seen, SEED);
    Kind::Solids(solids.expect("a few"), shape)
}

const FEATURES: usize = 8;
const VOCABULARY: usize = 20;

impl Generated {
    fn new(model: &ModelConfig, scored: bool) -> Self {
        let kind = match model {
            ModelConfig::Conv4(_)
            | ModelConfig::Convnext(_)
            | ModelConfig::DenseConv(_)
            | ModelConfig::MnistTwin(_)
            | ModelConfig::Resnet(_)
            | ModelConfig::Unet(_)
            | ModelConfig::Vit(_) => glyphs(16),
            ModelConfig::Ahmed(_) => glyphs(28),
            ModelConfig::Voxnet(_) => {
                let shape = InputShape::Volume {
                    channels: 1,
                    depth: 11,
                    height: 11,
                    width: 11,
                };
                solids(Seen::Volumes { size: 11 }, shape)
            }
            ModelConfig::Mvcnn(_) => {
                let (views, size) = (3, 8);
                let shape = InputShape::Views {
                    views,
                    channels: 1,
                    height: size,
                    width: size,
                };
                solids(Seen::Views { views, size }, shape)
            }
            ModelConfig::DeepSets(_) => {
                let shape = InputShape::Frames { features: 3 };
                solids(Seen::Points { most: 9 }, shape)
            }
            ModelConfig::Koch(_) => glyphs(65),
            ModelConfig::Bert(_) | ModelConfig::CharBilstm(_) | ModelConfig::Lstm(_) => {
                Kind::Tokens
            }
            ModelConfig::SpeakerLstm(_) | ModelConfig::Tristounet(_) => Kind::Frames,
            _ => Kind::Features,
        };
        let labels: Vec<u32> = (0..CLASSES * SAMPLES)
            .map(|it| (it / SAMPLES) as u32)
            .collect();
        let targets = match scored {
            true => (0..labels.len()).map(|it| 1.0 + (it % 5) as f32).collect(),
            false => Vec::new(),
        };
        Self {
            kind,
            labels,
            targets,
        }
    }

    fn shape(&self) -> InputShape {
        match self.kind {
            Kind::Solids(_, ref shape) => shape.clone(),
            Kind::Features => InputShape::Features(FEATURES),
            Kind::Tokens => InputShape::Tokens {
                vocabulary: VOCABULARY,
            },
            Kind::Frames => InputShape::Frames { features: FEATURES },
            Kind::Glyphs(_, side) => InputShape::Image {
                channels: 1,
                height: side,
                width: side,
            },
        }
    }

    fn value(&self, index: u32) -> Result<Value, Error> {
        let class = self.labels[index as usize];
        let mut rng = SEED.rng(Purpose::Generation, u64::from(index));
        Ok(match &self.kind {
            Kind::Glyphs(glyphs, _) => glyphs.sample(index)?.inputs.remove(0),
            Kind::Solids(solids, _) => solids.sample(index)?.inputs.remove(0),
            Kind::Features => {
                let mut center = SEED.rng(Purpose::Generation, 1000 + u64::from(class));
                let numbers = (0..FEATURES).map(|_| 2.0 * center.normal() + rng.normal());
                Value::Features(numbers.map(|it| it as f32).collect())
            }
            Kind::Frames => {
                let mut center = SEED.rng(Purpose::Generation, 1000 + u64::from(class));
                let count = 2 + rng.below(5);
                let means: Vec<f64> = (0..FEATURES).map(|_| 2.0 * center.normal()).collect();
                let numbers = (0..count).flat_map(|_| &means).map(|it| it + rng.normal());
                Value::Frames(Frames {
                    count,
                    width: FEATURES,
                    values: numbers.map(|it| it as f32).collect(),
                })
            }
            Kind::Tokens => {
                let length = 2 + rng.below(5);
                let words = (0..length).map(|_| 2 + (3 * class as usize + rng.below(4)) % 18);
                Value::Tokens(words.map(|it| it as u32).collect())
            }
        })
    }
}

impl Dataset for Generated {
    fn labels(&self) -> &[u32] {
        &self.labels
    }

    fn sample(&self, index: u32) -> Result<Sample, Error> {
        let mut inputs = vec![self.value(index)?];
        if !self.targets.is_empty() {
            inputs.push(self.value((7 * index + 3) % self.labels.len() as u32)?);
        }
        Ok(Sample { inputs })
    }

    fn annotation(&self) -> Annotation {
        match self.targets.is_empty() {
            true => Annotation::Classes,
            false => Annotation::ScoredPairs,
        }
    }

    fn targets(&self) -> &[f32] {
        &self.targets
    }
}

fn run(case: &Case) -> Run {
    let scored = reads_pairs(&case.loss) || case.around == Around::Views;
    let data = Arc::new(Generated::new(&case.model, scored));
    let params = Params::new(SEED, DType::F32, &Device::Cpu).expect("f32 is possible");
    let tower = case
        .model
        .build(&data.shape(), &params)
        .expect("it reads this");
    let size = (CLASSES, tower.width());
    let loss = loss_of(case, size);
    let options = Options {
        seed: SEED,
        accumulate: NonZeroU64::new(case.accumulate).expect("at least one"),
        clip_norm: Some(Positive::literal(1.0)),
        ..Options::default()
    };
    let cosine = ScheduleConfig::Cosine(Cosine {
        warmup: 2,
        ..Cosine::default()
    });
    let schedule = cosine
        .build(case.optimizer.learning_rate(), Some(STEPS))
        .expect("it fits");
    let optimizer = case.optimizer.build().expect("it fits");
    let trainer = Trainer::new(vec![tower], loss, optimizer, schedule, options).expect("it fits");
    let sampler = case.sampler.build(&*data).expect("it fits");
    let loader = Loader::new(data, sampler, SEED, Device::Cpu).threads(2);
    Run::new(trainer, Box::new(loader))
}

fn store(folder: &Path) -> Checkpoints {
    Checkpoints::open(folder, "run", 2).expect("a folder of the test")
}

/// Goes on until the end, or until a step is done, and saves there.
fn go(case: &Case, run: Run, folder: &Path, stop: Option<u64>) -> Run {
    let flag = run.signals.stop.clone();
    let asks = Watch::new(move |trainer: &Trainer, event: &Event<'_>| {
        let position = trainer.position();
        if matches!(event, Event::Start | Event::Step { .. }) && Some(position.step) == stop {
            flag.store(true, Ordering::Relaxed);
        }
        Ok(Answer::GoOn)
    });
    let mut run = run.watched_by("asks", asks);
    let store = store(folder);
    let save = &mut |checkpoint: &Checkpoint| -> Result<(), BoxError> {
        Ok(store.save(checkpoint).map(drop)?)
    };
    let ended = fit(&mut run, Span::Steps(STEPS), save);
    let ended = ended.unwrap_or_else(|error| panic!("{case:?}: {error}"));
    let wanted = if stop.is_some() {
        Ended::Stopped
    } else {
        Ended::Reached
    };
    assert_eq!(ended, wanted);
    run
}

/// The bytes of the newest checkpoint: parameters, what the optimizer remembers, all other state, and the position.
fn newest(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let names = store(folder).names().expect("a folder of the test");
    let path = folder.join(names.last().expect("it was saved"));
    let entries = std::fs::read_dir(path).expect("a checkpoint");
    entries
        .map(|entry| {
            let entry = entry.expect("a file");
            let name = entry.file_name().to_string_lossy().into_owned();
            (name, std::fs::read(entry.path()).expect("a file"))
        })
        .collect()
}

/// On a pool of so many threads, so that what candle and the kernels divide is divided among them.
fn on_threads<T: Send>(threads: usize, work: impl FnOnce() -> T + Send) -> T {
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .stack_size(16 << 20) // Graphs are dropped by recursion.
        .build()
        .expect("a few threads");
    pool.install(work)
}

fn straight(case: &Case, threads: usize) -> (BTreeMap<String, Vec<u8>>, u64) {
    on_threads(threads, || {
        let folder = tempfile::tempdir().expect("a folder");
        let run = go(case, run(case), folder.path(), None);
        (newest(folder.path()), run.trainer.counters().learned)
    })
}

/// Stopped after a step on two threads, and continued from disk on four.
fn in_two_parts(case: &Case, stop: u64) -> BTreeMap<String, Vec<u8>> {
    let folder = tempfile::tempdir().expect("a folder");
    on_threads(2, || drop(go(case, run(case), folder.path(), Some(stop))));
    on_threads(4, || {
        let loaded = store(folder.path())
            .latest()
            .expect("whole")
            .expect("it was saved");
        assert_eq!(loaded.checkpoint.position.step, stop);
        assert!(loaded.skipped.is_empty(), "nothing is damaged");
        let mut second = run(case);
        second.restore(&loaded.checkpoint).expect("its own");
        go(case, second, folder.path(), None);
    });
    newest(folder.path())
}

fn assert_same(
    one: &BTreeMap<String, Vec<u8>>,
    other: &BTreeMap<String, Vec<u8>>,
    place: &str,
    case: &Case,
) {
    let names = |files: &BTreeMap<String, Vec<u8>>| files.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(one), names(other), "{place}: {case:?}");
    for (name, bytes) in one {
        assert!(bytes == &other[name], "{name} differs {place}: {case:?}");
    }
}

/// The same on any number of threads, and in two parts.
fn holds(number: usize, case: &Case) -> BTreeMap<String, Vec<u8>> {
    let (once, learned) = straight(case, 1);
    assert!(learned > 0, "there is something to learn: {case:?}");
    for threads in [2, 4] {
        let (again, _) = straight(case, threads);
        assert_same(&once, &again, &format!("on {threads} threads"), case);
    }
    // Before the first step, in the middle of an epoch, and at its end, which differ from case to case.
    let stops: Vec<u64> = match cfg!(feature = "long") {
        true => (0..STEPS).collect(),
        false => vec![number as u64 % 4, 4 + number as u64 % 3],
    };
    for stop in stops {
        let parts = in_two_parts(case, stop);
        assert_same(&once, &parts, &format!("when stopped after {stop}"), case);
    }
    once
}

#[test]
fn stopped_and_continued_equals_never_stopped_for_every_loss_on_any_number_of_threads() {
    for (number, case) in cases().iter().enumerate() {
        holds(number, case);
    }
}

#[test]
fn it_does_so_for_losses_around_losses_and_what_they_remember() {
    for (number, case) in cases_around().iter().enumerate() {
        let files = holds(number, case);
        // What they remember is in the checkpoint, by name.
        let has = |name: &str| {
            let found = |bytes: &Vec<u8>| bytes.windows(name.len()).any(|it| it == name.as_bytes());
            assert!(files.values().any(found), "{name} of {case:?}");
        };
        match case.around {
            Around::Memory => has("memory.rows"),
            Around::Lengths if case.loss.name() == "triplet_margin" => {
                has("matryoshka.8/memory.rows");
                has("matryoshka.4/memory.rows");
            }
            Around::Lengths => has("matryoshka.4/centers"),
            Around::Remembering => {
                has("losses.1/index.clusters");
                has("losses.2/");
                has("losses.3/histogram");
            }
            Around::Nothing | Around::Regularizers | Around::Views => {}
        }
    }
}
