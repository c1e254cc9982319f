//! Every model of the registry, small, with each of its settings used by one at least.

use nearfar_core::{Finite, Fraction};
use nearfar_models::layers::Statistics;
use nearfar_models::{
    Ahmed, Bert, BertPooling, CharBilstm, Conv4, Convnext, DeepSets, DenseConv, DependencyLstm,
    InputShape, Koch, Linear, Lstm, Mlp, MnistTwin, ModelConfig, Mvcnn, Pooling, Resnet,
    ResnetPooling, ResnetStem, SetPooling, SpeakerLstm, Tristounet, Unet, Vit, VitPooling, Voxnet,
    WordHeads, Words,
};

pub(crate) const IMAGE: InputShape = InputShape::Image {
    channels: 2,
    height: 17,
    width: 16,
};

pub(crate) const TOKENS: InputShape = InputShape::Tokens { vocabulary: 7 };
pub(crate) const PARSED: InputShape = InputShape::Parsed { vocabulary: 7 };
pub(crate) const VOLUME: InputShape = InputShape::Volume {
    channels: 2,
    depth: 11,
    height: 12,
    width: 13,
};

pub(crate) const VIEWS: InputShape = InputShape::Views {
    views: 3,
    channels: 2,
    height: 9,
    width: 8,
};

pub(crate) const FRAMES: InputShape = InputShape::Frames { features: 3 };

