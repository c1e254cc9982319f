//! Runs that are stopped: each loss, sampler, optimizer and model in at least one.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroUsize;

use candle_core::{DType, Device};
use nearfar_core::{Finite, Loss, NonNegative, Span};
use nearfar_datasets::{
    AnchorNeighborhood, CategoryBalance, ClassesBySamples, Episode, FixedTriplets, GraphSampler,
    GreedyCoreset, HardClasses, HardNegatives, Hierarchical, LossProportional, MagnetClusters,
    NoDuplicates, PairSampler, SamplerConfig, Shuffled, TuplesToWeights,
};
use nearfar_losses::{
    CrossBatchMemory, Family, LossConfig, Matryoshka, Memory, Nesting, Penalty, Reads, Regularized,
    SelfSupervised, SelfSupervision, Sum,
};
use nearfar_miners::{MinerConfig, PairMargin};
use nearfar_models::{
    Bert, CharBilstm, Conv4, Convnext, DeepSets, DenseConv, DependencyLstm, Koch, Lstm, Mlp,
    ModelConfig, Mvcnn, Resnet, ResnetStem, SpeakerLstm, Unet, Vit, Voxnet,
};
use nearfar_trainer::OptimizerConfig;

use super::CLASSES;
use crate::joined::{joined, takes_miner};

/// A run as a run file says it.
#[derive(Clone, Debug)]
pub(super) struct Case {
    pub(super) loss: LossConfig,
    pub(super) miner: Option<MinerConfig>,
    pub(super) sampler: SamplerConfig,
    pub(super) optimizer: OptimizerConfig,
    pub(super) model: ModelConfig,
    pub(super) accumulate: u64,
    pub(super) around: Around,
}

/// What is around a loss, or beside it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Around {
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
        ModelConfig::DependencyLstm(it) => ModelConfig::DependencyLstm(DependencyLstm {
            width: 8,
            dropout: nearfar_core::Fraction::literal(0.25),
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
pub(super) fn cases() -> Vec<Case> {
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
pub(super) fn cases_around() -> Vec<Case> {
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
pub(super) fn loss_of(case: &Case, (classes, width): (usize, usize)) -> Box<dyn Loss> {
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