/// Each model of the registry, small, in its variants. A model that is added to the registry has to be added here.
pub(crate) fn variants(model: &ModelConfig) -> Vec<(ModelConfig, InputShape)> {
    match model {
        ModelConfig::Ahmed(_) => {
            let small = Ahmed {
                channels: 3,
                maps: 4,
                ..Ahmed::default()
            };
            let projected = Ahmed {
                width: Some(5),
                normalize: false,
                ..small.clone()
            };
            [small, projected]
                .map(|it| (ModelConfig::Ahmed(it), IMAGE))
                .to_vec()
        }
        ModelConfig::Bert(_) => {
            let small = Bert {
                hidden: 8,
                layers: 2,
                heads: 2,
                intermediate: 12,
                positions: 5,
                types: 1,
                ..Bert::default()
            };
            let first = Bert {
                width: Some(3),
                layers: 1,
                pooling: BertPooling::Cls,
                normalize: false,
                ..small.clone()
            };
            [small, first]
                .map(|it| (ModelConfig::Bert(it), TOKENS))
                .to_vec()
        }
        ModelConfig::Conv4(_) => {
            let small = Conv4 {
                channels: 6,
                width: 5,
                ..Conv4::default()
            };
            let frozen = Conv4 {
                statistics: Statistics::Frozen,
                width: 6,
                ..small.clone()
            };
            let plain = Conv4 {
                normalize: false,
                blocks: 2,
                ..small.clone()
            };
            let with_heads = Conv4 {
                parts: 3,
                hidden_heads: true,
                maps: true,
                ..plain.clone()
            };
            [small, frozen, plain, with_heads]
                .map(|it| (ModelConfig::Conv4(it), IMAGE))
                .to_vec()
        }
        ModelConfig::Convnext(_) => {
            let small = Convnext {
                width: 5,
                depths: vec![1, 2],
                channels: vec![4, 6],
                layer_scale: Finite::literal(0.5),
                drop_path: Fraction::literal(0.25),
                normalize: true,
            };
            let one_stage = Convnext {
                width: 4,
                depths: vec![2],
                channels: vec![4],
                normalize: false,
                ..small.clone()
            };
            [small, one_stage]
                .map(|it| (ModelConfig::Convnext(it), IMAGE))
                .to_vec()
        }
        ModelConfig::DeepSets(_) => {
            let small = |pooling| DeepSets {
                width: 4,
                words: Words {
                    dim: 3,
                    ..Words::default()
                },
                elements: vec![6, 5],
                pooling,
                attention: 4,
                hidden: vec![5],
                normalize: pooling == SetPooling::Attention,
            };
            let frames = InputShape::Frames { features: 3 };
            vec![
                (ModelConfig::DeepSets(small(SetPooling::Sum)), TOKENS),
                (
                    ModelConfig::DeepSets(small(SetPooling::Mean)),
                    frames.clone(),
                ),
                (
                    ModelConfig::DeepSets(small(SetPooling::Max)),
                    frames.clone(),
                ),
                (ModelConfig::DeepSets(small(SetPooling::Attention)), frames),
            ]
        }
        ModelConfig::DenseConv(_) => {
            let small = DenseConv {
                width: 3,
                channels: 4,
                layers: 2,
                ..DenseConv::default()
            };
            let frozen = DenseConv {
                statistics: Statistics::Frozen,
                coordinates: false,
                ..small.clone()
            };
            [small, frozen]
                .map(|it| (ModelConfig::DenseConv(it), IMAGE))
                .to_vec()
        }
        ModelConfig::CharBilstm(_) => {
            let small = CharBilstm {
                width: 5,
                dim: 3,
                hidden: 4,
                layers: 2,
                ..CharBilstm::default()
            };
            let unit = CharBilstm {
                dropout: Fraction::literal(0.25),
                normalize: true,
                ..small.clone()
            };
            [small, unit]
                .map(|it| (ModelConfig::CharBilstm(it), TOKENS))
                .to_vec()
        }
        ModelConfig::DependencyLstm(_) => {
            let small = DependencyLstm {
                width: 5,
                words: Words {
                    dim: 4,
                    ..Words::default()
                },
                ..DependencyLstm::default()
            };
            let deep = DependencyLstm {
                layers: 2,
                dropout: Fraction::literal(0.25),
                normalize: true,
                ..small.clone()
            };
            let chain = DependencyLstm {
                heads: WordHeads::Chain,
                ..small.clone()
            };
            vec![
                (ModelConfig::DependencyLstm(small), PARSED),
                (ModelConfig::DependencyLstm(deep), PARSED),
                (ModelConfig::DependencyLstm(chain.clone()), PARSED),
                (ModelConfig::DependencyLstm(chain), TOKENS),
            ]
        }
        ModelConfig::Koch(_) => {
            let small = Koch {
                width: 5,
                channels: 2,
                ..Koch::default()
            };
            let unit = Koch {
                normalize: true,
                ..small.clone()
            };
            let image = InputShape::Image {
                channels: 1,
                height: 66,
                width: 65,
            };
            [small, unit]
                .map(|it| (ModelConfig::Koch(it), image.clone()))
                .to_vec()
        }
        ModelConfig::Linear(_) => {
            let plain = Linear {
                width: 5,
                normalize: false,
                ..Linear::default()
            };
            let biased = Linear {
                width: 5,
                bias: true,
                ..Linear::default()
            };
            vec![
                (ModelConfig::Linear(plain), InputShape::Features(4)),
                (ModelConfig::Linear(biased), IMAGE),
            ]
        }
        ModelConfig::Lstm(_) => {
            let words = Words {
                dim: 4,
                ..Words::default()
            };
            let small = Lstm {
                width: 5,
                words,
                ..Lstm::default()
            };
            let deep = Lstm {
                width: 6,
                layers: 2,
                bidirectional: true,
                pooling: Pooling::Mean,
                dropout: Fraction::literal(0.25),
                normalize: true,
                ..small.clone()
            };
            let projected = Lstm {
                hidden: Some(3),
                bidirectional: true,
                ..small.clone()
            };
            vec![
                (ModelConfig::Lstm(small.clone()), TOKENS),
                (ModelConfig::Lstm(small.clone()), PARSED),
                (ModelConfig::Lstm(deep), TOKENS),
                (ModelConfig::Lstm(projected), TOKENS),
                (ModelConfig::Lstm(small), FRAMES),
            ]
        }
        ModelConfig::Mlp(_) => {
            let small = Mlp {
                width: 3,
                hidden: vec![8, 6],
                ..Mlp::default()
            };
            let normed = Mlp {
                batch_norm: true,
                dropout: Fraction::literal(0.25),
                ..small.clone()
            };
            let frozen = Mlp {
                batch_norm: true,
                statistics: Statistics::Frozen,
                ..small.clone()
            };
            let bare = Mlp {
                hidden: vec![],
                ..small.clone()
            };
            let with_heads = Mlp {
                hidden_heads: true,
                ..small.clone()
            };
            [small, normed, frozen, bare, with_heads]
                .map(|it| (ModelConfig::Mlp(it), InputShape::Features(4)))
                .to_vec()
        }
        ModelConfig::MnistTwin(_) => {
            let plot = MnistTwin {
                width: 2,
                normalize: false,
            };
            let unit = MnistTwin {
                width: 5,
                normalize: true,
            };
            [plot, unit]
                .map(|it| (ModelConfig::MnistTwin(it), IMAGE))
                .to_vec()
        }
        ModelConfig::Mvcnn(_) => {
            let small = Mvcnn {
                width: 4,
                channels: 4,
                blocks: 2,
                hidden: 6,
                dropout: Fraction::literal(0.25),
                ..Mvcnn::default()
            };
            let frozen = Mvcnn {
                statistics: Statistics::Frozen,
                normalize: false,
                ..small.clone()
            };
            vec![
                (ModelConfig::Mvcnn(small), VIEWS),
                (ModelConfig::Mvcnn(frozen.clone()), VIEWS),
                (ModelConfig::Mvcnn(frozen), IMAGE),
            ]
        }
        ModelConfig::Resnet(_) => {
            let small = Resnet {
                width: 5,
                channels: 2,
                stem: ResnetStem::Small,
                pooling: ResnetPooling::Gem,
                ..Resnet::default()
            };
            let deep = Resnet {
                depth: 50,
                stem: ResnetStem::Imagenet,
                pooling: ResnetPooling::Mean,
                statistics: Statistics::Frozen,
                normalize: false,
                ..small.clone()
            };
            let of_frames = [
                ResnetPooling::Mean,
                ResnetPooling::Statistics,
                ResnetPooling::AttentiveStatistics,
            ]
            .map(|pooling| Resnet {
                pooling,
                attention: 3,
                ..small.clone()
            })
            .map(|it| (ModelConfig::Resnet(it), InputShape::Frames { features: 10 }));
            let of_images = [small, deep].map(|it| (ModelConfig::Resnet(it), IMAGE));
            of_images.into_iter().chain(of_frames).collect()
        }
        ModelConfig::SpeakerLstm(_) => {
            let small = SpeakerLstm {
                width: 5,
                hidden: 4,
                layers: 2,
                window: 2,
                step: 1,
                ..SpeakerLstm::default()
            };
            let whole = SpeakerLstm {
                window: 9,
                ..small.clone()
            };
            [small, whole]
                .map(|it| (ModelConfig::SpeakerLstm(it), FRAMES))
                .to_vec()
        }
        ModelConfig::Tristounet(_) => {
            let small = Tristounet {
                width: 5,
                hidden: 3,
                dense: 4,
                ..Tristounet::default()
            };
            vec![(ModelConfig::Tristounet(small), FRAMES)]
        }
        ModelConfig::Unet(_) => {
            let small = Unet {
                width: 3,
                channels: 5, // Where all channels of a place are idle, what follows is at its kink.
                levels: 2,
                ..Unet::default()
            };
            // Unnormalized, what goes through many layers is small, and near its kinks.
            let frozen = Unet {
                levels: 1,
                statistics: Statistics::Frozen,
                coordinates: false,
                ..small.clone()
            };
            [small, frozen]
                .map(|it| (ModelConfig::Unet(it), IMAGE))
                .to_vec()
        }
        ModelConfig::Voxnet(_) => {
            let small = Voxnet {
                width: 4,
                channels: 3,
                hidden: 6,
                dropout: [0.25; 3].map(Fraction::literal),
                normalize: false,
            };
            let unit = Voxnet {
                normalize: true,
                dropout: [0.0; 3].map(Fraction::literal),
                ..small.clone()
            };
            [small, unit]
                .map(|it| (ModelConfig::Voxnet(it), VOLUME))
                .to_vec()
        }
        ModelConfig::Vit(_) => {
            let small = Vit {
                width: 5,
                channels: 6,
                heads: 2,
                blocks: 2,
                ..Vit::default()
            };
            let dino = Vit {
                registers: 2,
                layer_scale: Some(Finite::literal(0.5)),
                drop_path: Fraction::literal(0.25),
                pooling: VitPooling::Mean,
                normalize: false,
                ..small.clone()
            };
            let image = InputShape::Image {
                channels: 2,
                height: 24,
                width: 16,
            };
            [small, dino]
                .map(|it| (ModelConfig::Vit(it), image.clone()))
                .to_vec()
        }
    }
}

pub(crate) fn all() -> Vec<(ModelConfig, InputShape)> {
    ModelConfig::all().iter().flat_map(variants).collect()
}
